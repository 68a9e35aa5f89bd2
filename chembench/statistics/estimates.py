"""Means over replicates, their intervals, and what the replicates vary.

All sums are exact (`math.fsum`), so that no result hangs on the order of the rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95

Basis = Literal["paired by outer test set", "paired by split", "paired by seed", "means"]
OVERLAP = 0.25
"""n_test / n_train of five outer folds: what their overlapping training sets add to 1 / folds in a variance."""


class Value(BaseModel):
    """Base of everything on a board: frozen, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Key(NamedTuple):
    """Which replicate a score belongs to, as indices; a baseline has no pre-training seed (0)."""

    pretrain_seed: int
    split: int
    head_seed: int
    outer: int = 0
    """Which outer test set: 0 is the named split's own."""


OUTER = Key._fields.index("outer")


class Estimate(Value):
    """A mean over ``n`` replicates with its 95 % t interval; no interval for one replicate."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int


class Difference(Value):
    """A method's mean score minus the forest's, and how the two were brought together."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int
    """Pairs, or 1 for a difference of means."""
    basis: Basis


def mean(values: Collection[float]) -> float:
    """Arithmetic mean; ``values`` may not be empty."""
    return math.fsum(values) / len(values)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of replicates with a two-sided 95 % interval of Student's t.

    The replicates are taken as independent; `estimate_crossed` is for those that share a checkpoint or a split.
    """
    centre, n = mean(values), len(values)
    if n < 2:
        return Estimate(mean=centre, n=n)
    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1))
    return _interval(centre, spread, n - 1, n)


def _interval(centre: float, spread: float, freedom: float, n: int) -> Estimate:
    from scipy.special import stdtrit  # scipy.stats gives the same number and takes half a second more to import

    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * spread / math.sqrt(n)
    return Estimate(mean=centre, low=centre - half, high=centre + half, n=n)


def estimate_crossed(scores: Mapping[Key, float], overlap: float = OVERLAP) -> Estimate:
    """Mean of crossed replicates with a 95 % t interval that counts the variance of each axis.

    Scores of one checkpoint rise and fall together: of 3 checkpoints x 5 seeds, the interval of 15 independent
    replicates covers the truth half of the time if checkpoints differ more than seeds. So the variance of the mean is
    that of the crossed random model - the mean squares of the axes, the rest counted once - with Satterthwaite's
    degrees of freedom, and never smaller than that of independent replicates. On one axis it is `estimate`, but for
    outer test sets: their training sets overlap, so that their mean varies more than that of independent ones.

    Args:
        scores: one method's replicates.
        overlap: n_test / n_train of the outer test sets.

    References:
        Satterthwaite, Biometrics Bull. 1946, 2, 110. doi:10.2307/3002019
        Nadeau & Bengio, Mach. Learn. 2003, 52, 239. doi:10.1023/A:1024068626366
    """
    values = [score for _, score in sorted(scores.items())]
    plain, n = estimate(values), len(values)
    axes = [axis for axis in range(len(Key._fields)) if len({key[axis] for key in scores}) > 1]
    rest_freedom = n - 1 - sum(len({key[axis] for key in scores}) - 1 for axis in axes)
    wider = {axis: 1 + overlap * len({key[axis] for key in scores}) if axis == OUTER else 1.0 for axis in axes}
    total = math.fsum((value - plain.mean) ** 2 for value in values)
    if len(axes) < 2 or rest_freedom < 1:
        most = max(wider.values(), default=1.0)
        return _interval(plain.mean, math.sqrt(most * total / (n - 1)), n - 1, n) if most > 1 else plain
    squares = [_squares(axis, scores, plain.mean) for axis in axes]
    rest = max(0.0, total - math.fsum(sum_ for sum_, _ in squares)) / rest_freedom
    terms = [(wider[axis] * sum_ / freedom, freedom) for axis, (sum_, freedom) in zip(axes, squares, strict=True)]
    terms.append(((1 - len(axes)) * rest, rest_freedom))
    variance = math.fsum(square for square, _ in terms)
    if variance <= total / (n - 1):
        return plain
    freedom = variance**2 / math.fsum(square**2 / freedom for square, freedom in terms)
    fewest = min(freedom for _, freedom in squares)  # what is taken off would otherwise leave less than one
    return _interval(plain.mean, math.sqrt(variance), max(freedom, fewest), n)


def _squares(axis: int, scores: Mapping[Key, float], centre: float) -> tuple[float, int]:
    """Sum of squares between the levels of an axis, and its degrees of freedom."""
    counts = Counter(key[axis] for key in scores)
    means = means_by(axis, scores)
    return math.fsum(counts[level] * (means[level] - centre) ** 2 for level in counts), len(counts) - 1


def means_by(axis: int, scores: Mapping[Key, float]) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for key, score in scores.items():
        groups.setdefault(key[axis], []).append(score)
    return {index: mean(values) for index, values in groups.items()}


def what_varies(keys: Iterable[Key], first: str = "pre-training seed", last: str = "head seed") -> str:
    """The axes on which the replicates differ, such as ``head seed x split``; ``-`` for a single replicate.

    Args:
        keys: the replicates.
        first: what the pre-training index stands for (initial weights without pre-training).
        last: what the last index stands for (a baseline has a seed, but no head).
    """
    kept = list(keys)
    names = ((0, first), (2, last), (1, "split"), (OUTER, "outer test set"))
    return " x ".join(name for axis, name in names if len({key[axis] for key in kept}) > 1) or "-"
