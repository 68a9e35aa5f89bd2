"""Brings one MLflow store up to date with one sweep, in passes that may be cut, repeated or lost at any point."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chembench.errors import ChembenchError
from chembench.paths import SweepPaths
from chembench.sweep.ledger import SweepState
from chembench.tracking import spool
from chembench.tracking.sent import Seen, SentFile, only_one
from chembench.tracking.store import Store, TrackingError, open_store

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


@dataclass(slots=True)
class _Experiment:
    """One experiment that is open for writing."""

    id: str
    parent: str
    """Run id of the sweep's own run."""
    is_fresh: bool
    """The parent was created in this pass, hence it has no child that could be found."""


class Uploader:
    """Sends a sweep to a store; keeps the connection from pass to pass."""

    def __init__(self, paths: SweepPaths, tracking_uri: str) -> None:
        self._paths = paths
        self._uri = tracking_uri
        self._store: Store | None = None
        self._experiments: dict[spool.Group, _Experiment] = {}
        self._failures: Counter[str] = Counter()

    def bring_up_to_date(self, state: SweepState, *, final: bool, stop: Callable[[], bool]) -> SyncReport:
        """One pass over the sweep.

        Args:
            state: the ledger's fold.
            final: no driver is at work; runs that have not ended are closed as interrupted.
            stop: asked between two runs; true cuts the pass.
        """
        with only_one(self._paths.sending) as is_free:
            sent = SentFile(self._paths.sent, self._uri)
            if not is_free:
                return SyncReport(
                    0, self._unsent(state, sent, final), "another process is sending this sweep to mlflow"
                )
            try:
                store = self._store = self._store or open_store(self._uri, self._paths.root.parent)
                one_pass = _Pass(store, self._paths, state, sent, final, self._experiments, self._failures)
                one_pass.open_parents()
            except TrackingError as error:
                self._store, self._experiments = None, {}
                return SyncReport(0, self._unsent(state, sent, final), str(error))
            report = one_pass.run(stop)
            if report.unsent and not report.sent:
                self._store, self._experiments = None, {}
            return report

    def _unsent(self, state: SweepState, sent: SentFile, final: bool) -> int:
        records = list(spool.records(state, self._paths, final=final))
        return len(records) - sent.count_sent({r.uid: (r.attempt, r.status) for r in records})


