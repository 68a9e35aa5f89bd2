"""What the difference of two means varies by: one variance for each pair, from crossed axes.

Checkpoints and head seeds of two methods are independent of each other, so that their variances add up. Blocks (splits,
outer test sets) are shared, so that only what a pair's difference varies by from block to block counts. Scores of one
checkpoint rise and fall together, and so do those of one head seed: each axis enters by the variance of its level
means, and what is left between single runs, which every axis holds once, is counted once.

A pair with many replicates goes by its own variance (Dunnett): two forests differ by less from fold to fold than a
forest and a transformer do. With few of them that would show next to nothing, so variances are pooled over methods; a
pair whose own is larger than the pooled one still has its own, as no test of equal variances sees anything in three
seeds. Its degrees of freedom are then those of the pooled variance and of the pair's excess over it.

References:
    Dunnett, J. Am. Stat. Assoc. 1980, 75, 796. doi:10.1080/01621459.1980.10477552
    Satterthwaite, Biometrics Bull. 1946, 2, 110. doi:10.2307/3002019
    Nadeau & Bengio, Mach. Learn. 2003, 52, 239. doi:10.1023/A:1024068626366
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chembench.statistics.replicates import Method, Table, level_means
from chembench.statistics.studentized import near, suffice

Floats = npt.NDArray[np.float64]

AXES = ("pretrain_seed", "head_seed", "block")
Own = dict[str, tuple[float, int]]
"""Axis -> variance of its level means inside one method, and degrees of freedom."""


@dataclass(frozen=True)
class Component:
    """The variance of level means of one axis, pooled over methods."""

    axis: str
    """One of `AXES`, or ``run``: between single runs, when the axes are taken out."""
    variance: float
    freedom: int


@dataclass(frozen=True)
class Spread:
    """Variances of differences of means. M methods in the table's order."""

    components: tuple[Component, ...]
    levels_M: dict[str, npt.NDArray[np.int64]]
    """How many levels of an axis (runs, for ``run``) each method has; 0 where an axis does not count for it."""
    variance_MM: Floats
    """Of the difference of two means; 0 on the diagonal."""
    pooled_MM: Floats
    """The same from pooled components alone."""
    own_MM: Floats
    """The same from the two methods of each pair alone."""
    freedom: float
    """Of the pooled variance."""
    freedom_MM: Floats
    """Of each pair's variance: its own, the pooled one's, or something between them where its own is larger."""
    alone_MM: Floats
    """Degrees of freedom of each pair's own variance."""
    goes_alone_MM: npt.NDArray[np.bool_]
    """Whether a pair has replicates enough to go by its own variance."""
    overlap: float
    """What overlapping training sets add to 1 / blocks."""
    replicate_sd: float
    """Between replicates of one method in one block."""

    @property
    def of_mean(self) -> Floats:
        """Pooled variance of each mean, what a block has in common taken out, shape (methods,)."""
        own_MM = self.pooled_MM.copy()
        others = own_MM.shape[0] - 1
        total_M = own_MM.sum(1)
        if others == 1:
            return np.asarray(total_M / 2)
        return np.asarray((total_M - total_M.sum() / (2 * others)) / (others - 1))


def spread(table: Table, overlap: float) -> Spread | None:
    """Variances of all pairs; None if nothing is replicated.

    Args:
        table: the scores.
        overlap: n_test / n_train of overlapping outer training sets; 0 for independent blocks.
    """
    own = [own_of(method) for method in table.methods]
    block = _blocks(table)
    components = [c for axis in (*AXES[:2], "run") if (c := _pooled(axis, own))]
    if block is not None:
        components.insert(0, block)
    if not any(c.axis in AXES for c in components):
        return None
    levels_M = _levels(table, own)
    factor = 1 / len(table.blocks) + overlap
    pooled_MM, freedom = _pair_variances(table, components, levels_M, factor)
    own_MM = _seen(table, _own_variances(table, own, factor))
    alone_MM = _alone_freedoms(table, own, own_MM, factor)
    goes_alone_MM = _has_enough(table, own) & (own_MM > 0)
    return Spread(
        components=tuple(components),
        levels_M=levels_M,
        variance_MM=np.where(goes_alone_MM, own_MM, _seen(table, np.maximum(pooled_MM, own_MM))),
        pooled_MM=pooled_MM,
        own_MM=own_MM,
        freedom=freedom,
        freedom_MM=np.where(goes_alone_MM, alone_MM, _guarded(pooled_MM, own_MM, freedom, alone_MM)),
        alone_MM=alone_MM,
        goes_alone_MM=goes_alone_MM,
        overlap=overlap,
        replicate_sd=_replicate_sd(table),
    )


def _has_enough(table: Table, own: Sequence[Own]) -> npt.NDArray[np.bool_]:
    """Whether each axis that varies has degrees of freedom enough in a pair."""
    size, methods, blocks = len(own), max(2, len(own)), len(table.blocks) - 1
    enough_MM = np.full((size, size), blocks == 0 or bool(suffice(methods, blocks, blocks)))
    for axis in AXES[:2]:
        freedom_M = np.array([found[axis][1] if axis in found else 0 for found in own])
        both_MM = freedom_M[:, None] + freedom_M
        fewer_MM = np.minimum(freedom_M[:, None], freedom_M)
        enough_MM &= (both_MM == 0) | suffice(methods, both_MM, np.where(fewer_MM > 0, fewer_MM, both_MM))
    return enough_MM


