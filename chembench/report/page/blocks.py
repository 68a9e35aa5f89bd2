"""What a report is made of: sections of paragraphs, tables, figures and commands, each a frozen value.

Both renderers walk the same blocks, so that HTML and Markdown cannot tell different numbers. All text is plain text,
whatever it came from; a renderer escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from chembench.report.page.plots import Plot
from chembench.statistics.estimates import Value

Align = Literal["left", "right"]


class Link(Value):
    """Where more is to be found: an anchor of the page, a folder of the sweep or an address."""

    kind: Literal["anchor", "folder", "web"]
    to: str
    """Name of the anchor; path below the sweep's folder; address."""


class Cell(Value):
    """One field of a table."""

    text: str
    link: Link | None = None


class Column(Value):
    """Title of a column, and on which side its texts stand."""

    title: str
    align: Align = "left"


class Line(Value):
    """One line of a table."""

    cells: tuple[Cell, ...]
    anchor: str | None = None
    """By which other numbers link to it."""
    is_heading: bool = False
    """It names the lines that follow; its first cell spans the table."""


class Table(Value):
    """Lines under titles."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    caption: str = ""
    is_long: bool = False
    """A detail that few read: a page shows it when it is asked for."""


class Text(Value):
    """A paragraph, or the points of a list."""

    lines: tuple[tuple[Cell, ...], ...]
    """Each line in pieces, some of which link elsewhere."""
    style: Literal["paragraph", "list", "verdict", "absent"] = "paragraph"
    """``verdict``: what the answer consists of; ``absent``: why something is not shown."""


class Heading(Value):
    """Title of a part of a section."""

    text: str


class Code(Value):
    """What can be typed, or a file's content."""

    text: str


class Figure(Value):
    """A drawing, by what it shows."""

    name: str
    """Of its files: letters, digits and ``-``."""
    caption: str
    plot: Plot


Block = Text | Heading | Table | Code | Figure


class Section(Value):
    """One chapter of the report."""

    name: str
    """Its anchor."""
    title: str
    blocks: tuple[Block, ...]


class Report(Value):
    """A whole report."""

    sweep: str
    title: str
    is_finished: bool
    sections: tuple[Section, ...]

    @property
    def figures(self) -> list[Figure]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def said(text: str, links: Mapping[str, Link] | None = None) -> tuple[Cell, ...]:
    """A line in pieces: where one of the words in ``links`` stands, it links."""
    if not links:
        return (Cell(text=text),)
    longest_first = sorted(links, key=lambda word: (-len(word), word))
    pattern = "|".join(f"(?<![A-Za-z0-9_+=.-]){re.escape(word)}(?![A-Za-z0-9_+=-])" for word in longest_first)
    pieces, at = [], 0
    for found in re.finditer(pattern, text):
        pieces += [Cell(text=text[at : found.start()]), Cell(text=found[0], link=links[found[0]])]
        at = found.end()
    pieces.append(Cell(text=text[at:]))
    return tuple(piece for piece in pieces if piece.text)


def paragraph(text: str, links: Mapping[str, Link] | None = None) -> Text:
    return Text(lines=(said(text, links),))


def absent(reason: str) -> Text:
    """Why a part of the report is not there."""
    return Text(lines=(said(reason),), style="absent")


def points(lines: Iterable[str], links: Mapping[str, Link] | None = None) -> Text:
    return Text(lines=tuple(said(line, links) for line in lines), style="list")


def verdicts(lines: Iterable[str], links: Mapping[str, Link]) -> Text:
    return Text(lines=tuple(said(line, links) for line in lines), style="verdict")


def anchor(name: str) -> Link:
    return Link(kind="anchor", to=name)


def table(
    titles: tuple[str, ...], lines: Sequence[tuple[str | Cell, ...]], right: tuple[int, ...] = (), caption: str = ""
) -> Table:
    """A table from texts; the columns in ``right`` hold numbers."""
    return Table(
        columns=tuple(
            Column(title=title, align="right" if place in right else "left") for place, title in enumerate(titles)
        ),
        lines=tuple(
            Line(cells=tuple(cell if isinstance(cell, Cell) else Cell(text=cell) for cell in line)) for line in lines
        ),
        caption=caption,
    )


RUNS = "runs"
"""The section that tells single runs."""


def without_runs(report: Report) -> Report:
    """The same report without its table of runs, and without links to it."""
    kept = tuple(section for section in report.sections if section.name != RUNS)
    return report.model_copy(update={"sections": _unlinked(kept)})


def _unlinked(value: Any) -> Any:
    """A value without links to runs, wherever in it they stand."""
    if isinstance(value, tuple):
        return tuple(_unlinked(part) for part in value)
    if not isinstance(value, Value):
        return value
    return value.model_copy(
        update={name: None if _leads_to_runs(part, name) else _unlinked(part) for name, part in value}
    )


def _leads_to_runs(part: Any, name: str) -> bool:
    to = part.to if isinstance(part, Link) else part if name == "anchor" and part else ""
    return to == RUNS or to.startswith(("line-", "run-"))
