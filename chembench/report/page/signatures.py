"""What goes wrong in training, read from curves and scores by rules that stand beside what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chembench.report.board import Entry, TaskSection
from chembench.report.page.blocks import Block, Cell, Heading, Section, Table, absent, paragraph, points, table
from chembench.report.page.source import Source, linked
from chembench.report.page.training import mean_curve
from chembench.report.pretrain_board import PretrainEntry
from chembench.report.rows import ResultRow
from chembench.report.verdicts import verdict_on
from chembench.report.wording import counted, listed
from chembench.sweep.progress import failures_of

HIGH = 0.05
"""A loss is high for its size if a model no larger, on no more molecules, has one lower by more than this share."""
GAP = 0.10
"""Training and validation differ if the validation loss lies above the training loss by more than this share."""
RISEN = 0.02
"""A loss turned back if it ended above its lowest value by more than this share."""
FALLING = 0.02
"""A loss was still falling if its last epoch took off more than this share."""
SHIFT = 1.25
"""The test differs from validation if its error is more than so many times as large."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found."""

    rule: str
    task: str | None
    method: str
    figures: str
    reading: str


RULES = (
    f"loss high for the size: another pre-training with no more parameters and no more molecules has a validation loss "
    f"lower by more than {HIGH:.0%}",
    f"train-validation gap: the last validation loss of a pre-training lies more than {GAP:.0%} above its training "
    "loss, though dropout raises the latter",
    f"turned back: a validation loss ended more than {RISEN:.0%} above its lowest",
    f"stopped early: the last epoch still took more than {FALLING:.0%} off the validation loss",
    "best at the last epoch: of all confirm runs of a line",
    f"worse on the test: a regression's test error is more than {SHIFT:g} times its validation error",
    "decline beyond a size: the mean of the largest model, or of the most molecules, is shown to be worse than a "
    "smaller one's, or cannot be tested",
)
NOT_SHOWN, EQUIVALENT = "not shown to be real", "equivalent in practice"


def signatures(source: Source) -> Section:
    """Findings, failures, and the rules they were found by."""
    declines = decline_findings(source)
    weak = [one for one in declines if one.reading in (NOT_SHOWN, EQUIVALENT)]
    found = [*pretraining_findings(source), *finetuning_findings(source), *(d for d in declines if d not in weak)]
    blocks: list[Block] = []
    if found:
        blocks.append(_table(found))
    elif source.rows:
        blocks.append(absent("No rule below found anything in what has ended so far."))
    else:
        blocks.append(absent("Nothing has begun, so there is nothing to judge."))
    if weak:
        alike = sum(one.reading == EQUIVALENT for one in weak)
        blocks.append(
            paragraph(
                f"Where more parameters or more molecules have the worse mean, {counted(len(weak), 'time')}, this is "
                f"{NOT_SHOWN} ({len(weak) - alike}) or {EQUIVALENT} ({alike}), and so no finding."
            )
        )
    blocks += _failures(source)
    blocks += [Heading(text="Rules"), points(RULES)]
    return Section(name="signatures", title="Failure signatures", blocks=tuple(blocks))


def _table(found: Iterable[Finding]) -> Table:
    lines: list[tuple[str | Cell, ...]] = [
        (
            one.rule,
            linked(f"{one.method} on {one.task}" if one.task else one.method, one.task, one.method),
            one.figures,
            one.reading,
        )
        for one in found
    ]
    return table(("signature", "where", "figures", "may mean"), lines)


# ---------------------------------------------------------------------------------------------------- pre-training


def pretraining_findings(source: Source) -> list[Finding]:
    """What losses and curves of the pre-trainings show."""
    found = []
    entries = source.pretraining.entries
    for entry in entries:
        rows = [
            row
            for row in source.rows
            if row.kind == "pretrain" and source.pretrain_methods[row.uid] == entry.method and row.status == "finished"
        ]
        valid = [value for _, value, *_ in mean_curve(source, rows, "valid/loss")]
        train = [value for _, value, *_ in mean_curve(source, rows, "train/loss")]
        found += _high(entry, entries, valid, train)
        found += _shape(entry, valid, train)
    return found


def _high(
    entry: PretrainEntry, entries: Sequence[PretrainEntry], valid: Sequence[float], train: Sequence[float]
) -> list[Finding]:
    no_larger = [
        other
        for other in entries
        if (other.parameters or 0) <= (entry.parameters or 0)
        and (other.molecules or 0) <= (entry.molecules or 0)
        and other.loss.mean < (1 - HIGH) * entry.loss.mean
    ]
    if not no_larger:
        return []
    best = min(no_larger, key=lambda other: other.loss.mean)
    if valid and train and valid[-1] <= (1 + GAP) * train[-1]:
        reading = "training loss is as high: too little capacity for this architecture, or too little training"
    else:
        reading = "under-capacity, or data too poor or too few for it"
    figures = f"loss {entry.loss.mean:.3f}; {best.method} has {best.loss.mean:.3f}"
    return [Finding("loss high for the size", None, entry.method, figures, reading)]


