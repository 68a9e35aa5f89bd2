"""One study from its first ask to its confirm runs, as a pure function of the ledger's state.

::

    search   `trials` asks in windows; a failed trial is replaced at most `replacements` times
    rescore  the best `rescore_top` recipes on new head seeds, by validation
    chosen   the best mean over those new seeds is *the* recipe; its basis says what it was chosen from
    opened   the test is opened for this cell, task and recipe
    confirm  crossed replicates of that recipe, each trained anew

A unit is a cell x task of a grid, or a task of an adaptive space; where searches are nested, one for each outer fold,
confirmed on that fold alone. It never waits for a runner and never reads a clock:
`advance` says which events follow from the state, and the engine writes them.

A choice stands as long as its basis is the present one. When trials were added, or a failed one was retried, it is made
again: the same recipe goes on as before, another one opens the test a second time, which the boards tell.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chembench.specs import Cell, EarlierTrial, FinetuneSpec, PretrainSpec, Rungs, TrialKind, TrialSpec
from chembench.sweep.parameters import Scalar
from chembench.sweep.resolve import Replicate, Resolver
from chembench.sweep.space import Space
from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.study import Study, Told, ask

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe of a finished search trial."""

    ordinal: int
    cell: Cell
    recipe: FinetuneSpec
    objective: float
    uid: str
    """Of the trial: it names the cell and the recipe, all search trials of a task being equal otherwise."""


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
    outer: int = 0
    """Whose training part is searched on: an outer fold where searches are nested, else the named split (0)."""
    watched: set[str] = field(default_factory=set)
    """Items whose end may let this unit go on: search and rescore trials."""
    is_settled: bool = False
    """Whether its choice stood when it last went on; its confirm runs wait until it does."""

    def advance(self, state: SweepState) -> list[Event]:
        """The events that follow from ``state`` now; empty when the unit waits or is done."""
        self.is_settled = False
        events = self._search(state)
        if events or not self._searched(state):
            return events
        choice, events = self._choose(state)
        if choice is None:
            return events
        standing = state.choices.get(self.name)
        if standing is None or standing["basis"] != choice["basis"]:
            return [choice]
        self.is_settled = True
        return self._confirm(state, standing)

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
        at = Replicate(outer=self.outer)
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
            uid = state.asked[self.study.name][told.ordinal].uid
            if told.objective is not None and uid not in found:
                cell, recipe = self._cell_of(told.params), state.items[uid].spec.finetune
                found[uid] = Candidate(told.ordinal, cell, recipe, told.objective, uid)
        return sorted(found.values(), key=lambda c: (c.objective, c.ordinal))

    def _searched(self, state: SweepState) -> bool:
        points = state.asked.get(self.study.name, {})
        return len(points) >= self._budget(state) and all(state.items[p.uid].is_final for p in points.values())

    # ---------------------------------------------------------------------------------------------- choosing

    def _choose(self, state: SweepState) -> tuple[Event | None, list[Event]]:
        """The choice as it is made now, or none and the events it waits for."""
        confirm = self.resolver.space.confirm
        best = self.candidates(state)[: confirm.rescore_top]
        if not best:
            return self._nothing(state, "every search trial failed or was pruned"), []
        if len(best) == 1 or confirm.rescore_seeds == 0:
            return self._choice(state, best[0], {}), []
        means, events = self._rescored(state, best)
        if means is None:
            return None, events
        if not means:
            return self._nothing(state, "every rescore trial failed"), []
        winner = min((c for c in best if c.ordinal in means), key=lambda c: (means[c.ordinal], c.ordinal))
        return self._choice(state, winner, {str(ordinal): mean for ordinal, mean in means.items()}), []

    def _rescored(self, state: SweepState, best: Sequence[Candidate]) -> tuple[dict[int, float] | None, list[Event]]:
        """Ordinal -> mean objective of the recipes whose new seeds all finished; none while some have not ended."""
        seeds = self.resolver.space.confirm.rescore_seeds
        known = {(item.labels["ordinal"], item.labels["head_seed"]): item for item in state.rescores.get(self.name, ())}
        events: list[Event] = []
        ended: dict[int, list[ItemRecord]] = {candidate.ordinal: [] for candidate in best}
        for candidate, seed in itertools.product(best, range(seeds)):
            item = known.get((candidate.ordinal, seed))
            if item is None:
                at = Replicate(head_seed=seed, outer=self.outer)
                spec = self.resolver.trial("rescore", candidate.cell, self.task, candidate.recipe, at)
                events += self._items(state, spec, candidate.cell, at, {"ordinal": candidate.ordinal})
                item = state.items.get(spec.digest)
            if item is not None:
                self.watched.add(item.uid)
            if item is not None and item.is_final:
                ended[candidate.ordinal].append(item)
        if any(len(items) < seeds for items in ended.values()):
            return None, events
        scores = {
            ordinal: [item.outcome.metrics["objective"] for item in items if item.outcome and item.status == "finished"]
            for ordinal, items in ended.items()
        }
        return {ordinal: sum(own) / seeds for ordinal, own in scores.items() if len(own) == seeds}, []

    def _choice(self, state: SweepState, candidate: Candidate, rescored: Mapping[str, float]) -> Event:
        return {
            "event": "chosen",
            "unit": self.name,
            "task": self.task,
            "cell": candidate.cell.canonical(),
            "cell_name": candidate.cell.name,
            "ordinal": candidate.ordinal,
            "recipe": candidate.recipe.canonical(),
            "rescored": dict(rescored),
            "basis": state.basis(self.name, rescored),
        }

    def _nothing(self, state: SweepState, reason: str) -> Event:
        cell = self.cell
        return {
            "event": "chosen",
            "unit": self.name,
            "task": self.task,
            "cell": cell.canonical() if cell else None,
            "cell_name": cell.name if cell else None,
            "recipe": None,
            "reason": reason,
            "basis": state.basis(self.name, {}),
        }

    # ----------------------------------------------------------------------------------------------- confirm

    def _confirm(self, state: SweepState, choice: Mapping[str, Any]) -> list[Event]:
        if choice["recipe"] is None:
            return []
        cell, recipe = Cell.model_validate(choice["cell"]), FinetuneSpec.model_validate(choice["recipe"])
        events: list[Event] = []
        outers = (self.outer,) if self.outer else self.resolver.space.confirm.outers
        if (cell.name, recipe.digest) not in state.openings.get(self.name, ()):
            sealed = [self.resolver.prepared.splits[self.task, outer, 0].sealed for outer in outers]
            events.append(
                {
                    "event": "opened",
                    "unit": self.name,
                    "task": self.task,
                    "cell_name": cell.name,
                    "recipe": recipe.digest,
                    "sealed": sealed[0] if len(sealed) == 1 else sealed,
                }
            )
        known = {replicate_of(item) for item in state.confirms.get(self.name, ()) if not item.superseded}
        for at in replicates(self.resolver, outers, state.extensions.get(self.name, 0)):
            if at not in known:
                spec = self.resolver.trial("confirm", cell, self.task, recipe, at)
                events += self._items(state, spec, cell, at, {})
        return events

    # ------------------------------------------------------------------------------------------------- items

    def _items(
        self, state: SweepState, spec: TrialSpec, cell: Cell, at: Replicate, labels: Mapping[str, Any]
    ) -> list[Event]:
        """Events that register a trial, and the pre-training it needs, where the ledger does not know them yet."""
        events = []
        if spec.pretrained and spec.pretrained not in state.items:
            chain = self.resolver.lineage(cell, at.pretrain_seed)
            events += [pretrain_event(needed, cell, at) for needed in chain if needed.digest not in state.items]
        if spec.digest not in state.items:
            split_name = split_name_of(self.resolver.space, self.task, at.outer)
            places = {"pretrain_seed": at.pretrain_seed, "split": at.split, "head_seed": at.head_seed}
            if at.outer:
                places["outer"] = at.outer
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
    """The event that registers a pre-training: that of a cell, or of a smaller scale that it continues."""
    own = {key: value for key, value in cell.settings.items() if key.startswith("pretrain.")}
    bare = cell.model_copy(update={"molecules": spec.molecules, "settings": own})
    labels = {"pretrain_seed": at.pretrain_seed}
    return {"event": "item", "uid": spec.digest, "spec": spec.canonical(), "cell": bare.canonical(), "labels": labels}


