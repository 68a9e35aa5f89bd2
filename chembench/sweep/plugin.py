"""The interface of a sweep for whoever runs it: ask for work, carry it out, tell the outcome.

::

    while not engine.done:
        work = engine.ask()                 # the next item that is ready, or none while others run
        engine.tell(run_item(work))         # anywhere, in any order, with any number in flight

Ray Tune, the serial runner and a foreign loop use exactly this. What is asked for depends on results, never on the
order, the time or the number of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chembench.config import stable_seed
from chembench.errors import ConfigError
from chembench.paths import CachePaths, SweepPaths
from chembench.specs import Cell, Kind, Outcome, TrialSpec, Work
from chembench.sweep.cells import control_cells, grid_cells, split_feasible
from chembench.sweep.inputs import Prepared
from chembench.sweep.ledger import ItemRecord, Ledger, SweepState
from chembench.sweep.parameters import Parameter
from chembench.sweep.resolve import Resolver, settings_of
from chembench.sweep.space import ResourceShape, Space
from chembench.sweep.study import Study
from chembench.sweep.units import Event, Unit, first_of

MAX_ATTEMPTS = 3
"""Attempts at an item whose worker was lost or preempted; other causes would only repeat.

An attempt that ended with its driver is not counted: that was not the item's doing."""

AGAIN = ("worker-lost", "preempted")
FIRST: tuple[Kind, ...] = ("confirm", "rescore", "search", "pretrain", "baseline")
"""Ready items are handed out in this order, so that cells are completed one after the other."""


class Engine:
    """One sweep: what is left to do, handed out item by item; every change goes through the ledger."""

    def __init__(self, space: Space, prepared: Prepared, cache: CachePaths, ledger: Ledger) -> None:
        """Take up the sweep where its ledger stands; results found in trial folders are folded in."""
        self.space = space
        self._ledger = ledger
        self._paths: SweepPaths = ledger.paths
        self._resolver = Resolver(space, prepared, cache)
        self.units = _units(space, self._resolver)
        self._watching: dict[str, list[Unit]] = {}
        self._fold_in_lost()
        self._fail_orphans()
        for event in _baseline_events(self._resolver, self.state):
            ledger.append(event)
        self._advance(self.units)
        self._finish()

    @property
    def state(self) -> SweepState:
        return self._ledger.state

    @property
    def done(self) -> bool:
        """Whether every item is in a final state and no unit can go on."""
        return all(item.is_final for item in self.state.items.values())

    def shape(self, kind: Kind) -> ResourceShape:
        """What an item of a kind needs from the machine."""
        return self.space.resources.shape(kind)

    def ask(self, fits: Callable[[ResourceShape], bool] = lambda shape: True) -> Work | None:
        """The next item that is ready and fits, marked as started; none if there is none now.

        Args:
            fits: whether the caller has room for an item of this shape at the moment.
        """
        for item in self._waiting():
            if self._is_ready(item) and fits(self.shape(item.kind)):
                return self._start(item)
        return None

    def tell(self, outcome: Outcome) -> bool:
        """Fold in what came out of an attempt.

        Returns:
            Whether it counted; a stale attempt and a second result of the same attempt do not.

        Raises:
            ConfigError: if a finished trial brings no objective.
        """
        item = self.state.items.get(outcome.uid)
        if item is None or item.status != "running" or item.attempt != outcome.attempt:
            return False
        if isinstance(item.spec, TrialSpec) and outcome.status == "finished" and "objective" not in outcome.metrics:
            raise ConfigError(
                f"a finished trial needs metrics['objective'], lower is better, got {sorted(outcome.metrics)} "
                f"for {item.uid}; tell it as failed if it has none"
            )
        self._record(item, outcome)
        if self.state.items[outcome.uid].status == "failed":
            self._fail_orphans()
        self._advance(self._watching.get(item.uid, ()))
        self._finish()
        return True

    # ----------------------------------------------------------------------------------------------- handing out

    def _waiting(self) -> list[ItemRecord]:
        waiting = [item for item in self.state.items.values() if item.status == "waiting"]
        return sorted(waiting, key=lambda item: (FIRST.index(item.kind), self._place(item)))

    def _place(self, item: ItemRecord) -> int:
        watching = self._watching.get(item.uid)
        return watching[0].order if watching else 0

    def _is_ready(self, item: ItemRecord) -> bool:
        needed = item.spec.pretrained if isinstance(item.spec, TrialSpec) else None
        return needed is None or self.state.items[needed].status == "finished"

    def _start(self, item: ItemRecord) -> Work:
        attempt = item.attempt + 1
        folder = self._paths.run(item.uid, attempt).root.resolve()
        self._ledger.append({"event": "started", "uid": item.uid, "attempt": attempt})
        return Work(
            uid=item.uid,
            attempt=attempt,
            spec=item.spec,
            inputs=self._resolver.inputs(item.spec),
            folder=str(folder),
            cell=item.cell,
            sweep=self.state.name,
            labels={key: value for key, value in item.labels.items() if value is not None},
            rungs=self._rungs(item),
            save_model=first_of("confirm", item),
            device="cuda" if self.shape(item.kind).gpus else "cpu",
        )

    def _rungs(self, item: ItemRecord) -> Any:
        if item.kind != "search":
            return None
        unit = next(u for u in self.units if u.study.name == item.labels["study"])
        return unit.rungs(self.state, int(item.labels["ordinal"]))

    # ------------------------------------------------------------------------------------------------- going on

    def _advance(self, units: Iterable[Unit]) -> None:
        for unit in list(units):
            while events := unit.advance(self.state):
                for event in events:
                    if event["event"] == "item" and event["uid"] in self.state.items:
                        continue  # a pre-training that two trials of one batch need
                    self._ledger.append(event)
                    if event["event"] == "item":
                        self._fail_if_orphaned(self.state.items[event["uid"]])
            for uid in unit.watched:
                watching = self._watching.setdefault(uid, [])
                if unit not in watching:
                    watching.append(unit)

    def _fail_if_orphaned(self, item: ItemRecord) -> bool:
        """Fail a waiting trial whose pre-training has failed."""
        needed = item.spec.pretrained if isinstance(item.spec, TrialSpec) else None
        if needed is None or item.status != "waiting" or self.state.items[needed].status != "failed":
            return False
        self._fail(item, self.state.items[needed])
        return True

    def _fail_orphans(self) -> None:
        """Fail every trial whose pre-training has failed, also one that an earlier driver left behind."""
        for item in list(self.state.items.values()):
            if self._fail_if_orphaned(item):
                self._advance(self._watching.get(item.uid, ()))

    def _fail(self, item: ItemRecord, pretrain: ItemRecord) -> None:
        assert pretrain.outcome is not None
        outcome = Outcome(
            uid=item.uid,
            attempt=item.attempt + 1,
            kind=item.kind,
            status="failed",
            cause=pretrain.outcome.cause,
            message=f"its pre-training {pretrain.uid} failed: {pretrain.outcome.message}",
        )
        self._ledger.append({"event": "started", "uid": item.uid, "attempt": outcome.attempt})
        self._ledger.append(
            {"event": "result", "uid": item.uid, "again": False, "outcome": outcome.model_dump(mode="json")}
        )

    def _record(self, item: ItemRecord, outcome: Outcome) -> None:
        """Write a result; an item whose worker was lost waits again, `MAX_ATTEMPTS` times in all."""
        again = outcome.status == "failed" and outcome.cause in AGAIN and item.losses + 1 < MAX_ATTEMPTS
        self._ledger.append(
            {"event": "result", "uid": item.uid, "again": again, "outcome": outcome.model_dump(mode="json")}
        )

    def _finish(self) -> None:
        if self.done and not self.state.finished:
            self._ledger.append({"event": "finished"})

    def _fold_in_lost(self) -> None:
        """Items that ran when an earlier driver ended: take their result if it is whole, else hand them out again."""
        for item in list(self.state.items.values()):
            if item.status != "running":
                continue
            outcome = read_outcome(self._paths.run(item.uid, item.attempt).result)
            if outcome is not None and outcome.uid == item.uid and outcome.attempt == item.attempt:
                self._record(item, outcome)
            else:
                self._ledger.append({"event": "lost", "uid": item.uid, "attempt": item.attempt})


