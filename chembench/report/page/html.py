"""A report as one HTML file: styles and figures inside, no script, nothing fetched.

Everything but figures and the style sheet passes through jinja2's escaping; figures are made by `drawing`, which
escapes what it writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from chembench.report.page.blocks import Block, Link, Report
from chembench.report.page.drawing import Drawn

if TYPE_CHECKING:
    from jinja2 import Environment

FORMS = ("svg", "png")
"""Of the figures' files."""
NAMES = ("method", "run", "first", "second", "signature", "incomplete", "package")
"""Columns whose texts are not broken."""
TEMPLATES = Path(__file__).parent / "templates"


def to_html(report: Report, drawn: Mapping[str, Drawn], folder: str = "") -> str:
    """The page.

    Args:
        report: what it says.
        drawn: its figures by name.
        folder: from where the page will lie to the sweep's folder; empty if it lies there.
    """
    from markupsafe import Markup

    template = _environment().get_template("report.html.j2")
    text: str = template.render(
        report=report,
        drawn={name: Markup(one.svg) for name, one in drawn.items()},
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        forms=FORMS,
        names=NAMES,
        href=lambda link: address(link, folder),
        kind_of=_kind_of,
    )
    return text


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )


def _kind_of(block: Block) -> str:
    return type(block).__name__


def address(link: Link, folder: str = "") -> str:
    """What a link is written as, in a page or a Markdown file; of web addresses only those of http and https."""
    if link.kind == "anchor":
        return f"#{quote(link.to)}"
    if link.kind == "folder":
        return quote(f"{folder}/{link.to}" if folder else link.to)
    return link.to if link.to.startswith(("http://", "https://")) else f"#{quote(link.to)}"
