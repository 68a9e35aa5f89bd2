"""Which molecules go together through a model: steps and micro-batches, on numpy alone.

An optimiser step is a random set of molecules, so that several lengths are mixed in each gradient. Inside the step the
molecules are sorted by length and cut into micro-batches; a cut is made where the padding it saves is worth more than
another pass through the model. Nothing is padded to a constant. Axes: N molecules of the set, B of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chembench.config import stable_seed
from chembench.errors import ConfigError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packing:
    """How molecules of a step are cut into micro-batches."""

    token_budget: int
    """Most padded tokens of a micro-batch; a longer molecule goes alone."""
    pass_cost: int = 256
    """Padded tokens that cost as much as one more micro-batch: a cut must save more padding than that."""


def steps_per_epoch(molecules: int, batch_size: int) -> int:
    """Optimiser steps of one pass over ``molecules``; the last one may be short."""
    return -(-molecules // batch_size)


def epoch_steps(
    molecules: int,
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    skip: int = 0,
) -> Iterator[Ints]:
    """One pass over all molecules in random order: the molecules of each optimiser step.

    Args:
        molecules: how many there are.
        batch_size: molecules per optimiser step; the last step of an epoch keeps what is left.
        seed: of the order; each ``epoch`` has an order of its own.
        epoch: number of the pass.
        skip: steps at the start that are left out, to go on where an earlier attempt stopped.

    Yields:
        Indices of ``batch_size`` different molecules.
    """
    order_N = np.random.default_rng(stable_seed("epoch", seed, epoch)).permutation(molecules)
    for start in range(skip * batch_size, molecules, batch_size):
        yield order_N[start : start + batch_size]


def prefix_steps(
    molecules: int, batch_size: int, seed: int, epoch: int, decay_fraction: float, *, skip: int = 0
) -> Iterator[Ints]:
    """One pass in which a longer training sees first what a shorter one saw before its decay.

    The molecules are permuted inside blocks of the corpus' order, which do not depend on how many there are: each block
    is ``decay_fraction`` of all up to its end, so the one that ``molecules`` cuts off begins with the decay or later.

    Args:
        molecules: how many there are.
        batch_size: molecules per optimiser step; the last step keeps what is left.
        seed: of the order inside the blocks; each ``epoch`` has an order of its own.
        epoch: number of the pass.
        decay_fraction: share of the steps in which the rate falls.
        skip: steps at the start that are left out.

    Yields:
        Indices of ``batch_size`` different molecules.
    """
    start, total = 0, steps_per_epoch(molecules, batch_size)
    while start < total:
        stop = max(start + 1, int(start / (1.0 - decay_fraction)))
        if stop > skip:
            generator = np.random.default_rng(stable_seed("block", seed, epoch, start))
            order_N = start * batch_size + generator.permutation((stop - start) * batch_size)
            order_N = order_N[order_N < molecules]
            for step in range(max(start, skip), min(stop, total)):
                yield order_N[(step - start) * batch_size : (step - start + 1) * batch_size]
        start = stop


def cut(indices_B: Ints, lengths_N: NDArray[np.integer], packing: Packing) -> list[Ints]:
    """Some molecules in micro-batches of like length.

    Args:
        indices_B: which ones.
        lengths_N: tokens of each molecule of the set, as they will be seen by the model.
        packing: how large a micro-batch may be, and what another one costs.

    Returns:
        Indices, those of the longest molecules first.

    Raises:
        ConfigError: if the packing has no room for a token.
    """
    if packing.token_budget < 1:
        raise ConfigError(f"token_budget must be at least 1 token, got {packing.token_budget}; give a few thousand")
    if not len(indices_B):
        return []
    lengths_B = np.asarray(lengths_N)[indices_B].astype(np.int64)
    falling_B = np.argsort(-lengths_B, kind="stable")
    indices_B, lengths_B = indices_B[falling_B], lengths_B[falling_B]
    waiting, done = [(0, len(indices_B))], []
    while waiting:
        start, stop = waiting.pop()
        at = _best_cut(lengths_B[start:stop], packing)
        if at:
            waiting += [(start + at, stop), (start, start + at)]
        else:
            done.append(indices_B[start:stop])
    return done


def _best_cut(falling_B: Ints, packing: Packing) -> int:
    """Where to cut a batch of falling lengths in two; 0 where it had better stay whole."""
    size, longest = len(falling_B), int(falling_B[0])
    if size == 1:
        return 0
    at_B = np.arange(1, size)
    saved_B = (longest - falling_B[1:]) * (size - at_B)
    best = int(np.argmax(saved_B))
    if saved_B[best] > packing.pass_cost:
        return best + 1
    if size * longest > packing.token_budget:
        return max(1, packing.token_budget // longest)
    return 0
