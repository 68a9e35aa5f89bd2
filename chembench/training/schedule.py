"""The learning rate as a pure function of the optimiser step: linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math


def rate_factor(step: int, total_steps: int, warmup_fraction: float) -> float:
    """The share of the peak rate that holds at a step.

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
