"""Figures with two axes that hold numbers: curves, clouds of points, score against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chembench.report.page.looks import GREY, colour, dash, marker
from chembench.report.page.plots import LinesPlot, Panel, ParetoPlot, ParetoPoint, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_ROW = 3
MANY = 60
"""A cloud of more points gets smaller, thinner ones."""
FEW = 5
"""Places on a logarithmic axis that get a tick each."""
DODGE = 0.012
"""Distance between intervals at one place, as a share of a logarithmic axis."""


def lines(plot: LinesPlot) -> Figure:
    """Panels of series, three in a row, with one legend for all."""
    from matplotlib.figure import Figure

    count = len(plot.panels)
    columns = min(count, PER_ROW)
    rows = math.ceil(count / columns)
    width = 7.4 if columns > 1 else 3.9 if plot.square else 5.2
    height = width / columns * (1.0 if plot.square else 0.6 if columns == 1 else 0.78) * rows + 0.3
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

    for series, dodge in zip(panel.series, _dodges(panel, plot.log_x), strict=True):
        _series(axis, series, dodge)
    if plot.log_x:
        axis.set_xscale("log")
        _plain_ticks(axis.xaxis, [x for series in panel.series for x in series.x])
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


def _dodges(panel: Panel, is_log: bool) -> list[float]:
    """By what the abscissae of each series are multiplied, so that intervals at one place stand side by side."""
    barred = [place for place, series in enumerate(panel.series) if series.low]
    values = [x for series in panel.series for x in series.x]
    if not is_log or len(barred) < 2:
        return [1.0] * len(panel.series)
    step = (max(values) / min(values)) ** DODGE
    middle = (len(barred) - 1) / 2
    return [step ** (barred.index(place) - middle) if place in barred else 1.0 for place in range(len(panel.series))]


def _series(axis: Axes, series: Series, dodge: float) -> None:
    """Draw one series; ``dodge`` moves it aside on a logarithmic axis, so that intervals do not hide one another."""
    shade, shape = colour(series.look), marker(series.look)
    at = [x * dodge for x in series.x]
    many = len(series.x) > MANY
    drawn: dict[str, Any] = {"color": shade, "label": series.label or None}
    if series.style == "points":
        axis.plot(
            at,
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
        axis.step(at, series.y, where="post", linestyle=dash(series.look), **drawn)
    elif series.style == "both":
        axis.plot(at, series.y, linestyle=dash(series.look), marker=shape, markersize=4, **drawn)
    elif series.style == "hollow":
        hollow: dict[str, Any] = {
            "marker": shape,
            "markersize": 4,
            "markerfacecolor": "white",
            "linestyle": (0, (4, 2)),
            "linewidth": 1.0,
        }
        axis.plot(at, series.y, **hollow, **drawn)
    else:
        axis.plot(
            at, series.y, linestyle=dash(series.look) if series.style == "line" else (0, (4, 2)), linewidth=1.1, **drawn
        )
    if series.low and series.high:
        below = [value - low for value, low in zip(series.y, series.low, strict=True)]
        above = [high - value for value, high in zip(series.y, series.high, strict=True)]
        axis.errorbar(at, series.y, yerr=[below, above], fmt="none", ecolor=shade, elinewidth=0.9, capsize=2)


def _diagonal(axis: Axes) -> None:
    low = min(axis.get_xlim()[0], axis.get_ylim()[0])
    high = max(axis.get_xlim()[1], axis.get_ylim()[1])
    axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def _plain_ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks where the values are, if they are few, else at 1, 2 and 5; as people write them, 1k and 4k."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    places = sorted(set(values))
    if len(places) <= FEW:
        axis.set_major_locator(FixedLocator(places))
    else:
        decades = math.log10(places[-1] / places[0])
        axis.set_major_locator(LogLocator(base=10, subs=(1,) if decades > 1.5 else (1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """A number for an axis: 500, 4k, 13M, 2e-05."""
    for limit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _legend(canvas: Figure, axes: list[Axes]) -> None:
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        widest = 0.6 + 0.065 * max(map(len, found))  # inches of a handle and a name at this size
        columns = min(len(found), 4, max(1, int(canvas.get_figwidth() / widest)))
        further = math.ceil(len(found) / columns) - 1
        canvas.set_figheight(canvas.get_figheight() + 0.18 * further)  # what its lines take must not be the panels'
        canvas.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=columns,
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
    axis.set_xscale("log")
    _plain_ticks(axis.xaxis, [point.cost for point in plot.points])
    axis.margins(x=0.16, y=0.12)
    if plot.better == "lower":
        axis.invert_yaxis()
    axis.set_xlabel(plot.x_label)
    axis.set_ylabel(plot.y_label)
    axis.grid(color="#EEEEEE", linewidth=0.6)
    axis.set_axisbelow(True)
    _legend(canvas, [axis])
    _name(canvas, axis, front, plot)
    return canvas


def _name(canvas: Figure, axis: Axes, front: Sequence[ParetoPoint], plot: ParetoPlot) -> None:
    """Write the names of the front where they cover neither a mark nor another name, if there is such a place."""
    canvas.draw_without_rendering()
    scale = canvas.dpi / 72
    taken = [
        (x - 5, y - 5, x + 5, y + 5) for x, y in axis.transData.transform([(p.cost, p.score) for p in plot.points])
    ]
    for point in front:
        x, y = axis.transData.transform((point.cost, point.score))
        wide, tall = 4.6 * len(point.label) * scale, 9 * scale
        best = min(PLACES, key=lambda place: _covered(_box(x, y, wide, tall, place, scale), taken))
        taken.append(_box(x, y, wide, tall, best, scale))
        axis.annotate(
            point.label,
            (point.cost, point.score),
            xytext=best[:2],
            textcoords="offset points",
            ha=best[2],
            va="center",
            fontsize=7.5,
        )


PLACES = ((6, 8, "left"), (6, -9, "left"), (-6, 8, "right"), (-6, -9, "right"), (9, 0, "left"), (-9, 0, "right"))
"""Where a name may stand beside its mark, in points."""
Box = tuple[float, float, float, float]


def _box(x: float, y: float, wide: float, tall: float, place: tuple[int, int, str], scale: float) -> Box:
    left = x + place[0] * scale - (wide if place[2] == "right" else 0)
    middle = y + place[1] * scale
    return (left, middle - tall / 2, left + wide, middle + tall / 2)


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Area of ``box`` that lies on others."""
    return sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
