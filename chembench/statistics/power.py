"""What a design can show: power, the smallest difference that is shown, and the replicates that are missing.

Everything is reckoned with the test of `comparison.compare`: a pair's own variance where its replicates are many, and
else the pooled one with the guard that the pair's own counts if larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from chembench.config import stable_seed
from chembench.errors import ConfigError
from chembench.statistics.studentized import critical, suffice

Floats = npt.NDArray[np.float64]

POWER = 0.8
MOST = 1000
"""Further replicates beyond which a difference counts as not to be had."""
DRAWS = 400
AXIS_NAMES = {
    "pretrain_seed": "pre-training seed",
    "head_seed": "head seed",
    "split": "split",
    "outer": "outer test set",
}


@dataclass(frozen=True)
class Design:
    """A balanced board, and what its replicates vary by.

    Variances are of one level of an axis, in the metric's unit squared: ``pretrain_seed`` and ``head_seed`` of a
    method's own levels, ``block`` of what a method gains or loses on one split or outer test set beside the others,
    ``run`` of the rest between single runs.
    """

    methods: int
    pretrain_seeds: int = 1
    head_seeds: int = 1
    blocks: int = 1
    pretrain_seed: float = 0.0
    head_seed: float = 0.0
    block: float = 0.0
    run: float = 0.0
    overlap: float = 0.0
    alpha: float = 0.05
    against_fixed: bool = False
    """Whether the second of the pair is a fixed value."""
    wider: float = 1.0
    """How many times as large as the pooled variance of a difference that of this pair is."""

    def __post_init__(self) -> None:
        if self.methods < 2 or min(self.pretrain_seeds, self.head_seeds, self.blocks) < 1:
            raise ConfigError(
                "power needs at least two methods and one replicate on each axis, got "
                f"{self.methods} methods, {self.pretrain_seeds} x {self.blocks} x {self.head_seeds}; raise the lowest"
            )
        variances = (self.pretrain_seed, self.head_seed, self.block, self.run)
        if not (all(math.isfinite(v) and v >= 0 for v in variances) and math.isfinite(self.wider) and self.wider > 0):
            raise ConfigError(
                f"variances must be finite and not negative, got {variances}, and that of a pair above 0, "
                f"got {self.wider} of the pooled one; give those of the replicates"
            )

    @property
    def is_replicated(self) -> bool:
        return max(self.pretrain_seeds, self.head_seeds, self.blocks) > 1


def variance_of_difference(design: Design) -> float:
    """Variance of the difference of two means."""
    d, runs = design, design.pretrain_seeds * design.head_seeds * design.blocks
    own = sum(value / n for n, value in ((d.pretrain_seeds, d.pretrain_seed), (d.head_seeds, d.head_seed)) if n > 1)
    block = design.block * (1 / design.blocks + design.overlap) if design.blocks > 1 else 0.0
    sides = 1 if design.against_fixed else 2
    return design.wider * (sides * (own + design.run / runs) + 2 * block)


def power(design: Design, difference: float) -> float:
    """Probability that two methods that differ by so much are separated on a board of this design.

    Raises:
        ConfigError: if nothing is replicated.
    """
    variance = variance_of_difference(_replicated(design))
    if variance <= 0:
        return 1.0 if difference else 0.0
    return _power(abs(difference) / math.sqrt(variance), _bounds(design) / math.sqrt(variance))


def _replicated(design: Design) -> Design:
    if not design.is_replicated:
        raise ConfigError(
            "power needs replicates, got one of each method; add head seeds, splits or pre-training seeds"
        )
    return design


def _power(shift: float, bound_D: Floats) -> float:
    from scipy.special import ndtr

    return float(np.mean(ndtr(shift - bound_D) + ndtr(-shift - bound_D)))


@lru_cache(maxsize=4096)
def detectable_difference(design: Design, wanted: float = POWER) -> float:
    """The smallest true difference that is shown with this power, in the metric's unit.

    Raises:
        ConfigError: if nothing is replicated, or the power is none.
    """
    from scipy.optimize import brentq

    if not 0 < wanted < 1:
        raise ConfigError(f"power must lie between 0 and 1, got {wanted}; 0.8 is usual")
    unit = math.sqrt(variance_of_difference(_replicated(design)))
    if unit <= 0:
        return 0.0
    bound_D, high = _bounds(design) / unit, 4.0
    while _power(high, bound_D) < wanted:
        high *= 2
    return unit * float(brentq(lambda shift: _power(shift, bound_D) - wanted, 0.0, high, xtol=1e-4))


def goes_alone(design: Design) -> bool:
    """Whether a pair has replicates enough to go by its own variance, as `spread` has it."""
    d, sides = design, 1 if design.against_fixed else 2
    axes = [(sides * (n - 1), n - 1) for n in (d.pretrain_seeds, d.head_seeds) if n > 1]
    axes += [(d.blocks - 1, d.blocks - 1)] if d.blocks > 1 else []
    return all(bool(suffice(d.methods, both, fewer)) for both, fewer in axes)


def _bounds(design: Design) -> Floats:
    """Half widths of the interval of one pair over boards that differ by chance, from drawn mean squares."""
    d, k = design, design.methods
    draw = _Draws()
    runs, has_blocks = d.pretrain_seeds * d.head_seeds * d.blocks, d.blocks > 1
    axes = [(n, v) for n, v in ((d.pretrain_seeds, d.pretrain_seed), (d.head_seeds, d.head_seed)) if n > 1]
    left = runs - 1 - sum(n - 1 for n in (d.pretrain_seeds, d.head_seeds, d.blocks))
    varied, sides, moving = len(axes) + has_blocks, 1 if d.against_fixed else 2, k - d.against_fixed
    parts = [draw.squares(v / n + d.run / runs, n - 1, sides, moving) for n, v in axes]
    taken = draw.squares(d.run / runs, left, sides, moving) if axes and varied > 1 and left > 0 else None
    terms = [(sides * pooled, moving * (n - 1)) for (_, pooled), (n, _) in zip(parts, axes, strict=True)]
    if taken is not None:
        terms.append(((1 - varied) * sides * taken[1], moving * left))
    alone_SD = _sum([own for own, _ in parts], None if taken is None else taken[0], varied, has_blocks)
    pooled_D = _sum([p for _, p in parts], None if taken is None else taken[1], varied, has_blocks)
    own_D, all_D = np.zeros(DRAWS) + np.sum(alone_SD, axis=0), sides * (np.zeros(DRAWS) + pooled_D)
    if has_blocks:
        block = (d.block + d.run / (d.pretrain_seeds * d.head_seeds)) * (1 / d.blocks + d.overlap)
        alone, pooled = draw.blocks(2 * block, d.blocks - 1, k)
        own_D, all_D = own_D + alone, all_D + pooled
        terms.append((pooled, (k - 1) * (d.blocks - 1)))
    freedom_D = _freedom(all_D, terms)
    own_terms = [(part_D, n - 1) for (part_SD, _), (n, _) in zip(parts, axes, strict=True) for part_D in part_SD]
    own_terms += [((1 - varied) * taken_D, left) for taken_D in (taken[0] if taken is not None else ())]
    own_terms += [(alone, d.blocks - 1)] if has_blocks else []
    own_freedom_D, own_D = _freedom(own_D, own_terms), d.wider * own_D
    if goes_alone(d):
        return _half_widths(d, own_D, own_freedom_D, alone=True)
    ratio_D = np.clip(own_D / np.maximum(all_D, 1e-300), 1.0, 1e6)
    freedom_D = ratio_D**2 / (1 / freedom_D + (ratio_D - 1) ** 2 / own_freedom_D)
    return _half_widths(d, np.maximum(own_D, all_D), freedom_D, alone=False)


def _half_widths(design: Design, variance_D: Floats, freedom_D: Floats, *, alone: bool) -> Floats:
    bound_D = critical(design.alpha, design.methods, freedom_D, np.full(freedom_D.shape, alone))
    return np.asarray(bound_D * np.sqrt(variance_D))


def _sum(parts: list[Floats], taken: Floats | None, varied: int, has_blocks: bool) -> Floats:
    """Variance of one mean by its own axes, as `spread` adds it up."""
    if not parts:
        return np.zeros((1, DRAWS))
    total = sum(parts) + ((1 - varied) * taken if taken is not None else 0.0)
    return np.asarray(np.maximum(total, 0.0 if has_blocks else np.max(parts, axis=0)))


def _freedom(total_D: Floats, terms: list[tuple[Floats, int]]) -> Floats:
    squares_D = sum(value_D**2 / freedom for value_D, freedom in terms)
    fewest = min(freedom for value_D, freedom in terms if float(value_D.min()) >= 0)
    return np.asarray(np.clip(total_D**2 / np.maximum(squares_D, 1e-300), fewest, sum(df for _, df in terms)))


class _Draws:
    """Mean squares as chance deals them: the same normal values each time, so that chance makes no replicate worse."""

    def __init__(self) -> None:
        self._normal_ND = _normal_values()
        self._used = 0

    def chi(self, freedom: int) -> Floats:
        """Draws of chi2 / freedom, after Wilson and Hilferty; none vary without a degree of freedom."""
        self._used += 1
        if freedom < 1:
            return np.ones(DRAWS)
        width = 2 / (9 * freedom)
        return np.asarray(np.maximum(1 - width + self._normal_ND[self._used - 1] * math.sqrt(width), 0.0) ** 3)

    def squares(self, variance: float, freedom: int, sides: int, moving: int) -> tuple[Floats, Floats]:
        """Of the methods of a pair, one a row, and pooled over all that move."""
        own_SD = np.array([self.chi(freedom) for _ in range(sides)])
        others = self.chi((moving - sides) * freedom)
        return variance * own_SD, variance * (own_SD.sum(0) + (moving - sides) * others) / moving

    def blocks(self, variance: float, freedom: int, methods: int) -> tuple[Floats, Floats]:
        """Of the pair's difference, and pooled over all methods."""
        own = self.chi(freedom)
        others = self.chi((methods - 2) * freedom)
        return variance * own, variance * (own + (methods - 2) * others) / (methods - 1)


