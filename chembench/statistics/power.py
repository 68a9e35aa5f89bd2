"""What a design can show: power, the smallest difference that is shown, and the replicates that are missing.

Everything is reckoned with the test of `comparison.compare`: the critical value of the studentised range, the pooled
variance, and the guard that a pair's own variance counts where it is larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from chembench.errors import ConfigError
from chembench.statistics.spread import guarded, satterthwaite
from chembench.statistics.studentized import NORMAL, quantile

Floats = npt.NDArray[np.float64]

POWER = 0.8
MOST = 1000
"""Further replicates beyond which a difference counts as not to be had."""
_NODES = 24
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

    def __post_init__(self) -> None:
        if self.methods < 2 or min(self.pretrain_seeds, self.head_seeds, self.blocks) < 1:
            raise ConfigError(
                "power needs at least two methods and one replicate on each axis, got "
                f"{self.methods} methods, {self.pretrain_seeds} x {self.blocks} x {self.head_seeds}; raise the lowest"
            )
        variances = (self.pretrain_seed, self.head_seed, self.block, self.run)
        if not all(math.isfinite(v) and v >= 0 for v in variances):
            raise ConfigError(
                f"variances must be finite and not negative, got {variances}; give those of the replicates"
            )

    @property
    def is_replicated(self) -> bool:
        return max(self.pretrain_seeds, self.head_seeds, self.blocks) > 1


def variance_of_difference(design: Design) -> tuple[float, float, float]:
    """Variance of the difference of two means with its degrees of freedom, pooled and of one pair alone."""
    p, h, b, k = design.pretrain_seeds, design.head_seeds, design.blocks, design.methods
    run = design.run / (p * h * b)
    pooled, alone = [], []
    total, varied = 0.0, 0
    for n, value in ((p, design.pretrain_seed), (h, design.head_seed)):
        if n > 1:
            part = 2 * (value / n + run)
            total, varied = total + part, varied + 1
            pooled.append((part, k * (n - 1)))
            alone.append((part, 2 * (n - 1)))
    if b > 1:
        part = 2 * (design.block + design.run / (p * h)) * (1 / b + design.overlap)
        total, varied = total + part, varied + 1
        pooled.append((part, (k - 1) * (b - 1)))
        alone.append((part, b - 1))
    rest = p * h * b - 1 - sum(n - 1 for n in (p, h, b))
    if varied > 1 and rest > 0:
        part = (1 - varied) * 2 * run
        total += part
        pooled.append((part, k * rest))
    return total, satterthwaite(total, pooled), satterthwaite(total, alone)


@lru_cache(maxsize=1024)
def _spreads(freedom: float) -> Floats:
    """Equally likely values of chi2 / freedom."""
    from scipy.stats import chi2

    return np.asarray(chi2.ppf((np.arange(_NODES) + 0.5) / _NODES, freedom) / freedom)


def _coarse(freedom: float) -> float:
    """Few values, so that they are reckoned once; power does not show the difference."""
    if freedom < 10:
        return max(1.0, round(freedom, 1))
    return min(float(f"{freedom:.2g}"), NORMAL)


def power_of(shift: float, methods: int, freedom: float, own_freedom: float, alpha: float) -> float:
    """Probability that a pair is separated.

    Args:
        shift: the true difference in units of its standard error.
        methods: on the board.
        freedom: degrees of freedom of the pooled variance.
        own_freedom: of the pair's own variance.
        alpha: family-wise level.
    """
    from scipy.special import ndtr

    coarse, own_coarse = _coarse(freedom), _coarse(own_freedom)
    pooled = _spreads(coarse)
    if methods == 2:
        bound = quantile(alpha, methods, coarse) / math.sqrt(2) * np.sqrt(pooled)
    else:
        own = _spreads(own_coarse)
        critical = [quantile(alpha, methods, guarded(float(ratio), coarse, own_coarse)) for ratio in own]
        bound = np.array(critical) / math.sqrt(2) * np.sqrt(np.maximum(pooled[:, None], own))
    return float(np.mean(ndtr(shift - bound) + ndtr(-shift - bound)))


def power(design: Design, difference: float) -> float:
    """Probability that two methods that differ by so much are separated on a board of this design.

    Raises:
        ConfigError: if nothing is replicated.
    """
    if not design.is_replicated:
        raise ConfigError(
            "power needs replicates, got one of each method; add head seeds, splits or pre-training seeds"
        )
    variance, freedom, own_freedom = variance_of_difference(design)
    if variance <= 0:
        return 1.0 if difference else 0.0
    shift = abs(difference) / math.sqrt(variance)
    return power_of(shift, design.methods, freedom, own_freedom, design.alpha)


def detectable_difference(design: Design, wanted: float = POWER) -> float:
    """The smallest true difference that is shown with this power, in the metric's unit."""
    from scipy.optimize import brentq

    if not 0 < wanted < 1:
        raise ConfigError(f"power must lie between 0 and 1, got {wanted}; 0.8 is usual")
    if power(design, 1.0) >= 1 and variance_of_difference(design)[0] <= 0:
        return 0.0
    unit = math.sqrt(variance_of_difference(design)[0])
    high = 4.0
    while power(design, high * unit) < wanted:
        high *= 2
    return unit * float(brentq(lambda shift: power(design, shift * unit) - wanted, 0.0, high, xtol=1e-6))


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
        if (more := _fewest(design, difference, axis, wanted)) is not None:
            return more, name
    return None


def _axes_by_share(design: Design, block_axis: str) -> list[tuple[str, str]]:
    p, h, b = design.pretrain_seeds, design.head_seeds, design.blocks
    run = design.run / (p * h * b)
    shares: Mapping[str, float] = {
        "pretrain_seeds": design.pretrain_seed / p + run if p > 1 else -1.0,
        "head_seeds": design.head_seed / h + run if h > 1 else -1.0,
        "blocks": (design.block / b + run) if b > 1 else -1.0,
    }
    names = {"pretrain_seeds": "pretrain_seed", "head_seeds": "head_seed", "blocks": block_axis}
    varied = [axis for axis, share in shares.items() if share >= 0]
    return [(axis, AXIS_NAMES[names[axis]]) for axis in sorted(varied, key=lambda axis: -shares[axis])]


def _fewest(design: Design, difference: float, axis: str, wanted: float) -> int | None:
    now = getattr(design, axis)

    def enough(more: int) -> bool:
        return power(replace(design, **{axis: now + more}), difference) >= wanted

    if not enough(MOST):
        return None
    low, high = 0, 1
    while high < MOST and not enough(high):
        low, high = high, min(high * 2, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def sentence(needed: int | None, axis: str, first: str, second: str) -> str:
    """``9 more head seeds to separate A and B``."""
    if needed is None:
        return f"no number of replicates up to {MOST} separates {first} and {second} as they stand"
    return f"{needed} more {axis}{'' if needed == 1 else 's'} to separate {first} and {second}"
