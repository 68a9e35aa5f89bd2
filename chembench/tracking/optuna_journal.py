"""Optuna's journal as a projection of the ledger, for optuna-dashboard: one study per task, the cell as parameters.

It is written anew when a driver starts and grows as trials end; deleting it loses nothing. No ask ever reads it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from chembench.paths import SweepPaths
from chembench.specs import Cell
from chembench.sweep.cells import control_cells, grid_cells
from chembench.sweep.ledger import Asked, ItemRecord, SweepState
from chembench.sweep.space import Space
from chembench.sweep.study import distribution


class OptunaJournal:
    """Keeps ``optuna.journal`` up to date with a sweep's state."""

    def __init__(self, paths: SweepPaths, space: Space) -> None:
        self._path = paths.journal
        self._space = space
        self._distributions = _distributions(space)
        self._studies: dict[str, Any] = {}
        self._added: set[tuple[str, int]] = set()
        self._path.unlink(missing_ok=True)

    def update(self, state: SweepState) -> None:
        """Add the search trials that have come to their end since the last call."""
        for task, point, item in _ended(state):
            if (point.study, point.ordinal) not in self._added:
                self._added.add((point.study, point.ordinal))
                self._study(state, task).add_trial(self._trial(point, item))

    def _study(self, state: SweepState, task: str) -> Any:
        if task not in self._studies:
            import optuna
            from optuna.storages.journal import JournalFileBackend

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = optuna.storages.JournalStorage(JournalFileBackend(str(self._path)))
            name = f"chembench/{state.name}/{state.space_digest}/{task}"
            self._studies[task] = optuna.create_study(study_name=name, storage=storage, direction="minimize")
        return self._studies[task]

    def _trial(self, point: Asked, item: ItemRecord) -> Any:
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


def _ended(state: SweepState) -> Iterator[tuple[str, Asked, ItemRecord]]:
    for points in state.asked.values():
        for point in points.values():
            item = state.items[point.uid]
            if item.is_final and item.outcome is not None:
                yield item.spec.task, point, item


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
