"""How a loss falls with scale: the slope in logarithms, and a power law above a floor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from chembench.errors import DataError
from chembench.statistics.estimates import CONFIDENCE, Value, mean

Floats = npt.NDArray[np.float64]

FEWEST = 3
FEWEST_WITH_FLOOR = 4


class Point(NamedTuple):
    """One measurement."""

    scale: float
    """Parameters, molecules or FLOPs."""
    value: float
    """Loss or error: positive, lower is better."""


class Floor(Value):
    """value = floor + factor * scale ** -exponent."""

    floor: float
    factor: float
    exponent: float


class ScalingFit(Value):
    """log value = intercept + slope * log scale, by least squares over the scales."""

    by: str
    slope: float
    """Of logarithms: -0.1 is 7 % less for twice the scale."""
    low: float
    high: float
    """95 % interval of the slope."""
    p: float
    """Of no slope."""
    intercept: float
    r2: float
    scales: int
    points: int
    above_floor: Floor | None = None
    notes: tuple[str, ...] = ()

    @property
    def doubled(self) -> float:
        """What the value is multiplied by when the scale doubles."""
        return float(2**self.slope)


def fit(points: Iterable[Point | tuple[float, float]], by: str) -> ScalingFit:
    """Fit a loss, or an error, against scale.

    Points of one scale are averaged in logarithms first: replicates of a scale are no further scales, and how far the
    scales lie from the line is what the interval holds.

    Args:
        points: scale and value; give an error such as 1 - ROC-AUC for a score of which more is better.
        by: what the scale is, for the texts: ``parameters``, ``molecules``, ``FLOPs``.

    Raises:
        DataError: if there are fewer than three distinct scales, or a number is not positive and finite.
    """
    from scipy.stats import linregress, t

    kept = sorted(Point(*point) for point in points)
    for point in kept:
        if not all(math.isfinite(number) and number > 0 for number in point):
            raise DataError(f"a scaling fit needs positive finite numbers, got {by} {point.scale}: {point.value}")
    scales = sorted({point.scale for point in kept})
    if len(scales) < FEWEST:
        listed = ", ".join(f"{scale:g}" for scale in scales) or "none"
        raise DataError(f"a scaling fit needs {FEWEST} distinct {by}, got {len(scales)} ({listed}); add scales")
    x = np.log(scales)
    y = np.array([mean([math.log(p.value) for p in kept if p.scale == scale]) for scale in scales])
    line = linregress(x, y)
    is_flat = bool(np.ptp(y) == 0)  # the same at every scale: no slope, and nothing is left over that could hide one
    half = 0.0 if is_flat else float(t.ppf(0.5 + CONFIDENCE / 2, len(scales) - 2)) * float(line.stderr)
    notes = ["three scales: one degree of freedom, so that the interval is wide"] if len(scales) == FEWEST else []
    floor, told = _above_floor(np.exp(x), np.exp(y), float(line.slope), float(line.intercept))
    return ScalingFit(
        by=by,
        slope=float(line.slope),
        low=float(line.slope) - half,
        high=float(line.slope) + half,
        p=1.0 if is_flat else float(line.pvalue),
        intercept=float(line.intercept),
        r2=0.0 if is_flat else float(line.rvalue) ** 2,
        scales=len(scales),
        points=len(kept),
        above_floor=floor,
        notes=(*notes, *told),
    )


def _above_floor(x: Floats, y: Floats, slope: float, intercept: float) -> tuple[Floor | None, tuple[str, ...]]:
    """A power law with an offset, in units of the largest scale, so that the numbers stay near 1."""
    from scipy.optimize import OptimizeWarning, curve_fit

    if len(x) < FEWEST_WITH_FLOOR:
        return None, ()
    unit, height = x[-1], float(np.max(y))
    start = (0.5 * float(np.min(y)) / height, 0.5, max(0.05, -slope))

    def law(scale: Floats, floor: float, factor: float, exponent: float) -> Floats:
        return np.asarray(floor + factor * scale**-exponent)

    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            found, _ = curve_fit(law, x / unit, y / height, p0=start, bounds=([0, 0, 0], [1, np.inf, 5]), maxfev=20_000)
    except (RuntimeError, OptimizeWarning) as error:
        return None, (f"no power law above a floor could be fitted: {error}",)
    floor, factor, exponent = (float(number) for number in found)
    return Floor(floor=floor * height, factor=factor * height * unit**exponent, exponent=exponent), ()
