"""What verbs print of a sweep: its boards, and what went wrong in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from chembench.handles import Sweep


def print_boards(view: Sweep, form: str) -> None:
    """Every leaderboard and the pre-training board, in one form."""
    from chembench.report import render

    boards: list[render.Board] = view.boards()
    if form == "table":
        from rich.console import Console

        render.print_boards(boards, Console())
    else:
        click.echo(render.boards_text(boards, form), nl=False)


def print_failures(view: Sweep) -> None:
    """How many items failed, the first cause with the place of its traceback, and how to retry; else nothing."""
    from chembench.paths import as_written
    from chembench.sweep.stopping import retry_command

    failures = view.failures()
    if not failures:
        return
    first = failures[0]
    total = sum(failure.count + failure.followers for failure in failures)
    click.echo(f"failed: {_items(total)}, {len(failures)} different {'cause' if len(failures) == 1 else 'causes'}")
    followed = f", and {_items(first.followers)} that stood on it" if first.followers else ""
    click.echo(f"the first, in {_items(first.count)}{followed}: {first.cause}: {first.message}")
    click.echo(f"  item {first.first}" + (f", traceback in {first.place}" if first.place else ""))
    click.echo(f"retry what failed: {retry_command(as_written(view.root))}")


def _items(count: int) -> str:
    return f"{count} item" if count == 1 else f"{count} items"
