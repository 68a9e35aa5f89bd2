"""Keeps a sweep below a bound on disk space while it runs: its driver deletes what may go, as `retention` orders it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from chembench.errors import ConfigError, DataError
from chembench.holdings import Thing, attempt_things, checkpoints, size_of
from chembench.paths import CachePaths, SweepPaths
from chembench.register import Use, needs_of, registered, registering, stamp_of
from chembench.retention import Entry, Plan, bounded, delete, judged, judged_checkpoint
from chembench.sweep.state import SweepState

LOOK_SECONDS = 5.0
"""Time between two looks; a sweep of many items changes more often."""
OTHERS_SECONDS = 60.0
"""Time after which the other sweeps of the cache are read again, while the bound is not kept."""
SAID_AGAIN = 1.1
"""A bound that cannot be kept is told again when so many times more is needed."""


class Keeper:
    """The bound of one sweep. Its folder counts, and every checkpoint that its trials refer to."""

    def __init__(
        self,
        paths: SweepPaths,
        cache: CachePaths,
        keep_bytes: int,
        warn: Callable[[str], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Nothing is read yet.

        Args:
            paths: the sweep's folder; this process drives it.
            cache: where its checkpoints lie.
            keep_bytes: the bound.
            warn: told where the bound cannot be kept.
            look_seconds: time between two looks at the disk.
        """
        self._paths, self._cache, self._keep_bytes, self._warn = paths, cache, keep_bytes, warn
        self._look_seconds, self._looked = look_seconds, float("-inf")
        self._seen: dict[str, tuple[int, str]] = {}
        """Uid -> attempt and status when its folder was last measured."""
        self._things: dict[str, list[Thing]] = {}
        self._records: dict[str, int] = {}
        """Uid -> bytes of its folder that are never collected."""
        self._others: list[Use] = []
        """The other sweeps of the cache, as they were when last read."""
        self._others_read = float("-inf")
        self._stamp: list[tuple[str, int, int]] = []
        """Of the cache's sweeps when the others were last read for a deletion."""
        self._told = 0

    def after(self, state: SweepState) -> None:
        """Called on every change; looks at what changed since the last look, and deletes what is too much."""
        now = time.monotonic()
        if now - self._looked < self._look_seconds and not state.finished:
            return
        self._looked = now
        self._measure(state)
        if self._held > self._keep_bytes:
            self._evict(state)

    @property
    def _held(self) -> int:
        return sum(thing.bytes for things in self._things.values() for thing in things) + sum(self._records.values())

    def _measure(self, state: SweepState) -> None:
        """Look at the folders of the items that started or ended, and of those that run."""
        for item in state.items.values():
            now = (item.attempt, item.status)
            if item.attempt and (item.status == "running" or self._seen.get(item.uid) != now):
                self._seen[item.uid] = now
                self._look_at(item.uid)
        own = (self._paths.root, self._paths.leaderboards, self._paths.log)
        files = (file for folder in own if folder.is_dir() for file in folder.iterdir() if not file.is_dir())
        self._records[""] = sum(size_of(file) for file in files)

    def _look_at(self, uid: str) -> None:
        things = attempt_things(self._paths, uid)
        self._records[uid] = size_of(self._paths.trials / uid) - sum(thing.bytes for thing in things)
        self._things[uid] = [*things, *checkpoints(self._cache, [uid])]

    def _evict(self, state: SweepState) -> None:
        own = Use(self._paths, state, needs=needs_of(state))
        plan = self._plan(own, self._others)
        is_old = time.monotonic() - self._others_read > OTHERS_SECONDS
        if is_old or any(entry.what == "checkpoint" for entry in plan.goes):  # never deleted on old knowledge
            self._stamp = stamp_of(self._cache)
            self._read_others()
            plan = self._plan(own, self._others)
        gone = {entry.path for entry in plan.goes if self._delete(entry, own)}
        for uid, found in self._things.items():
            self._things[uid] = [thing for thing in found if thing.path not in gone]
        if plan.warning and plan.left > self._told * SAID_AGAIN:
            self._warn(f"warning: {plan.warning}")
            self._told = plan.left

    def _delete(self, entry: Entry, own: Use) -> bool:
        """Delete it, unless another sweep has come to use it; whether it counts as gone."""
        try:
            if entry.what != "checkpoint":
                delete(entry.path)
                return True
            with registering(self._cache):
                if (stamp := stamp_of(self._cache)) != self._stamp:
                    self._read_others()
                    self._stamp = stamp
                if any(use.may_use(entry.path.name) for use in self._others):
                    return False
                delete(entry.path)
        except (ConfigError, DataError) as error:  # no reason to end a sweep; it counts as gone until measured again
            self._warn(f"warning: {error}")
        return True

    def _read_others(self) -> None:
        self._others = [use for use in registered(self._cache, but=self._paths) if not use.is_gone]
        self._others_read = time.monotonic()

    def _plan(self, own: Use, others: Sequence[Use]) -> Plan:
        entries = [Entry("records", self._paths.root, sum(self._records.values()), False, "never collected")]
        for thing in (thing for found in self._things.values() for thing in found):
            is_shared = thing.what == "checkpoint"
            entries.append(judged_checkpoint(thing, [own], others) if is_shared else judged(thing, own))
        return Plan(bounded(entries, self._keep_bytes), self._keep_bytes)
