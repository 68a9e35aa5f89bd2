"""All tasks of a type together: one order that was chosen beforehand, and what other ways to get one would say."""

from __future__ import annotations

from chembench.report.board import Leaderboard
from chembench.report.page.blocks import Block, Figure, Heading, Section, absent, points, table
from chembench.report.page.plots import Bar, IntervalsPlot, MatrixPlot
from chembench.report.page.source import Source, linked
from chembench.report.render import overall_cells
from chembench.report.verdicts import order_sentences
from chembench.report.wording import counted
from chembench.statistics.aggregate import Aggregate

_WORDS = {"mean_rank": "mean rank", "win_rate": "win rate", "improvability": "improvability", "tes": "TES"}


def together(source: Source) -> Section:
    """One order over the tasks of each type, with what hangs on the choice."""
    blocks: list[Block] = []
    for board in source.leaderboards:
        blocks.append(Heading(text=f"{board.kind}: {counted(len(board.sections), 'task')}"))
        blocks += _of_board(board)
    if not blocks:
        blocks.append(absent("This sweep has no task."))
    return Section(name="together", title="Tasks together", blocks=tuple(blocks))


def _of_board(board: Leaderboard) -> list[Block]:
    if len(board.sections) < 2:
        return [absent(f"One {board.kind} task alone: its board is the order.")]
    if board.overall is None:
        return [absent("Fewer than two methods are complete on all these tasks.")]
    found = board.overall
    agreement = ", ".join(f"{value:.2f} with {_WORDS[name]}" for name, value in found.agreement.items())
    chosen = f"the order is that of the {_WORDS[found.chosen]}, chosen before any result; Kendall's tau is {agreement}"
    drawn = f"in {found.first_changes:.0%} of draws of tasks the ways to reckon do not agree on who is first"
    return [
        _ranks(found, board),
        _standings(found),
        points([chosen, *order_sentences(found), drawn]),
        _wins(found, board),
    ]


def _ranks(found: Aggregate, board: Leaderboard) -> Figure:
    return Figure(
        name=f"ranks-{board.kind}",
        caption=f"Mean rank over {counted(len(found.tasks), board.kind + ' task')}, with 95 % t intervals over "
        "tasks; 1 is best on every task.",
        plot=IntervalsPlot(
            bars=tuple(
                Bar(label=line.method, value=line.mean_rank, low=line.rank_low, high=line.rank_high)
                for line in found.standings
            ),
            x_label="mean rank",
        ),
    )


def _standings(found: Aggregate) -> Block:
    """As the boards show it; a number links to the method's runs on the first of the tasks."""
    titles, cells = overall_cells(found)
    lines = [tuple(linked(text, found.tasks[0], line[0]) for text in line) for line in cells]
    plain = tuple(title.replace("-\n", "").replace("\n", " ") for title in titles)
    return table(plain, lines, right=tuple(range(1, len(titles))))


def _wins(found: Aggregate, board: Leaderboard) -> Figure:
    names = tuple(line.method for line in found.standings)
    return Figure(
        name=f"wins-{board.kind}",
        caption=f"Share of the {counted(len(found.tasks), board.kind + ' task')} on which the row's mean is better "
        "than the column's; equal means count one half.",
        plot=MatrixPlot(
            names=names,
            values=tuple(tuple(found.wins.get(row, {}).get(column) for column in names) for row in names),
            low=0.0,
            high=1.0,
            label="share of tasks that the row wins",
        ),
    )
