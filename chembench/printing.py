"""Small tables of facts as plain text, Markdown, CSV or JSON. Boards have renderers of their own in `report`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

_GAP = 2
_LEAST_WIDTH = 20


def as_json(value: Any) -> str:
    """``value`` as JSON that a person can read; NaN is refused."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)


def table(rows: Rows, columns: Sequence[str], form: str = "table", width: int | None = None) -> str:
    """``rows`` in one of the four forms.

    Args:
        rows: one mapping a line; a missing or ``None`` value is left empty.
        columns: what is shown, in this order; JSON keeps every key.
        form: ``table`` (plain text), ``json``, ``csv`` or ``md``.
        width: characters a line of plain text may have; the terminal's when not given.
    """
    if form == "json":
        return as_json([dict(row) for row in rows])
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    if form == "csv":
        return _csv(columns, cells)
    if form == "md":
        return _markdown(columns, cells)
    return _plain(columns, cells, width or shutil.get_terminal_size((100, 24)).columns)


def nested(value: Mapping[str, Any], indent: int = 0) -> str:
    """A mapping as ``key: value`` lines, inner mappings indented under their key."""
    lines: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{' ' * indent}{key}:", nested(inner, indent + 2)]
        else:
            shown = json.dumps(inner, ensure_ascii=False) if isinstance(inner, list | tuple | dict) else _text(inner)
            lines.append(f"{' ' * indent}{key}: {shown}".rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A length of time in words: ``42 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _csv(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(cells)
    return out.getvalue().rstrip("\n")


def _markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> str:
    """Columns side by side; the last one is wrapped into the width that is left."""
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    indent = sum(widths[:-1]) + _GAP * (len(widths) - 1)
    last = max(_LEAST_WIDTH, width - indent)
    lines: list[str] = []
    for row in (columns, *cells):
        start = "".join(cell.ljust(size + _GAP) for cell, size in zip(row[:-1], widths[:-1], strict=True))
        parts = textwrap.wrap(row[-1], last, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(start + parts[0]).rstrip(), *(" " * indent + part for part in parts[1:])]
    return "\n".join(lines)