def _shape(entry: PretrainEntry, valid: Sequence[float], train: Sequence[float]) -> list[Finding]:
    found = []
    if valid and train and valid[-1] > (1 + GAP) * train[-1]:
        figures = f"validation {valid[-1]:.3f}, training {train[-1]:.3f}"
        found.append(Finding("train-validation gap", None, entry.method, figures, "overfitting: more molecules help"))
    if valid and valid[-1] > (1 + RISEN) * min(valid):
        figures = f"ended at {valid[-1]:.3f}, was {min(valid):.3f}"
        found.append(Finding("turned back", None, entry.method, figures, "overfitting, or too high a learning rate"))
    elif len(valid) > 1 and valid[-1] < (1 - FALLING) * valid[-2]:
        figures = f"{valid[-2]:.3f} to {valid[-1]:.3f} in the last epoch"
        found.append(Finding("stopped early", None, entry.method, figures, "more epochs would lower the loss"))
    return found


# ----------------------------------------------------------------------------------------------------- fine-tuning


def finetuning_findings(source: Source) -> list[Finding]:
    """What the confirm runs of each line show."""
    found: list[Finding] = []
    for section in source.sections:
        models = [entry for entry in section.entries if entry.group != "baseline"]
        late = [entry for entry in models if _is_late(source.counted(section.task, entry.method))]
        if late:
            figures = f"{len(late)} of {counted(len(models), 'model')}: {listed(entry.method for entry in late)}"
            found.append(
                Finding("best at the last epoch", section.task, late[0].method, figures, "more epochs may help")
            )
        found += _shifted(section)
    return found


def _is_late(rows: Sequence[ResultRow]) -> bool:
    """Whether every run was best after its last epoch."""
    return bool(rows) and all(row.best_epoch is not None and row.best_epoch == row.epochs for row in rows)


def _shifted(section: TaskSection) -> list[Finding]:
    """Told once for a task: what all methods show is the test's, not theirs."""
    if section.kind != "regression":
        return []
    ratios = {e.method: e.score.mean / e.validation for e in section.entries if e.validation}
    worse = {method: ratio for method, ratio in ratios.items() if ratio > SHIFT}
    if not worse:
        return []
    method, most = max(worse.items(), key=lambda pair: pair[1])
    figures = f"{len(worse)} of {counted(len(ratios), 'method')}; test {most:.2f} times validation at most"
    reading = "the test molecules differ from the training ones" if len(worse) > len(ratios) / 2 else "overfitting"
    return [Finding("worse on the test", section.task, method, figures, reading)]


# --------------------------------------------------------------------------------------------------------- decline


def decline_findings(source: Source) -> list[Finding]:
    """Where more parameters or more molecules have the worse mean, and whether that is shown."""
    found: list[Finding] = []
    for section in source.sections:
        cells = [entry for entry in section.entries if entry.group == "cell"]
        sign = 1 if section.better == "lower" else -1
        for axis in ("parameters", "molecules"):
            for group in _ladders(cells, axis):
                best = min(group, key=lambda entry: sign * entry.score.mean)
                largest = group[-1]
                if best is largest:
                    continue
                figures = (
                    f"{largest.score.mean:.3f} at {_at(largest, axis)}; {best.method} {best.score.mean:.3f} "
                    f"at {_at(best, axis)}"
                )
                reading = _shown_worse(section, best.method, largest.method)
                found.append(Finding("decline beyond a size", section.task, largest.method, figures, reading))
    return found


def _at(entry: Entry, axis: str) -> str:
    return f"{getattr(entry, axis):,} {axis}"


def _ladders(cells: Sequence[Entry], axis: str) -> list[list[Entry]]:
    """Cells that differ in one axis alone, smallest first; two or more of each."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in cells:
        if getattr(entry, axis) is None:
            continue
        rest = entry.method.removeprefix(f"{entry.architecture}-{entry.size}-{entry.molecules}")
        fixed = entry.molecules if axis == "parameters" else entry.size
        groups.setdefault((entry.architecture, fixed, rest), []).append(entry)
    return [sorted(group, key=lambda entry: getattr(entry, axis)) for group in groups.values() if len(group) > 1]


def _shown_worse(section: TaskSection, better: str, worse: str) -> str:
    """Whether the boards' comparison shows the decline."""
    verdict = verdict_on(section, worse, better)
    if verdict is None or section.comparison is None or not section.comparison.p_best:
        return "not tested: too few replicates to compare"
    if verdict == "worse":
        return "the decline is shown: overfitting, or a recipe that does not suit the size"
    return EQUIVALENT if verdict == "equivalent" else NOT_SHOWN


# -------------------------------------------------------------------------------------------------------- failures


def _failures(source: Source) -> list[Block]:
    failures = failures_of(source.state)
    if not failures:
        return []
    lines: list[tuple[str | Cell, ...]] = [
        (failure.cause, failure.message, str(failure.count), str(failure.followers), failure.first)
        for failure in failures
    ]
    return [
        Heading(text="Failed items"),
        paragraph("Equal causes are counted together; followers were never carried out, as their pre-training failed."),
        table(("cause", "message", "items", "followers", "first"), lines, right=(2, 3)),
    ]
