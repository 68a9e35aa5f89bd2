"""What every runner is told, and what it checks before the first item starts."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chembench.errors import ConfigError
from chembench.sweep.space import ResourceShape

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a sweep is run; nothing here changes a result."""

    ray_address: str = "local"
    """``local`` starts Ray on this machine; ``auto``, ``host:port`` or ``ray://`` joins a running cluster."""
    max_concurrent: int | None = None
    """Items in flight at most; none: as many as the resources hold."""
    temp_dir: Path | None = None
    """Where Ray keeps its files when it is started here."""
    stop: Callable[[], bool] = lambda: False
    """Asked between items: whether to hand out no more work."""


def check_fits(shapes: Iterable[ResourceShape], nodes: Iterable[Mapping[str, float]]) -> None:
    """Hold what items need against what the largest node has.

    Args:
        shapes: one per kind of item.
        nodes: resources of each live node, keys ``CPU`` and ``GPU``.

    Raises:
        ConfigError: if no node can hold an item; Ray would wait for ever.
    """
    nodes = list(nodes)
    cpus, gpus = (max((node.get(key, 0.0) for node in nodes), default=0.0) for key in ("CPU", "GPU"))
    problems = set()
    for shape in shapes:
        if shape.gpus and not gpus:
            problems.add(
                f"space asks for {shape.gpus:g} GPU per item, none is visible; "
                "choose a CPU space such as quickstart, or --set resources.gpus=0"
            )
        elif not any(shape.cpus <= n.get("CPU", 0.0) and shape.gpus <= n.get("GPU", 0.0) for n in nodes):
            problems.add(
                f"no node can hold an item of {shape.cpus:g} CPU and {shape.gpus:g} GPU, "
                f"the largest has {cpus:g} CPU and {gpus:g} GPU; lower [resources]"
            )
    if problems:
        raise ConfigError(sorted(problems))


def local_node(with_gpu: bool) -> dict[str, float]:
    """What this machine offers; torch is asked for GPUs only if the space wants one."""
    node = {"CPU": float(len(os.sched_getaffinity(0)))}
    if with_gpu:
        import torch

        node["GPU"] = float(torch.cuda.device_count())
    return node


def require_reachable(ray_address: str) -> None:
    """Make sure that something listens where a cluster is said to be; Ray itself would try for half a minute.

    Raises:
        ConfigError: if nothing does, or the port is no number.
    """
    host, _, port = ray_address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # a word such as local or auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise no_ray(ray_address) from error


def no_ray(ray_address: str) -> ConfigError:
    """The error for a cluster that cannot be joined."""
    return ConfigError(
        f"ray must answer at '{ray_address}', it does not; correct --ray-address, give its RAY_AUTH_TOKEN if it asks "
        "for one, or leave --ray-address out"
    )


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
