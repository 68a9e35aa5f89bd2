"""Scores as arrays: checked, in one order that hangs on the scores alone, and cut to the blocks that are shared.

Axes: m method, p checkpoint, h head seed, b block. A block is what methods have in common, so that they are compared
inside it: an outer test set where there are several, else a split. A missing replicate is NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from chembench.errors import ConfigError, DataError
from chembench.statistics.estimates import Key, mean

Floats = npt.NDArray[np.float64]
Better = Literal["lower", "higher"]
BlockAxis = Literal["split", "outer"]
Scores = Mapping[str, Mapping[Key, float]]


@dataclass(frozen=True)
class Method:
    """One method's replicates in the blocks that are compared."""

    name: str
    scores_PHB: Floats
    mean: float
    is_fixed: bool
    """Without variance by construction: a deterministic baseline."""

    @property
    def checkpoints(self) -> int:
        return int(self.scores_PHB.shape[0])

    @property
    def head_seeds(self) -> int:
        return int(self.scores_PHB.shape[1])


@dataclass(frozen=True)
class Table:
    """All methods, best mean first; equal means by their scores, and only then by name."""

    better: Better
    methods: tuple[Method, ...]
    blocks: tuple[int, ...]
    block_axis: BlockAxis
    inner_splits: int
    """Splits inside each outer test set, averaged before anything else."""
    notes: tuple[str, ...]

    @cached_property
    def block_means(self) -> Floats:
        """Mean of each method in each block, shape (methods, blocks)."""
        return np.array([level_means(method.scores_PHB, 2).ravel() for method in self.methods])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(method.name for method in self.methods)


def level_means(scores_PHB: Floats, place: int) -> Floats:
    """Means of the levels of one axis over the others, missing ones left out, broadcast over the others."""
    others = tuple(axis for axis in range(3) if axis != place)
    means = scores_PHB.mean(axis=others, keepdims=True)
    return np.asarray(means if np.isfinite(means).all() else np.nanmean(scores_PHB, axis=others, keepdims=True))


def check(scores: Scores, better: str) -> Better:
    """Refuse what cannot be compared, and give ``better`` back.

    Raises:
        ConfigError: if ``better`` is neither ``lower`` nor ``higher``.
        DataError: if there is no method, a method has no score, or a score is not a finite number.
    """
    if better not in get_args(Better):
        raise ConfigError(f"better must be 'lower' or 'higher', got {better!r}")
    if not scores:
        raise DataError("a comparison needs at least one method, got none; wait for the first finished replicate")
    for name, replicates in sorted(scores.items()):
        if not replicates:
            raise DataError(f"every method needs at least one score, {name!r} has none; leave it out")
        for key, score in sorted(replicates.items()):
            if not isinstance(score, (int, float, np.floating)) or not math.isfinite(score):
                raise DataError(
                    f"scores must be finite numbers, {name!r} has {score!r} at {named(key)}; leave the replicate out"
                )
    return cast(Better, better)


def named(key: Key) -> str:
    """A replicate in words."""
    return ", ".join(f"{field.replace('_', ' ')} {index}" for field, index in zip(Key._fields, key, strict=True))


def scores_from(rows: Iterable[tuple[str, Key, float]]) -> dict[str, dict[Key, float]]:
    """Scores by method and replicate, from rows in any order.

    Raises:
        DataError: if a replicate of a method is there twice.
    """
    scores: dict[str, dict[Key, float]] = {}
    for name, key, score in rows:
        own = scores.setdefault(name, {})
        if key in own:
            raise DataError(
                f"a replicate has one score, {name!r} has {own[key]} and {score} at {named(key)}; keep one of them"
            )
        own[key] = score
    return scores


