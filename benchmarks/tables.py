"""Tables of measured numbers: printed, and kept in one section each of ``reports/benchmarks.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from chembench.paths import read_json, written_whole

REPORT = Path(__file__).resolve().parents[1] / "reports" / "benchmarks.md"
HEAD = """# Benchmarks

Measured by the scripts in `benchmarks/`; each writes its own section with `--write`. `make bench` runs all of them.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def machine(environment: Path, packages: Sequence[str]) -> str:
    """One line on where it was measured, from the ``environment.json`` of a sweep.

    Args:
        environment: the file.
        packages: whose versions matter here.
    """
    found: Mapping[str, Any] = read_json(environment)
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in packages)
    where = f"{found['processor']}, {found['cpus']} cores, Python {found['python']}"
    return f"{where}; {versions}; commit {found['commit']}.\n"


def publish(title: str, command: str, text: str, *, write: bool) -> None:
    """Print a section, and put it in its place in the report if asked to.

    Args:
        title: of the section; one of the same title is replaced.
        command: that gives it.
        text: Markdown below the title.
        write: whether to change the report.
    """
    section = f"## {title}\n\n`{command}`\n\n{text}"
    click.echo(section)
    if not write:
        return
    report = REPORT.read_text() if REPORT.is_file() else HEAD
    before, *sections = re.split(r"(?m)^(?=## )", report)
    others = [other.rstrip("\n") for other in sections if not other.startswith(f"## {title}\n")]
    with written_whole(REPORT) as part:
        part.write_text("\n\n".join([before.rstrip("\n"), *sorted([*others, section.rstrip("\n")])]) + "\n")
