"""The learning rate as a pure function of the optimiser step, and how many steps a pre-training has.

::

    cosine   linear warm-up, then half a cosine down to zero
    wsd      linear warm-up, then the peak rate up to `trunk_steps`, then 1 - sqrt down to zero

Up to `trunk_steps` a ``wsd`` pre-training does not depend on how long it will be, so that a longer one can continue
from there. Knows no torch and no numpy: plans are made with it.

Reference:
    Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, NeurIPS 2024.
    arXiv:2405.18392
"""

from __future__ import annotations

import math

from chembench.errors import DataError
from chembench.specs import PretrainSpec


def rate_factor(step: int, total_steps: int, warmup_fraction: float) -> float:
    """The share of the peak rate that holds at a step of a cosine.

    Args:
        step: steps taken before, 0 to ``total_steps - 1``.
        total_steps: length of the whole training.
        warmup_fraction: share of the steps in which the rate rises.

    Returns:
        A factor in (0, 1]; it reaches 1 at the end of the warm-up.
    """
    warmup = round(total_steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def stable_factor(step: int, total_steps: int, warmup_steps: int, trunk_steps: int) -> float:
    """The share of the peak rate that holds at a step of warm-up, stable and decay.

    Args:
        step: steps taken before, 0 to ``total_steps - 1``.
        total_steps: length of the whole training.
        warmup_steps: steps in which the rate rises; a warm-up longer than the trunk is cut off there.
        trunk_steps: steps before the decay.

    Returns:
        A factor in (0, 1].
    """
    if step >= trunk_steps:
        return 1.0 - math.sqrt((step - trunk_steps) / (total_steps - trunk_steps))
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def total_steps(spec: PretrainSpec) -> int:
    """Optimiser steps of the whole pre-training: at least one."""
    if spec.steps is not None:
        return spec.steps
    if spec.epochs is None:
        raise DataError("a pre-training needs epochs or steps, got neither; give exactly one of them")
    return max(1, round(spec.epochs * -(-spec.molecules // spec.batch_size)))


def trunk_steps(spec: PretrainSpec) -> int:
    """Steps of a ``wsd`` pre-training before its decay begins."""
    return steps_before_decay(total_steps(spec), spec.decay_fraction)


def steps_before_decay(total: int, decay_fraction: float) -> int:
    """Of ``total`` steps, those before the last ``decay_fraction`` of them."""
    return int((1.0 - decay_fraction) * total)


def warmup_steps(spec: PretrainSpec) -> int:
    """Steps in which the rate rises."""
    return round(total_steps(spec) * spec.warmup_fraction) if spec.warmup_steps is None else spec.warmup_steps


def factor_of(spec: PretrainSpec, step: int) -> float:
    """The share of the peak rate that holds at a step of a pre-training."""
    if spec.schedule == "cosine":
        return rate_factor(step, total_steps(spec), spec.warmup_fraction)
    return stable_factor(step, total_steps(spec), warmup_steps(spec), trunk_steps(spec))


def shared_molecules(parent: PretrainSpec) -> int:
    """Molecules that a pre-training which continues ``parent`` need not be shown again."""
    return trunk_steps(parent) * parent.batch_size
