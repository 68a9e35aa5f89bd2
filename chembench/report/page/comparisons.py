"""Which methods are told apart: critical differences, intervals of differences, every pair, and who beats whom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from chembench.errors import DataError
from chembench.report.board import Leaderboard, TaskSection
from chembench.report.columns import decimals_for
from chembench.report.leaderboard import key_of
from chembench.report.page.answer import links_of
from chembench.report.page.blocks import Block, Cell, Figure, Heading, Section, Table, absent, paragraph, points, table
from chembench.report.page.plots import Bar, CriticalPlot, IntervalsPlot, MatrixPlot, Placed
from chembench.report.page.source import Source, file_part, line_anchor, linked, metric_title, p_text
from chembench.report.rows import ResultRow
from chembench.report.wording import counted, listed
from chembench.statistics.comparison import Comparison
from chembench.statistics.components import variance_components
from chembench.statistics.estimates import mean

_MARKS: dict[str, Literal["plain", "strong", "open"]] = {"first": "strong", "equivalent": "plain"}
_WORDS = {"equivalent": "equivalent in practice", "undecided": "not shown to differ"}


def comparisons(source: Source) -> Section:
    """Task by task, then over all tasks of a type."""
    blocks: list[Block] = []
    for section in source.sections:
        blocks.append(Heading(text=section.task))
        blocks += _of_task(section) + _what_varies(source, section)
    for board in source.leaderboards:
        blocks.append(Heading(text=f"{board.kind}: win rates"))
        blocks.append(_win_rates(source, board) or absent("Two complete methods at least are needed for a win rate."))
    return Section(name="comparisons", title="Differences between methods", blocks=tuple(blocks))


def _of_task(section: TaskSection) -> list[Block]:
    comparison = section.comparison
    if comparison is None or not comparison.p_best or len(comparison.methods) < 2:
        return [absent(f"Nothing on {section.task} can be compared: that needs two complete methods with replicates.")]
    blocks: list[Block] = [
        paragraph(_test(comparison)),
        _critical(section, comparison),
        _intervals(section, comparison),
    ]
    blocks += [_standing(section, comparison), _pairs(section, comparison)]
    if comparison.notes:
        blocks.append(points(comparison.notes, links_of(section)))
    return blocks


def _test(comparison: Comparison) -> str:
    omnibus = "" if comparison.omnibus_p is None else f" That all means are equal: p = {comparison.omnibus_p:.2g}."
    region = " No region of practical equivalence is known for it."
    if comparison.region:
        width = f"{comparison.region:.{decimals_for([comparison.region])}f}"
        region = f" Methods are equivalent in practice where the whole interval lies within {width} of no difference."
    level = f"{1 - comparison.alpha:.0%}".replace("%", " %")
    return f"Test: {comparison.test}; all intervals hold together at {level}.{omnibus}{region}"


def _critical(section: TaskSection, comparison: Comparison) -> Figure:
    means = {entry.method: entry.score.mean for entry in section.entries}
    groups, whole = cliques(comparison.methods, comparison.letters)
    broken = "" if whole else " Where unequal variances part a group, its bar is broken: the letters below are exact."
    return Figure(
        name=f"critical-{file_part(section.task)}",
        caption=f"Critical-difference diagram of {section.task}: methods by their mean {metric_title(section)}, the "
        f"best on the left; a bar joins methods that are not shown to differ.{broken}",
        plot=CriticalPlot(
            methods=tuple(
                Placed(label=name, value=means[name], anchor=line_anchor(section.task, name))
                for name in comparison.methods
            ),
            groups=tuple(groups),
            x_label=f"test {metric_title(section)}",
            better=section.better,
            decimals=decimals_for(list(means.values())),
        ),
    )


def cliques(methods: Sequence[str], letters: dict[str, str]) -> tuple[list[tuple[int, int]], bool]:
    """First and last place of every run of methods that share a letter, and whether no letter has more than one run."""
    runs: list[tuple[int, int]] = []
    whole = True
    for letter in sorted({letter for own in letters.values() for letter in own}):
        places = [place for place, name in enumerate(methods) if letter in letters.get(name, "")]
        parts = [list(part) for _, part in itertools.groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])]
        whole = whole and len(parts) < 2
        runs += [(part[0][1], part[-1][1]) for part in parts if len(part) > 1]
    unique = sorted(set(runs))
    kept = [run for run in unique if not any(_holds(other, run) for other in unique)]
    return kept, whole


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _intervals(section: TaskSection, comparison: Comparison) -> Figure:
    """Every method against the best mean; how much worse it is lies on the right."""
    best = comparison.methods[0]
    sign = -1 if section.better == "lower" else 1
    bars = []
    for pair in comparison.pairs:
        if pair.first != best:
            continue
        known = pair.low is not None and pair.high is not None
        ends = sorted((sign * (pair.low or 0.0), sign * (pair.high or 0.0)))
        bars.append(
            Bar(
                label=pair.second,
                value=sign * pair.difference,
                low=ends[0] if known else None,
                high=ends[1] if known else None,
                mark=_MARKS.get(pair.verdict, "open"),
                anchor=line_anchor(section.task, pair.second),
            )
        )
    return Figure(
        name=f"differences-{file_part(section.task)}",
        caption=f"How much worse than the best mean ({best}) each method is on {section.task}, with simultaneous "
        "intervals; grey: the region of practical equivalence. An interval that holds 0 shows no difference.",
        plot=IntervalsPlot(
            bars=tuple(bars),
            x_label=f"{metric_title(section)} {'above' if section.better == 'lower' else 'below'} that of {best}",
            zero=0.0,
            region=comparison.region,
            key=("equivalent in practice", "shown to be worse", "not shown to differ"),
        ),
    )


def _standing(section: TaskSection, comparison: Comparison) -> Table:
    best = comparison.methods[0]
    pairs = {pair.second: pair for pair in comparison.pairs if pair.first == best}
    means = {entry.method: entry.score.mean for entry in section.entries}
    decimals = decimals_for(list(means.values()))
    lines: list[tuple[str | Cell, ...]] = []
    for name in comparison.methods:
        pair, more = pairs.get(name), comparison.needed.get(name)
        chance = comparison.p_best.get(name)
        lines.append(
            (
                linked(name, section.task, name),
                linked(f"{means[name]:.{decimals}f}", section.task, name),
                comparison.letters.get(name, "-"),
                "-" if chance is None else f"{chance:.2f}",
                "-" if pair is None or pair.p is None else p_text(pair.p),
                "-" if pair is None or pair.effect is None else f"{abs(pair.effect):.1f}",
                "-" if more is None else counted(more, comparison.needed_axis.get(name, "replicate")),
            )
        )
    titles = ("method", "mean", "ties", "P(best)", "p, against the best", "effect (SD)", "more to separate")
    return table(titles, lines, right=(1, 3, 4, 5, 6))


def _pairs(section: TaskSection, comparison: Comparison) -> Table:
    decimals = decimals_for([abs(pair.difference) for pair in comparison.pairs])
    lines: list[tuple[str | Cell, ...]] = []
    for pair in comparison.pairs:
        verdict = _WORDS.get(pair.verdict) or f"{pair.first if pair.verdict == 'first' else pair.second} is better"
        interval = "-" if pair.low is None else f"{pair.low:+.{decimals}f} to {pair.high:+.{decimals}f}"
        lines.append(
            (
                linked(pair.first, section.task, pair.first),
                linked(pair.second, section.task, pair.second),
                f"{pair.difference:+.{decimals}f}",
                interval,
                "-" if pair.p is None else p_text(pair.p),
                f"{pair.n} ({pair.basis})",
                verdict,
            )
        )
    titles = ("first", "second", "first minus second", "simultaneous interval", "p", "units", "verdict")
    caption = f"All {counted(len(lines), 'pair')} of {section.task}"
    return table(titles, lines, right=(2, 3, 4), caption=caption).model_copy(update={"is_long": True})


def _what_varies(source: Source, section: TaskSection) -> list[Block]:
    """What scores vary by between replicates of one method, and which axes no interval holds."""
    rows = {entry.method: source.counted(section.task, entry.method) for entry in section.entries}
    scores = {
        method: {key_of(row): row.metrics[f"test_{section.metric}"] for row in own} for method, own in rows.items()
    }
    try:
        fixed = {method for method, own in rows.items() if all(row.deterministic for row in own)}
        found = variance_components(scores, fixed)
    except DataError as error:
        return [absent(f"What scores on {section.task} vary by cannot be told: {error}.")]
    decimals = decimals_for([part.sd for part in found.parts])
    lines: list[tuple[str | Cell, ...]] = [
        (
            part.axis,
            f"{part.sd:.{decimals}f}",
            f"{part.share:.0%}".replace("%", " %"),
            str(part.freedom),
            "yes" if part.counts else "no",
        )
        for part in found.parts
    ]
    held = f"Intervals hold the variance of {listed(found.held)}" if found.held else "Intervals hold nothing"
    missing = f"; there is one level of {listed(found.not_held)}, and whatever more would add is missing from them"
    titles = ("varies with", f"SD, {metric_title(section)}", "share", "freedom", "makes a difference uncertain")
    return [
        paragraph(
            f"Variance components of {section.task}, pooled over methods. {held}{missing if found.not_held else ''}."
        ),
        table(titles, lines, right=(1, 2, 3)),
    ]


# ------------------------------------------------------------------------------------------------------ win rates


def _win_rates(source: Source, board: Leaderboard) -> Figure | None:
    runs = {
        section.task: {entry.method: source.counted(section.task, entry.method) for entry in section.entries}
        for section in board.sections
    }
    better = {section.task: section.better for section in board.sections}
    metric = {section.task: f"test_{section.metric}" for section in board.sections}
    names = sorted({name for own in runs.values() for name in own})
    rates = {
        (one, other): win_rate([(runs[t], metric[t], better[t] == "lower") for t in runs], one, other)
        for one in names
        for other in names
        if one != other
    }
    if not any(rate is not None for rate in rates.values()):
        return None
    order = sorted(names, key=lambda name: (-_mean_rate(rates, name), name))
    return Figure(
        name=f"win-rates-{board.kind}",
        caption=f"Win rates on the {board.kind} board: of all pairs of a run of the row and a run of the column on the "
        f"same split, the share in which the row scores better, ties half; mean over {counted(len(runs), 'task')}. "
        "Runs that share a checkpoint are no independent wins: a rate tells how often, not whether it is shown.",
        plot=MatrixPlot(
            names=tuple(order),
            values=tuple(tuple(rates.get((row, column)) for column in order) for row in order),
            low=0.0,
            high=1.0,
            label="share of wins of the row over the column",
        ),
    )


def _mean_rate(rates: dict[tuple[str, str], float | None], name: str) -> float:
    known = [rate for (one, _), rate in rates.items() if one == name and rate is not None]
    return mean(known) if known else 0.0


Board = tuple[dict[str, list[ResultRow]], str, bool]
"""Method -> its runs, the metric, and whether lower is better."""


def win_rate(tasks: Sequence[Board], one: str, other: str) -> float | None:
    """Mean over tasks of the share of pairs of runs on one split that ``one`` wins; none without a common split."""
    found = []
    for runs, metric, is_lower in tasks:
        wins = [
            0.5 if a == b else float((a < b) == is_lower)
            for first, second in itertools.product(runs.get(one, ()), runs.get(other, ()))
            if (first.split, first.outer) == (second.split, second.outer)
            for a, b in ((first.metrics[metric], second.metrics[metric]),)
        ]
        if wins:
            found.append(mean(wins))
    return mean(found) if found else None
