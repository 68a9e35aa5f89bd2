"""What verbs print of a sweep: its boards, and what went wrong in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from chembench.data.audit import Audit
    from chembench.handles import Sweep
    from chembench.report.differences import Differences


def print_boards(view: Sweep, form: str) -> None:
    """Every leaderboard and the pre-training board, in one form."""
    from chembench.report import render

    boards: list[render.Board] = view.boards()
    if form == "table":
        from rich.console import Console

        render.print_boards(boards, Console())
    else:
        click.echo(render.boards_text(boards, form), nl=False)


def print_differences(found: Differences) -> None:
    """A table for each task, as wide as its names, and what all lines say together."""
    from itertools import groupby

    from chembench import printing

    columns = [name for name in found.COLUMNS if name not in ("task", "metric", "pairs")]
    for title, rows in groupby(found.as_rows(), lambda row: f"{row['task']}: {row['metric']}"):
        click.echo(f"{title}\n{printing.table(list(rows), columns)}\n")
    for sentence in found.sentences():
        click.echo(f"> {sentence}")


def audit_text(audit: Audit, form: str) -> str:
    """An audit in one of its forms, as a text that ends its last line."""
    from chembench import printing
    from chembench.report import audit_page

    if form == "json":
        return printing.as_json({**audit.model_dump(mode="json"), "leaks": audit.leaks}) + "\n"
    if form == "md":
        return audit_page.audit_markdown(audit)
    return audit_page.audit_page(audit) if form == "html" else _audit_tables(audit)


def _audit_tables(audit: Audit) -> str:
    """The numbers that matter most, and every finding with its way out."""
    from chembench import printing
    from chembench.data.audit import SEVERITIES, count_of
    from chembench.report import audit_tables
    from chembench.report.wording import counted

    overview = audit_tables.overview(audit)
    rows = [dict(zip(overview.columns, line, strict=True)) for line in overview.lines]
    lines = [f"audit of {audit.of} {audit.target}", "", printing.table(rows, overview.columns)]
    for name, tests in audit.by_task.items():
        told = [
            {"": severity, "count": count.split()[0], "finding": _finding(text, first, way_out)}
            for severity, count, text, first, way_out in audit_tables.findings(tests).lines
        ]
        lines += ["", f"{name}:", printing.table(told, ("", "count", "finding")) if told else "nothing was found"]
    lines += ["", ", ".join(counted(count_of(severity, audit.tasks), severity) for severity in SEVERITIES)]
    return "\n".join(lines) + "\n"


def _finding(text: str, first: str, way_out: str) -> str:
    return f"{text}{f' (first: {first})' if first else ''}. Way out: {way_out}"


def print_questions(view: Sweep, tracking_uri: str, port: int) -> None:
    """Each question that MLflow's pages answer about a sweep, with the address of the page."""
    from chembench.tracking.questions import questions, server_of

    base = server_of(tracking_uri) or f"http://127.0.0.1:{port}"
    found = questions(view.begun(), view.paths, tracking_uri, base)
    for question in found:
        click.echo(f"{question.text}\n  {question.url}")
    if not found:
        click.echo(f"MLflow holds no run of sweep '{view.name}' yet; chembench sync sends them")


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
    from chembench.report.wording import counted

    return counted(count, "item")
