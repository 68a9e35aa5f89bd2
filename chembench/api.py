"""What `import chembench` offers: read a space, plan it, sweep it, look at a sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.config import Spec
from chembench.errors import ConfigError
from chembench.paths import CachePaths, SweepPaths, default_cache, default_data_dir, safe_name
from chembench.registry import RUNNERS
from chembench.sweep.reading import SpaceInfo, read_space, shipped_spaces, space_file
from chembench.sweep.space import Space

if TYPE_CHECKING:
    from chembench.report.leaderboard import Leaderboard
    from chembench.report.pretrain_board import PretrainBoard
    from chembench.report.rows import ResultRow
    from chembench.sweep.ledger import SweepState
    from chembench.sweep.plan import Plan
    from chembench.sweep.plugin import Engine
    from chembench.training.fitted import FittedModel


def spaces() -> list[SpaceInfo]:
    """The spaces that come with chembench."""
    return shipped_spaces()


def load_space(name_or_path: str, overrides: Sequence[str] = ()) -> Space:
    """A checked space; see `chembench.sweep.reading.read_space`."""
    return read_space(name_or_path, overrides)


def space_text(name_or_path: str) -> str:
    """The TOML text of a space as it is written."""
    return space_file(name_or_path).read_text()


def make_plan(space: Space) -> Plan:
    """What a sweep over ``space`` would do and cost; reads neither corpus nor task files."""
    from chembench.sweep import plan

    return plan.make_plan(space)


class SweepStatus(Spec):
    """How far a sweep is, read from its ledger alone."""

    name: str
    counts: dict[str, dict[str, int]]
    """Kind of item -> status -> number."""
    left: int
    """Items known and not in a final state."""
    expected: int
    """Items that the whole sweep will have, as planned."""
    finished: bool
    failures: dict[str, int]
    """Cause -> failed items."""
    first_failure: str
    """Uid and message of the first failed item."""
    asked_twice: int
    eta_seconds: float | None
    """From the mean wall time per kind so far; none before the first result."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep on disk, looked at; nothing here changes it."""

    root: Path

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths(self.root)

    @property
    def name(self) -> str:
        return self.root.name

    def state(self) -> SweepState:
        """The fold of the ledger as it stands now."""
        from chembench.sweep.ledger import read_state

        return read_state(self.paths)

    def _begun(self) -> SweepState:
        state = self.state()
        if not state.header:
            raise ConfigError(
                f"sweep '{self.name}' has not begun, its ledger holds nothing; give its `chembench sweep` command again"
            )
        return state

    def status(self) -> SweepStatus:
        """Counts, failures and time left."""
        from chembench.sweep.progress import status_of

        return SweepStatus.model_validate(status_of(self.state()))

    def rows(self) -> list[ResultRow]:
        """One row per item, long form."""
        from chembench.report.rows import rows_from_state

        return rows_from_state(self.state())

    def leaderboards(self) -> dict[str, Leaderboard]:
        """Task type -> board."""
        from chembench.report.leaderboard import design_from_state, leaderboards

        state = self._begun()
        return {kind: board for kind, board in leaderboards(self.rows(), design_from_state(state)).items()}

    def pretrain_board(self) -> PretrainBoard:
        """Validation loss per architecture, size and scale."""
        from chembench.report.pretrain_board import pretrain_board

        return pretrain_board(self.rows(), self.name, self.state().space_digest)

    @property
    def tracking_uri(self) -> str:
        """Where the sweep's MLflow runs are."""
        return str(self.state().header.get("tracking_uri") or default_tracking_uri(self.root))

    @property
    def exit_code(self) -> int:
        """0 done, 3 finished with failed trials, 4 not finished."""
        status = self.status()
        if not status.finished:
            return 4
        return 3 if status.failures else 0

    def find(self, prefix: str) -> str:
        """The uid that starts with ``prefix``.

        Raises:
            ConfigError: if none or several do.
        """
        uids = [uid for uid in self.state().items if uid.startswith(prefix)]
        if len(uids) != 1:
            what = "no item" if not uids else f"{len(uids)} items ({', '.join(sorted(uids)[:3])}...)"
            raise ConfigError(
                f"{what} of sweep '{self.name}' has a uid that starts with '{prefix}'; see rows.csv for all"
            )
        return uids[0]

    def show(self, prefix: str) -> dict[str, Any]:
        """Everything known of one item: specification, outcome, curves and folder."""
        import json

        item = self.state().items[self.find(prefix)]
        run = self.paths.run(item.uid, max(item.attempt, 1))
        curves = run.curves.read_text().splitlines() if run.curves.is_file() else []
        return {
            "uid": item.uid,
            "kind": item.kind,
            "status": item.status,
            "attempt": item.attempt,
            "cell": item.cell.name if item.cell else None,
            "labels": item.labels,
            "spec": item.spec.model_dump(mode="json"),
            "outcome": item.outcome.model_dump(mode="json") if item.outcome else None,
            "curves": [json.loads(line) for line in curves],
            "folder": str(run.root),
            "error": run.error.read_text() if run.error.is_file() else None,
        }

    def predictor(self, task: str | None = None, uid: str | None = None) -> FittedModel:
        """The winner of a task by validation, or one item's kept model, ready to predict from SMILES.

        Raises:
            ConfigError: if the task is not clear, or no fitted model was kept.
        """
        from chembench.training.fitted import FittedModel

        return FittedModel.load(self.model_folder(task, uid))

    def model_folder(self, task: str | None = None, uid: str | None = None) -> Path:
        """Folder of the fitted model that `predictor` loads."""
        from chembench.sweep.winners import winners

        state = self._begun()
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
        item = state.items[self.find(uid)]
        folder = self.paths.run(item.uid, max(item.attempt, 1)).model
        if not folder.is_dir():
            raise ConfigError(
                f"item {item.uid} ({item.kind}) kept no model; the first confirm replicate of a recipe does"
            )
        return folder


