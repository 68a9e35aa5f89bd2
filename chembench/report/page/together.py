"""All tasks of a type together: one order that was chosen beforehand, and what other ways to get one would say."""

from __future__ import annotations

from chembench.errors import DataError
from chembench.report.board import Leaderboard
from chembench.report.page.answer import listed
from chembench.report.page.blocks import Block, Cell, Figure, Heading, Section, absent, paragraph, table
from chembench.report.page.plots import Bar, IntervalsPlot, MatrixPlot
from chembench.report.page.source import Source, counted
from chembench.statistics.aggregate import Aggregate, aggregate

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
    means = {section.task: {e.method: e.score.mean for e in section.entries} for section in board.sections}
    shared = set.intersection(*(set(own) for own in means.values()))
    if len(shared) < 2:
        return [absent("Fewer than two methods are complete on all these tasks.")]
    scores = {task: {method: own[method] for method in sorted(shared)} for task, own in means.items()}
    try:
        found = aggregate(scores, {section.task: section.better for section in board.sections})
    except DataError as error:
        return [absent(f"No order over tasks: {error}.")]
    return [
        paragraph(_sensitivity(found)),
        _ranks(found, board),
        _standings(found),
        _wins(found, board),
    ]


def _sensitivity(found: Aggregate) -> str:
    chosen = _WORDS[found.chosen]
    firsts = "; ".join(f"{_WORDS[name]}: {listed(methods)}" for name, methods in found.firsts.items())
    agreement = ", ".join(f"{value:.2f} with {_WORDS[name]}" for name, value in found.agreement.items())
    return (
        f"The order is that of the {chosen}, chosen before any result. First by {firsts}. Agreement of orders "
        f"(Kendall): {agreement}. Had other tasks like these been drawn, the first method would hang "
        f"on the way to count in {found.first_changes:.0%} of draws; the order agrees with that of such draws by "
        f"{found.rank_stability:.2f}."
    )


def _ranks(found: Aggregate, board: Leaderboard) -> Figure:
    return Figure(
        name=f"ranks-{board.kind}",
        caption=f"Mean rank over {counted(len(found.tasks), board.kind + ' task')}, with 95 % intervals over draws of "
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
    lines: list[tuple[str | Cell, ...]] = [
        (
            line.method,
            f"{line.mean_rank:.2f}",
            f"{line.rank_low:.2f} to {line.rank_high:.2f}",
            f"{line.p_first:.2f}",
            f"{line.win_rate:.2f}",
            f"{line.improvability:.1%}",
            f"{line.tes:.3f}",
        )
        for line in found.standings
    ]
    titles = ("method", "mean rank", "95 % interval", "P(first)", "win rate", "improvability", "TES")
    return table(titles, lines, right=(1, 2, 3, 4, 5, 6))


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
