"""What the winners predict: parity, ROC and precision-recall curves, and the molecules they miss most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chembench.report.board import FOREST, PRIMARY, TaskSection
from chembench.report.columns import decimals_for
from chembench.report.page.blocks import Block, Cell, Figure, Heading, Section, absent, anchor, paragraph, table
from chembench.report.page.plots import LinesPlot, Molecule, MoleculesPlot, Panel, Series
from chembench.report.page.source import (
    Prediction,
    Source,
    file_part,
    linked,
    metric_title,
    run_anchor,
    thinned,
)
from chembench.report.rows import ResultRow
from chembench.report.wording import counted
from chembench.statistics.estimates import mean
from chembench.sweep.winners import winners

CLOUD = 1500
"""Molecules drawn of a test set at most."""
THRESHOLDS = 150
"""Points of a ROC or precision-recall curve at most."""
WORST = 6


@dataclass(frozen=True, slots=True)
class _Shown:
    """One run whose predictions are drawn."""

    row: ResultRow
    found: Sequence[Prediction]

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(prediction.target for prediction in self.found))


def predictions(source: Source) -> Section:
    """For each task the winner by validation, beside a baseline on the same test molecules."""
    best = winners(source.state)
    blocks: list[Block] = []
    for section in source.sections:
        blocks.append(Heading(text=section.task))
        shown = _shown(source, section, best.get(section.task))
        blocks += _of_task(source, section, shown) if shown else [absent(_why_none(source, section, best))]
    return Section(name="predictions", title="Predictions of the winners", blocks=tuple(blocks))


def _why_none(source: Source, section: TaskSection, best: dict[str, str]) -> str:
    if not any(source.counted(section.task, entry.method) for entry in section.entries):
        return f"No method has ended all its runs on {section.task}, so there is no winner whose predictions to show."
    if section.task not in best:
        return f"No confirmed recipe on {section.task} is complete, and no baseline left predictions."
    if "recorded" in source.state.header:
        return f"No predictions of {section.task} are kept in the sweep's folder: the scores were recorded elsewhere."
    return (
        f"No predictions of {section.task} can be read from the folders of its runs; "
        f"`chembench doctor {source.state.name}` tells which are damaged or gone."
    )


def _shown(source: Source, section: TaskSection, winner: str | None) -> list[_Shown]:
    """The winner's kept run first, then the forest's (or another baseline's) first run; those that left predictions."""
    rows = {row.uid: row for row in source.rows}
    names = sorted(
        (entry.method for entry in section.entries if entry.group == "baseline"), key=lambda name: name != FOREST
    )
    shown = [_Shown(rows[winner], found)] if winner in rows and (found := source.test_predictions(winner)) else []
    for name in names:
        for row in source.counted(section.task, name)[:1]:
            if found := source.test_predictions(row.uid):
                return [*shown, _Shown(row, found)]
    return shown


def _of_task(source: Source, section: TaskSection, shown: list[_Shown]) -> list[Block]:
    first = shown[0].row
    metric = f"test_{PRIMARY[section.kind]}"
    lines: list[tuple[str | Cell, ...]] = [
        (
            linked(one.row.method, section.task, one.row.method),
            Cell(text=one.row.uid, link=anchor(run_anchor(one.row.uid))),
            f"{one.row.metrics[metric]:.4g}" if metric in one.row.metrics else "-",
            f"{len(one.found):,}",
        )
        for one in shown
    ]
    said = (
        f"the confirmed model that is best by validation{_validates_better(section, first.method)}"
        if first.kind == "confirm"
        else "no recipe is confirmed: a baseline stands"
    )
    blocks: list[Block] = [
        paragraph(f"{first.method}: {said}; the test set played no part in that choice. One run of each is drawn."),
        table(("method", "run", f"test {metric_title(section)}", "test labels"), lines, right=(2, 3)),
        _parity(section, shown) if section.kind == "regression" else _curves(section, shown),
    ]
    return blocks + _worst(source, section, first)


def _validates_better(section: TaskSection, winner: str) -> str:
    """Of baselines, among which no recipe is searched: those that a choice by validation alone would have taken."""
    known = {entry.method: entry.validation for entry in section.entries if entry.validation is not None}
    sign = 1 if section.better == "lower" else -1
    baselines = [entry.method for entry in section.entries if entry.group == "baseline" and entry.method in known]
    ahead = [name for name in baselines if winner in known and sign * known[name] < sign * known[winner]]
    told = ", ".join(f"{name} ({known[name]:.3g})" for name in ahead)
    return f" ({known[winner]:.3g}; baselines that validate better: {told})" if ahead else ""


def _parity(section: TaskSection, shown: list[_Shown]) -> Figure:
    panels = []
    for one in shown:
        kept = thinned(one.found, CLOUD)
        series = [
            Series(
                label=target if len(one.targets) > 1 else "",
                x=tuple(p.measured for p in kept if p.target == target),
                y=tuple(p.predicted for p in kept if p.target == target),
                look=look,
                style="points",
            )
            for look, target in enumerate(one.targets)
        ]
        score = one.row.metrics.get("test_rmse")
        note = f"RMSE {score:.{decimals_for([score])}f}" if score is not None else ""
        panels.append(Panel(title=one.row.method, series=tuple(series), diagonal=True, note=note))
    unit = f" ({section.unit})" if section.unit else ""
    few = f"; {CLOUD:,} of them are drawn" if any(len(one.found) > CLOUD for one in shown) else ""
    return Figure(
        name=f"parity-{file_part(section.task)}",
        caption=f"Predicted against measured on the test set of {section.task}{few}; dashed: both are equal.",
        plot=LinesPlot(
            panels=tuple(panels), x_label=f"measured{unit}", y_label=f"predicted{unit}", share_y=True, square=True
        ),
    )


def _curves(section: TaskSection, shown: list[_Shown]) -> Figure:
    roc, precision = [], []
    for look, one in enumerate(shown):
        of_targets = [
            found
            for target in one.targets
            if (found := classifier_curves([p for p in one.found if p.target == target])) is not None
        ]
        if not of_targets:
            continue
        several = f", mean of {len(of_targets)} targets" if len(of_targets) > 1 else ""
        roc.append(_averaged([found[0] for found in of_targets], f"{one.row.method}{several}", look, "steps"))
        precision.append(_averaged([found[1] for found in of_targets], f"{one.row.method}{several}", look, "line"))
    share = mean([p.measured for p in shown[0].found])
    chance = Series(label="chance", x=(0.0, 1.0), y=(0.0, 1.0), look=6, style="dashed")
    base = Series(label="", x=(0.0, 1.0), y=(share, share), look=6, style="dashed")
    return Figure(
        name=f"roc-pr-{file_part(section.task)}",
        caption=f"ROC and precision-recall curves on the test set of {section.task}. Dashed: ranking by chance; "
        f"{share:.1%} of the test labels are positive. Curves of several targets are averaged at equal abscissa.",
        plot=LinesPlot(
            panels=(
                Panel(
                    title="ROC",
                    series=(*roc, chance),
                    x_label="false positive rate",
                    y_label="true positive rate",
                ),
                Panel(title="precision-recall", series=(*precision, base), x_label="recall", y_label="precision"),
            ),
            x_label="",
            y_label="",
            share_y=False,
            square=True,
        ),
    )


Curve = list[tuple[float, float]]


def classifier_curves(found: Sequence[Prediction]) -> tuple[Curve, Curve] | None:
    """ROC and precision-recall curve of one target, a point per distinct prediction; none where one class is missing.

    ROC points are (false positive rate, true positive rate), the others (recall, precision).
    """
    positives = sum(p.measured > 0.5 for p in found)
    negatives = len(found) - positives
    if not positives or not negatives:
        return None
    order = sorted(found, key=lambda p: -p.predicted)
    roc: Curve = [(0.0, 0.0)]
    precision: Curve = []
    true = false = 0
    for place, one in enumerate(order):
        true, false = true + (one.measured > 0.5), false + (one.measured <= 0.5)
        if place + 1 == len(order) or order[place + 1].predicted != one.predicted:  # equal predictions fall together
            roc.append((false / negatives, true / positives))
            precision.append((true / positives, true / (true + false)))
    return roc, [(0.0, precision[0][1]), *precision]


def _averaged(curves: Sequence[Curve], label: str, look: int, style: Literal["steps", "line"]) -> Series:
    """One curve as it is, thinned; several by the mean of their ordinates at equal abscissae."""
    if len(curves) == 1:
        kept = thinned(curves[0], THRESHOLDS)
    else:
        import numpy as np

        at = np.linspace(0, 1, THRESHOLDS)
        ordinates = [np.interp(at, [x for x, _ in curve], [y for _, y in curve]) for curve in curves]
        kept = list(zip(at.tolist(), np.mean(ordinates, axis=0).tolist(), strict=True))
    return Series(label=label, x=tuple(x for x, _ in kept), y=tuple(y for _, y in kept), look=look, style=style)


@dataclass(frozen=True, slots=True)
class _Missed:
    """A test molecule, and what all runs of a method say of it."""

    smiles: str
    target: str
    measured: float
    predicted: tuple[float, ...]

    @property
    def error(self) -> float:
        return mean(self.predicted) - self.measured


def _worst(source: Source, section: TaskSection, first: ResultRow) -> list[Block]:
    runs = source.counted(section.task, first.method) or [first]
    worst = worst_of([source.test_predictions(row.uid) for row in runs])[:WORST]
    several = len(source.test_predictions(first.uid)) and section.targets > 1
    decimals = decimals_for([abs(one.measured) for one in worst]) if section.kind == "regression" else 2
    lines: list[tuple[str | Cell, ...]] = [
        (
            str(place),
            one.smiles,
            *((one.target,) if several else ()),
            f"{one.measured:.{decimals}f}" if section.kind == "regression" else f"{one.measured:.0f}",
            linked(f"{mean(one.predicted):.{decimals}f}", section.task, first.method),
            f"{min(one.predicted):.{decimals}f} to {max(one.predicted):.{decimals}f}",
            f"{one.error:+.{decimals}f}",
        )
        for place, one in enumerate(worst, 1)
    ]
    titles = ("", "SMILES", *(("target",) if several else ()), "measured", "predicted", "its runs", "error")
    numbers = tuple(range(len(titles) - 4, len(titles)))
    drawn = tuple(
        Molecule(
            smiles=one.smiles, legend=f"{place}. measured {line[-4]}, predicted {mean(one.predicted):.{decimals}f}"
        )
        for place, (one, line) in enumerate(zip(worst, lines, strict=True), 1)
    )
    return [
        Figure(
            name=f"worst-{file_part(section.task)}",
            caption=f"Test molecules of {section.task} that {first.method} misses most, by the mean of the predictions "
            f"of its {counted(len(runs), 'run')}.",
            plot=MoleculesPlot(molecules=drawn),
        ),
        table(titles, lines, right=numbers),
    ]


def worst_of(runs: Sequence[Sequence[Prediction]]) -> list[_Missed]:
    """Test molecules by how far the mean of all runs' predictions lies from what was measured, farthest first."""
    found: dict[tuple[str, str], list[Prediction]] = {}
    for run in runs:
        for one in run:
            found.setdefault((one.row, one.target), []).append(one)
    missed = [
        _Missed(group[0].smiles, target, group[0].measured, tuple(one.predicted for one in group))
        for (_, target), group in found.items()
    ]
    return sorted(missed, key=lambda one: (-abs(one.error), one.smiles, one.target))
