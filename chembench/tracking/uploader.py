"""Brings one MLflow store up to date with one sweep, in passes that may be cut, repeated or lost at any point.

A run carries the digest of what was sent as a tag that is written after everything else, and is ended last: whatever
was cut shows, and is sent again. Where it is not certain that every request was answered, the store is asked for all
runs of the sweep first; a run that a late request created a second time is moved to MLflow's bin then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from chembench.paths import SweepPaths
from chembench.sweep.state import SweepState
from chembench.tracking import spool
from chembench.tracking.border import TrackingError
from chembench.tracking.curves import Point
from chembench.tracking.inventory import take_inventory
from chembench.tracking.sent import Seen, SentFile, only_one
from chembench.tracking.store import Store, open_store
from chembench.tracking.wanted import Wanted

FAILURES_IN_A_ROW = 3
"""After so many the store is taken to be gone, and the pass ends: each further call could wait for its timeout."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one pass did."""

    sent: int
    """Runs that were created or changed."""
    unsent: int
    """Runs, boards and models that MLflow does not have yet as they are."""
    message: str = ""
    """Empty when everything was sent, otherwise why not, in one sentence."""
    closed: bool = False
    """The last pass of the process that followed, as its driver had asked for."""


class Uploader:
    """Sends a sweep to a store; keeps the connection from pass to pass."""

    def __init__(self, paths: SweepPaths, tracking_uri: str, *, verify: bool = False) -> None:
        """Prepare; nothing is asked yet.

        Args:
            paths: the sweep's folder.
            tracking_uri: any URI MLflow knows.
            verify: ask the store for every run, whatever was noted.
        """
        self._paths = paths
        self._uri = tracking_uri
        self._verify = verify
        self._is_certain = False
        """What is noted was held against the store, or need not be."""
        self._answered = True
        """No request has failed in this process; one that has may be carried out yet."""
        self._link: _Link | None = None
        self._failures: Counter[str] = Counter()

    def bring_up_to_date(self, state: SweepState, *, final: bool, stop: Callable[[], bool]) -> SyncReport:
        """One pass over the sweep.

        Args:
            state: the ledger's fold.
            final: no driver is at work; runs that have not ended are closed as interrupted.
            stop: asked between two runs; true cuts the pass.
        """
        with only_one(self._paths.sending) as is_free:
            wanted = Wanted(self._paths, state, SentFile(self._paths.sent, self._uri), final)
            if not is_free:
                return SyncReport(0, wanted.unsent(), "another process is sending this sweep to mlflow")
            try:
                one_pass = self._pass(wanted)
            except (TrackingError, OSError) as error:
                self._answered, self._link = False, None
                return SyncReport(0, wanted.unsent(), str(error))
            report = one_pass.run(stop)
            self._answered &= not one_pass.failed
            if self._answered:
                wanted.sent.mark()
            if report.unsent and not report.sent:
                self._link = None
            return report

    def _pass(self, wanted: Wanted) -> _Pass:
        if self._link is None:
            self._link = _Link(open_store(self._uri, self._paths.root.parent))
        if not self._is_certain and (self._verify or not wanted.sent.is_whole):
            _make_certain(self._link.store, wanted)
        self._is_certain = True
        self._link.open(wanted)
        return _Pass(self._link, wanted, self._failures)


def _make_certain(store: Store, wanted: Wanted) -> None:
    """Note what the store holds instead of what was noted; end what nobody will end, bin what is there twice."""
    inventory = take_inventory(store, wanted)
    for run in inventory.twice:
        store.bin(run.seen.run_id)
    for run in inventory.dead:
        store.close(run.seen.run_id, "interrupted", round(time.time() * 1000))
    wanted.sent.replace(inventory.known)


@dataclass(slots=True)
class _Link:
    """An open store with the experiments of one sweep."""

    store: Store
    experiments: dict[spool.Group, str] = field(default_factory=dict)
    new: set[spool.Group] = field(default_factory=set)
    """Experiments that were created here: what is not noted of them is not there."""

    def open(self, wanted: Wanted) -> None:
        """Find or create each experiment and the sweep's own run in it.

        Raises:
            TrackingError: if that fails; no item can be sent then.
        """
        for record in wanted.parents:
            if record.group not in self.experiments:
                self.experiments[record.group], is_new = self.store.experiment(wanted.experiment(record.group))
                self.new |= {record.group} if is_new else set()
            if not wanted.parent(record.group):
                seen = self.ask(wanted, record) or self._created(record)
                wanted.sent.add("", record.uid, seen)

    def _created(self, record: spool.RunRecord) -> Seen:
        run_id = self.store.create(self.experiments[record.group], record, record.tags)
        return Seen(run_id, record.attempt, "running")

    def ask(self, wanted: Wanted, record: spool.RunRecord) -> Seen | None:
        """How far the run of ``record`` has come, by MLflow itself."""
        if record.group in self.new:
            return None
        identity = {"sweep_id": spool.sweep_id(wanted.paths), "trial_uid": record.uid}
        runs = self.store.runs(self.experiments[record.group], **identity)
        noted = wanted.sent.run_ids()
        for run in (runs := sorted(runs, key=lambda run: run.seen.run_id not in noted))[1:]:
            self.store.bin(run.seen.run_id)
        return runs[0].seen if runs else None


