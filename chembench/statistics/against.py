"""A method against another, such as the forest baseline that stands in a column of every board."""

from __future__ import annotations

import math
from collections.abc import Mapping

from chembench.statistics.estimates import (
    CONFIDENCE,
    OVERLAP,
    Basis,
    Difference,
    Key,
    estimate_crossed,
    mean,
    means_by,
)
from chembench.statistics.replicates import block_axis_of, table
from chembench.statistics.spread import alone


def difference(
    scores: Mapping[Key, float], forest: Mapping[Key, float], *, is_fixed: bool = False, overlap: float = OVERLAP
) -> Difference | None:
    """A method against the forest: paired by outer test set or split, else by seed, else of the two means.

    Pairs need at least two blocks (or, on one split, two seeds) that both were run on. What checkpoints and head seeds
    of either side vary by is part of the interval: averaged inside a block, a seed that is good on every split would be
    taken for a good method. Seeds of two methods have nothing in common but the index, so that pairing by seed gives
    the difference of means, with an interval.

    Args:
        scores: the method's replicates.
        forest: the forest's.
        is_fixed: whether the forest is deterministic.
        overlap: n_test / n_train of the outer test sets.

    Returns:
        None if the forest was not run on a split or outer test set of the method.
    """
    axis = block_axis_of({"method": scores, "forest": forest})
    blocks = {getattr(key, axis) for key in scores}
    forest = {key: score for key, score in forest.items() if getattr(key, axis) in blocks}
    if {getattr(key, axis) for key in forest} != blocks:
        return None
    if len(blocks) < 2:
        return _by_seed(scores, forest)
    board = table({"method": scores, "forest": forest}, "lower", {"forest"} if is_fixed else ())
    factor = 1 / len(blocks) + (overlap if axis == "outer" else 0.0)
    variance, freedom = alone(board, factor)
    by_name = {method.name: method.mean for method in board.methods}
    value, half = by_name["method"] - by_name["forest"], _half(variance, freedom)
    basis: Basis = "paired by outer test set" if axis == "outer" else "paired by split"
    return Difference(value=value, low=value - half, high=value + half, n=len(blocks), basis=basis)


def _half(variance: float, freedom: float) -> float:
    from scipy.special import stdtrit  # scipy.stats.t.ppf, without half a second of imports

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(variance)


def _by_seed(scores: Mapping[Key, float], forest: Mapping[Key, float]) -> Difference:
    """On one split; how much the method's checkpoints differ is part of the interval."""
    if len({key.pretrain_seed for key in forest}) > 1:  # checkpoints of two methods: nothing to pair
        return _apart(scores, forest)
    other = means_by(Key._fields.index("head_seed"), forest)
    own = {
        Key(checkpoint, 0, index): value
        for checkpoint in sorted({key.pretrain_seed for key in scores})
        for index, value in means_by(Key._fields.index("head_seed"), _of(checkpoint, scores)).items()
    }
    if len(own) > 1 and {key.head_seed for key in own} == set(other):
        pairs = estimate_crossed({key: value - other[key.head_seed] for key, value in own.items()})
        return Difference(value=pairs.mean, low=pairs.low, high=pairs.high, n=pairs.n, basis="paired by seed")
    if min(len(own), len(other)) > 1:  # more seeds on one side: seeds have nothing in common but their number
        return _apart(scores, forest)
    return Difference(value=mean(scores.values()) - mean(forest.values()), n=1, basis="means")


def _apart(scores: Mapping[Key, float], other: Mapping[Key, float]) -> Difference:
    """Two methods that share nothing: each has checkpoints, or more seeds, of its own."""
    board = table({"method": scores, "other": other}, "lower")
    variance, freedom = alone(board, 0.0)
    value, half = mean(scores.values()) - mean(other.values()), _half(variance, freedom)
    n = min(method.checkpoints for method in board.methods)
    return Difference(value=value, low=value - half, high=value + half, n=n, basis="means")


def _of(checkpoint: int, scores: Mapping[Key, float]) -> dict[Key, float]:
    return {key: score for key, score in scores.items() if key.pretrain_seed == checkpoint}
