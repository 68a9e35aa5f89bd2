"""What is done where memory runs out: smaller micro-batches, and an error that says so when they do not help.

Axes: N molecules of the set, B of one batch.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from chembench.data.batches import Packing, cut
from chembench.errors import RunError
from chembench.models.base import padding_cost
from chembench.specs import ModelSpec
from chembench.training.device import Device
from chembench.training.hardware import is_out_of_memory

Ints = NDArray[np.int64]
T = TypeVar("T")

MAX_HALVINGS = 3


@contextlib.contextmanager
def memory_faults_told() -> Iterator[None]:
    """Turn a device's or an allocator's lack of memory into `RunError` with cause ``oom``."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise _too_little(error) from error


class MicroBatches:
    """How many tokens go through the model at once: as many as suit the device, fewer once memory has run out.

    A step or an evaluation that runs out of memory is repeated with micro-batches of half the size, which they keep for
    the rest of the item. A step still sees the same molecules and the same normalisation of its loss.
    """

    def __init__(self, device: Device, measured: dict[str, Any] | None = None) -> None:
        self.device = device
        self.packing = device.packing
        self.halvings = 0
        self._measured = {} if measured is None else measured

    @classmethod
    def of(cls, model: ModelSpec, device: Device, measured: dict[str, Any] | None = None) -> MicroBatches:
        """Those that suit a model on a device: where padding is cheap, fewer cuts pay."""
        micro, packing = cls(device, measured), device.packing
        cost = padding_cost(model, device.torch)
        micro.packing = Packing(packing.token_budget, round(packing.pass_cost / cost))
        return micro

    def run(
        self,
        indices_B: Ints,
        lengths_N: NDArray[np.integer],
        work: Callable[[Sequence[Ints]], T],
        undo: Callable[[], None] = lambda: None,
    ) -> T:
        """What ``work`` gives for the molecules, cut into micro-batches that memory holds.

        Args:
            indices_B: the molecules.
            lengths_N: tokens of each molecule of the set.
            work: called with the micro-batches; it is called again if memory runs out.
            undo: called before that, to bring everything back to where ``work`` began.

        Raises:
            RunError: with cause ``oom`` if memory runs out again after `MAX_HALVINGS` halvings.
        """
        while True:
            batches = cut(indices_B, lengths_N, self.packing)
            try:
                return work(batches)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batches, lengths_N, error)
            # outside the handler: the error's traceback held on to the tensors that filled the memory
            undo()
            gc.collect()
            if self.device.name == "cuda":
                torch.cuda.empty_cache()

    def go_on_from(self, halvings: int, token_budget: int) -> None:
        """Take over what an earlier attempt had to find out."""
        if halvings:
            self._use(halvings, token_budget)

    def _halve(self, batches: Sequence[Ints], lengths_N: NDArray[np.integer], error: Exception) -> None:
        if self.halvings == MAX_HALVINGS:
            raise _too_little(error, self) from error
        largest = max((len(batch_B) * int(lengths_N[batch_B].max()) for batch_B in batches), default=1)
        # half of what was really tried: short batches may lie far below the budget
        self._use(self.halvings + 1, max(1, min(largest, self.packing.token_budget) // 2))

    def _use(self, halvings: int, token_budget: int) -> None:
        self.halvings, self.packing = halvings, Packing(token_budget, self.packing.pass_cost)
        self._measured["micro_batch_halvings"] = halvings


def _too_little(error: BaseException, tried: MicroBatches | None = None) -> RunError:
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    also = ""
    if tried is not None and tried.halvings:
        also = f", with micro-batches halved {tried.halvings} times to {tried.packing.token_budget:,} tokens too"
    return RunError(
        f"the model needs more memory than there is ({first_line}){also}; take a smaller model or a larger device",
        "oom",
    )
