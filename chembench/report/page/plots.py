"""What each figure shows, as numbers and labels; `chembench.report.page.drawing` draws them.

A series is told apart by its marker or line style as well as by its colour; both follow from ``look``, its place in
the order of the first series' names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chembench.statistics.estimates import Value


class Series(Value):
    """Points that belong together."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    look: int = 0
    """Which colour and marker; the same number looks the same in all panels."""
    style: Literal["points", "line", "dashed", "hollow", "steps", "both"] = "both"
    """``hollow``: dashed, its markers empty."""


class Panel(Value):
    """One pair of axes."""

    title: str = ""
    series: tuple[Series, ...]
    diagonal: bool = False
    """Draw the line on which both axes are equal, and give both the same range."""
    note: str = ""
    """Said inside the axes."""
    x_label: str = ""
    y_label: str = ""
    """Where a panel has labels of its own."""


class LinesPlot(Value):
    """Panels of points and lines, side by side."""

    kind: Literal["lines"] = "lines"
    panels: tuple[Panel, ...]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    whole_x: bool = False
    """The abscissa counts."""
    share_y: bool = True
    square: bool = False


class Bar(Value):
    """One line of an interval plot."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    mark: Literal["plain", "strong", "open"] = "plain"
    """``strong``: a difference is shown; ``open``: there is no interval or nothing is shown."""
    anchor: str | None = None


class IntervalsPlot(Value):
    """Values with their intervals, one below the other."""

    kind: Literal["intervals"] = "intervals"
    bars: tuple[Bar, ...]
    x_label: str
    zero: float | None = None
    """Where a line says that there is no difference."""
    region: float | None = None
    """Half of the band around ``zero`` within which a difference is of no practical meaning."""
    key: tuple[str, str, str] = ("", "", "")
    """What plain, strong and open marks mean."""


class Placed(Value):
    """A method on the axis of a critical-difference diagram."""

    label: str
    value: float
    anchor: str | None = None


class CriticalPlot(Value):
    """Methods along an axis; a bar joins those that are not told apart."""

    kind: Literal["critical"] = "critical"
    methods: tuple[Placed, ...]
    """Best first."""
    groups: tuple[tuple[int, int], ...]
    """First and last place of each bar."""
    x_label: str
    better: Literal["lower", "higher"]
    decimals: int = 3


class MatrixPlot(Value):
    """A number for each pair; the first name is the row."""

    kind: Literal["matrix"] = "matrix"
    names: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    low: float
    high: float
    label: str


class ParetoPoint(Value):
    """A method's cost and score."""

    label: str
    cost: float
    score: float
    low: float | None = None
    high: float | None = None
    look: int = 0
    is_front: bool = False


class ParetoPlot(Value):
    """Score against cost; the front is joined."""

    kind: Literal["pareto"] = "pareto"
    points: tuple[ParetoPoint, ...]
    looks: tuple[str, ...]
    """What each ``look`` stands for."""
    x_label: str
    y_label: str
    better: Literal["lower", "higher"]


class Molecule(Value):
    """A molecule to draw, and what stands below it."""

    smiles: str
    legend: str


class MoleculesPlot(Value):
    """Molecules side by side."""

    kind: Literal["molecules"] = "molecules"
    molecules: tuple[Molecule, ...]


Plot = Annotated[
    LinesPlot | IntervalsPlot | CriticalPlot | MatrixPlot | ParetoPlot | MoleculesPlot, Field(discriminator="kind")
]