@dataclass(slots=True)
class _Pass:
    """One pass: everything it needs, and what it got done."""

    link: _Link
    wanted: Wanted
    failures: Counter[str]
    """Job -> how often it failed in this process."""
    changed: int = 0
    problem: str = ""
    failed: set[str] = field(default_factory=set)

    def run(self, stop: Callable[[], bool]) -> SyncReport:
        """Send the sweep's own runs, every item and the served models; what has ended closes last."""
        jobs = sorted(self._jobs(), key=lambda job: self.failures[job[0]])  # what was refused must not block the rest
        in_a_row = 0
        for name, job in jobs:
            if stop():
                self.problem = self.problem or "sending to mlflow was stopped before its end"
                break
            try:
                job()
                in_a_row = 0
            except (TrackingError, OSError, ValueError) as error:
                self.problem = self.problem or str(error)
                self.failures[name] += 1
                self.failed.add(name)
                in_a_row += 1
                if in_a_row == FAILURES_IN_A_ROW:
                    break
        return SyncReport(self.changed, self.wanted.unsent(self.failed), self.problem)

    def _jobs(self) -> Iterator[tuple[str, Callable[[], None]]]:
        wanted = self.wanted
        for record in wanted.parents:
            if not record.is_over:
                yield record.uid, partial(self._send, record)
        for record in wanted.items:
            yield record.uid, partial(self._send, record)
        for task, record, folder in wanted.models():
            yield f"model of {record.uid}", partial(self._serve, task, record, folder)
        for record in wanted.parents:
            if record.is_over:
                yield record.uid, partial(self._send, record)

    def _seen(self, record: spool.RunRecord) -> Seen | None:
        """What is noted of a run; what MLflow says, where nothing is noted or a request has failed."""
        noted = self.wanted.find(record)
        return noted if noted and not self.failures[record.uid] else self.link.ask(self.wanted, record) or noted

    def _send(self, record: spool.RunRecord) -> None:
        """Create or continue the run of one item, or of the sweep itself."""
        seen, wanted = self._seen(record), self.wanted
        is_said = wanted.is_sent(record, seen)
        if seen and is_said and record.is_over:
            return
        epochs = spool.points_of(record)
        last = max((point.epoch for point in epochs), default=-1)
        if seen and is_said and seen.epoch is not None and last <= seen.epoch:
            return
        ended_ms = max([record.ended_ms, *(point.at_ms for point in epochs)])
        finals = [Point(record.attempt - 1, ended_ms, record.metrics)] if record.metrics else []
        run_id = self._running(record, seen)
        new, earlier = self._missing(record, seen, epochs, finals)
        if not is_said:
            self._write(record, run_id, new, ended_ms)
        elif new:
            self.link.store.write(run_id, new, {}, {})
        digest, model = record.digest(wanted.links(record)), seen.model if seen else ""
        now = Seen(run_id, record.attempt, record.status, digest, last, earlier, model)
        wanted.sent.add(wanted.above(record), record.uid, now)
        self.changed += not record.is_sweep and (bool(new) or not is_said)

    def _running(self, record: spool.RunRecord, seen: Seen | None) -> str:
        """Id of the run, which is open for writing: one that shows as ended must be whole."""
        store = self.link.store
        if seen is None:
            tags = {**record.tags, **self.wanted.links(record)}
            return store.create(self.link.experiments[record.group], record, tags)
        if seen.status != "running":
            store.reopen(seen.run_id)
        return seen.run_id

    def _missing(
        self, record: spool.RunRecord, seen: Seen | None, epochs: list[Point], finals: list[Point]
    ) -> tuple[list[Point], int]:
        """What MLflow does not have of a run's metrics, and the last epoch that it has of earlier attempts.

        It is asked where the notes do not tell: a point that is there already would be there twice.
        """
        if seen is None:
            return [*epochs, *finals], -1
        if seen.epoch is None or self.failures[record.uid]:
            there = self.link.store.written(seen.run_id)
            return _without([*epochs, *finals], there), max((step for _, step, _ in there), default=-1)
        is_same = seen.attempt == record.attempt
        earlier = seen.earlier if is_same else max(seen.epoch, seen.earlier)
        new = [point for point in epochs if not is_same or point.epoch > seen.epoch]
        if any(point.epoch <= earlier for point in new):
            new = _without(new, self.link.store.written(seen.run_id))
        return [*new, *finals], earlier

    def _write(self, record: spool.RunRecord, run_id: str, points: list[Point], ended_ms: int) -> None:
        """Everything of a run; what says that it is whole comes last."""
        store, links = self.link.store, self.wanted.links(record)
        if record.inputs:
            store.write_inputs(run_id, record.inputs)
        if record.is_over or record.is_sweep:
            store.write_files(run_id, record.artifacts)
            store.write_files(run_id, record.boards, "leaderboards")
        tags = {**record.tags, **links, "chembench.digest": record.digest(links)}
        store.write(run_id, points, tags, record.params)
        if record.is_over:
            store.close(run_id, record.status, ended_ms)

    def _serve(self, task: str, record: spool.RunRecord, folder: Path) -> None:
        """Log the winner's fitted model on its run, once."""
        seen = self.wanted.find(record)
        if seen is None:
            raise TrackingError(
                f"a model is served from a run in mlflow, that of '{record.uid}' was not sent; send again"
            )
        if seen.model:
            return
        from chembench.tracking.pyfunc import log_fitted_model

        experiment = self.link.experiments[record.group]
        place = log_fitted_model(self.link.store, experiment, seen.run_id, folder, name=task)
        self.link.store.write(seen.run_id, [], {"chembench.model": place}, {})
        self.wanted.sent.add(self.wanted.above(record), record.uid, seen.with_(model=place))


def _without(points: list[Point], there: frozenset[tuple[str, int, float]]) -> list[Point]:
    left = [replace(p, values={k: v for k, v in p.values.items() if (k, p.epoch, v) not in there}) for p in points]
    return [point for point in left if point.values]