def default_tracking_uri(root: Path) -> str:
    """SQLite beside the sweeps."""
    from chembench.tracking.mlflow_sync import default_tracking_uri as default

    return default(root)


def open_sweep(path_or_name: str | Path, out: str | Path = "sweeps") -> Sweep:
    """A sweep by folder, or by name under ``out``.

    Raises:
        ConfigError: if there is none.
    """
    for root in (Path(path_or_name), Path(out) / str(path_or_name)):
        if (root / "ledger.jsonl").is_file():
            return Sweep(root.resolve())
    raise ConfigError(
        f"no sweep '{path_or_name}', neither as a folder nor under {out}/; see the folders there, or --out"
    )


def run_sweep(  # noqa: PLR0913 - the options of the command, each by keyword
    space: Space,
    *,
    name: str | None = None,
    out: str | Path = "sweeps",
    runner: str = "ray",
    ray_address: str = "local",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    tracking_uri: str | None = None,
    max_concurrent: int | None = None,
    show_progress: bool = True,
    command: Sequence[str] | None = None,
) -> Sweep:
    """Run a sweep, or go on with it; what is done is not done again.

    Args:
        space: a checked space.
        name: of the sweep; the space's name by default.
        out: folder that holds sweeps.
        runner: ``ray`` or ``serial``; both give the same results.
        ray_address: ``local``, or the address of a running cluster.
        data_dir: raw task files; ``CHEMBENCH_DATA_DIR`` by default.
        cache_dir: prepared data and checkpoints; ``CHEMBENCH_CACHE_DIR`` by default.
        tracking_uri: of MLflow; SQLite beside the sweep by default.
        max_concurrent: items in flight at most.
        show_progress: draw progress on the terminal.
        command: how the sweep was called, for the record.

    Raises:
        ConfigError: if the sweep's folder holds another space, or resources are missing.
        DataError: if an input cannot be used.
    """
    from chembench.driver import Drive, drive

    RUNNERS.require(runner)
    paths = _sweep_paths(space, name, out)
    settings = Drive(
        space=space,
        paths=paths,
        cache=CachePaths(Path(cache_dir or default_cache()).resolve()),
        data_dir=Path(data_dir or default_data_dir()).resolve(),
        runner=runner,
        ray_address=ray_address,
        max_concurrent=max_concurrent,
        tracking_uri=tracking_uri,
        show_progress=show_progress,
        command=tuple(command or (Path(sys.argv[0]).name, *sys.argv[1:])),
    )
    drive(settings)
    return Sweep(paths.root)


@contextmanager
def open_engine(
    space: Space,
    *,
    name: str | None = None,
    out: str | Path = "sweeps",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> Iterator[Engine]:
    """A sweep for a loop of your own, instead of `run_sweep`; the boards come out the same.

    ::

        with open_engine(space) as engine:
            while not engine.done:
                work = engine.ask()                 # none while everything left waits for what is in flight
                engine.tell(run_item(work))         # chembench.trial.run_item, here or anywhere, in any order

    Args:
        space: a checked space.
        name: of the sweep; the space's name by default.
        out: folder that holds sweeps.
        data_dir: raw task files; ``CHEMBENCH_DATA_DIR`` by default.
        cache_dir: prepared data and checkpoints; ``CHEMBENCH_CACHE_DIR`` by default.

    Raises:
        ConfigError: if the sweep's folder holds another space, or another process drives it.
        DataError: if an input cannot be used.
    """
    from chembench.driver import Drive, opened

    settings = Drive(
        space=space,
        paths=_sweep_paths(space, name, out),
        cache=CachePaths(Path(cache_dir or default_cache()).resolve()),
        data_dir=Path(data_dir or default_data_dir()).resolve(),
        runner="none",
        ray_address="none",
        max_concurrent=None,
        tracking_uri=None,
        show_progress=False,
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
    )
    with opened(settings, lambda line: None) as engine:
        yield engine


def _sweep_paths(space: Space, name: str | None, out: str | Path) -> SweepPaths:
    return SweepPaths((Path(out) / safe_name("sweep", space.name if name is None else name)).resolve())


__all__ = [
    "Space",
    "SpaceInfo",
    "Sweep",
    "SweepStatus",
    "load_space",
    "make_plan",
    "open_engine",
    "open_sweep",
    "run_sweep",
    "space_text",
    "spaces",
]
