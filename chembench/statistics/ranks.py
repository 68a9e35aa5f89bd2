"""Comparison by ranks, for scores far from normal: asked for, never chosen in silence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chembench.errors import DataError
from chembench.statistics.replicates import Table
from chembench.statistics.studentized import NORMAL, tail

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tested:
    """What a test says of all pairs; NaN where it says nothing. M methods in the table's order."""

    words: str
    omnibus_p: float | None
    p_MM: Floats
    half_MM: Floats
    notes: tuple[str, ...] = ()


def by_ranks(board: Table, overlap: float) -> Tested:
    """Friedman and Nemenyi over blocks; without blocks, Kruskal-Wallis and Dunn with Holm over independent units.

    Overlapping training sets make the blocks depend on each other, so that both statistics are reduced as the variance
    of a mean would rise.

    Raises:
        DataError: if checkpoints or head seeds and blocks both vary: ranks over blocks do not hold what the seeds vary
            by, so that differences of seeds would be taken for differences of methods.
    """
    several = any(max(m.checkpoints, m.head_seeds) > 1 for m in board.methods if not m.is_fixed)
    if len(board.blocks) > 1 and several:
        raise DataError(
            "ranks over blocks do not hold what checkpoints and head seeds vary by; give one score a block, "
            "or compare by means"
        )
    return _over_blocks(board, overlap) if len(board.blocks) > 1 else _over_units(board)


def _over_blocks(board: Table, overlap: float) -> Tested:
    from scipy.stats import chi2, rankdata

    scores_MB = np.array([method.scores_PHB[0, 0] for method in board.methods])
    size, blocks = scores_MB.shape
    ranks_MB = rankdata(scores_MB if board.better == "lower" else -scores_MB, axis=0)
    mean_M = ranks_MB.mean(1)
    reduce = 1 / (1 + blocks * overlap)
    ties = 1 - sum(_tied(column) for column in ranks_MB.T) / (blocks * size * (size**2 - 1))
    statistic = 12 * blocks / (size * (size + 1)) * float(((mean_M - (size + 1) / 2) ** 2).sum())
    omnibus = float(chi2.sf(reduce * statistic / ties, size - 1)) if ties > 0 else 1.0
    error = math.sqrt(size * (size + 1) / (6 * blocks * reduce))
    q_MM = np.abs(mean_M[:, None] - mean_M) / error * math.sqrt(2)
    p_MM = tail(q_MM.ravel(), size, NORMAL).reshape(size, size)
    corrected = ", reduced for overlapping training sets" if overlap else ""
    kind = "outer test sets" if board.block_axis == "outer" else "splits"
    return Tested(
        f"Friedman over {blocks} {kind}{corrected}, Nemenyi", omnibus, p_MM, np.full((size, size), math.nan), _NOTE
    )


_NOTE = ("ranks give no interval in the metric's unit, and nothing is called equivalent by them",)


def _tied(ranks: Floats) -> float:
    _, counts = np.unique(ranks, return_counts=True)
    return float((counts**3 - counts).sum())


def _over_units(board: Table) -> Tested:
    from scikit_posthocs import posthoc_dunn
    from scipy.stats import kruskal

    units = [np.nanmean(m.scores_PHB, axis=(1, 2)) for m in board.methods]
    name = "checkpoints"
    if max(len(values) for values in units) < 2:
        units, name = [m.scores_PHB[0, :, 0] for m in board.methods], "head seeds"
    size = len(units)
    flat = np.concatenate(units)
    if np.ptp(flat) == 0:
        omnibus, p_MM = 1.0, np.ones((size, size))
    else:
        omnibus = float(kruskal(*units).pvalue)
        p_MM = np.asarray(posthoc_dunn([values.tolist() for values in units], p_adjust="holm"), dtype=np.float64)
    return Tested(f"Kruskal-Wallis over {name}, Dunn with Holm", omnibus, p_MM, np.full((size, size), math.nan), _NOTE)
