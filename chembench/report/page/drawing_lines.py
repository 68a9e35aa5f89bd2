"""Figures with two axes that hold numbers: curves, clouds of points, score against cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from chembench.report.page.looks import GREY, colour, dash, marker
from chembench.report.page.plots import LinesPlot, Panel, ParetoPlot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_ROW = 3
MANY = 60
"""A cloud of more points gets smaller, thinner ones."""


def lines(plot: LinesPlot) -> Figure:
    """Panels of series, three in a row, with one legend for all."""
    from matplotlib.figure import Figure

    count = len(plot.panels)
    columns = min(count, PER_ROW)
    rows = math.ceil(count / columns)
    width = 7.4 if columns > 1 else 3.9 if plot.square else 5.2
    height = width / columns * (1.0 if plot.square else 0.78) * rows + 0.3
    canvas = Figure(figsize=(width, max(height, 2.6)), layout="constrained")
    grid = canvas.subplots(rows, columns, squeeze=False, sharex=plot.share_y, sharey=plot.share_y)
    axes = [axis for row in grid for axis in row]
    for panel, axis in zip(plot.panels, axes, strict=False):
        _panel(axis, panel, plot)
    for unused in axes[count:]:
        unused.set_axis_off()
    for place, axis in enumerate(axes[:count]):
        if place % columns == 0 or not plot.share_y:
            axis.set_ylabel(plot.panels[place].y_label or plot.y_label)
        if place + columns >= count:
            axis.set_xlabel(plot.panels[place].x_label or plot.x_label)
            axis.tick_params(labelbottom=True)
    _legend(canvas, axes[:count])
    return canvas


def _panel(axis: Axes, panel: Panel, plot: LinesPlot) -> None:
    from matplotlib.ticker import MaxNLocator

    for series in panel.series:
        _series(axis, series)
    if plot.log_x:
        axis.set_xscale("log")
        _plain_ticks(axis.xaxis)
    elif plot.whole_x:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if plot.log_y:
        axis.set_yscale("log")
    if panel.diagonal:
        _diagonal(axis)
    axis.set_title(panel.title, loc="left")
    axis.grid(color="#EEEEEE", linewidth=0.6)
    axis.set_axisbelow(True)
    if panel.note:
        axis.text(
            0.98, 0.03, panel.note, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color="#333333"
        )


def _series(axis: Axes, series: Series) -> None:
    shade, shape = colour(series.look), marker(series.look)
    many = len(series.x) > MANY
    drawn: dict[str, Any] = {"color": shade, "label": series.label or None}
    if series.style == "points":
        axis.plot(
            series.x,
            series.y,
            linestyle="none",
            marker=shape,
            markersize=3 if many else 5,
            markerfacecolor="none",
            markeredgewidth=0.7,
            alpha=0.75 if many else 1.0,
            **drawn,
        )
    elif series.style == "steps":
        axis.step(series.x, series.y, where="post", linestyle=dash(series.look), **drawn)
    elif series.style == "both":
        axis.plot(series.x, series.y, linestyle=dash(series.look), marker=shape, markersize=4, **drawn)
    else:
        axis.plot(series.x, series.y, linestyle="-" if series.style == "line" else (0, (4, 2)), linewidth=1.1, **drawn)
    if series.low and series.high:
        below = [value - low for value, low in zip(series.y, series.low, strict=True)]
        above = [high - value for value, high in zip(series.y, series.high, strict=True)]
        axis.errorbar(series.x, series.y, yerr=[below, above], fmt="none", ecolor=shade, elinewidth=0.9, capsize=2)


def _diagonal(axis: Axes) -> None:
    low = min(axis.get_xlim()[0], axis.get_ylim()[0])
    high = max(axis.get_xlim()[1], axis.get_ylim()[1])
    axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def _plain_ticks(axis: Any) -> None:
    """Counts as people write them, 1k and 4k, not powers of ten with minor ticks that say nothing."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """A number for an axis: 500, 4k, 13M, 2e-05."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _legend(canvas: Figure, axes: list[Axes]) -> None:
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        canvas.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=min(len(found), 4),
            handlelength=3.2,
        )


def pareto(plot: ParetoPlot) -> Figure:
    """Score against cost; those that nothing beats in both are filled, named and joined."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7.4, 4.4), layout="constrained")
    axis = canvas.subplots()
    for look, name in enumerate(plot.looks):
        own = [point for point in plot.points if point.look == look]
        for is_front in (True, False):
            part = [point for point in own if point.is_front == is_front]
            axis.plot(
                [point.cost for point in part],
                [point.score for point in part],
                linestyle="none",
                marker=marker(look),
                markersize=7 if is_front else 6,
                color=colour(look),
                markerfacecolor=colour(look) if is_front else "white",
                label=name if is_front == any(point.is_front for point in own) else None,
            )
    for point in plot.points:
        if point.low is not None and point.high is not None:
            axis.plot([point.cost] * 2, [point.low, point.high], color=colour(point.look), linewidth=0.8, alpha=0.6)
    front = sorted((point for point in plot.points if point.is_front), key=lambda point: point.cost)
    axis.step([p.cost for p in front], [p.score for p in front], where="post", color=GREY, linewidth=0.9, zorder=0)
    for place, point in enumerate(front):
        axis.annotate(
            point.label,
            (point.cost, point.score),
            xytext=(6, 7 if place % 2 == 0 else -11),
            textcoords="offset points",
            fontsize=7.5,
        )
    axis.set_xscale("log")
    _plain_ticks(axis.xaxis)
    axis.margins(x=0.16, y=0.12)
    if plot.better == "lower":
        axis.invert_yaxis()
    axis.set_xlabel(plot.x_label)
    axis.set_ylabel(plot.y_label)
    axis.grid(color="#EEEEEE", linewidth=0.6)
    axis.set_axisbelow(True)
    _legend(canvas, [axis])
    return canvas
