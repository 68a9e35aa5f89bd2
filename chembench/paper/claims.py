"""The claims of arXiv 2405.00949, each with a test on recorded scores and a verdict.

The paper compares runs: five head seeds of one checkpoint count as five. A claim about architectures, sizes or scales
is one about configurations, each of which was pre-trained once; that is the unit of the verdict here, the paper's own
is shown beside it. Scores are standardised within each task, higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from chembench.errors import DataError
from chembench.recorded.table import Row, Table
from chembench.statistics.estimates import Value, mean
from chembench.statistics.factors import TASK_TYPE, Effect, Effects, Run, effects, standardised
from chembench.statistics.transfer import correlations

Verdict = Literal["supported", "not distinguishable", "contradicted", "cannot be tested with these rows"]
Unit = Literal["configuration", "run"]
UNITS: tuple[Unit, ...] = ("configuration", "run")
ALPHA = 0.05
WEAK = 0.3
"""A rank correlation is called none if its whole interval lies between this and its negative."""
NO_TEST = "none"
NO_LOSS = (
    "the rows hold no pre-training loss: the validation_loss of a row is that of fine-tuning; "
    "add a column pretrain_loss, one value for each configuration"
)


class Figure(Value):
    """One test of a claim."""

    unit: Unit
    test: str
    figure: str
    """What was found, in words and numbers."""
    p: float | None = None
    verdict: Verdict


class Judged(Value):
    """A claim, and what the rows say of it."""

    claim: str
    verdict: Verdict
    """That of configurations."""
    reason: str
    figures: tuple[Figure, ...] = ()


def judge(table: Table) -> tuple[Judged, ...]:
    """Every claim of the paper, in its order.

    A claim that the rows cannot be asked about says so and why; the others are judged all the same.
    """
    rows = [row for row in table.rows.values() if not row.cell.is_control]
    return (
        _loss_of_llama(rows),
        _loss_and_score(rows),
        _size_matters(rows),
        _among_the_best(
            rows,
            "larger BART with less data is among the best for regression",
            ("bart", "30M", 10_000_000),
            ("regression",),
            "among the best",
        ),
        _size_of_llama(rows),
        _among_the_best(
            rows,
            "with enough data, large LLaMA is the best for both task types",
            ("llama", "30M", 30_000_000),
            ("regression", "classification"),
            "the best",
        ),
    )


def runs_of(rows: Sequence[Row]) -> list[Run]:
    """Recorded scores as `factors.effects` takes them."""
    return [
        Run(
            task=row.task,
            task_type=row.kind,
            better="higher" if row.metric == "roc_auc" else "lower",
            levels=_levels(row),
            key=(row.pretrain_seed, row.split, row.head_seed, 0),
            score=row.test,
        )
        for row in rows
    ]


def _levels(row: Row) -> dict[str, str]:
    cell = row.cell
    return {"architecture": cell.architecture, "size": cell.size, "molecules": str(cell.molecules)}


def _verdict(p: float, holds: bool) -> Verdict:
    """Of an effect: shown and as claimed, shown and against it, or not shown."""
    if p >= ALPHA:
        return "not distinguishable"
    return "supported" if holds else "contradicted"


def _judged(claim: str, figures: Sequence[Figure]) -> Judged:
    first, reasons = figures[0], {figure.figure for figure in figures}
    if len(reasons) == 1 and all(figure.test == NO_TEST for figure in figures):
        return _untestable(claim, first.figure)
    return Judged(claim=claim, verdict=first.verdict, reason=first.figure, figures=tuple(figures))


def _untestable(claim: str, reason: str) -> Judged:
    return Judged(claim=claim, verdict="cannot be tested with these rows", reason=reason)


# ----------------------------------------------------------------------------------------------------------- losses


def _losses(rows: Sequence[Row]) -> dict[str, float]:
    """Configuration -> mean pre-training loss over its checkpoints; empty if one of them lacks it."""
    by: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.pretrain_loss is None:
            return {}
        by.setdefault(row.cell.name, {})[row.pretrain_seed] = row.pretrain_loss
    return {name: mean(list(own.values())) for name, own in by.items()}


def _loss_of_llama(rows: Sequence[Row]) -> Judged:
    claim = "LLaMA reaches the lowest pre-training validation loss"
    losses = _losses(rows)
    if not losses:
        return _untestable(claim, NO_LOSS)
    cells = {row.cell.name: row for row in rows}
    runs = [
        Run(
            task="pre-training",
            task_type="loss",
            better="lower",
            levels=_levels(row),
            key=(0, 0, 0, 0),
            score=losses[n],
        )
        for n, row in sorted(cells.items())
    ]
    try:
        found = effects(runs, "configuration")
    except DataError as error:
        return _untestable(claim, str(error))
    return _judged(claim, [_of_factor(found, "architecture", "llama", "configuration")])


def _loss_and_score(rows: Sequence[Row]) -> Judged:
    claim = "absolute validation loss of pre-training does not predict fine-tuned quality"
    losses = _losses(rows)
    if not losses:
        return _untestable(claim, NO_LOSS)
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        scores.setdefault(row.task, {}).setdefault(row.cell.name, []).append(row.test)
    means = {task: {name: mean(values) for name, values in own.items()} for task, own in scores.items()}
    better: dict[str, Literal["lower", "higher"]] = {
        row.task: "higher" if row.metric == "roc_auc" else "lower" for row in rows
    }
    try:
        found = correlations(losses, means, better)[-1]
    except DataError as error:
        return _untestable(claim, str(error))
    verdict: Verdict = "not distinguishable"
    if found.spearman_low > -WEAK and found.spearman_high < WEAK:
        verdict = "supported"
    elif found.spearman_low > 0 or found.spearman_high < 0:
        verdict = "contradicted"
    figure = Figure(
        unit="configuration",
        test=f"Spearman's correlation of loss and score, bootstrap over configurations; none if within +-{WEAK:g}",
        figure=(
            f"{found.spearman:+.2f} [{found.spearman_low:+.2f}, {found.spearman_high:+.2f}] over {found.task}, "
            f"{found.configurations} configurations"
        ),
        verdict=verdict,
    )
    return _judged(claim, [figure])


# ------------------------------------------------------------------------------------------------------------ sizes


def _size_matters(rows: Sequence[Row]) -> Judged:
    return _both_units("model size matters: the larger is better", rows, "size", "30M")


def _size_of_llama(rows: Sequence[Row]) -> Judged:
    claim = "LLaMA shows a clear relation of size and quality: the larger is better"
    own = [row for row in rows if row.cell.architecture == "llama"]
    return _both_units(claim, own, "size", "30M") if own else _untestable(claim, "no row is of llama; add them")


def _both_units(claim: str, rows: Sequence[Row], factor: str, level: str) -> Judged:
    runs = runs_of(rows)

    def figure(unit: Unit) -> Figure:
        return _of_factor(effects(runs, unit), factor, level, unit)

    return _judged(claim, [_or_why_not(unit, figure) for unit in UNITS])


def _or_why_not(unit: Unit, figure: Callable[[Unit], Figure]) -> Figure:
    """The figure of one unit; where the rows have none, the reason."""
    try:
        return figure(unit)
    except DataError as error:
        return _no_figure(unit, str(error))


def _no_figure(unit: Unit, reason: str) -> Figure:
    return Figure(unit=unit, test=NO_TEST, figure=reason, verdict="cannot be tested with these rows")


def _of_factor(found: Effects, factor: str, level: str, unit: Unit) -> Figure:
    effect: Effect | None = next((e for e in found.effects if e.term == factor), None)
    if effect is None or level not in found.means[factor]:
        return _no_figure(
            unit, f"{factor} '{level}' is not compared in these rows; add configurations that differ in it"
        )
    if effect.p is None:
        return _no_figure(unit, f"nothing is left to hold {factor} against: the factors explain these rows wholly")
    means = found.means[factor]
    told = ", ".join(f"{name} {value:+.2f}" for name, value in sorted(means.items(), key=lambda item: -item[1]))
    return Figure(
        unit=unit,
        test=f"F test of {factor} over {found.units} {unit}s, type II{_beside(found)}",
        figure=(
            f"F({effect.freedom}, {effect.error_freedom}) = {_number(effect.f)}, p = {_number(effect.p)}, "
            f"eta2 = {effect.eta2:.2f} [{effect.eta2_low:.2f}, {effect.eta2_high:.2f}]; {told}"
        ),
        p=effect.p,
        verdict=_verdict(effect.p, max(means, key=lambda name: means[name]) == level),
    )


def _beside(found: Effects) -> str:
    pairs = [effect for effect in found.effects if " x " in effect.term.removesuffix(f" x {TASK_TYPE}")]
    return ", interactions of pairs beside it" if pairs else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


# ------------------------------------------------------------------------------------------------ one configuration


Claimed = Literal["the best", "among the best"]


def _among_the_best(
    rows: Sequence[Row], claim: str, cell: tuple[str, str, int], kinds: Sequence[str], claimed: Claimed
) -> Judged:
    """Whether one configuration stands out of all others, in each type of task that the claim names."""
    name = next((r.cell.name for r in rows if (r.cell.architecture, r.cell.size, r.cell.molecules) == cell), None)
    if name is None:
        return _untestable(claim, f"no row is of {cell[0]}-{cell[1]}-{cell[2]}; add them")

    def figure(unit: Unit) -> Figure:
        parts = [_stands_out([row for row in rows if row.kind == kind], name, kind, unit, claimed) for kind in kinds]
        verdicts = [part.verdict for part in parts]
        return Figure(
            unit=unit,
            test=next((part.test for part in parts if part.test != NO_TEST), NO_TEST),
            figure="; ".join(part.figure for part in parts),
            p=max((part.p for part in parts if part.p is not None), default=None),
            verdict=next(v for v in _WORST_FIRST if v in verdicts),
        )

    return _judged(claim, [_or_why_not(unit, figure) for unit in UNITS])


_WORST_FIRST: tuple[Verdict, ...] = (
    "cannot be tested with these rows", "contradicted", "not distinguishable", "supported",
)  # fmt: skip


def _stands_out(rows: Sequence[Row], name: str, kind: str, unit: Unit, claimed: Claimed) -> Figure:
    """A configuration against all others on the tasks of one type; p is two-sided. The best has none before it."""
    tests = {
        "configuration": "t test whether its mean could be one more of the other configurations'",
        "run": "Welch's t test of its runs against all runs of the others",
    }
    by = _standardised_means(rows, unit)
    own = by.pop(name, [])
    others = [value for values in by.values() for value in values]
    if not own or len(others) < 2:
        return _no_figure(unit, f"no {kind} task")
    means = {other: mean(values) for other, values in by.items()}
    rank = 1 + sum(value > mean(own) for value in means.values())
    difference = mean(own) - mean(others)
    if unit == "run" and len(own) < 2:
        return _no_figure(unit, f"{kind}: one run says nothing of how runs vary; add repeats")
    if len(set(others)) == 1:
        return _no_figure(unit, f"{kind}: all others score the same, so nothing shows how scores vary")
    p = _predictive(own[0], others) if unit == "configuration" else _welch(own, others)
    text = f"{kind}: rank {rank} of {len(means) + 1}, {difference:+.2f} SD above the others' mean, p = {p:.3g}"
    verdict = _verdict(p, difference > 0)
    if verdict == "supported" and claimed == "the best" and rank > 1:
        text, verdict = f"{text}; it stands out, and another stands before it", "not distinguishable"
    return Figure(unit=unit, test=tests[unit], figure=text, p=p, verdict=verdict)


def _standardised_means(rows: Sequence[Row], unit: Unit) -> dict[str, list[float]]:
    """Configuration -> its mean over tasks, or that of each of its runs; tasks weigh the same."""
    if not rows:
        return {}
    runs = runs_of(rows)
    by: dict[str, dict[object, list[float]]] = {}
    for row, score in zip(rows, standardised(runs), strict=True):
        key: object = (row.pretrain_seed, row.split, row.head_seed) if unit == "run" else 0
        by.setdefault(row.cell.name, {}).setdefault(key, []).append(score)
    return {name: [mean(values) for _, values in sorted(own.items(), key=str)] for name, own in by.items()}


def _predictive(own: float, others: Sequence[float]) -> float:
    """P of one more draw from the normal distribution that ``others`` are from."""
    from scipy.stats import t

    n, centre = len(others), mean(others)
    sd = math.sqrt(math.fsum((value - centre) ** 2 for value in others) / (n - 1))
    return float(2 * t.sf(abs(own - centre) / (sd * math.sqrt(1 + 1 / n)), n - 1))


def _welch(own: Sequence[float], others: Sequence[float]) -> float:
    from scipy.stats import ttest_ind

    p = float(ttest_ind(own, others, equal_var=False).pvalue)
    return p if math.isfinite(p) else 1.0
