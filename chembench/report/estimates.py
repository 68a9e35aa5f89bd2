"""Means over replicates, their intervals, and what the replicates vary.

All sums are exact (`math.fsum`), so that no result hangs on the order of the rows.
"""

from __future__ import annotations

import math
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

    The replicates are taken as independent. In a crossed design (split x seed) they are not quite, and the interval
    is then too narrow; the board says so.
    """
    centre, n = mean(values), len(values)
    if n < 2:
        return Estimate(mean=centre, n=n)
    from scipy.stats import t

    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * spread / math.sqrt(n)
    return Estimate(mean=centre, low=centre - half, high=centre + half, n=n)


def difference(scores: Mapping[Key, float], forest: Mapping[Key, float]) -> Difference | None:
    """A method against the forest on the method's splits: paired by split, else by seed, else of the two means.

    Pairs need at least two splits (or, on one split, two seeds) that both were run on; each side is averaged over
    its other replicates first. Seeds of two methods have nothing in common but the index, so that pairing by seed
    gives the difference of means, with an interval.

    Returns:
        None if the forest was not run on a split of the method.
    """
    splits = {key.split for key in scores}
    forest = {key: score for key, score in forest.items() if key.split in splits}
    if {key.split for key in forest} != splits:
        return None
    basis: Basis = "paired by split" if len(splits) > 1 else "paired by seed"
    axis = 1 if len(splits) > 1 else 2
    own, other = _means_by(axis, scores), _means_by(axis, forest)
    if len(own) > 1 and set(own) <= set(other):
        pairs = estimate([own[index] - other[index] for index in sorted(own)])
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
