"""What a section of a board says in sentences: who ties with the best, what would part them, and what the cheapest is.

Never the largest mean alone: every sentence stands on the comparison of all methods, or says that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from chembench.report.board import Entry, TaskSection
    from chembench.statistics.aggregate import Aggregate
    from chembench.statistics.comparison import Comparison

NAMED = 4
"""Methods that a sentence names before it counts the rest."""
Against = Literal["better", "worse", "equivalent", "undecided"]


def against(comparison: Comparison, method: str, other: str) -> Against:
    """What is shown of ``method`` beside ``other``.

    Raises:
        KeyError: if one of them was not compared.
    """
    for pair in comparison.pairs:
        if {pair.first, pair.second} == {method, other}:
            if pair.verdict in ("undecided", "equivalent"):
                return pair.verdict
            return "better" if (pair.verdict == "first") == (pair.first == method) else "worse"
    raise KeyError(f"{method} and {other} were not compared")


def sentences(section: TaskSection) -> list[str]:
    """The answer of one task, in the order in which a reader asks."""
    comparison = section.comparison
    if not section.entries:
        return ["no method is complete yet, so nothing can be said"]
    if comparison is None or len(section.entries) < 2:
        return ["one method is complete, there is nothing to compare it with"]
    if not comparison.p_best:
        return ["every method was run once: no difference can be shown, more head seeds or splits can"]
    return [
        _who_ties(section, comparison),
        *_what_parts_them(comparison),
        *_beside_the_forest(section, comparison),
    ]


def cost_sentences(section: TaskSection) -> list[str]:
    """Which of those that tie took least of the machine; measured, so that it differs when a sweep is run again."""
    comparison = section.comparison
    tied = comparison.tie_group if comparison is not None and comparison.p_best else ()
    priced = [e for e in section.entries if e.method in tied and e.spent.total_device_hours is not None]
    if len(priced) < 2:
        return []
    best = min(priced, key=lambda entry: (entry.spent.total_device_hours or 0.0, entry.method))
    return [f"of those that tie, {best.method} took the fewest device-hours ({best.spent.total_device_hours:.3g})"]


def order_sentences(found: Aggregate) -> list[str]:
    """How far one order over tasks can be trusted: whether other ways to reckon it, or other tasks, change it."""
    chosen = found.chosen.replace("_", " ")
    others = [name for name in found.firsts if found.firsts[name] != found.firsts[found.chosen]]
    said = [f"first by {chosen}: {', '.join(found.firsts[found.chosen])}"]
    if others:
        told = "; ".join(f"by {name.replace('_', ' ')} {', '.join(found.firsts[name])}" for name in others)
        said.append(f"the way to reckon it decides who is first: {told}")
    else:
        said.append("whichever of mean rank, win rate, improvability and TES is taken, the same stands first")
    return [
        *said,
        f"{len(found.tasks)} tasks carry the order: drawn again, they agree with it by Kendall's tau of "
        f"{found.rank_stability:.2f}",
    ]


def _who_ties(section: TaskSection, comparison: Comparison) -> str:
    count, tied = len(section.entries), comparison.tie_group
    if len(tied) == 1:
        return f"{tied[0]} is shown to be better than each of the other {count - 1} methods ({comparison.test})"
    told = f"{len(tied)} of {count} methods are not shown to be worse than the best mean"
    return f"{told}: {_some(tied)} ({comparison.test})"


def _what_parts_them(comparison: Comparison) -> list[str]:
    tied = comparison.tie_group
    if len(tied) < 2:
        return []
    first, second = tied[0], tied[1]
    more = comparison.needed.get(second)
    if more is None:
        return [f"no number of further replicates was found that would separate {first} and {second}"]
    axis = comparison.needed_axis[second]
    return [f"to separate {first} and {second}: {more} more {axis}{'s' if more != 1 else ''} of each"]


def _beside_the_forest(section: TaskSection, comparison: Comparison) -> list[str]:
    from chembench.report.board import FOREST

    if FOREST not in comparison.methods:
        return []
    models = [entry.method for entry in section.entries if entry.group != "baseline"]
    better = [method for method in models if against(comparison, method, FOREST) == "better"]
    worse = [method for method in models if against(comparison, method, FOREST) == "worse"]
    if not models:
        return []
    if better:
        return [f"shown to be better than {FOREST}: {_some(better)}"]
    return [f"no model is shown to be better than {FOREST}, {len(worse)} of {len(models)} are shown to be worse"]


def _some(methods: Sequence[str]) -> str:
    rest = len(methods) - NAMED
    return ", ".join(methods[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def pareto(entries: Iterable[Entry], better: Literal["lower", "higher"]) -> frozenset[str]:
    """Methods that no other beats in score without costing more, or in cost without scoring worse.

    Args:
        entries: complete lines; one whose device-hours are not known is left out.
        better: which way the score is better.
    """
    sign = 1 if better == "lower" else -1
    points = {
        entry.method: (sign * entry.score.mean, entry.spent.total_device_hours)
        for entry in entries
        if entry.spent.total_device_hours is not None
    }
    return frozenset(
        method
        for method, (error, hours) in points.items()
        if not any(
            other_error <= error and other_hours <= hours and (other_error, other_hours) != (error, hours)
            for other_error, other_hours in points.values()
        )
    )
