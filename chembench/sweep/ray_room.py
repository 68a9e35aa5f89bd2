"""What each node has free, kept by ourselves: Tune holds pending trials, and big ones block smaller ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chembench.errors import RunError
from chembench.sweep.space import ResourceShape

LOOK_SECONDS = 5.0
"""Longest time between two looks at which nodes are there."""
ROUNDING = 1e-9

Nodes = Mapping[str, Mapping[str, float]]
"""Live nodes by their id; resources under ``CPU`` and ``GPU``."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is taken to run; Ray may put it elsewhere, so this is an estimate."""

    node: str
    shape: ResourceShape
    gpus: tuple[int, ...]
    """Which of the node's GPUs; an item that takes a share has one of them."""


class Room:
    """Which items fit now, and which could if nothing else ran; follows nodes that die and join."""

    def __init__(
        self,
        look: Callable[[], Nodes],
        max_concurrent: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._max_concurrent, self._clock = look, max_concurrent, clock
        self._taken: dict[str, Place] = {}
        self._nodes: Nodes = {}
        self._looked_at = float("-inf")

    @property
    def nodes(self) -> Nodes:
        """The live nodes, as they were some seconds ago at most."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._nodes, self._looked_at = self._look(), self._clock()
        return self._nodes

    def fits(self, shape: ResourceShape) -> bool:
        """Whether an item of this shape has room now."""
        return self._place(shape) is not None

    def can_hold(self, shape: ResourceShape) -> bool:
        """Whether a live node is large enough for an item of this shape."""
        return any(shape.cpus <= n.get("CPU", 0.0) and shape.gpus <= n.get("GPU", 0.0) for n in self.nodes.values())

    def take(self, trial_id: str, shape: ResourceShape) -> None:
        """Book an item that fits."""
        place = self._place(shape)
        assert place is not None, "it was asked whether the item fits"
        self._taken[trial_id] = place

    def give_back(self, trial_id: str) -> None:
        """An item has ended."""
        self._taken.pop(trial_id, None)

    def _place(self, shape: ResourceShape) -> Place | None:
        """The first node that has room."""
        if self._max_concurrent is not None and len(self._taken) >= self._max_concurrent:
            return None
        for name, node in self.nodes.items():
            here = [place for place in self._taken.values() if place.node == name]
            cpus = node.get("CPU", 0.0) - sum(place.shape.cpus for place in here)
            gpus = _free_gpus(node, here, shape.gpus)
            if shape.cpus <= cpus + ROUNDING and gpus is not None:
                return Place(name, shape, gpus)
        return None


def _free_gpus(node: Mapping[str, float], here: list[Place], wanted: float) -> tuple[int, ...] | None:
    """GPUs of a node that hold what is wanted, the fullest first; none if they cannot."""
    if not wanted:
        return ()
    free = [1.0 - sum(min(1.0, p.shape.gpus) for p in here if gpu in p.gpus) for gpu in range(int(node.get("GPU", 0)))]
    suitable = [gpu for gpu, share in enumerate(free) if min(1.0, wanted) <= share + ROUNDING]
    count = max(1, round(wanted))
    return tuple(sorted(suitable, key=lambda gpu: free[gpu])[:count]) if len(suitable) >= count else None


class Patience:
    """How long a sweep waits for a node that can hold what is left of it."""

    def __init__(self, seconds: float, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._say, self._clock = seconds, say, clock
        self._since: float | None = None

    def wait(self, shape: ResourceShape) -> None:
        """Nothing runs, and no live node can hold an item of this shape.

        Raises:
            RunError: if that has been so for too long.
        """
        needed = f"a node with {shape.cpus:g} CPU and {shape.gpus:g} GPU is needed for what is left, none is alive"
        if self._since is None:
            self._since = self._clock()
            self._say(f"{needed}; waiting {self._seconds:g} s for one to join")
        elif self._clock() - self._since > self._seconds:
            text = f"{needed} for {self._seconds:g} s; start one and give the same command again, or lower [resources]"
            raise RunError(text, "worker-lost")

    def end(self) -> None:
        """Something runs, or fits again."""
        self._since = None
