"""Optuna's journal as a projection of the ledger, for optuna-dashboard: one study per task, the cell as parameters.

It is written anew when a driver starts and grows as trials end; deleting it loses nothing. No ask ever reads it, and
whatever becomes of it, the sweep goes on.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.paths import SweepPaths, working_folder
from chembench.specs import Cell
from chembench.sweep.cells import control_cells, grid_cells
from chembench.sweep.space import Space
from chembench.sweep.state import Asked, ItemRecord, ItemStatus, SweepState
from chembench.sweep.study import distribution
from chembench.tracking.border import TrackingError, border

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

at_the_border = border("optuna")


class OptunaJournal:
    """Keeps ``optuna.journal`` up to date while a driver is at work; never raises."""

    def __init__(self, paths: SweepPaths, space: Space, say: Callable[[str], None] = lambda line: None) -> None:
        """Begin.

        Args:
            paths: the sweep's folder; no other driver is at work in it.
            space: of the sweep.
            say: is told, once, that the journal cannot be written.
        """
        self._paths, self._space, self._say = paths, space, say
        self._added: dict[tuple[str, int], tuple[int, ItemStatus]] = {}
        self._bytes = -1
        self._writer: _Writer | None = None
        self._is_broken = False

    def update(self, state: SweepState) -> None:
        """Add the search trials that have come to their end since the last call."""
        if self._is_broken:
            return
        try:
            self._update(state)
        except TrackingError as error:
            self._is_broken = True
            self._say(
                f"the trials that end from now on are not written for optuna-dashboard: {error}; "
                "the sweep goes on, `chembench sync` writes them all"
            )

    @at_the_border
    def _update(self, state: SweepState) -> None:
        ended = {(point.study, point.ordinal): (point, item) for point, item in _ended(state)}
        now = {place: (item.attempt, item.status) for place, (_, item) in ended.items()}
        if self._writer is None or not self._stands(now):
            _remove(self._paths.journal)
            self._writer, self._added = _Writer(self._paths.journal, self._space), {}
        for place, (point, item) in ended.items():
            if place not in self._added:
                self._writer.add(state, point, item)
        self._writer.flush()
        self._added, self._bytes = now, self._size()

    def _stands(self, now: Mapping[tuple[str, int], tuple[int, ItemStatus]]) -> bool:
        """Whether what was written is there and still right: a trial may be retried, which Optuna never changes."""
        return self._size() == self._bytes and all(now.get(place) == told for place, told in self._added.items())

    def _size(self) -> int:
        return self._paths.journal.stat().st_size if self._paths.journal.is_file() else -1


@at_the_border
def write_journal(paths: SweepPaths, space: Space, state: SweepState) -> int:
    """Write ``optuna.journal`` anew and whole; the number of trials in it.

    Raises:
        TrackingError: if Optuna or the disk fails.
    """
    ended = list(_ended(state))
    with working_folder(paths.root, paths.journal.name) as folder:
        part = folder / paths.journal.name
        writer = _Writer(part, space)
        for point, item in ended:
            writer.add(state, point, item)
        writer.flush()
        _remove(paths.journal)
        part.replace(paths.journal)
    return len(ended)


def journal_problem(paths: SweepPaths, space: Space, state: SweepState) -> str | None:
    """In what the journal differs from the ledger, or none; nothing is changed."""
    expected: dict[str, list[Any]] = {}
    describe = _Trials(space)
    for point, item in _ended(state):
        expected.setdefault(study_name(state, item.spec.task, item.spec.outer), []).append(
            _essence(describe.trial(point, item))
        )
    if not paths.journal.is_file():
        return "it is not there" if expected else None
    try:
        found = _read(paths.journal)
    except TrackingError as error:
        return f"it cannot be read: {error}"
    if found.keys() != expected.keys():
        return f"it holds the studies {sorted(found)}, the ledger has {sorted(expected)}"
    for name, trials in expected.items():
        there, wanted = (sorted(map(repr, some)) for some in (found[name], trials))
        if there != wanted:
            return f"study {name} holds {len(there)} trials, {len(set(there) & set(wanted))} of them as in the ledger"
    return None


def study_name(state: SweepState, task: str, outer: int = 0) -> str:
    """What the study of a task is called in the journal; where searches are nested, that of a task's outer fold."""
    return f"chembench/{state.name}/{state.space_digest}/{task}" + (f"/outer-{outer}" if outer else "")


