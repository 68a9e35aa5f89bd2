"""The pre-trainings, their curves, and the curves of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from chembench.report import columns, render
from chembench.report.board import TaskSection
from chembench.report.page.blocks import Block, Figure, Heading, Section, absent, paragraph, points
from chembench.report.page.boards import board_table, incomplete_table
from chembench.report.page.plots import LinesPlot, Panel, Series
from chembench.report.page.source import Source, architectures, file_part, metric_title, thinned
from chembench.report.rows import ResultRow
from chembench.statistics.estimates import mean

POINTS = 60
"""Of a curve at most."""
PRIMARY = {"regression": "valid/rmse", "classification": "valid/roc_auc"}


def pretraining(source: Source) -> Section:
    """The pre-training board, and how loss fell with the molecules that were seen."""
    board = source.pretraining
    blocks: list[Block] = []
    lines = columns.records(board)
    complete = [line for line in lines if line["status"] == "complete"]
    apart = [line for line in lines if line["status"] == "incomplete"]
    if complete:
        blocks.append(paragraph("Validation loss on standardised descriptors, lower is better."))
        blocks.append(board_table(columns.shown(board), complete, None))
    if apart:
        blocks.append(incomplete_table(apart, None))
    if not lines:
        blocks.append(absent("This sweep pre-trained no model, or none has begun yet."))
    if notes := render.notes(board):
        blocks.append(points(notes))
    if lines:
        blocks.append(Heading(text="Pre-training curves by architecture"))
        blocks.append(_pretraining_curves(source))
    return Section(name="pretraining", title="Pre-training", blocks=tuple(blocks))


def _pretraining_curves(source: Source) -> Block:
    rows = [row for row in source.rows if row.kind == "pretrain"]
    panels = [_pretraining_panel(source, name, rows) for name in architectures(rows)]
    panels = [panel for panel in panels if panel.series]
    if not panels:
        return absent("No pre-training of this sweep left a curve: they were recorded elsewhere, or none has begun.")
    return Figure(
        name="pretraining-curves",
        caption="Validation loss (markers) and training loss (dashed, hollow; with dropout) against molecules seen; "
        "mean over pre-training seeds, bars from the lowest to the highest seed.",
        plot=LinesPlot(
            panels=tuple(panels), x_label="molecules seen", y_label="loss on standardised labels", log_x=True
        ),
    )


def _pretraining_panel(source: Source, architecture: str, rows: Sequence[ResultRow]) -> Panel:
    own = [row for row in rows if row.architecture == architecture]
    names = sorted({_scale(row) for row in rows})
    series: list[Series] = []
    for look, name in enumerate(names):
        group = [row for row in own if _scale(row) == name]
        for metric, style in (("valid/loss", "both"), ("train/loss", "hollow")):
            curve = mean_curve(source, group, metric)
            if curve:
                scale = group[0].molecules or 1
                label = name if metric == "valid/loss" else ""
                series.append(_as_series(curve, label, look, style, scale))
    return Panel(title=architecture, series=tuple(series))


def _scale(row: ResultRow) -> str:
    """What tells pre-trainings of one architecture apart; by size first, then by count."""
    settings = "".join(f", {key.split('.')[-1]} {value}" for key, value in sorted(row.settings.items()))
    return f"{row.size or ''} {columns.compact(row.molecules)} molecules{settings}".strip()


CurvePoint = tuple[int, float, float, float]
"""Epoch, mean, lowest and highest over the runs."""


def mean_curve(source: Source, rows: Sequence[ResultRow], metric: str) -> list[CurvePoint]:
    """A metric after each epoch that every one of the runs reached, those without any curve left out."""
    curves = [curve for row in rows if (curve := _values(source, row.uid, metric))]
    if not curves:
        return []
    shared = set.intersection(*(set(curve) for curve in curves))
    found = []
    for epoch in sorted(shared):
        values = [curve[epoch] for curve in curves]
        found.append((epoch, mean(values), min(values), max(values)))
    return thinned(found, POINTS)


def _values(source: Source, uid: str, metric: str) -> dict[int, float]:
    return {entry["epoch"]: entry[metric] for entry in source.curves(uid) if metric in entry}


def _as_series(curve: Sequence[CurvePoint], label: str, look: int, style: str, scale: float = 1) -> Series:
    several = style == "both" and any(low < high for _, _, low, high in curve)
    return Series.model_validate(
        {
            "label": label,
            "x": [epoch * scale for epoch, *_ in curve],
            "y": [value for _, value, *_ in curve],
            "low": [low for *_, low, _ in curve] if several else (),
            "high": [high for *_, high in curve] if several else (),
            "look": look,
            "style": style,
        }
    )


def learning(source: Source) -> Section:
    """How fine-tuning went, epoch by epoch, for the recipe of each cell."""
    blocks: list[Block] = []
    for section in source.sections:
        figure = _learning_figure(source, section)
        blocks.append(Heading(text=section.task))
        blocks.append(
            figure or absent(f"No confirm run on {section.task} left a curve: none has ended, or they were recorded.")
        )
    return Section(name="learning-curves", title="Learning curves", blocks=tuple(blocks))


def _learning_figure(source: Source, section: TaskSection) -> Figure | None:
    metric = PRIMARY[section.kind]
    rows = [r for r in source.rows if r.kind == "confirm" and r.task == section.task and not r.superseded]
    labels = sorted({_twin(row) for row in rows}, key=_twin_order)
    panels = []
    for architecture in architectures(rows):
        series = []
        for look, label in enumerate(labels):
            own = [r for r in rows if r.architecture == architecture and _twin(r) == label and r.status == "finished"]
            curve = mean_curve(source, own, metric)
            if curve:
                series.append(_as_series(curve, label, look, "both").model_copy(update={"low": (), "high": ()}))
        if series:
            panels.append(Panel(title=architecture, series=tuple(series)))
    if not panels:
        return None
    name = metric_title(section)
    return Figure(
        name=f"learning-{file_part(section.task)}",
        caption=f"Validation {name} after each epoch of fine-tuning on {section.task}: mean over the confirm runs of "
        "each cell's recipe. A curve that still moves at its end asks for more epochs; one that turns back, for fewer.",
        plot=LinesPlot(panels=tuple(panels), x_label="epoch", y_label=f"validation {name}", whole_x=True),
    )


def _twin(row: ResultRow) -> str:
    """A cell's name without its architecture."""
    return row.method.removeprefix(f"{row.architecture}-")


def _twin_order(label: str) -> tuple[str, float, str]:
    size, _, rest = label.partition("-")
    count = rest.partition("+")[0]
    return (size, float(count) if count.isdigit() else -1.0, label)
