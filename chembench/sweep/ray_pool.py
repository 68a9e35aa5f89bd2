"""Preparation spread over a Ray cluster: molecules go out, what is computed of them comes back.

Nodes need neither a common folder nor a storage for it, as the driver alone writes.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import chembench.chem
from chembench.chem.descriptors import rdkit_version
from chembench.chem.pool import AHEAD, HERE, Item, Result, in_order, only_one
from chembench.errors import ChembenchError, ConfigError, RunError
from chembench.sweep.ray_cluster import TRIES, cluster, live_nodes
from chembench.sweep.ray_room import LOOK_SECONDS, Patience
from chembench.sweep.running import NODE_SECONDS, ran_low
from chembench.sweep.space import ResourceShape

ONE_CPU = ResourceShape(cpus=1)
"""What a task takes."""
QUIET_SECONDS = 30.0
"""After so long without a result it is said that other work is waited for."""
WITHOUT = "begin the sweep with --ray-address local and interrupt it once items run"
"""How the same is prepared by this machine alone."""
LONGEST = 300
"""Characters of somebody else's error that are passed on."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Tasks of one CPU each, on all nodes of a cluster; a `chembench.chem.pool.Pool`."""

    address: str
    """``auto`` or ``host:port`` of the cluster that this machine is a node of."""
    log: Path | None = None
    """File for what Ray prints; none: standard error."""
    most: int | None = None
    """Tasks that are out at once; none: as many as keep all CPUs at work."""
    say: Callable[[str], None] = lambda line: None
    """Told what is waited for."""
    node_seconds: float = NODE_SECONDS
    """How long a node is waited for, while none is alive."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[tuple[Item, Result]]:
        """See `chembench.chem.pool.Pool.map`; a single item is worked on here.

        Raises:
            ConfigError: if the cluster cannot be joined, or a node has another chembench or RDKit than this machine.
            RunError: if workers die of it again and again, or no node is left.
        """
        is_one, items = only_one(items)
        if is_one:
            yield from HERE.map(work, items)
            return
        with cluster(self.address, self.log):
            import ray

            task: Any = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_carried_out)
            given, versions = ray.put(work), versions_here()
            out = _Out(self.say, Patience(self.node_seconds, self.say))
            yield from in_order(items, lambda item: task.remote(given, versions, item), out.end, self._ahead)

    def _ahead(self) -> int:
        wanted = AHEAD * _cpus()
        return wanted if self.most is None else min(wanted, self.most - 1)


def _cpus() -> int:
    return int(sum(node.get("CPU", 0.0) for node in live_nodes().values()))


@lru_cache(maxsize=1)
def versions_here() -> tuple[tuple[str, str], ...]:
    """What values hang on: RDKit's release, and the code that reads molecules."""
    code = hashlib.sha256()
    for file in sorted(Path(next(iter(chembench.chem.__path__))).glob("*.py")):
        code.update(file.read_bytes())
    return ("RDKit", rdkit_version()), ("chembench.chem", code.hexdigest()[:12])


def _carried_out(work: Callable[[Item], Result], versions: tuple[tuple[str, str], ...], item: Item) -> Result:
    """``work`` on ``item``, on a node."""
    for (name, wanted), (_, found) in zip(versions, versions_here(), strict=True):
        if found != wanted:
            raise ConfigError(
                f"every node must have the RDKit and the chembench.chem of this machine, {socket.gethostname()} has "
                f"{name} {found}, this machine {wanted}; install the same there, or {WITHOUT}"
            )
    return work(item)


class _Out:
    """Tasks that are out: waits for each, however long it takes, as long as a node is alive."""

    def __init__(self, say: Callable[[str], None], patience: Patience) -> None:
        self._say, self._patience = say, patience
        self._is_told = False

    def end(self, begun: Any) -> Any:
        """What came of a task."""
        self._wait(begun)
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        try:
            return ray.get(begun)
        except RayTaskError as error:
            if isinstance(error.cause, ChembenchError):
                raise error.cause from None
            raise _not_done(error.cause) from error
        except OutOfMemoryError as error:
            raise ran_low("preparing molecules", str(error)) from error
        except RayError as error:
            raise _not_done(error) from error

    def _wait(self, begun: Any) -> None:
        import ray

        since = time.monotonic()
        while not ray.wait([begun], timeout=LOOK_SECONDS)[0]:
            if not _cpus():
                self._patience.wait(ONE_CPU)
                continue
            self._patience.end()
            if not self._is_told and time.monotonic() - since > QUIET_SECONDS:
                self._is_told = True
                self._say(
                    "nothing has come back from the cluster for a while: its CPUs are slow, or have other work; waiting"
                )
        self._patience.end()


def _not_done(error: BaseException) -> RunError:
    told = " ".join(_COLOUR.sub("", str(error)).split())
    told = told if len(told) <= LONGEST else f"{told[:LONGEST]}..."
    return RunError(
        f"nodes of the cluster must prepare molecules, they did not ({type(error).__name__}: {told}); give them the "
        f"memory and the chembench of this machine, or {WITHOUT}; what is finished is kept",
        "worker-lost",
    )
