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

Basis = Literal["paired by split", "paired by seed", "means"]


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
    from scipy.stats import t

    half = float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * spread / math.sqrt(n)
    return Estimate(mean=centre, low=centre - half, high=centre + half, n=n)


def estimate_crossed(scores: Mapping[Key, float]) -> Estimate:
    """Mean of crossed replicates with a 95 % t interval that counts the variance of each axis.

    Scores of one checkpoint rise and fall together: of 3 checkpoints x 5 seeds, the interval of 15 independent
    replicates covers the truth half of the time if checkpoints differ more than seeds. So the variance of the mean is
    that of the crossed random model - the mean squares of the axes, the rest counted once - with Satterthwaite's
    degrees of freedom, and never smaller than that of independent replicates. On one axis it is `estimate`.

    Reference:
        Satterthwaite, Biometrics Bull. 1946, 2, 110. doi:10.2307/3002019
    """
    values = [score for _, score in sorted(scores.items())]
    plain, n = estimate(values), len(values)
    axes = [axis for axis in range(len(Key._fields)) if len({key[axis] for key in scores}) > 1]
    rest_freedom = n - 1 - sum(len({key[axis] for key in scores}) - 1 for axis in axes)
    if len(axes) < 2 or rest_freedom < 1:
        return plain
    squares = [_squares(axis, scores, plain.mean) for axis in axes]
    total = math.fsum((value - plain.mean) ** 2 for value in values)
    rest = max(0.0, total - math.fsum(sum_ for sum_, _ in squares)) / rest_freedom
    terms = [(sum_ / freedom, freedom) for sum_, freedom in squares] + [((1 - len(axes)) * rest, rest_freedom)]
    variance = math.fsum(square for square, _ in terms)
    if variance <= total / (n - 1):
        return plain
    freedom = variance**2 / math.fsum(square**2 / freedom for square, freedom in terms)
    fewest = min(freedom for _, freedom in squares)  # what is taken off would otherwise leave less than one
    return _interval(plain.mean, math.sqrt(variance), max(freedom, fewest), n)


def _squares(axis: int, scores: Mapping[Key, float], centre: float) -> tuple[float, int]:
    """Sum of squares between the levels of an axis, and its degrees of freedom."""
    counts = Counter(key[axis] for key in scores)
    means = _means_by(axis, scores)
    return math.fsum(counts[level] * (means[level] - centre) ** 2 for level in counts), len(counts) - 1


def difference(scores: Mapping[Key, float], forest: Mapping[Key, float]) -> Difference | None:
    """A method against the forest on the method's splits: paired by split, else by seed, else of the two means.

    Pairs need at least two splits (or, on one split, two seeds) that both were run on; each side is averaged over
    its other replicates first, but for the method's checkpoints: how much these differ is part of the interval. Seeds
    of two methods have nothing in common but the index, so that pairing by seed gives the difference of means, with an
    interval.

    Returns:
        None if the forest was not run on a split of the method.
    """
    splits = {key.split for key in scores}
    forest = {key: score for key, score in forest.items() if key.split in splits}
    if {key.split for key in forest} != splits:
        return None
    basis: Basis = "paired by split" if len(splits) > 1 else "paired by seed"
    axis = 1 if len(splits) > 1 else 2
    other = _means_by(axis, forest)
    checkpoints = sorted({key.pretrain_seed for key in scores})
    own = {
        Key(checkpoint, 0, 0)._replace(**{Key._fields[axis]: index}): value
        for checkpoint in checkpoints
        for index, value in _means_by(axis, {k: v for k, v in scores.items() if k.pretrain_seed == checkpoint}).items()
    }
    if len(own) > 1 and {key[axis] for key in own} <= set(other):
        pairs = estimate_crossed({key: value - other[key[axis]] for key, value in own.items()})
        return Difference(value=pairs.mean, low=pairs.low, high=pairs.high, n=pairs.n, basis=basis)
    return Difference(value=mean(scores.values()) - mean(forest.values()), n=1, basis="means")


def _means_by(axis: int, scores: Mapping[Key, float]) -> dict[int, float]:
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
    names = ((0, first), (2, last), (1, "split"))
    return " x ".join(name for axis, name in names if len({key[axis] for key in kept}) > 1) or "-"