@lru_cache(maxsize=1)
def _normal_values() -> Floats:
    return np.random.default_rng(stable_seed("mean squares")).standard_normal((12, DRAWS))


def replicates_needed(
    design: Design, difference: float, block_axis: str = "split", wanted: float = POWER
) -> tuple[int, str] | None:
    """The fewest further replicates with which a difference is shown, and of which axis.

    Axes are tried from the one that holds most of the variance; one that cannot do it, whatever is bought, is passed.

    Returns:
        None if no axis can do it within `MOST` further replicates, or there is nothing to show.
    """
    if not difference or not design.is_replicated:
        return None
    for axis, name in _axes_by_share(design, block_axis):
        if (more := _fewest(design, abs(difference), axis, wanted)) is not None:
            return more, name
    return None


def _axes_by_share(design: Design, block_axis: str) -> list[tuple[str, str]]:
    d = design
    run = d.run / (d.pretrain_seeds * d.head_seeds * d.blocks)
    shares = {
        ("pretrain_seeds", "pretrain_seed"): d.pretrain_seed / d.pretrain_seeds + run if d.pretrain_seeds > 1 else -1.0,
        ("head_seeds", "head_seed"): d.head_seed / d.head_seeds + run if d.head_seeds > 1 else -1.0,
        ("blocks", block_axis): (d.block / d.blocks + run) if d.blocks > 1 else -1.0,
    }
    varied = [axis for axis, share in shares.items() if share >= 0]
    return [(field, AXIS_NAMES[name]) for field, name in sorted(varied, key=lambda axis: -shares[axis])]


def _fewest(design: Design, difference: float, axis: str, wanted: float) -> int | None:
    now = getattr(design, axis)

    def with_more(more: int) -> Design:
        return replace(design, **{axis: now + more})

    def is_shown(more: int) -> bool:
        return detectable_difference(with_more(more), wanted) <= difference

    # where a pair begins to go by its own variance its interval widens: fewer may do than there
    switch = next((more for more in range(1, MOST + 1) if goes_alone(with_more(more))), MOST + 1)
    found = _least(is_shown, 1, switch - 1)
    return _least(is_shown, switch, MOST) if found is None else found


def _least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from ``low`` to ``high`` that holds, of which all larger ones do; none if none does."""
    if low > high or not holds(high):
        return None
    step = low
    while step < high and not holds(step):
        low, step = step + 1, min(step * 2, high)
    high = step
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