@at_the_border
def _read(path: Path) -> dict[str, list[Any]]:
    """Study -> its trials, as `_essence` tells them."""
    from optuna.storages.journal import JournalFileBackend

    storage = _storage(JournalFileBackend(str(path)))
    return {
        study.study_name: [_essence(trial) for trial in storage.get_all_trials(study._study_id, deepcopy=False)]
        for study in storage.get_all_studies()
    }


def _essence(trial: FrozenTrial) -> tuple[Any, ...]:
    steps = sorted(trial.intermediate_values.items())
    return trial.state.name, trial.value, sorted(trial.params.items()), steps, sorted(trial.user_attrs.items())


def _remove(journal: Path) -> None:
    """The journal goes, and with it the lock that a killed writer leaves, which Optuna waits for 30 s."""
    from optuna.storages.journal._file import LOCK_FILE_SUFFIX

    journal.unlink(missing_ok=True)
    journal.with_name(journal.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)


def _storage(backend: Any) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.JournalStorage(backend)


def _one_writer() -> Any:
    """A backend that keeps its lines until they are asked for.

    Optuna's own locks, writes, syncs and reads again for each trial: 1,000 took 9.7 s on a loaded machine, here 0.3 s.
    """
    from optuna.storages.journal import BaseJournalBackend

    class Lines(BaseJournalBackend):
        def __init__(self) -> None:
            self.logs: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
            return self.logs[log_number_from:]

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.logs.extend(logs)

    return Lines()


class _Writer:
    """A journal that grows."""

    def __init__(self, path: Path, space: Space) -> None:
        self._path, self._lines, self._written = path, _one_writer(), 0
        self._storage = _storage(self._lines)
        self._trials = _Trials(space)
        self._studies: dict[str, Any] = {}

    def add(self, state: SweepState, point: Asked, item: ItemRecord) -> None:
        """Add one search trial that has ended."""
        import optuna

        name = study_name(state, item.spec.task, item.spec.outer)
        if name not in self._studies:
            self._studies[name] = optuna.create_study(study_name=name, storage=self._storage, direction="minimize")
        self._studies[name].add_trial(self._trials.trial(point, item))

    def flush(self) -> None:
        """Write what was added, in one piece."""
        new = self._lines.logs[self._written :]
        if new or not self._path.is_file():
            with self._path.open("ab") as file:
                file.write(b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in new))
        self._written += len(new)


class _Trials:
    """Search trials as Optuna's."""

    def __init__(self, space: Space) -> None:
        self._distributions = _distributions(space)

    def trial(self, point: Asked, item: ItemRecord) -> FrozenTrial:
        """The trial of one point that has ended."""
        from optuna.trial import TrialState, create_trial

        assert item.outcome is not None and item.cell is not None
        outcome = item.outcome
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        params = {**point.params, **_axes(item.cell)}
        values = dict(enumerate(outcome.objectives, start=1))
        value = outcome.metrics.get("objective") if outcome.status == "finished" else None
        if outcome.status == "pruned" and values:
            value = values[max(values)]
        return create_trial(
            state=states[outcome.status],
            value=value,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            intermediate_values=values,
            user_attrs={
                "uid": item.uid,
                "cell": item.cell.name,
                "study": point.study,
                "ordinal": point.ordinal,
                "cause": outcome.cause,
                "device_hours": outcome.measured.get("device_hours"),
            },
        )


def _ended(state: SweepState) -> Iterator[tuple[Asked, ItemRecord]]:
    for points in state.asked.values():
        for point in points.values():
            item = state.items[point.uid]
            if item.is_final and item.outcome is not None:
                yield point, item


def _axes(cell: Cell) -> Mapping[str, Any]:
    return {"architecture": cell.architecture, "size": cell.size, "molecules": cell.molecules, **cell.settings}


def _distributions(space: Space) -> dict[str, Any]:
    """Every value an axis or a searched parameter can take; control cells add ``molecules = 0``."""
    from optuna.distributions import CategoricalDistribution

    values: dict[str, dict[Any, None]] = {}
    for cell in [*grid_cells(space), *control_cells(space)]:
        for name, value in _axes(cell).items():
            values.setdefault(name, {})[value] = None
    searched = {name: distribution(p) for name, p in space.parameters.items() if p.is_searched}
    return {**searched, **{name: CategoricalDistribution(tuple(seen)) for name, seen in values.items()}}
