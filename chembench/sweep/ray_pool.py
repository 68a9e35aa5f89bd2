"""Preparation spread over a Ray cluster: molecules go out, what is computed of them comes back.

Nodes need neither a common folder nor a storage for it, as the driver alone writes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chembench.chem.descriptors import rdkit_version
from chembench.chem.pool import AHEAD, HERE, Item, Result, in_order, only_one
from chembench.errors import ChembenchError, ConfigError, RunError
from chembench.sweep.ray_cluster import cluster, live_nodes
from chembench.sweep.ray_room import LOOK_SECONDS, Patience
from chembench.sweep.running import NODE_SECONDS, check_fits
from chembench.sweep.space import ResourceShape

ONE_CPU = ResourceShape(cpus=1)
"""What a task takes."""
TRIES = 4
"""How often a task may be lost with its worker or node: one that every worker dies of is told, not tried for ever."""


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Tasks of one CPU each, on all nodes of a cluster; a `chembench.chem.pool.Pool`."""

    address: str
    """``auto`` or ``host:port`` of the cluster that this machine is a node of."""
    log: Path | None = None
    """File for what Ray prints; none: standard error."""
    say: Callable[[str], None] = lambda line: None
    """Told what is waited for."""
    node_seconds: float = NODE_SECONDS
    """How long a node is waited for, once none is alive any more."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[tuple[Item, Result]]:
        """See `chembench.chem.pool.Pool.map`; a single item is worked on here.

        Raises:
            ConfigError: if the cluster cannot be joined, has no CPU, or a node has another RDKit than this machine.
            RunError: if workers die of it again and again, or no node is left.
        """
        is_one, items = only_one(items)
        if is_one:
            yield from HERE.map(work, items)
            return
        with cluster(self.address, self.log):
            import ray

            check_fits([ONE_CPU], live_nodes().values())
            task: Any = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_carried_out)
            given = ray.put(work)
            patience = Patience(self.node_seconds, self.say)

            def begin(item: Item) -> Any:
                return task.remote(given, rdkit_version(), item)

            yield from in_order(items, begin, lambda begun: _ended(begun, patience), lambda: AHEAD * _cpus())


def _cpus() -> int:
    return int(sum(node.get("CPU", 0.0) for node in live_nodes().values()))


def _carried_out(work: Callable[[Item], Result], rdkit: str, item: Item) -> Result:
    """``work`` on ``item``, on a node; values differ between releases of RDKit."""
    if rdkit_version() != rdkit:
        raise ConfigError(
            f"every node must have the RDKit of this machine, {rdkit}, {socket.gethostname()} has {rdkit_version()}; "
            "install the same there, or prepare without the cluster once (--ray-address local)"
        )
    return work(item)


def _ended(begun: Any, patience: Patience) -> Any:
    """What came of a task, however long it takes, as long as a node is alive."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    while not ray.wait([begun], timeout=LOOK_SECONDS)[0]:
        if _cpus():
            patience.end()
        else:
            patience.wait(ONE_CPU)
    patience.end()
    try:
        return ray.get(begun)
    except RayTaskError as error:
        if isinstance(error.cause, ChembenchError):
            raise error.cause from None
        raise _not_done(error.cause) from error
    except RayError as error:
        raise _not_done(error) from error


def _not_done(error: BaseException) -> RunError:
    told = " ".join(str(error).split())
    return RunError(
        f"nodes of the cluster must prepare molecules, they did not ({type(error).__name__}: {told}); give them the "
        "memory and the chembench of this machine, or prepare without them once (--ray-address local); "
        "what is finished is kept",
        "worker-lost",
    )