def read_outcome(path: Path) -> Outcome | None:
    """The outcome in a ``result.json``, or none if it is not there or not whole."""
    try:
        return Outcome.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None


def _units(space: Space, resolver: Resolver) -> list[Unit]:
    if space.is_adaptive:
        axes = {name: axis for name, axis in space.axes.items() if axis.is_searched}
        pairs: list[tuple[str, Cell | None, str, dict[str, Parameter]]]
        _, infeasible = split_feasible(space, grid_cells(space), resolver.prepared.vocabulary)
        if infeasible:
            raise ConfigError(
                [
                    f"the sampler may draw every cell of space '{space.name}', {len(infeasible)} cannot be built; "
                    "change the choices under [model]",
                    *(f"{cell.name}: {why}" for cell, why in infeasible),
                ]
            )
        pairs = [(task, None, f"{task}", {**space.parameters, **axes}) for task in space.tasks]
    else:
        cells = [*grid_cells(space), *control_cells(space)]
        feasible, _ = split_feasible(space, cells, resolver.prepared.vocabulary)
        feasible.sort(key=lambda cell: stable_seed(space.seed, "cell", cell.name))
        pairs = []
        for cell in feasible:
            own = {key: Parameter(fixed=value) for key, value in settings_of(cell, "finetune").items()}
            recipe = {**space.parameters, **own}  # conditions may stand on the cell's own settings
            pairs += [(task, cell, f"{cell.name}/{task}", recipe) for task in space.tasks]
    return [
        Unit(
            name=name,
            task=task,
            cell=cell,
            study=Study(
                name, parameters, space.search.sampler, space.search.trials, space.search.ask_window, space.seed
            ),
            resolver=resolver,
            order=order,
        )
        for order, (task, cell, name, parameters) in enumerate(pairs)
    ]


def _baseline_events(resolver: Resolver, state: SweepState) -> list[Event]:
    space = resolver.space
    events: list[Event] = []
    for task in space.tasks:
        for name in space.controls.baselines:
            seeds = 1 if name == "constant" else space.confirm.head_seeds
            for split in range(space.confirm.splits):
                for seed in range(seeds):
                    spec = resolver.baseline(name, task, split, seed)
                    labels = {"task": task, "split": split, "head_seed": seed, "split_name": space.task_def(task).split}
                    if spec.digest not in state.items:
                        events.append(
                            {
                                "event": "item",
                                "uid": spec.digest,
                                "spec": spec.canonical(),
                                "cell": None,
                                "labels": labels,
                            }
                        )
    return events
