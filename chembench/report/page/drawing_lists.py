"""Figures with methods along one axis: intervals, critical differences, matrices."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from chembench.report.page.looks import COLOURS, GREY, LIGHT
from chembench.report.page.plots import Bar, CriticalPlot, IntervalsPlot, MatrixPlot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = {
    "plain": {"color": COLOURS[0], "marker": "o", "fill": COLOURS[0]},
    "strong": {"color": COLOURS[1], "marker": "s", "fill": COLOURS[1]},
    "open": {"color": "#444444", "marker": "o", "fill": "white"},
}


def intervals(plot: IntervalsPlot) -> Figure:
    """One line per bar, the first on top."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7.4, 0.9 + 0.235 * len(plot.bars)), layout="constrained")
    axis = canvas.subplots()
    if plot.zero is not None:
        if plot.region:
            axis.axvspan(plot.zero - plot.region, plot.zero + plot.region, color="#EEEEEE", zorder=0)
        axis.axvline(plot.zero, color=GREY, linewidth=0.9, zorder=1)
    for kind, said in zip(_MARKS, plot.key, strict=True):
        own = [(place, bar) for place, bar in enumerate(plot.bars) if bar.mark == kind]
        if own:
            _bars(axis, own, _MARKS[kind], said or None)
    axis.set_yticks(range(len(plot.bars)), [bar.label for bar in plot.bars])
    for bar, text in zip(plot.bars, axis.get_yticklabels(), strict=True):
        if bar.anchor:
            text.set_url(f"#{bar.anchor}")
    axis.set_ylim(len(plot.bars) - 0.4, -0.6)
    axis.set_xlabel(plot.x_label)
    axis.grid(axis="x", color="#EEEEEE", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        canvas.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return canvas


def _bars(axis: Axes, own: list[tuple[int, Bar]], look: dict[str, str], label: str | None) -> None:
    """Bars of one look, as few shapes: intervals, their ends, and the values on top."""
    barred = [(place, bar.low, bar.high) for place, bar in own if bar.low is not None and bar.high is not None]
    if barred:
        places, lows, highs = ([part[n] for part in barred] for n in range(3))
        axis.hlines(places, lows, highs, colors=look["color"], linewidth=1.4)
        axis.plot([*lows, *highs], [*places, *places], linestyle="none", marker="|", markersize=6, color=look["color"])
    axis.plot(
        [bar.value for _, bar in own],
        [place for place, _ in own],
        linestyle="none",
        marker=look["marker"],
        markersize=5,
        color=look["color"],
        markerfacecolor=look["fill"],
        label=label,
    )


def critical(plot: CriticalPlot) -> Figure:
    """Names hang from an axis, the best on the left; a thick bar joins those that are not told apart."""
    from matplotlib.figure import Figure

    count = len(plot.methods)
    left = (count + 1) // 2
    height = 0.75 + 0.16 * len(plot.groups) + 0.2 * left
    canvas = Figure(figsize=(7.4, height))
    axis = canvas.add_axes((0.27, 0.0, 0.46, 1.0))
    axis.set_axis_off()
    values = [method.value for method in plot.methods]
    low, high = min(values), max(values)
    pad = (high - low) * 0.04 or 0.5
    ends = (low - pad, high + pad)
    axis.set_xlim(*(ends if plot.better == "lower" else ends[::-1]))
    axis.set_ylim(height, 0)
    line = 0.5
    axis.plot(ends, [line, line], color="black", linewidth=1.0)
    _ticks(axis, ends, line, plot.x_label)
    below = line + 0.1
    for place, (first, last) in enumerate(plot.groups):
        at = below + 0.16 * place
        axis.plot([values[first], values[last]], [at, at], color=COLOURS[0], linewidth=3.2, solid_capstyle="round")
    names = below + 0.16 * len(plot.groups) + 0.12
    for place, method in enumerate(plot.methods):
        on_left = place < left
        row = place if on_left else count - 1 - place
        at = names + 0.2 * row
        value = f"{method.value:.{plot.decimals}f}"
        end = axis.get_xlim()[0 if on_left else 1]
        axis.plot([method.value, method.value, end], [line, at, at], color=GREY, linewidth=0.7, clip_on=False)
        text = axis.annotate(
            f"{method.label}  {value}" if on_left else f"{value}  {method.label}",
            (end, at),
            xytext=(-4 if on_left else 4, 0),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
        if method.anchor:
            text.set_url(f"#{method.anchor}")
    return canvas


def _ticks(axis: Axes, ends: tuple[float, float], line: float, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ticks = [tick for tick in MaxNLocator(6).tick_values(*ends) if ends[0] <= tick <= ends[1]]
    for tick in ticks:
        axis.plot([tick, tick], [line - 0.05, line], color="black", linewidth=0.8)
        axis.text(tick, line - 0.08, f"{tick:g}", ha="center", va="bottom", fontsize=8)
    axis.text(sum(ends) / 2, line - 0.27, label, ha="center", va="bottom", fontsize=8.5)


def matrix(plot: MatrixPlot) -> Figure:
    """Each pair's number in a field whose shade says the same."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    count = len(plot.names)
    side = max(2.2, 0.34 * count)
    longest = max(len(name) for name in plot.names)
    canvas = Figure(
        figsize=(min(7.4, side + 0.075 * longest + 0.4), side + 0.075 * longest * 0.8), layout="constrained"
    )
    axis = canvas.subplots()
    shades = LinearSegmentedColormap.from_list("white-blue", ["#FFFFFF", COLOURS[0]]).with_extremes(bad=LIGHT)
    values = np.ma.masked_invalid([[np.nan if v is None else v for v in row] for row in plot.values])
    edges = np.arange(count + 1) - 0.5
    axis.pcolormesh(edges, edges, values, cmap=shades, vmin=plot.low, vmax=plot.high, edgecolors=LIGHT, linewidth=0.7)
    for row, column in itertools.product(range(count), repeat=2):
        value = plot.values[row][column]
        if value is not None:
            text = f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:g}"
            ink = "white" if (value - plot.low) / (plot.high - plot.low) > 0.65 else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink)
    axis.set_xlim(-0.5, count - 0.5)
    axis.set_ylim(count - 0.5, -0.5)
    axis.set_xticks(range(count), plot.names, rotation=55, ha="right", rotation_mode="anchor", fontsize=7.5)
    axis.set_yticks(range(count), plot.names, fontsize=7.5)
    axis.tick_params(length=0)
    axis.set_aspect("equal")
    for spine in axis.spines.values():
        spine.set_visible(False)
    canvas.supxlabel(plot.label, fontsize=8.5)
    return canvas