def table(scores: Scores, better: str, fixed: Collection[str] = ()) -> Table:
    """Scores on the blocks that every method was run on.

    Raises:
        ConfigError: if ``better`` or a name in ``fixed`` is unknown.
        DataError: if a score cannot be used; see `check`.
    """
    direction = check(scores, better)
    for name in sorted(fixed):
        if name not in scores:
            raise ConfigError(
                f"fixed names methods that are compared, got {name!r}; known: {', '.join(sorted(scores))}"
            )
    axis = block_axis_of(scores)
    of = {name: {_block(key, axis) for key in own} for name, own in scores.items()}
    shared, every = set.intersection(*of.values()), set.union(*of.values())
    if not shared:
        raise DataError(
            f"methods are compared on what they have in common, {' and '.join(_apart(of))} share no "
            f"{'outer test set' if axis == 'outer' else 'split'}; run one on those of the other, or leave it out"
        )
    notes = _notes_on_blocks(of, shared, every, axis)
    blocks = tuple(sorted(shared))
    cut = {
        name: {key: value for key, value in own.items() if _block(key, axis) in shared} for name, own in scores.items()
    }
    splits = len({key.split for own in cut.values() for key in own}) if axis == "outer" else 1
    methods = [_method(name, own, axis, blocks, name in fixed) for name, own in cut.items()]
    return Table(direction, in_order(methods, direction), blocks, axis, splits, notes)


def in_order(methods: list[Method], better: Better) -> tuple[Method, ...]:
    """Best mean first; what differs by rounding alone is equal, so that units and names move nothing."""
    low = min(float(np.nanmin(m.scores_PHB)) for m in methods)
    high = max(float(np.nanmax(m.scores_PHB)) for m in methods)
    sign, width = (1 if better == "lower" else -1), (high - low) or 1.0

    def place(method: Method) -> tuple[object, ...]:
        own = np.nan_to_num(sign * np.round((method.scores_PHB - low) / width, 9), nan=2.0)
        return sign * round((method.mean - low) / width, 9), tuple(own.ravel().tolist()), method.name

    return tuple(sorted(methods, key=place))


def block_axis_of(scores: Scores) -> BlockAxis:
    """What methods are compared inside: outer test sets where there are several, else splits."""
    return "outer" if len({key.outer for own in scores.values() for key in own}) > 1 else "split"


def _block(key: Key, axis: BlockAxis) -> int:
    return key.outer if axis == "outer" else key.split


def _apart(of: Mapping[str, set[int]]) -> tuple[str, str]:
    """Two methods without a common block, or else the two that have fewest."""
    pairs = itertools.combinations(sorted(of), 2)
    return min(pairs, key=lambda pair: (len(of[pair[0]] & of[pair[1]]), pair))


def _notes_on_blocks(of: Mapping[str, set[int]], shared: set[int], every: set[int], axis: BlockAxis) -> tuple[str, ...]:
    if shared == every:
        return ()
    word = "outer test sets" if axis == "outer" else "splits"
    fewest = min(sorted(of), key=lambda name: len(of[name]))
    return (
        f"compared on the {len(shared)} of {len(every)} {word} that every method was run on "
        f"({fewest} was run on {len(of[fewest])})",
    )


def _method(name: str, own: Mapping[Key, float], axis: BlockAxis, blocks: tuple[int, ...], is_fixed: bool) -> Method:
    """Inner splits of an outer test set are averaged: they are divisions of one training set."""
    cells: dict[tuple[int, int, int], list[float]] = {}
    for key, score in own.items():
        cells.setdefault((key.pretrain_seed, key.head_seed, _block(key, axis)), []).append(float(score))
    checkpoints = sorted({cell[0] for cell in cells})
    seeds = sorted({cell[1] for cell in cells})
    scores_PHB = np.full((len(checkpoints), len(seeds), len(blocks)), np.nan)
    for (checkpoint, seed, block), values in cells.items():
        scores_PHB[checkpoints.index(checkpoint), seeds.index(seed), blocks.index(block)] = mean(values)
    by_block = [mean([v for cell, vs in cells.items() if cell[2] == block for v in [mean(vs)]]) for block in blocks]
    return Method(name, scores_PHB, mean(by_block), is_fixed)