@dataclass(slots=True)
class _Pass:
    """One pass: everything it needs, and what it got done."""

    store: Store
    paths: SweepPaths
    state: SweepState
    sent: SentFile
    final: bool
    experiments: dict[spool.Group, _Experiment]
    failures: Counter[str]
    changed: int = 0
    problem: str = ""

    def open_parents(self) -> None:
        """Find or create each experiment and the sweep's own run in it.

        Raises:
            TrackingError: if that fails; no item can be sent then.
        """
        for group in spool.groups_of(self.state):
            record = spool.parent_record(self.state, self.paths, group, final=self.final)
            known = self.experiments.get(group)
            if known is None:
                self.experiments[group] = self._open_experiment(group, record)
            else:
                known.is_fresh = False
            self._reopen_parent(self.experiments[group], record)

    def run(self, stop: Callable[[], bool]) -> SyncReport:
        """Send every run, then the served models, the boards and the state of the sweep itself."""
        jobs = sorted(self._jobs(), key=lambda job: self.failures[job[0]])  # what was refused must not block the rest
        left, in_a_row = len(jobs), 0
        for name, job in jobs:
            if stop():
                self.problem = self.problem or "sending to mlflow was stopped before its end"
                break
            try:
                job()
                left, in_a_row = left - 1, 0
            except TrackingError as error:
                self.problem = self.problem or str(error)
                self.failures[name] += 1
                in_a_row += 1
                if in_a_row == FAILURES_IN_A_ROW:
                    break
        return SyncReport(self.changed, left, self.problem)

    def _jobs(self) -> Iterator[tuple[str, Callable[[], None]]]:
        for record in spool.records(self.state, self.paths, final=self.final):
            yield record.uid, partial(self._send, record)
        if self.state.finished:
            from chembench.sweep.winners import winners

            for task, uid in winners(self.state).items():
                folder = self.paths.run(uid, self.state.items[uid].attempt).model
                if folder.is_dir():
                    yield f"model of {uid}", partial(self._serve, task, uid, folder)
        for group in self.experiments:
            yield spool.parent_uid(self.state.name, group), partial(self._close_parent, group)

    def _open_experiment(self, group: spool.Group, record: spool.RunRecord) -> _Experiment:
        experiment = self.store.experiment(f"{self.state.name}/{group}")
        found = self.store.find(experiment, self.state.name, record.uid)
        hint = self.sent.find("", record.uid)
        if found is not None:
            if hint is None or hint.run_id != found.run_id:
                self.sent.add("", record.uid, found)
            return _Experiment(experiment, found.run_id, is_fresh=False)
        run_id = self.store.create(experiment, record, record.tags)
        self.store.write(run_id, [], {}, record.params)
        self.store.write_files(run_id, record.artifacts)
        self.sent.add("", record.uid, Seen(run_id, 1, "running"))
        return _Experiment(experiment, run_id, is_fresh=True)

    def _reopen_parent(self, experiment: _Experiment, record: spool.RunRecord) -> None:
        seen = self._parent_seen(record.uid)
        if record.status == "running" and seen.status != "running":
            self.store.reopen(experiment.parent)
            self.store.write(experiment.parent, [], {"chembench.status": "running"}, {})
            self.sent.add("", record.uid, seen.with_(status="running"))

    def _parent_seen(self, uid: str) -> Seen:
        seen = self.sent.find("", uid)
        if seen is None:  # the file of hints was deleted between two passes
            group = next(group for group in self.experiments if spool.parent_uid(self.state.name, group) == uid)
            return Seen(self.experiments[group].parent, 1, "unknown", is_whole=False)
        return seen

    def _close_parent(self, group: spool.Group) -> None:
        """Bring boards and status of the sweep's own run up to date."""
        record = spool.parent_record(self.state, self.paths, group, final=self.final)
        parent, seen = self.experiments[group].parent, self._parent_seen(record.uid)
        files = spool.boards(self.paths, group)
        digest = spool.digest_of_files(files) if files else ""
        if digest != seen.extras:
            self.store.write_files(parent, files, "leaderboards")
            self.store.write(parent, [], {"chembench.boards": digest}, {})
            seen = seen.with_(extras=digest)
            self.sent.add("", record.uid, seen)
        if record.is_over and seen.status != record.status:
            self.store.write(parent, [], record.tags, {})
            self.store.close(parent, record.status, round(time.time() * 1000))
            self.sent.add("", record.uid, seen.with_(status=record.status))

    def _send(self, record: spool.RunRecord) -> None:
        """Create or continue the run of one item."""
        experiment = self.experiments[record.group]
        seen = self.sent.find(experiment.parent, record.uid)
        if seen is None and not experiment.is_fresh:
            seen = self.store.find(experiment.id, self.state.name, record.uid)
        if seen and record.is_over and (seen.attempt, seen.status) == (record.attempt, record.status):
            if not seen.is_whole:
                self.sent.add(experiment.parent, record.uid, seen)
            return
        is_known = seen is not None and seen.is_whole and seen.attempt == record.attempt
        if seen is None:
            seen = Seen(self.store.create(experiment.id, record, self._tags(record)), record.attempt, "running")
            new = spool.points(record)
        elif is_known:
            new = spool.points(record, after_epoch=seen.epoch)
            if not new and (record.status, seen.status) == ("running", "running"):
                return
        else:
            there = self.store.epochs(seen.run_id)
            new = [point for point in spool.points(record) if point.epoch not in there]
        if seen.status != "running":
            self.store.reopen(seen.run_id)
        self._write(record, seen.run_id, new, is_known=is_known and seen.status == "running")
        epoch = max([point.epoch for point in new], default=seen.epoch if is_known else -1)
        self.sent.add(
            experiment.parent,
            record.uid,
            Seen(seen.run_id, record.attempt, record.status, epoch, seen.extras),
        )
        self.changed += 1

    def _write(self, record: spool.RunRecord, run_id: str, new: list[spool.Point], *, is_known: bool) -> None:
        if not is_known:
            self.store.write_inputs(run_id, record.inputs)
        if not record.is_over:
            self.store.write(run_id, new, {} if is_known else self._tags(record), {} if is_known else record.params)
            return
        last = spool.Point(0, record.ended_ms, record.metrics)
        self.store.write(run_id, [*new, last], self._tags(record), record.params)
        self.store.write_files(run_id, record.artifacts)
        self.store.close(run_id, record.status, record.ended_ms)

    def _tags(self, record: spool.RunRecord) -> dict[str, str]:
        """The record's tags with the links to other runs, as far as those are known by now."""
        tags = {**record.tags, "mlflow.parentRunId": self.experiments[record.group].parent}
        home = self.experiments.get("pretrain")
        if record.pretrained and home:
            seen = self.sent.find(home.parent, record.pretrained)
            tags |= {"chembench.pretrain_run_id": seen.run_id} if seen else {}
        return tags

    def _serve(self, task: str, uid: str, folder: Path) -> None:
        """Log the winner's fitted model on its run, once."""
        experiment = self.experiments[spool.group_of(self.state.items[uid])]
        seen = self.sent.find(experiment.parent, uid)
        if seen is None:
            raise TrackingError(f"a model is served from a run in mlflow, that of '{uid}' was not sent; send again")
        if seen.extras:
            return
        try:
            from chembench.tracking.pyfunc import log_fitted_model

            place = log_fitted_model(self.store.client, experiment.id, seen.run_id, folder, name=task)
        except ChembenchError as error:
            raise TrackingError(str(error)) from error
        self.store.write(seen.run_id, [], {"chembench.model": place, "chembench.winner_of": task}, {})
        self.sent.add(experiment.parent, uid, seen.with_(extras=place))
