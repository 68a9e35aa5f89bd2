"""What a section of a board says in sentences: who ties with the best, what would part them, and what the cheapest is.

Never the largest mean alone: every sentence stands on the comparison of all methods, or says that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from chembench.report.board import FOREST, Entry, TaskSection
from chembench.report.columns import decimals_for
from chembench.report.wording import counted, listed

if TYPE_CHECKING:
    from chembench.statistics.aggregate import Aggregate
    from chembench.statistics.comparison import Comparison

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
    """The answer of one task, in the order in which a reader asks; begun in lower case, without a full stop."""
    comparison, entries = section.comparison, section.entries
    if not entries:
        return ["no method has all its runs yet, so nothing can be said"]
    if comparison is None or len(entries) < 2:
        return [f"one method alone, {entries[0].method}, has all its runs: there is nothing to compare it with"]
    if not comparison.p_best:
        return ["every method was run once: no difference can be shown, more head seeds or splits can"]
    said = [
        _who_is_best(comparison),
        _beside_the_forest(section),
        _beside_scratch(section),
        _what_parts_the_first(comparison),
        _test(comparison),
    ]
    return [one for one in said if one]


def cost_sentences(section: TaskSection) -> list[str]:
    """Which of those that tie took least of the machine; measured, so that it differs when a sweep is run again."""
    comparison = section.comparison
    if comparison is None or not comparison.p_best:
        return []
    tied = comparison.tie_group
    costs = {e.method: cost for e in section.entries if (cost := e.spent.total_device_hours) is not None}
    known = [method for method in tied if method in costs]
    if len(known) < 2:
        return []
    cheapest, best = min(known, key=lambda method: (costs[method], method)), tied[0]
    beside = f", against {costs[best]:.3g} of {best}" if best in costs and best != cheapest else ""
    alike = cheapest == best or against(comparison, cheapest, best) == "equivalent"
    return [
        f"the cheapest that is not shown to be worse is {cheapest} ({_score(section, cheapest)}): "
        f"{costs[cheapest]:.3g} device-hours{beside}{'' if alike else '; undecided, not shown to be as good'}"
    ]


def order_sentences(found: Aggregate) -> list[str]:
    """How far one order over tasks can be trusted: whether other ways to reckon it, or other tasks, change it."""
    chosen = found.chosen.replace("_", " ")
    others = [name for name in found.firsts if found.firsts[name] != found.firsts[found.chosen]]
    said = [f"first by {chosen}: {', '.join(found.firsts[found.chosen])}"]
    if others:
        told = "; ".join(f"by {name.replace('_', ' ')} {', '.join(found.firsts[name])}" for name in others)
        said.append(f"the way to reckon it decides who is first: {told}")
    else:
        said.append("whichever of mean rank (or win rate), improvability and TES is taken, the same stands first")
    return [
        *said,
        f"{len(found.tasks)} tasks carry the order: drawn again, they agree with it by Kendall's tau of "
        f"{found.rank_stability:.2f}",
    ]


def _score(section: TaskSection, method: str) -> str:
    """Mean and half of its interval: what is not shown to be worse may be far from the best."""
    score = next(entry.score for entry in section.entries if entry.method == method)
    decimals = decimals_for([entry.score.mean for entry in section.entries])
    half = "" if score.high is None else f" ± {score.high - score.mean:.{decimals}f}"
    return f"{score.mean:.{decimals}f}{half}"


def verdicts_against(section: TaskSection, other: str) -> list[tuple[Entry, Against]]:
    """Every model of a task with what is shown of it beside ``other``; baselines are left out."""
    judged = [(entry, verdict_on(section, entry.method, other)) for entry in section.entries]
    return [(entry, verdict) for entry, verdict in judged if verdict is not None and entry.group != "baseline"]


def verdict_on(section: TaskSection, method: str, other: str) -> Against | None:
    """What is shown of ``method`` beside ``other``; none where the two were not compared."""
    comparison = section.comparison
    if comparison is None or method == other or not {method, other} <= set(comparison.methods):
        return None
    return against(comparison, method, other)


def _who_is_best(comparison: Comparison) -> str:
    best, count = comparison.methods[0], len(comparison.methods)
    others = [method for method in comparison.tie_group if method != best]
    if not others:
        return f"a single best method is shown, better than each of the other {count - 1}: {best}"
    alike = sum(against(comparison, method, best) == "equivalent" for method in others)
    told = f"; {alike} of them {'is' if alike == 1 else 'are'} equivalent to it in practice" if alike else ""
    if len(others) == count - 1:
        return f"no single best method is shown: none of {count} is shown to be worse than {best}, the best mean{told}"
    return (
        f"no single best method is shown: {len(others)} of the other {count - 1} methods "
        f"{'is' if len(others) == 1 else 'are'} not shown to be worse than the best mean, that of {best}: "
        f"{listed(others)}{told}"
    )


def _beside_the_forest(section: TaskSection) -> str:
    judged = verdicts_against(section, FOREST)
    if not judged:
        return ""
    better = [entry.method for entry, verdict in judged if verdict == "better"]
    counts = {words: sum(verdict == one for _, verdict in judged) for one, words in _WORDS.items()}
    rest = ", ".join(f"{count} {'is' if count == 1 else 'are'} {words}" for words, count in counts.items() if count)
    nothing = f"no recipe is shown to be better than {FOREST}"
    start = f"shown to be better than {FOREST}: {listed(better)}" if better else nothing
    return f"{start}; of {counted(len(judged), 'model')}, {rest}" if rest else start


_WORDS = {"worse": "shown to be worse", "equivalent": "equivalent in practice", "undecided": "undecided"}


def _beside_scratch(section: TaskSection) -> str:
    """Pre-trained cells against the same architecture and size from scratch."""
    scratch = {entry.control: entry.method for entry in section.entries if entry.group == "from scratch"}
    judged = []
    for entry in section.entries:
        twin = scratch.get(entry.control)
        if entry.group == "cell" and twin is not None:
            judged.append(verdict_on(section, entry.method, twin))
    known = [verdict for verdict in judged if verdict is not None]
    if not known:
        return ""
    helps, harms = known.count("better"), known.count("worse")
    return (
        f"pre-training against the same model from scratch: shown to help in {helps} of "
        f"{counted(len(known), 'cell')}, to harm in {harms}, undecided or equivalent in {len(known) - helps - harms}"
    )


def _what_parts_the_first(comparison: Comparison) -> str:
    first, second = comparison.methods[:2]
    if second not in comparison.tie_group:
        return ""
    if against(comparison, first, second) == "equivalent":
        return f"rows 1 and 2, {first} and {second}, are equivalent in practice"
    more = comparison.needed.get(second)
    if more is None:
        return (
            f"no number of further replicates, of the kinds that were varied, was found that would separate rows 1 "
            f"and 2, {first} and {second}"
        )
    axis = comparison.needed_axis[second]
    return f"to separate rows 1 and 2, {first} and {second}, buy {counted(more, f'more {axis}')} of each (80 % power)"


def _test(comparison: Comparison) -> str:
    omnibus = "" if comparison.omnibus_p is None else f"; no difference at all: p = {comparison.omnibus_p:.2g}"
    region = ""
    if comparison.region:
        region = f"; differences below {comparison.region:.{decimals_for([comparison.region])}f} count as equivalent"
    return f"test: {comparison.test}, family-wise level {comparison.alpha:g}{omnibus}{region}"


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