def _seen(table: Table, variance_MM: Floats) -> Floats:
    """Variances, 0 where nothing but rounding is left."""
    widest = max(float(np.nanmax(np.abs(method.scores_PHB))) for method in table.methods)
    return np.where(variance_MM > (1e-12 * widest) ** 2, variance_MM, 0.0)


def _guarded(pooled_MM: Floats, own_MM: Floats, freedom: float, alone_MM: Floats) -> Floats:
    """Degrees of freedom of the larger variance: of the pooled one, and of what the pair's own exceeds it by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_MM = np.where(own_MM > pooled_MM * (1 + 1e-9), own_MM / pooled_MM, 1.0)
        mixed_MM = ratio_MM**2 / (1 / freedom + (ratio_MM - 1) ** 2 / alone_MM)
    mixed_MM = np.where(np.isfinite(ratio_MM), mixed_MM, alone_MM)
    return np.where(ratio_MM > 1, near(mixed_MM), freedom)


def _alone_freedoms(table: Table, own: Sequence[Own], own_MM: Floats, factor: float) -> Floats:
    """Satterthwaite's degrees of freedom of the variance that each pair has by itself."""
    has_blocks, blocks = len(table.blocks) > 1, len(table.blocks)
    terms = [_terms(method, found, has_blocks) for method, found in zip(table.methods, own, strict=True)]
    square_M = np.array([math.fsum(value**2 / df for value, df in parts) for parts in terms])
    fewest_M = np.array([min((df for value, df in parts if value >= 0), default=math.inf) for parts in terms])
    most_M = np.array([sum(df for _, df in parts) for parts in terms], dtype=np.float64)
    square_MM, most_MM = square_M[:, None] + square_M, most_M[:, None] + most_M
    fewest_MM = np.minimum(fewest_M[:, None], fewest_M)
    if has_blocks:
        between_MM = _between(table, factor)
        square_MM = square_MM + between_MM**2 / (blocks - 1)
        fewest_MM, most_MM = np.minimum(fewest_MM, blocks - 1), most_MM + blocks - 1
    freedom_MM = np.divide(own_MM**2, square_MM, out=np.array(most_MM), where=square_MM > 0)
    return np.asarray(np.clip(freedom_MM, np.minimum(fewest_MM, most_MM), most_MM))


def alone(table: Table, factor: float) -> tuple[float, float]:
    """Variance of the difference of two methods, and its degrees of freedom; nothing is pooled."""
    own = [own_of(method) for method in table.methods]
    own_MM = _own_variances(table, own, factor)
    return float(own_MM[0, 1]), float(_alone_freedoms(table, own, own_MM, factor)[0, 1])


def own_of(method: Method) -> Own:
    """Axis -> variance of its level means and degrees of freedom, inside one method; nothing for a fixed one."""
    if method.is_fixed:
        return {}
    left_PHB = method.scores_PHB - level_means(method.scores_PHB, 2)
    counts = dict(zip(AXES, left_PHB.shape, strict=True))
    found: Own = {}
    rest_PHB, freedom = left_PHB, int(np.isfinite(left_PHB).sum()) - counts["block"]
    for place, axis in enumerate(AXES[:2]):
        n = counts[axis]
        if n < 2:
            continue
        means = level_means(left_PHB, place)
        found[axis] = (float(np.var(means.ravel(), ddof=1)), n - 1)
        rest_PHB, freedom = rest_PHB - means, freedom - (n - 1)
    varied = len(found) + (counts["block"] > 1)
    if found and varied > 1 and freedom > 0:
        found["run"] = (float(np.nansum(rest_PHB**2)) / freedom, freedom)
    return found


def _blocks(table: Table) -> Component | None:
    """Residual variance of block means, methods and blocks taken out: the error of a repeated-measures ANOVA."""
    means_MB = table.block_means
    methods, blocks = means_MB.shape
    if blocks < 2 or methods < 2:
        return None
    rest_MB = means_MB - means_MB.mean(1, keepdims=True) - means_MB.mean(0) + means_MB.mean()
    freedom = (methods - 1) * (blocks - 1)
    return Component("block", float((rest_MB**2).sum()) / freedom, freedom)


def _pooled(axis: str, own: Sequence[Own]) -> Component | None:
    parts = [found[axis] for found in own if axis in found]
    if not parts:
        return None
    freedom = sum(df for _, df in parts)
    return Component(axis, math.fsum(variance * df for variance, df in parts) / freedom, freedom)


def _levels(table: Table, own: Sequence[Own]) -> dict[str, npt.NDArray[np.int64]]:
    runs = [int(np.isfinite(method.scores_PHB).sum()) for method in table.methods]
    counts = {
        "pretrain_seed": [method.checkpoints for method in table.methods],
        "head_seed": [method.head_seeds for method in table.methods],
        "run": runs,
    }
    return {
        axis: np.array([n if axis in found else 0 for n, found in zip(ns, own, strict=True)])
        for axis, ns in counts.items()
    }


