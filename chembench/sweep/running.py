"""What every runner is told, and what it checks before the first item starts."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chembench.errors import ChembenchError, ConfigError, DiskFullError, RunError, StorageError
from chembench.specs import Outcome, Work
from chembench.sweep.plugin import Engine
from chembench.sweep.space import ResourceShape
from chembench.sweep.stopping import Stopping, ask_to_stop
from chembench.transfer import Exchange

CONNECT_SECONDS = 10.0
NODE_SECONDS = 600.0
"""How long a node is waited for, once none is alive any more."""
RESERVE_MIB = 64
"""No work is handed out where less than this is free: what runs must be able to save its state."""


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a sweep is run; nothing here changes a result."""

    ray_address: str = "local"
    """``local`` starts Ray on this machine; ``auto`` or ``host:port`` joins the cluster that it is a node of."""
    max_concurrent: int | None = None
    """Items in flight at most; none: as many as the resources hold."""
    say: Callable[[str], None] = lambda line: None
    """Tells a person what the sweep waits for."""
    node_seconds: float = NODE_SECONDS
    """How long a node that can hold what is left is waited for, once none is alive any more."""
    stopping: Stopping = field(default_factory=Stopping)
    """How it ends before its time."""
    folders: tuple[Path, ...] = ()
    """What the sweep writes to; nothing is handed out while one of them has no space left."""
    log: Path | None = None
    """File for what Ray prints; none: standard error."""
    exchange: Exchange | None = None
    """By which workers elsewhere get what they read and give what they leave; none: they see the driver's folders."""


class Desk:
    """Between the engine and a runner: hands out work while there is reason to, takes in what came out."""

    def __init__(self, engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> None:
        self._engine, self._options, self._on_change = engine, options, on_change
        self._in_flight: dict[str, Work] = {}

    @property
    def is_closed(self) -> bool:
        """Whether no more work will be handed out."""
        return self._engine.done or self._options.stopping.requested

    def ask(
        self, fits: Callable[[ResourceShape], bool] = lambda shape: True, only: Collection[str] | None = None
    ) -> Work | None:
        """The next item, of ``only`` if that is given, if there is one that is ready, fits, and may be begun."""
        self._require_space()
        if self._engine.given_up is not None:
            self._options.stopping.request(RunError(self._engine.given_up))
        if self.is_closed:
            return None
        work = self._engine.ask(fits, only)
        if work is not None:
            self._in_flight[work.uid] = work
            if self._options.stopping.requested:  # a signal came while it was handed out
                self.stop_items()
            self._on_change()
        return work and self._sent_out(work)

    def _sent_out(self, work: Work) -> Work | None:
        if self._options.exchange is None:
            return work
        try:
            return self._options.exchange.hand_out(work)
        except (StorageError, DiskFullError) as error:
            self.leave(work, error)
            return None

    def take_in(self, work: Work) -> bool:
        """Bring what a worker elsewhere left into the sweep's folder.

        Returns:
            Whether that went well; if not the attempt is left to the next start, and this one ends.
        """
        try:
            if self._options.exchange is not None:
                self._options.exchange.take_in(work.uid, work.attempt)
        except (StorageError, DiskFullError) as error:
            self.leave(work, error)
            return False
        return True

    def leave(self, work: Work, reason: ChembenchError) -> None:
        """Tell nothing of an attempt, which the next start then takes up; this one ends with ``reason``."""
        del self._in_flight[work.uid]
        self._options.stopping.request(reason)

    def tell(self, outcome: Outcome) -> None:
        """Fold in what came out of an attempt."""
        del self._in_flight[outcome.uid]
        self._engine.tell(outcome)
        if outcome.measured.get("disk_full"):
            self._options.stopping.request(DiskFullError(outcome.message))
        self._on_change()

    def stop_items(self) -> int:
        """Ask every item in flight to keep its state and end; how many they are."""
        works = list(self._in_flight.values())
        for work in works:
            ask_to_stop(Path(work.folder))
        return len(works)

    def _require_space(self) -> None:
        for folder in self._options.folders:
            free = shutil.disk_usage(folder).free / 2**20
            if free < RESERVE_MIB:
                text = f"{RESERVE_MIB} MiB must be free where a sweep writes, {folder} has {free:.0f} MiB; "
                error = DiskFullError(f"{text}free some, then give the same command again")
                self._options.stopping.request(error)


@contextmanager
def desk(engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> Iterator[Desk]:
    """Where a runner gets its work, until the sweep is done or to be ended before its time.

    Args:
        engine: the sweep.
        options: how it is run.
        on_change: called after every start and end of an item.

    Raises:
        ChembenchError: what `Stopping.reason` says, if work is left at the end.
    """
    opened = Desk(engine, options, on_change)
    with options.stopping.while_running(opened.stop_items):
        yield opened
    if options.stopping.reason is not None and not engine.done:
        raise options.stopping.reason


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
        ConfigError: if nothing does, the port is no number, or it is an address of Ray Client.
    """
    if "://" in ray_address:  # Tune would carry the sweep's own process over to the cluster, where its ledger is not
        raise ConfigError(
            f"a ray cluster must be given as auto or host:port, got '{ray_address}'; "
            "make this machine a node of it by `ray start --address`, and give host:port"
        )
    host, _, port = ray_address.rpartition(":")
    if not host:
        return  # a word such as local or auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise no_ray(ray_address) from error


def no_ray(ray_address: str) -> ConfigError:
    """The error for a cluster that cannot be joined."""
    return ConfigError(
        f"ray must let this machine in at '{ray_address}', it does not; correct --ray-address, start a node of the "
        "cluster here, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to its token if it asks for one, "
        "or leave --ray-address out"
    )


def no_token(reason: str) -> ConfigError:
    """The error for a token of Ray's that is asked for and cannot be read."""
    return ConfigError(
        f"ray must find a token where RAY_AUTH_MODE says so, it does not ({reason}); set RAY_AUTH_TOKEN to the "
        "cluster's, or RAY_AUTH_TOKEN_PATH to a file that holds it"
    )


def ran_low(what: str, reason: str) -> RunError:
    """The error for a Ray that killed workers because the machine had no memory left for ``what``."""
    used = re.search(r"[\d.]+GB used / [\d.]+GB limit", reason)
    told = f" ({used[0]})" if used else ""
    return RunError(
        f"{what} needs memory, the machine ran low on it{told} and Ray ended workers; what is finished is kept: give "
        "the same command again when the machine has more to spare, or with a lower --max-concurrent",
        "worker-lost",
    )


def not_started(ray_address: str, error: Exception) -> RunError:
    """The error for a Ray that failed while it was started, or joined."""
    where = "on this machine" if ray_address == "local" else f"with the cluster at '{ray_address}'"
    reason = " ".join(str(error).split()).rstrip(".")
    return RunError(
        f"ray must come up {where}, it did not ({type(error).__name__}: {reason}); what is finished is kept: "
        "give the same command again when the machine has more to spare, or with --runner serial",
        "worker-lost",
    )
