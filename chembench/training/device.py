"""Where training runs: the device, its threads, its random numbers, its precision. Nothing is chosen in silence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from chembench.data.batches import Packing
from chembench.errors import ConfigError
from chembench.specs import Precision
from chembench.training.hardware import DeviceName


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is there, and how much it is given at once."""

    name: DeviceName
    packing: Packing
    """Micro-batches that suit it: large ones where a launch costs more than arithmetic."""
    check_every: int
    """Optimiser steps between looks at the loss; a look makes a GPU wait."""
    compiled: bool = False
    """Let torch compile the model of a pre-training: no gain on a CPU, on a GPU tried by `benchmarks/gpu.py` alone."""
    memory_share: float = 1.0
    """Of a GPU's memory, that the process may allocate; 1.0 where it is not shared out."""

    @property
    def torch(self) -> torch.device:
        return torch.device(self.name)


CPU = Device("cpu", Packing(token_budget=4096, pass_cost=256), check_every=1)
CUDA = Device("cuda", Packing(token_budget=32768, pass_cost=16384), check_every=16)


def resolve_device(name: DeviceName, memory_share: float | None = None) -> Device:
    """The device called ``name``.

    Args:
        name: of the device.
        memory_share: of a GPU, that the process may allocate; none: no limit.

    Raises:
        ConfigError: if a GPU is asked for and none is visible.
    """
    if name == "cpu":
        return CPU
    if not torch.cuda.is_available():
        raise ConfigError("the item asks for a gpu, none is visible; choose a CPU space: quickstart, full_grid_tiny")
    return CUDA if memory_share is None else replace(CUDA, memory_share=memory_share)


@contextlib.contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Run the block on ``threads`` threads: they decide the order of sums, so they belong to the specification."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with torch's generators started from ``seed``; they are as before afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def precision_set(precision: Precision, device: Device) -> Iterator[None]:
    """Run forward passes of the block in ``precision``; weights and sums stay in fp32."""
    with torch.autocast(device.name, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def generator_states(device: Device) -> list[torch.Tensor]:
    """States of the generators that training draws from: the CPU's, then that of the GPU in use."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device.name == "cuda" else [])]


def restore_generators(states: list[torch.Tensor], device: Device) -> None:
    """Set the generators to what `generator_states` gave; a GPU's state is left out where there is none."""
    torch.set_rng_state(states[0])
    if device.name == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1])
