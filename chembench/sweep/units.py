"""One study from its first ask to its confirm runs, as a pure function of the ledger's state.

::

    search   `trials` asks in windows; a failed trial is replaced at most `replacements` times
    rescore  the best `rescore_top` recipes on new head seeds, by validation
    chosen   the best mean over those new seeds is *the* recipe
    opened   the test is opened for this cell, task and recipe
    confirm  crossed replicates of that recipe, each trained anew

A unit is a cell x task of a grid, or a task of an adaptive space. It never waits for a runner and never reads a clock:
`advance` says which events follow from the state, and the engine writes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chembench.config import digest_of
from chembench.specs import Cell, EarlierTrial, FinetuneSpec, PretrainSpec, Rungs, TrialKind, TrialSpec
from chembench.sweep.ledger import ItemRecord, SweepState
from chembench.sweep.parameters import Scalar
from chembench.sweep.resolve import Replicate, Resolver
from chembench.sweep.study import Study, Told, ask

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe of a finished search trial."""

    ordinal: int
    cell: Cell
    recipe: FinetuneSpec
    objective: float

    @property
    def key(self) -> str:
        return digest_of([self.cell.canonical(), self.recipe.canonical()])


@dataclass(slots=True)
class Unit:
    """One study and what follows from it."""

    name: str
    task: str
    cell: Cell | None
    """None in an adaptive space, where each point brings its own."""
    study: Study
    resolver: Resolver
    order: int
    """Place among the units; ties between ready items are broken by it."""
    watched: set[str] = field(default_factory=set)
    """Items whose end may let this unit go on."""

    def advance(self, state: SweepState) -> list[Event]:
        """The events that follow from ``state`` now; empty when the unit waits or is done."""
        return self._search(state) or self._rescore(state) or self._confirm(state)

    # ------------------------------------------------------------------------------------------------ search

    def _search(self, state: SweepState) -> list[Event]:
        points = state.asked.get(self.study.name, {})
        self.watched.update(point.uid for point in points.values())
        ordinal = len(points)
        if ordinal >= self._budget(state):
            return []
        before = range(self.study.block_start(ordinal))
        if not all(state.items[points[k].uid].is_final for k in before):
            return []
        params = ask(self.study, ordinal, self.told(state))
        cell = self._cell_of(params)
        recipe = self.resolver.recipe(cell, {k: v for k, v in params.items() if k in self.resolver.space.parameters})
        at = Replicate()
        spec = self.resolver.trial("search", cell, self.task, recipe, at)
        events = self._items(state, spec, cell, at, {"study": self.study.name, "ordinal": ordinal})
        return [
            *events,
            {"event": "asked", "study": self.study.name, "ordinal": ordinal, "uid": spec.digest, "params": params},
        ]

    def _budget(self, state: SweepState) -> int:
        points = state.asked.get(self.study.name, {})
        failed = sum(state.items[p.uid].status == "failed" for p in points.values())
        return self.study.trials + min(failed, self.resolver.space.search.replacements)

    def told(self, state: SweepState) -> list[Told]:
        """The trials of this study that are in a final state."""
        told = []
        for ordinal, point in sorted(state.asked.get(self.study.name, {}).items()):
            item = state.items[point.uid]
            if not item.is_final or item.outcome is None:
                continue
            finished = item.outcome.status == "finished"
            objective = item.outcome.metrics["objective"] if finished else None
            told.append(Told(ordinal, point.params, item.outcome.status, item.outcome.objectives, objective))
        return told

    def rungs(self, state: SweepState, ordinal: int) -> Rungs | None:
        """What the pruner may know about a trial of this study."""
        table = self.resolver.space.search
        if table.pruner == "none":
            return None
        earlier = tuple(
            EarlierTrial(ordinal=t.ordinal, status=t.status, objectives=t.objectives)
            for t in self.told(state)
            if t.ordinal < self.study.block_start(ordinal)
        )
        return Rungs(pruner=table.pruner, options=dict(table.pruner_options), study=self.study.name, earlier=earlier)

    def _cell_of(self, params: Mapping[str, Scalar]) -> Cell:
        if self.cell is not None:
            return self.cell
        fixed = {axis: p.fixed for axis, p in self.resolver.space.axes.items() if not p.is_searched}
        axes = {axis: params.get(axis, fixed.get(axis)) for axis in ("architecture", "size", "molecules")}
        return Cell.model_validate(axes)

    # ----------------------------------------------------------------------------------------------- rescore

    def candidates(self, state: SweepState) -> list[Candidate]:
        """Distinct recipes of finished search trials, the best validation objective first."""
        found: dict[str, Candidate] = {}
        for told in self.told(state):
            if told.objective is None:
                continue
            item = state.items[state.asked[self.study.name][told.ordinal].uid]
            cell = self._cell_of(told.params)
            candidate = Candidate(told.ordinal, cell, item.spec.finetune, told.objective)
            found.setdefault(candidate.key, candidate)
        return sorted(found.values(), key=lambda c: (c.objective, c.ordinal))

    def _searched(self, state: SweepState) -> bool:
        points = state.asked.get(self.study.name, {})
        return len(points) >= self._budget(state) and all(state.items[p.uid].is_final for p in points.values())

    def _rescore(self, state: SweepState) -> list[Event]:
        if self.chosen(state) is not None or not self._searched(state):
            return []
        confirm = self.resolver.space.confirm
        best = self.candidates(state)[: confirm.rescore_top]
        if not best:
            return [self._nothing("every search trial failed or was pruned")]
        if len(best) == 1 or confirm.rescore_seeds == 0:
            return [self._choice(best[0], {})]
        events: list[Event] = []
        scores: dict[str, list[float]] = {}
        for candidate, seed in itertools.product(best, range(confirm.rescore_seeds)):
            at = Replicate(head_seed=seed)
            spec = self.resolver.trial("rescore", candidate.cell, self.task, candidate.recipe, at)
            events += self._items(state, spec, candidate.cell, at, {"ordinal": candidate.ordinal})
            item = state.items.get(spec.digest)
            if item is None or not item.is_final:
                scores.setdefault("waiting", [])
            elif item.outcome is not None and item.status == "finished":
                scores.setdefault(candidate.key, []).append(item.outcome.metrics["objective"])
        if events or "waiting" in scores:
            return events
        means = {c.key: sum(s) / len(s) for c in best if len(s := scores.get(c.key, [])) == confirm.rescore_seeds}
        if not means:
            return [self._nothing("every rescore trial failed")]
        winner = min((c for c in best if c.key in means), key=lambda c: (means[c.key], c.ordinal))
        return [self._choice(winner, {str(c.ordinal): means[c.key] for c in best if c.key in means})]

    def chosen(self, state: SweepState) -> Mapping[str, Any] | None:
        """The choice made for this unit, if there is one."""
        return state.choices.get(self.name)

    def _choice(self, candidate: Candidate, rescored: Mapping[str, float]) -> Event:
        return {
            "event": "chosen",
            "unit": self.name,
            "task": self.task,
            "cell": candidate.cell.canonical(),
            "cell_name": candidate.cell.name,
            "ordinal": candidate.ordinal,
            "recipe": candidate.recipe.canonical(),
            "rescored": dict(rescored),
        }

    def _nothing(self, reason: str) -> Event:
        cell = self.cell
        return {
            "event": "chosen",
            "unit": self.name,
            "task": self.task,
            "cell": cell.canonical() if cell else None,
            "cell_name": cell.name if cell else None,
            "recipe": None,
            "reason": reason,
        }

    # ----------------------------------------------------------------------------------------------- confirm

    def _confirm(self, state: SweepState) -> list[Event]:
        choice = self.chosen(state)
        if choice is None or choice["recipe"] is None:
            return []
        cell, recipe = Cell.model_validate(choice["cell"]), FinetuneSpec.model_validate(choice["recipe"])
        events: list[Event] = []
        if self.name not in state.openings:
            sealed = self.resolver.prepared.splits[self.task, 0].sealed
            events.append(
                {
                    "event": "opened",
                    "unit": self.name,
                    "task": self.task,
                    "cell_name": cell.name,
                    "recipe": recipe.digest,
                    "sealed": sealed,
                }
            )
        for at in replicates(self.resolver):
            spec = self.resolver.trial("confirm", cell, self.task, recipe, at)
            events += self._items(state, spec, cell, at, {})
        return events

    # ------------------------------------------------------------------------------------------------- items

    def _items(
        self, state: SweepState, spec: TrialSpec, cell: Cell, at: Replicate, labels: Mapping[str, Any]
    ) -> list[Event]:
        """Events that register a trial, and the pre-training it needs, where the ledger does not know them yet."""
        self.watched.add(spec.digest)
        events = []
        if spec.pretrained and spec.pretrained not in state.items:
            events.append(pretrain_event(self.resolver.pretrain(cell, at.pretrain_seed), cell, at))
        if spec.digest not in state.items:
            split_name = self.resolver.space.task_def(self.task).split
            places = {"pretrain_seed": at.pretrain_seed, "split": at.split, "head_seed": at.head_seed}
            events.append(
                {
                    "event": "item",
                    "uid": spec.digest,
                    "spec": spec.canonical(),
                    "cell": cell.canonical(),
                    "labels": {"task": self.task, "unit": self.name, "split_name": split_name, **places, **labels},
                }
            )
        return events


def pretrain_event(spec: PretrainSpec, cell: Cell, at: Replicate) -> Event:
    """The event that registers a pre-training."""
    bare = cell.model_copy(update={"settings": {k: v for k, v in cell.settings.items() if k.startswith("pretrain.")}})
    labels = {"pretrain_seed": at.pretrain_seed}
    return {"event": "item", "uid": spec.digest, "spec": spec.canonical(), "cell": bare.canonical(), "labels": labels}


def replicates(resolver: Resolver) -> list[Replicate]:
    """The crossed design of decision 6: the same indices for every cell."""
    table = resolver.space.confirm
    return [
        Replicate(*at)
        for at in itertools.product(range(table.pretrain_seeds), range(table.splits), range(table.head_seeds))
    ]


def first_of(kind: TrialKind, item: ItemRecord) -> bool:
    """Whether the item is the replicate whose fitted model is kept."""
    places = (item.labels.get("pretrain_seed"), item.labels.get("split"), item.labels.get("head_seed"))
    return item.kind == kind and places == (0, 0, 0)
