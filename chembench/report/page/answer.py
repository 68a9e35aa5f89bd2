"""The question of a sweep, and what its data can answer: verdicts of the comparison, never the largest mean alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chembench.report.board import FOREST, Entry, TaskSection
from chembench.report.columns import decimals_for, hours
from chembench.report.page.blocks import (
    Block,
    Heading,
    Link,
    Section,
    absent,
    anchor,
    paragraph,
    points,
    verdicts,
)
from chembench.report.page.source import Source, counted, line_anchor, metric_title
from chembench.report.verdicts import Against, against
from chembench.statistics.comparison import Comparison
from chembench.sweep.progress import status_of

NAMED = 8
"""Methods that a sentence names at most."""


def answer(source: Source) -> Section:
    """Question and answer, task by task."""
    blocks: list[Block] = [paragraph(_question(source)), paragraph(_design(source))]
    if not source.state.finished:
        blocks.append(absent(_unfinished(source)))
    if headlines := [line for line in (_best_shown(source), _headline(source)) if line]:
        blocks.append(verdicts(headlines, {}))
    for section in source.sections:
        blocks.append(Heading(text=f"{section.task} ({metric_title(section)}, {section.better} is better)"))
        blocks += of_task(section)
    if not source.sections:
        blocks.append(absent("The sweep has no task, so there is no question it could answer."))
    return Section(name="answer", title="Question and answer", blocks=tuple(blocks))


def _question(source: Source) -> str:
    tasks = listed(source.state.header.get("tasks", {}))
    return (
        f"For {tasks or 'no task'}: which recipe - architecture, size, pre-training data, fine-tuning - is worth its "
        "cost, and is the difference real?"
    )


def _design(source: Source) -> str:
    header = source.state.header
    confirm, cells = header.get("confirm", {}), header.get("cells", ())
    trials = header.get("search_trials")
    parts = [
        _cells([str(cell) for cell in cells]) if cells else "cells chosen by the sampler",
        listed(header.get("baselines", ())) or "no baseline",
        f"{counted(trials, 'search trial')} for each study" if trials is not None else "recorded runs",
    ]
    axes = [("pretrain_seeds", "pre-training seed"), ("splits", "split"), ("head_seeds", "head seed")]
    replicates = " x ".join(counted(confirm[name], word) for name, word in axes if name in confirm)
    folds = confirm.get("outer_folds", 0) * confirm.get("outer_repeats", 1)
    outer = f" x {counted(folds, 'outer test set')}" if folds else ""
    return f"Compared: {'; '.join(parts)}. Each choice is confirmed on {replicates}{outer}, the same for every cell."


def _cells(names: Sequence[str]) -> str:
    controls = sum(name.partition("+")[0].endswith("-scratch") for name in names)
    return counted(len(names), "cell") + (f", {controls} of them from scratch" if controls else "")


def _unfinished(source: Source) -> str:
    status = status_of(source.state)
    known = sum(sum(counts.values()) for counts in status.counts.values())
    return (
        f"This sweep is not finished: {known - status.left} of {status.expected} items are done. "
        "The report holds what there is."
    )


def _best_shown(source: Source) -> str:
    """On how many tasks a single best method is shown."""
    tested = [s for s in source.sections if s.comparison and s.comparison.p_best and len(s.comparison.methods) > 1]
    if not tested:
        return ""
    alone = [s for s in tested if s.comparison is not None and len(s.comparison.tie_group) == 1]
    if not alone:
        where = "on the task" if len(tested) == 1 else f"on any of {len(tested)} tasks"
        return f"No single best method is shown {where}."
    told = [f"{s.task} ({s.comparison.methods[0]})" for s in alone if s.comparison is not None]
    rest = len(tested) - len(alone)
    end = f"; on the other {counted(rest, 'task')} none" if rest else ""
    return f"A single best method is shown on {listed(told)}{end}."


def _headline(source: Source) -> str:
    """What holds over all tasks, of the models against the forest."""
    judged = [section for section in source.sections if any(True for _ in _against(section, FOREST))]
    if not judged:
        return ""
    better = [s.task for s in judged if any(verdict == "better" for _, verdict in _against(s, FOREST))]
    if not better:
        where = "" if len(judged) == 1 else f", on any of {len(judged)} tasks"
        return f"No recipe is shown to be better than {FOREST}{where}."
    rest = len(judged) - len(better)
    end = f", and none on the other {counted(rest, 'task')}" if rest else ""
    return f"At least one recipe is shown to be better than {FOREST} on {listed(better)}{end}."


def verdict_on(section: TaskSection, method: str, other: str) -> Against | None:
    """What is shown of ``method`` beside ``other``; none where the two were not compared."""
    comparison = section.comparison
    if comparison is None or method == other or not {method, other} <= set(comparison.methods):
        return None
    return against(comparison, method, other)


def _against(section: TaskSection, other: str) -> Iterable[tuple[Entry, Against]]:
    """Every model with its verdict against another method."""
    for entry in section.entries:
        verdict = verdict_on(section, entry.method, other) if entry.group != "baseline" else None
        if verdict is not None:
            yield entry, verdict


def links_of(section: TaskSection) -> Mapping[str, Link]:
    """Every method of a task, with the place of its runs."""
    methods = [*(entry.method for entry in section.entries), *(line.method for line in section.incomplete)]
    return {method: anchor(line_anchor(section.task, method)) for method in methods}


def of_task(section: TaskSection) -> list[Block]:
    """The verdicts of one task."""
    comparison = section.comparison
    if not section.entries:
        return [absent(f"No method has all its runs on {section.task} yet: there is no answer.")]
    if comparison is None or not comparison.p_best or len(comparison.methods) < 2:
        return [absent(_why_none(section))]
    lines = [_best(section, comparison), _versus_forest(section), _versus_scratch(section)]
    lines += [_separation(comparison), _cheapest(section, comparison), _scope(section)]
    return [
        verdicts([line for line in lines if line], links_of(section)),
        points([_test(comparison)], links_of(section)),
    ]


def _why_none(section: TaskSection) -> str:
    if len(section.entries) == 1:
        return f"One method alone, {section.entries[0].method}, is complete on {section.task}: nothing to compare."
    return f"The methods of {section.task} were not compared: there are not enough replicates for a test."


def _best(section: TaskSection, comparison: Comparison) -> str:
    best, ties = comparison.methods[0], comparison.tie_group
    if len(ties) == 1:
        return f"{best} is shown to be better than each of the other {len(comparison.methods) - 1} methods."
    if len(ties) == len(comparison.methods):
        return f"No best method is shown: none of {len(ties)} is told apart from the best mean, that of {best}."
    others = listed([method for method in ties if method != best])
    verb = "is" if len(ties) == 2 else "are"
    return (
        f"No single best method is shown: {len(ties) - 1} of the other {len(comparison.methods) - 1} methods {verb} "
        f"not told apart from the best mean, that of {best}: {others}."
    )


def _versus_forest(section: TaskSection) -> str:
    judged = list(_against(section, FOREST))
    if not judged:
        return ""
    better = [entry.method for entry, verdict in judged if verdict == "better"]
    counts = [(word, sum(verdict == word for _, verdict in judged)) for word in ("worse", "equivalent", "undecided")]
    rest = ", ".join(f"{count} {'is' if count == 1 else 'are'} {_WORDS[word]}" for word, count in counts if count)
    nothing = f"No recipe is shown to be better than {FOREST}"
    start = f"Shown to be better than {FOREST}: {listed(better)}" if better else nothing
    return f"{start}; of {counted(len(judged), 'model')}, {rest}." if rest else f"{start}."


_WORDS = {"worse": "shown to be worse", "equivalent": "equivalent in practice", "undecided": "undecided"}


def _versus_scratch(section: TaskSection) -> str:
    """Pre-trained cells against the same architecture and size from scratch."""
    scratch = {(e.architecture, e.size, _rest(e)): e.method for e in section.entries if e.group == "from scratch"}
    verdicts_ = []
    for entry in section.entries:
        twin = scratch.get((entry.architecture, entry.size, _rest(entry)))
        if entry.group == "cell" and twin is not None:
            verdicts_.append(verdict_on(section, entry.method, twin))
    judged = [verdict for verdict in verdicts_ if verdict is not None]
    if not judged:
        return ""
    helps, harms = judged.count("better"), judged.count("worse")
    return (
        f"Pre-training against the same model from scratch: shown to help in {helps} of "
        f"{counted(len(judged), 'cell')}, to harm in {harms}, undecided or equivalent in {len(judged) - helps - harms}."
    )


def _rest(entry: Entry) -> str:
    return entry.method.partition("+")[2]


def _separation(comparison: Comparison) -> str:
    if len(comparison.methods) < 2 or comparison.methods[1] not in comparison.tie_group:
        return ""
    first, second = comparison.methods[:2]
    more = comparison.needed.get(second)
    if more is None:
        return f"Rows 1 and 2, {first} and {second}: no number of further replicates was found to separate them."
    axis = comparison.needed_axis.get(second, "replicate")
    return f"To separate rows 1 and 2, {first} and {second}, buy {counted(more, f'more {axis}')} of each (80 % power)."


def _cheapest(section: TaskSection, comparison: Comparison) -> str:
    costs = {e.method: cost for e in section.entries if (cost := e.spent.total_device_hours) is not None}
    known = [method for method in comparison.tie_group if method in costs]
    if not known:
        return ""
    cheapest = min(known, key=lambda method: (costs[method], method))
    best = comparison.methods[0]
    if len(comparison.tie_group) == 1:
        return f"It cost {hours(costs[best])} device-hours." if best in costs else ""
    against = f", against {hours(costs[best])} of {best}" if best in costs and best != cheapest else ""
    return f"The cheapest in the tie group is {cheapest}: {hours(costs[cheapest])} device-hours{against}."


def _scope(section: TaskSection) -> str:
    if any(entry.scope == "this checkpoint" for entry in section.entries):
        return "One pre-training seed: verdicts on pre-trained models speak for these checkpoints, not architectures."
    return ""


def _test(comparison: Comparison) -> str:
    omnibus = "" if comparison.omnibus_p is None else f"; no difference at all: p = {comparison.omnibus_p:.2g}"
    region = ""
    if comparison.region:
        region = f"; differences below {comparison.region:.{decimals_for([comparison.region])}f} count as equivalent"
    return f"Test: {comparison.test}, family-wise level {comparison.alpha:g}{omnibus}{region}"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of many the first ones."""
    kept = list(names)
    if len(kept) > NAMED:
        return f"{', '.join(kept[:NAMED])} and {len(kept) - NAMED} more"
    return " and ".join([", ".join(kept[:-1]), kept[-1]] if len(kept) > 1 else kept)