def replicates(resolver: Resolver, outers: Sequence[int], head_seeds: int = 0) -> list[Replicate]:
    """The crossed design: the same indices for every cell, and more head seeds for a unit that was extended.

    Args:
        resolver: of the sweep.
        outers: test sets that the unit is confirmed on.
        head_seeds: that the unit was extended to; as many as the space says at least.
    """
    table = resolver.space.confirm
    axes = (range(table.pretrain_seeds), range(table.splits), range(max(table.head_seeds, head_seeds)))
    return [Replicate(*at, outer) for outer in outers for at in itertools.product(*axes)]


def replicate_of(item: ItemRecord) -> Replicate:
    """The indices that a trial was registered with."""
    labels = item.labels
    return Replicate(labels["pretrain_seed"], labels["split"], labels["head_seed"], labels.get("outer", 0))


def line_of(item: ItemRecord) -> str:
    """The unit of a trial; where searches are nested, what its units in all outer folds have in common."""
    return str(item.labels["unit"]).removesuffix(f"/outer-{item.spec.outer}")


def split_name_of(space: Space, task: str, outer: int) -> str:
    """How the rows of an item are divided, in a word."""
    return space.confirm.outer_groups if outer else space.task_def(task).split


def first_of(kind: TrialKind, item: ItemRecord) -> bool:
    """Whether the item is the replicate whose fitted model is kept: of outer folds the first."""
    return item.kind == kind and replicate_of(item) in (Replicate(), Replicate(outer=1))