def _pair_variances(
    table: Table, components: Sequence[Component], levels_M: dict[str, npt.NDArray[np.int64]], factor: float
) -> tuple[Floats, float]:
    """Pooled variances of differences, and Satterthwaite's degrees of freedom of the typical one."""
    size, by = len(table.methods), {c.axis: c for c in components}
    has_blocks = "block" in by
    own_M, terms = np.zeros(size), []
    for axis in (*AXES[:2], "run"):
        if axis not in by:
            continue
        weight_M = _weights(levels_M, axis, has_blocks)
        own_M += by[axis].variance * weight_M
        terms.append((by[axis].variance * 2 * float(weight_M.mean()), by[axis].freedom))
    own_M = np.maximum(own_M, 0.0 if has_blocks else _largest(by, levels_M))
    block = 2 * by["block"].variance * factor if has_blocks else 0.0
    if has_blocks:
        terms.append((block, by["block"].freedom))
    variance_MM = own_M[:, None] + own_M + block
    np.fill_diagonal(variance_MM, 0.0)
    total = block + 2 * float(own_M.mean())
    return variance_MM, satterthwaite(total, terms)


def _weights(levels_M: dict[str, npt.NDArray[np.int64]], axis: str, has_blocks: bool) -> Floats:
    """What a component's variance is multiplied by in the variance of each mean."""
    n_M = levels_M[axis]
    weight_M = np.divide(1.0, n_M, out=np.zeros(len(n_M)), where=n_M > 0)
    if axis != "run":
        return weight_M
    varied_M = sum((levels_M[a] > 0).astype(int) for a in AXES[:2]) + has_blocks
    return np.asarray((1 - varied_M) * weight_M)


def _largest(by: dict[str, Component], levels_M: dict[str, npt.NDArray[np.int64]]) -> Floats:
    """The largest single axis: what is taken off may not leave less."""
    found = [by[axis].variance * _weights(levels_M, axis, False) for axis in AXES[:2] if axis in by]
    return np.asarray(np.max(found, axis=0))


def satterthwaite(total: float, terms: Sequence[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances; terms may be negative, and the fewest of any is the least."""
    squares = math.fsum(value**2 / freedom for value, freedom in terms)
    fewest = min(freedom for value, freedom in terms if value >= 0)
    most = sum(freedom for _, freedom in terms)
    return float(min(max(total**2 / squares, fewest), most)) if squares > 0 else float(most)


def _own_variances(table: Table, own: Sequence[Own], factor: float) -> Floats:
    """Variances of differences from the two methods of each pair alone."""
    has_blocks = len(table.blocks) > 1
    single = [_own_variance(method, found, has_blocks) for method, found in zip(table.methods, own, strict=True)]
    own_M = np.array(single)
    variance_MM = own_M[:, None] + own_M
    if has_blocks:
        variance_MM += _between(table, factor)
    np.fill_diagonal(variance_MM, 0.0)
    return np.asarray(variance_MM)


def _between(table: Table, factor: float) -> Floats:
    """Variance of the mean of each pair's differences, from block to block."""
    means_MB = table.block_means
    centred_MB = means_MB - means_MB.mean(1, keepdims=True)
    squares = (centred_MB**2).sum(1)
    between_MM = squares[:, None] + squares - 2 * centred_MB @ centred_MB.T
    return np.asarray(np.maximum(between_MM, 0.0) / (len(table.blocks) - 1) * factor)


def _own_variance(method: Method, found: Own, has_blocks: bool) -> float:
    """Of one method's mean by its checkpoints and head seeds."""
    terms = [value for value, _ in _terms(method, found, has_blocks)]
    if not terms:
        return 0.0
    return max(math.fsum(terms), 0.0 if has_blocks else max(terms))


def _terms(method: Method, found: Own, has_blocks: bool) -> list[tuple[float, int]]:
    """What adds up to the variance of a mean: each axis, and the rest taken off where it is in several."""
    counts = dict(zip(AXES, method.scores_PHB.shape, strict=True))
    terms = [(variance / counts[axis], freedom) for axis, (variance, freedom) in found.items() if axis in AXES]
    varied = len(terms) + has_blocks
    if "run" in found:
        variance, freedom = found["run"]
        terms.append(((1 - varied) * variance / int(np.isfinite(method.scores_PHB).sum()), freedom))
    return terms


def _replicate_sd(table: Table) -> float:
    """Standard deviation of single scores around their method's mean, shared blocks taken out."""
    means_MB = table.block_means
    common_B = means_MB.mean(0) - means_MB.mean()
    squares, freedom = [], 0
    for method in table.methods:
        rest = method.scores_PHB - common_B - method.mean
        n = int(np.isfinite(rest).sum())
        if method.is_fixed or n < 2:
            continue
        squares.append(float(np.nansum(rest**2)))
        freedom += n - 1
    return math.sqrt(math.fsum(squares) / freedom) if freedom else 0.0
