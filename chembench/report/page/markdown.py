"""A report as Markdown, as GitHub reads it: the same blocks, figures as files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from chembench.report.page.blocks import Block, Cell, Code, Figure, Heading, Line, Report, Table, Text
from chembench.report.page.html import address


def to_markdown(report: Report, folder: str = "") -> str:
    """The text.

    Args:
        report: what it says.
        folder: from where the file will lie to the sweep's folder; empty if it lies there.
    """
    lines = [f"# {escaped(report.title)}{'' if report.is_finished else ' (unfinished)'}", ""]
    lines += [f"- [{escaped(section.title)}](#{section.name})" for section in report.sections]
    for section in report.sections:
        lines += ["", f'<a id="{section.name}"></a>', "", f"## {escaped(section.title)}"]
        for block in section.blocks:
            lines += ["", *_block(block, folder)]
    return "\n".join(lines) + "\n"


def _block(block: Block, folder: str) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"### {escaped(block.text)}"
    elif isinstance(block, Text):
        start = "- " if block.style in ("list", "verdict") else ""
        for line in block.lines:
            text = "".join(_cell(cell, folder) for cell in line)
            yield f"*{text}*" if block.style == "absent" else start + text
    elif isinstance(block, Code):
        fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", block.text)), default=0))
        yield from (f"{fence}text", block.text.rstrip("\n"), fence)
    elif isinstance(block, Figure):
        yield f"![{escaped(block.caption)}](figures/{block.name}.svg)"
        yield ""
        yield escaped(block.caption)
    else:
        yield from _table(block, folder)


def _table(table: Table, folder: str) -> Iterator[str]:
    if table.caption:
        yield from (f"{escaped(table.caption)}:", "")
    yield _line([escaped(column.title) for column in table.columns])
    yield _line(["---:" if column.align == "right" else "---" for column in table.columns])
    for line in table.lines:
        yield _line(_fields(line, len(table.columns), folder))


def _fields(line: Line, count: int, folder: str) -> list[str]:
    fields = [_cell(cell, folder) for cell in line.cells]
    if line.is_heading:
        fields = [f"**{fields[0]}**", *[""] * (count - 1)]
    if line.anchor:
        fields[0] = f'<a id="{html.escape(line.anchor)}"></a>{fields[0]}'
    return fields


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _cell(cell: Cell, folder: str) -> str:
    text = escaped(cell.text)
    return text if cell.link is None else f"[{text}](<{address(cell.link, folder)}>)"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, one line."""
    text = " ".join(text.split()) if "\n" in text or "\r" in text else text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
