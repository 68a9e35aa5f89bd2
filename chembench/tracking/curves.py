"""The metrics of an item's epochs, as its worker writes them into ``curves.jsonl`` while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """The metrics of one epoch."""

    epoch: int
    at_ms: int
    values: Mapping[str, float]


def read_curves(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The whole lines of a ``curves.jsonl``, and the numbers of those that are damaged.

    A last line without its end is neither: it is still being written, or its writer was killed.
    """
    entries, damaged = [], []
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line)
            _ = int(entry["epoch"]), float(entry["at"])
            entries.append(entry)
        except (ValueError, KeyError, TypeError):
            damaged.append(number)
    return entries, damaged


def points(path: Path, names: Collection[str], started_ms: int) -> list[Point]:
    """The epochs in ``path`` in the order they were written, with the metrics called ``names``.

    Of an epoch that stands there twice the last line counts. No time lies before ``started_ms`` or an earlier one, also
    where the clock was set back.
    """
    found: dict[int, Point] = {}
    latest = started_ms
    for entry in read_curves(path)[0]:
        entry["valid/objective"] = entry.get("objective")
        latest = max(latest, round(float(entry["at"]) * 1000))
        values = finite({name: value for name, value in entry.items() if name in names})
        found[int(entry["epoch"])] = Point(int(entry["epoch"]), latest, values)
    return list(found.values())


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of ``values`` that are finite numbers."""
    numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}
