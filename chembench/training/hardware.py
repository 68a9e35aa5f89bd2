"""What a machine is and what it gave: memory, names, cost. Torch is imported only where a GPU is asked about."""

from __future__ import annotations

import contextlib
import errno
import platform
import resource
import socket
import sys
from pathlib import Path
from typing import Any, Literal

DeviceName = Literal["cpu", "cuda"]
_SIGNS_OF_NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "status_alloc_failed")
"""As torch's allocators, C++ and cuBLAS or cuDNN say it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed; most libraries have no class of their own for it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS_OF_NO_MEMORY)


def start_peak_memory(device: DeviceName) -> None:
    """Forget the peak seen so far, where that is possible: a GPU, or a process under Linux."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        # a process that may not write here keeps the peak of its whole life, which is only larger
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: DeviceName) -> float:
    """Most memory held since `start_peak_memory`, in MiB: allocated on a GPU, resident in the process on a CPU."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**20)
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 1024.0)


def hardware_name(device: DeviceName) -> str:
    """What a person calls the hardware."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_memory_mib(device: DeviceName) -> dict[str, float]:
    """All memory of the GPU in use, in MiB; nothing for a CPU, whose memory is shared with everybody else."""
    if device == "cpu":
        return {}
    import torch

    return {
        "device_memory_mib": round(
            torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**20, 1
        )
    }


def set_memory_share(device: DeviceName, fraction: float | None) -> None:
    """Let this process allocate a share of the GPU at most; none: all of it. A CPU's memory is not limited."""
    if device == "cuda":
        import torch

        torch.cuda.set_per_process_memory_fraction(1.0 if fraction is None else fraction)


def measured_cost(
    device: DeviceName, threads: int, wall_seconds: float, earlier_seconds: float = 0.0
) -> dict[str, Any]:
    """Where something was made and what it cost; a CPU thread counts as one device, as a GPU does.

    Args:
        device: what it ran on.
        threads: of the CPU.
        wall_seconds: that this attempt took.
        earlier_seconds: that earlier attempts spent on what this one went on from; they cost too.
    """
    share = threads if device == "cpu" else 1
    return {
        "device": device,
        "device_name": hardware_name(device),
        "host": socket.gethostname(),
        "wall_seconds": round(wall_seconds, 3),
        "device_hours": round((wall_seconds + earlier_seconds) * share / 3600.0, 9),
        "peak_memory_mib": round(peak_memory_mib(device), 1),
        **device_memory_mib(device),
    }
