"""A sweep on disk and its items as objects: look at them, go on with them, carry one out here, repeat one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from chembench.errors import CAUSES, Cause, ConfigError, UnknownNameError
from chembench.paths import CachePaths, RunPaths, SweepPaths
from chembench.specs import BaselineSpec, Cell, Kind, Outcome, PretrainSpec, TrialSpec
from chembench.sweep.ledger import read_state
from chembench.sweep.progress import SweepStatus, status_of
from chembench.sweep.state import ItemRecord, ItemStatus, SweepState

if TYPE_CHECKING:
    from chembench.predictor import Predictor
    from chembench.report.board import Leaderboard
    from chembench.report.pretrain_board import PretrainBoard
    from chembench.report.rows import ResultRow
    from chembench.rerun import Rerun
    from chembench.sweep.progress import Failure


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep on disk; each call reads the ledger as it stands then."""

    root: Path

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths(self.root)

    @property
    def name(self) -> str:
        return self.root.name

    def state(self) -> SweepState:
        """The fold of the ledger as it stands now."""
        return read_state(self.paths)

    def begun(self) -> SweepState:
        """The state of a sweep whose first event is written.

        Raises:
            ConfigError: if there is none.
            DataError: if a later version wrote it, and this one does not know all that it says.
        """
        state = self.state()
        if not state.header:
            raise ConfigError(
                f"sweep '{self.name}' has not begun, its ledger holds nothing; give its `chembench sweep` command again"
            )
        from chembench.header import require_readable  # takes numpy along, which a list of spaces does without

        require_readable(state)
        return state

    # ------------------------------------------------------------------------------------------------- looking

    def status(self) -> SweepStatus:
        """Counts, failures and time left."""
        return status_of(self.state())

    def failures(self) -> list[Failure]:
        """What went wrong, the first root cause first, equal ones counted together."""
        from chembench.sweep.progress import failures_of

        return failures_of(self.state(), self.paths)

    @property
    def exit_code(self) -> int:
        """0 done, 3 finished with failed trials, 4 not finished."""
        status = self.status()
        if not status.finished:
            return 4
        return 3 if status.failures else 0

    def rows(self) -> list[ResultRow]:
        """One row per item, long form."""
        from chembench.report.rows import rows_from_state

        return rows_from_state(self.state())

    def leaderboards(self) -> dict[str, Leaderboard]:
        """Task type -> board."""
        from chembench.report.board import Leaderboard

        return {board.name: board for board in self.boards() if isinstance(board, Leaderboard)}

    def report(self, output: Path | None = None, *, with_runs: bool = True) -> list[Path]:
        """Write ``report.html``, ``report.md`` and figures into ``output``; of a running sweep what there is."""
        from chembench.report.page.write import report_sweep

        return report_sweep(self.begun(), self.paths, output, with_runs=with_runs)

    def pretrain_board(self) -> PretrainBoard:
        """Validation loss per architecture, size and scale."""
        from chembench.report.pretrain_board import pretrain_board
        from chembench.report.rows import rows_from_state

        state = self.state()
        return pretrain_board(rows_from_state(state), self.name, state.space_digest)

    def boards(self) -> list[Leaderboard | PretrainBoard]:
        """The leaderboards and the pre-training board, of one reading of the ledger."""
        from chembench.data.audit import read_audit
        from chembench.report.render import boards_from_state

        return list(boards_from_state(self.begun(), read_audit(self.paths)).boards)

    @property
    def tracking_uri(self) -> str:
        """Where the sweep's MLflow runs are."""
        from chembench.tracking.mlflow_sync import tracking_uri_of

        return tracking_uri_of(self.state(), self.paths)

    # --------------------------------------------------------------------------------------------------- items

    def find(self, prefix: str) -> str:
        """The uid that starts with ``prefix``.

        Raises:
            ConfigError: if none or several do.
        """
        return self._found(self.state(), prefix).uid

    def _found(self, state: SweepState, prefix: str) -> ItemRecord:
        if not isinstance(prefix, str):
            raise ConfigError(f"an item is found by its uid or the start of it, as text, got {prefix!r}; see rows.csv")
        uids = [uid for uid in state.items if uid.startswith(prefix)]
        if len(uids) != 1:
            what = "no item" if not uids else f"{len(uids)} items ({', '.join(sorted(uids)[:3])}...)"
            raise ConfigError(
                f"{what} of sweep '{self.name}' has a uid that starts with '{prefix}'; see rows.csv for all"
            )
        return state.items[uids[0]]

    def trial(self, uid_or_prefix: str) -> Trial:
        """One item, a trial or another, by its uid or the start of it.

        Raises:
            ConfigError: if none or several start so.
        """
        state = self.state()
        return Trial(self, self._found(state, uid_or_prefix), _cache_of(state))

    def trials(self, status: ItemStatus | None = None, kind: Kind | None = None) -> list[Trial]:
        """The items, all kinds among them, in the order in which the ledger names them.

        Args:
            status: leave out all others.
            kind: leave out all others.

        Raises:
            UnknownNameError: if there is no such status or kind.
        """
        for name, value, known in (("status", status, get_args(ItemStatus)), ("kind", kind, get_args(Kind))):
            if value is not None and value not in known:
                raise UnknownNameError(name, str(value), known)
        state = self.state()
        cache = _cache_of(state)
        found = (item for item in state.items.values() if status in (None, item.status) and kind in (None, item.kind))
        return [Trial(self, item, cache) for item in found]

    def failed(self, cause: Cause | None = None) -> list[Trial]:
        """The items that failed, of ``cause`` alone if one is given.

        Raises:
            UnknownNameError: if there is no such cause.
        """
        if cause is not None and cause not in CAUSES:
            raise UnknownNameError("cause", cause, CAUSES)
        failed = self.trials(status="failed")
        return [item for item in failed if item.outcome is not None and cause in (None, item.outcome.cause)]

    def show(self, prefix: str) -> dict[str, Any]:
        """Everything known of one item: specification, outcome, curves and folder."""
        return self.trial(prefix).as_data()

    def retry(self, cause: Cause | None = None, uids: Sequence[str] = (), *, show_progress: bool = True) -> Sweep:
        """Have failed items carried out again, and go on until the sweep is done; nothing is done if none has failed.

        Args:
            cause: of these items only; see `chembench.errors.CAUSES`.
            uids: of these only; the starts of uids will do. None: of all.
            show_progress: draw progress on the terminal.

        Raises:
            ConfigError: if one of ``uids`` is no failed item, or failed of another cause; nothing was begun then.
        """
        from chembench.driver import drive, going_on
        from chembench.sweep.retrying import require_failed

        wanted = [self.find(uid) for uid in uids] or None
        state = self.begun()
        require_failed(state, wanted or (), cause)
        if wanted or self.failed(cause):
            drive(going_on(self.paths, state, show_progress=show_progress), lambda engine: engine.retry(cause, wanted))
        return self

    def confirm(self, top: int, seeds: int, tasks: Sequence[str] = (), *, show_progress: bool = True) -> list[str]:
        """Confirm the best recipes on more head seeds, and go on until the sweep is done.

        Args:
            top: how many methods of each task, those with the best mean test score; baselines are left out.
            seeds: head seeds that each is to have in all, for every checkpoint and split.
            tasks: of these alone; all by default.
            show_progress: draw progress on the terminal.

        Returns:
            The units that were to have so many seeds, none if all have them; their lines are badged, for their test
            scores had singled them out.

        Raises:
            ConfigError: if a task has no complete line yet, or ``top`` or ``seeds`` is below 1.
            UnknownNameError: if there is no such task.
        """
        from chembench.confirming import confirm

        return confirm(self.paths, self.begun(), (top, seeds, tasks), show_progress=show_progress)

    # -------------------------------------------------------------------------------------------------- models

    def predictor(self, task: str | None = None, uid: str | None = None) -> Predictor:
        """The winner of a task by validation, or one item's kept model, ready to predict from SMILES.

        Raises:
            ConfigError: if the task is not clear, or no fitted model was kept.
        """
        from chembench.predictor import Predictor
        from chembench.training.fitted import FittedModel

        folder = self.model_folder(task, uid)
        return Predictor(FittedModel.load(folder, self.trial(folder.parents[1].name).checkpoint))

    def model_folder(self, task: str | None = None, uid: str | None = None) -> Path:
        """Folder of the fitted model that `predictor` loads."""
        from chembench.sweep.winners import winners

        state = self.begun()
        if uid is None:
            best = winners(state)
            tasks = list(state.header["tasks"])
            task = task or (tasks[0] if len(tasks) == 1 else None)
            if task is None or task not in tasks:
                raise ConfigError(f"sweep '{self.name}' has the tasks {', '.join(tasks)}; choose one with --task")
            if task not in best:
                raise ConfigError(
                    f"task '{task}' of sweep '{self.name}' has no finished confirm run with a kept model yet"
                )
            uid = best[task]
        item = self._found(state, uid)
        folder = self.paths.run(item.uid, max(item.attempt, 1)).model
        if not folder.is_dir():
            raise ConfigError(
                f"item {item.uid} ({item.kind}) has no model; the first confirm replicate of a recipe keeps one, which "
                "gc deletes if another recipe wins"
            )
        return folder


