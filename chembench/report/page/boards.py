"""The boards as tables of the report; each number links to the runs it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from chembench.report import columns, render
from chembench.report.board import Leaderboard, TaskSection
from chembench.report.page.blocks import (
    Block,
    Cell,
    Column,
    Figure,
    Heading,
    Line,
    Section,
    Table,
    absent,
    paragraph,
    points,
)
from chembench.report.page.plots import Bar, IntervalsPlot
from chembench.report.page.source import Source, file_part, line_anchor, linked, metric_title

IMPORTANT = 5
"""Columns up to this importance stand on the board, the others in a table of their own."""


def boards(source: Source) -> Section:
    """Every leaderboard as the terminal shows it, with all columns."""
    blocks: list[Block] = []
    for board in source.leaderboards:
        for section in board.sections:
            blocks += _task(board, section)
        blocks.append(points(render.notes(board)))
    if not blocks:
        blocks.append(absent("This sweep has no task."))
    return Section(name="boards", title="Boards", blocks=tuple(blocks))


def _task(board: Leaderboard, section: TaskSection) -> list[Block]:
    lines = [line for line in columns.records(board) if line["task"] == section.task]
    complete = [line for line in lines if line["status"] == "complete"]
    apart = [line for line in lines if line["status"] == "incomplete"]
    blocks: list[Block] = [Heading(text=f"{section.task}: {metric_title(section)}, {section.better} is better")]
    if section.note:
        blocks.append(paragraph(section.note))
    if complete:
        shown = columns.shown(board, section)
        few = [column for column in shown if column.importance <= IMPORTANT]
        more = [
            *(column for column in shown if column.title == "method"),
            *(column for column in shown if column.importance > IMPORTANT),
        ]
        blocks += [board_table(few, complete, section.task), _scores(section)]
        rest = board_table(more, complete, section.task)
        blocks.append(rest.model_copy(update={"caption": f"More columns of {section.task}", "is_long": True}))
    else:
        blocks.append(absent(f"No method has all its runs on {section.task} yet."))
    if apart:
        blocks.append(incomplete_table(apart, section.task))
    return blocks


def board_table(shown: Sequence[columns.Column], lines: Sequence[columns.Record], task: str | None) -> Table:
    """Lines of a board under the columns that say something."""
    said = [column for column in shown if any(column.text(line) != "-" for line in lines)]
    return Table(
        columns=tuple(Column(title=_one_line(column.title), align=column.align) for column in said),
        lines=tuple(
            Line(cells=tuple(linked(column.text(line), task, str(line["method"])) for column in said)) for line in lines
        ),
    )


def _one_line(title: str) -> str:
    return title.replace("-\n", "-").replace("\n", " ")


def incomplete_table(lines: Sequence[columns.Record], task: str | None) -> Table:
    """What has no score, and why."""
    return Table(
        caption="Incomplete, not ranked",
        columns=(Column(title="incomplete"), Column(title="runs", align="right"), Column(title="reason")),
        lines=tuple(
            Line(
                cells=(
                    linked(columns.method_of(line), task, str(line["method"])),
                    Cell(text=f"{line['replicates']}/{line['replicates_expected']}"),
                    Cell(text=str(line["reason"])),
                )
            )
            for line in lines
        ),
    )


def _scores(section: TaskSection) -> Figure:
    bars = [
        Bar(
            label=entry.method,
            value=entry.score.mean,
            low=entry.score.low,
            high=entry.score.high,
            mark="strong" if entry.group == "baseline" else "open" if entry.group == "from scratch" else "plain",
            anchor=line_anchor(section.task, entry.method),
        )
        for entry in section.entries
    ]
    return Figure(
        name=f"scores-{file_part(section.task)}",
        caption=f"Test {metric_title(section)} on {section.task}: mean and 95 % interval over the runs of each line. "
        "Intervals of two methods may overlap though their difference is shown, and the other way round.",
        plot=IntervalsPlot(
            bars=tuple(bars),
            x_label=f"test {metric_title(section)} ({section.better} is better)",
            key=("pre-trained", "baseline", "from scratch"),
        ),
    )
