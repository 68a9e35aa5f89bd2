"""What scores vary by, axis by axis, and which of it an interval holds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import numpy as np

from chembench.errors import DataError
from chembench.statistics.estimates import Key, Value
from chembench.statistics.replicates import Scores, Table, table
from chembench.statistics.spread import Component, spread

NAMES = {
    "pretrain_seed": "pre-training seed",
    "head_seed": "head seed",
    "split": "split",
    "outer": "outer test set",
}


class VarianceComponent(Value):
    """What one level of an axis adds to a score, pooled over methods."""

    axis: str
    """Such as ``head seed``, ``split (all methods alike)``, ``split x method`` or ``single runs``."""
    sd: float
    """In the metric's own unit; 0 where the axis shows no more than single runs do."""
    share: float
    """Of the sum of all variances."""
    freedom: int
    counts: bool
    """Whether it makes a difference of two methods uncertain; what all methods have in common does not."""


class Components(Value):
    """All components of one task."""

    parts: tuple[VarianceComponent, ...]
    held: tuple[str, ...]
    """Axes that the replicates vary, so that an interval holds them."""
    not_held: tuple[str, ...]
    """Axes with one level: whatever they would add is missing from every interval."""


def variance_components(scores: Scores, fixed: Collection[str] = ()) -> Components:
    """Variance components by the analysis of variance: each axis' own, freed of that of single runs.

    Raises:
        DataError: if nothing is replicated, or a score cannot be used.
    """
    board = table(scores, "lower", fixed)
    found = spread(board, 0.0)
    if found is None:
        raise DataError(
            "variance components need replicates, every method has one; add head seeds, splits or pre-training seeds"
        )
    by = {component.axis: component for component in found.components}
    moving = [m for m in board.methods if not m.is_fixed] or list(board.methods)
    p, h, b = (max(m.scores_PHB.shape[axis] for m in moving) for axis in range(3))
    run = by["run"].variance if "run" in by else 0.0
    block = NAMES[board.block_axis]
    sizes = {"pretrain_seed": h * b, "head_seed": p * b, "block": p * h}
    names = {"pretrain_seed": NAMES["pretrain_seed"], "head_seed": NAMES["head_seed"], "block": f"{block} x method"}
    parts = [
        (names[axis], max(0.0, by[axis].variance - run / sizes[axis]), by[axis].freedom, True)
        for axis in names
        if axis in by
    ]
    parts += [("single runs", run, by["run"].freedom, True)] if "run" in by else []
    parts += _common(board, by.get("block"), block)
    total = math.fsum(variance for _, variance, _, _ in parts)
    held = held_by(key for own in scores.values() for key in own)
    return Components(
        parts=tuple(
            VarianceComponent(
                axis=name, sd=math.sqrt(value), share=value / total if total else 0.0, freedom=df, counts=counts
            )
            for name, value, df, counts in parts
        ),
        held=held,
        not_held=tuple(name for name in NAMES.values() if name not in held),
    )


def _common(board: Table, block: Component | None, name: str) -> list[tuple[str, float, int, bool]]:
    """What all methods gain or lose together from block to block."""
    if block is None:
        return []
    means_B = board.block_means.mean(0)
    variance = float(np.var(means_B, ddof=1)) - block.variance / len(board.methods)
    return [(f"{name} (all methods alike)", max(0.0, variance), len(board.blocks) - 1, False)]


def held_by(keys: Iterable[Key]) -> tuple[str, ...]:
    """The axes that replicates vary."""
    kept = list(keys)
    return tuple(name for axis, name in NAMES.items() if len({getattr(key, axis) for key in kept}) > 1)