def _cache_of(state: SweepState) -> CachePaths | None:
    cache_dir = state.header.get("places", {}).get("cache_dir")
    return CachePaths(Path(cache_dir)) if cache_dir else None


@dataclass(frozen=True, slots=True)
class Trial:
    """One item of a sweep - a trial, a pre-training or a baseline - as the ledger knew it when it was asked for."""

    sweep: Sweep
    _item: ItemRecord
    _cache: CachePaths | None

    @property
    def uid(self) -> str:
        return self._item.uid

    @property
    def kind(self) -> Kind:
        return self._item.kind

    @property
    def status(self) -> ItemStatus:
        return self._item.status

    @property
    def attempt(self) -> int:
        """The last one that was started; 0 before the first."""
        return self._item.attempt

    @property
    def spec(self) -> PretrainSpec | TrialSpec | BaselineSpec:
        """What is trained; its digest is the uid."""
        spec: PretrainSpec | TrialSpec | BaselineSpec = self._item.spec
        return spec

    @property
    def cell(self) -> Cell | None:
        """The cell it belongs to; none for a baseline."""
        return self._item.cell

    @property
    def labels(self) -> dict[str, Any]:
        """Task, study, ordinal, and the indices of the replicate."""
        return dict(self._item.labels)

    @property
    def outcome(self) -> Outcome | None:
        """What came out of the last attempt that ended."""
        return self._item.outcome

    @property
    def paths(self) -> RunPaths:
        """The files of its last attempt."""
        return self.sweep.paths.run(self.uid, max(self.attempt, 1))

    @property
    def folder(self) -> Path:
        """Where its last attempt is kept."""
        return self.paths.root

    @property
    def curves(self) -> list[dict[str, Any]]:
        """What was measured after each epoch; lines that cannot be read are left out."""
        from chembench.tracking.curves import read_curves

        return read_curves(self.paths.curves)[0]

    @property
    def predictions(self) -> Path | None:
        """A CSV with one line per molecule and target; none if there is none."""
        return self.paths.predictions if self.paths.predictions.is_file() else None

    @property
    def checkpoint(self) -> Path | None:
        """Folder of the pre-trained model that it made or started from, if it lies in the cache."""
        digest = self.spec.pretrained if isinstance(self.spec, TrialSpec) else self.uid
        if digest is None or self._cache is None or isinstance(self.spec, BaselineSpec):
            return None
        folder = self._cache.pretrained(digest)
        return folder if folder.is_dir() else None

    def as_data(self) -> dict[str, Any]:
        """Everything above, as JSON values."""
        return {
            "uid": self.uid,
            "kind": self.kind,
            "status": self.status,
            "attempt": self.attempt,
            "cell": self.cell.name if self.cell else None,
            "labels": self.labels,
            "spec": self.spec.model_dump(mode="json"),
            "outcome": self.outcome.model_dump(mode="json") if self.outcome else None,
            "curves": self.curves,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "predictions": str(self.predictions) if self.predictions else None,
            "folder": str(self.folder),
            "error": self.paths.error.read_text(errors="replace") if self.paths.error.is_file() else None,
        }

    def resume(self) -> Outcome:
        """Carry this item out here and now, its pre-training first if that is missing; the sweep counts it.

        A failed item is retried; of one that has ended otherwise the outcome is given back, and nothing is done.

        Raises:
            ConfigError: if another process drives the sweep, or it cannot be carried out.
        """
        from chembench.driver import carry_out, going_on

        state = self.sweep.begun()
        item = state.items[self.uid]
        if item.outcome is not None and item.status in ("finished", "pruned"):
            return item.outcome
        return carry_out(going_on(self.sweep.paths, state, show_progress=False), self.uid)

    def rerun(self, check: bool = True) -> Rerun:
        """Do what was done once more, in a folder of its own; it never counts as a result.

        Args:
            check: hold it against what is recorded.

        Raises:
            ConfigError: if the item has not ended well.
        """
        from chembench.rerun import rerun

        return rerun(self.sweep.paths, self.sweep.begun(), self.uid, check=check)
