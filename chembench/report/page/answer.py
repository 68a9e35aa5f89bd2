"""The question of a sweep, and what its data can answer: verdicts of the comparison, never the largest mean alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chembench.report.board import FOREST, TaskSection
from chembench.report.page.blocks import (
    Block,
    Heading,
    Link,
    Section,
    absent,
    anchor,
    paragraph,
    verdicts,
)
from chembench.report.page.source import Source, line_anchor, metric_title
from chembench.report.verdicts import cost_sentences, sentences, verdicts_against
from chembench.report.wording import counted, listed
from chembench.statistics.comparison import ALPHA, Comparison
from chembench.statistics.multiplicity import adjust
from chembench.sweep.progress import status_of


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
    ps = {s.task: p for s in tested if s.comparison and (p := _p_of_the_best(s.comparison)) is not None}
    if not ps:
        where = "on the task" if len(tested) == 1 else f"on any of {len(tested)} tasks"
        return f"No single best method is shown {where}."
    names = {s.task: f"{s.task} ({s.comparison.methods[0]})" for s in tested if s.comparison}
    return f"A single best method is shown on {_over_tasks(ps, names, len(tested))}."


def _p_of_the_best(comparison: Comparison) -> float | None:
    """Of no difference between the best and the one that comes nearest; none if it is not shown."""
    best = comparison.methods[0]
    if len(comparison.tie_group) > 1:
        return None
    return max(pair.p or 0.0 for pair in comparison.pairs if best in (pair.first, pair.second))


def _headline(source: Source) -> str:
    """What holds over all tasks, of the models against the forest."""
    judged = [section for section in source.sections if verdicts_against(section, FOREST)]
    if not judged:
        return ""
    ps = {s.task: p for s in judged if (p := _p_against_the_forest(s)) is not None}
    if not ps:
        where = "" if len(judged) == 1 else f", on any of {len(judged)} tasks"
        return f"No recipe is shown to be better than {FOREST}{where}."
    named = {section.task: section.task for section in judged}
    return f"At least one recipe is shown to be better than {FOREST} on {_over_tasks(ps, named, len(judged))}."


def _p_against_the_forest(section: TaskSection) -> float | None:
    """Of the model that is most clearly better than the forest; none if no model is shown to be."""
    assert section.comparison is not None, "there are verdicts"
    better = {entry.method for entry, verdict in verdicts_against(section, FOREST) if verdict == "better"}
    pairs = [pair for pair in section.comparison.pairs if FOREST in (pair.first, pair.second)]
    return min((pair.p or 0.0 for pair in pairs if {pair.first, pair.second} & better), default=None)


def _over_tasks(ps: Mapping[str, float], names: Mapping[str, str], tasks: int) -> str:
    """Tasks on which something is shown, held over all tasks at once; those where it is shown by itself alone apart."""
    over_all = adjust({**ps, **{f"undecided {n}": 1.0 for n in range(tasks - len(ps))}})
    held = [names[task] for task in ps if over_all[task] <= ALPHA]
    by_itself = [names[task] for task in ps if over_all[task] > ALPHA]
    parts = [listed(held) + (f", with Holm's correction for {tasks} tasks" if tasks > 1 else "")] if held else []
    if by_itself:
        parts.append(f"{listed(by_itself)}, if {'it' if len(by_itself) == 1 else 'each'} is looked at alone")
    rest = tasks - len(ps)
    return "; on ".join(parts) + (f"; on the other {counted(rest, 'task')} none" if rest else "")


def links_of(section: TaskSection) -> Mapping[str, Link]:
    """Every method of a task, with the place of its runs."""
    methods = [*(entry.method for entry in section.entries), *(line.method for line in section.incomplete)]
    return {method: anchor(line_anchor(section.task, method)) for method in methods}


def of_task(section: TaskSection) -> list[Block]:
    """The verdicts of one task."""
    comparison = section.comparison
    if not section.entries or comparison is None or not comparison.p_best or len(comparison.methods) < 2:
        return [absent(line) for line in map(_as_sentence, sentences(section))]
    lines = map(_as_sentence, (*sentences(section), *cost_sentences(section)))
    return [verdicts([*lines, *_scope(section)], links_of(section))]


def _as_sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _scope(section: TaskSection) -> list[str]:
    if any(entry.scope == "this checkpoint" for entry in section.entries):
        return ["One pre-training seed: verdicts on pre-trained models speak for these checkpoints, not architectures."]
    return []
