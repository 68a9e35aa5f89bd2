"""A small space, inputs that exist in name only, and a run function that makes outcomes from specifications."""

import copy
import itertools
import random
from pathlib import Path

from chembench.config import stable_seed
from chembench.data.corpora import Corpus
from chembench.data.shards import ShardSet
from chembench.data.splits import Split
from chembench.data.tasks import Task
from chembench.paths import CachePaths, RunPaths, SweepPaths, write_json
from chembench.specs import Outcome, Work
from chembench.sweep.cells import Vocabulary
from chembench.sweep.inputs import Prepared
from chembench.sweep.ledger import Ledger
from chembench.sweep.plan import make_plan
from chembench.sweep.plugin import Engine
from chembench.sweep.reading import space_from
from chembench.sweep.shard import Shard
from chembench.sweep.space import Space
from chembench.sweep.state import SweepState

GRID = {
    "tasks": ["freewilson_pic50", "freewilson_active"],
    "corpus": {"files": ["rdkit:NCI/first_5K.smi"], "validation": 10},
    "grid": {"architecture": ["roberta", "llama"], "size": ["w32x1"], "molecules": [20, 40]},
    "controls": {"baselines": ["forest_ecfp4", "constant"]},
    "pretrain": {"epochs": 1, "learning_rate": 1e-3},
    "finetune": {
        "method": {"choice": ["full", "linear_probe"]},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "dropout": {"low": 0.0, "high": 0.3, "when": {"method": "full"}},
        "max_epochs": 3,
    },
    "search": {"sampler": "random", "trials": 3, "ask_window": 2, "give_up_after": 10_000},
    "confirm": {"rescore_top": 2, "rescore_seeds": 2, "head_seeds": 2},
}
ADAPTIVE_MODEL = {
    "architecture": {"choice": ["roberta", "bart", "llama"]},
    "size": "w32x1",
    "molecules": {"choice": [0, 20, 40, 60]},
}


class Killed(Exception):
    """The driver's process is gone."""


class MortalLedger(Ledger):
    """A ledger whose process dies when so many events have been written."""

    left: int | None = None

    def append(self, event):
        if self.left == 0:
            raise Killed
        super().append(event)
        if self.left is not None:
            self.left -= 1


def changed(data: dict, **changes) -> dict:
    """A copy of ``data``; ``search__trials=2`` sets one key of a table, none drops it."""
    data = copy.deepcopy(data)
    for dotted, value in changes.items():
        *tables, last = dotted.split("__")
        place = data
        for table in tables:
            place = place.setdefault(table, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return data


def grid_space(**changes) -> Space:
    return space_from(changed(GRID, **changes))


def adaptive_space(**changes) -> Space:
    return space_from(changed(GRID, **({"grid": None, "model": ADAPTIVE_MODEL} | changes)))


def prepared_for(space: Space) -> Prepared:
    """Inputs with digests and folders, but without a byte behind them."""
    tasks, splits = {}, {}
    for name in space.tasks:
        known = space.task_def(name)
        folder, missing = Path("/tasks") / name, Path("/tasks") / name / "unreadable.txt"
        tasks[name] = Task(name, known.kind, known.targets, known.unit, f"task-{name}", folder, 100, "", 0, missing)
        for outer, index in itertools.product({0, *space.confirm.outers}, range(space.confirm.splits)):
            of = f"{name}-outer{outer}" if outer else name
            splits[name, outer, index] = Split(
                data=f"data-{of}-{index}",
                test_rows=f"rows-{of}",
                sealed=f"sealed-{of}",
                digest=f"split-{of}-{index}",
                folder=Path("/splits") / of / str(index),
                sealed_folder=Path("/vault") / of,
                index=index,
                outer=outer,
                counts={"train": 80, "valid": 10, "test": 10},
                train_sd=(1.0,),
            )
    shards = ShardSet((Path("/shards/0"),), (Path("/shards/v"),), Path("/shards/s"), "labels", 3, ("a", "b", "c"))
    corpus = Corpus("corpus", Path("/corpus"), 100, 10, 0, 0, Path("/corpus/unreadable.txt"))
    return Prepared("tokens", Path("/tokenizer"), Vocabulary(50, 1, 0, 2), corpus, shards, tasks, splits)


def paths_in(folder: Path) -> SweepPaths:
    return SweepPaths(folder / "sweeps" / "one")


def opened(space: Space, folder: Path, left: int | None = None, shard: Shard | None = None) -> MortalLedger:
    """The ledger of the sweep in ``folder``; the first event is written if there is none, or the space has grown."""
    ledger = MortalLedger(paths_in(folder))
    if ledger.state.space_digest != space.digest:
        header = header_of(space) | ({"shard": str(shard)} if shard else {})
        ledger.append({"event": "sweep", "name": "one", "space_digest": space.digest, "header": header})
    ledger.left = left
    return ledger


def header_of(space: Space) -> dict:
    """What a ledger says of its space and inputs."""
    prepared, plan = prepared_for(space), make_plan(space)
    return {
        "identity": space.identity(),
        "space": space.as_data(),
        "inputs": prepared.digests(),
        "tasks": {name: {"kind": task.kind, "unit": task.unit} for name, task in prepared.tasks.items()},
        "confirm": space.confirm.model_dump(mode="json"),
        "cells": [cell.name for cell in (*plan.cells, *plan.control_cells)],
        "expected": dict(plan.items),
        "workers": 1,
    }


def engine_on(space: Space, ledger: Ledger, shard: Shard | None = None) -> Engine:
    return Engine(space, prepared_for(space), CachePaths(Path("/cache")), ledger, shard)


def finished(work: Work) -> Outcome:
    """What the item scores: a number that its specification alone decides, or pruned by the rung table it was given."""
    base = stable_seed(work.spec.digest) / 2**31
    objectives = tuple(base + 0.1 * (2 - epoch) for epoch in range(3))
    status, metrics = "finished", {"objective": objectives[-1]}
    if work.rungs is not None:
        before = sorted(t.objectives[0] for t in work.rungs.earlier if t.objectives)
        if before and objectives[0] > before[len(before) // 2]:
            status, metrics, objectives = "pruned", {}, objectives[:1]
    return Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status=status,
        metrics=metrics,
        objectives=objectives,
        measured={"wall_seconds": 1.0},
    )


def failed(work: Work, cause: str = "bug") -> Outcome:
    return Outcome(
        uid=work.uid, attempt=work.attempt, kind=work.kind, status="failed", cause=cause, message=f"it broke: {cause}"
    )


def leave_result(work: Work, outcome: Outcome) -> None:
    """Write what a worker writes last."""
    write_json(RunPaths(Path(work.folder)).result, outcome.model_dump(mode="json"))


def drive(engine: Engine, run=finished, in_flight: int = 1, seed: int | None = None) -> list[Work]:
    """Carry the sweep to its end with so many items in flight, told in an order shuffled by ``seed``.

    Returns:
        Every attempt, as it was handed out.
    """
    shuffled = random.Random(seed)
    flying, handed_out = [], []
    while not engine.done:
        while len(flying) < in_flight and (work := engine.ask()) is not None:
            flying.append(work)
            handed_out.append(work)
        assert flying, "work is left, but nothing is ready and nothing runs"
        engine.tell(run(flying.pop(0 if seed is None else shuffled.randrange(len(flying)))))
    return handed_out


def swept(space: Space, folder: Path, run=finished, in_flight: int = 1, seed: int | None = None, shard=None):
    """The state after a whole sweep, and every attempt that was handed out."""
    with opened(space, folder, shard=shard) as ledger:
        works = drive(engine_on(space, ledger, shard), run, in_flight, seed)
        return ledger.state, works


def retried(space: Space, folder: Path, run=finished, **which):
    """The state after failed items of a sweep were retried, what `Engine.retry` gave, and every attempt since."""
    with opened(space, folder) as ledger:
        engine = engine_on(space, ledger)
        again = engine.retry(**which)
        works = drive(engine, run)
        return ledger.state, again, works


def essence(state: SweepState) -> dict:
    """What two equal sweeps have in common: items, scores, asks and choices; neither times nor order."""
    items = {
        item.uid: (item.status, *((o.metrics, o.objectives, o.cause) if (o := item.outcome) else ()))
        for item in state.items.values()
    }
    asked = {s: {k: (p.uid, p.params) for k, p in sorted(points.items())} for s, points in state.asked.items()}
    chosen = {unit: {k: v for k, v in choice.items() if k != "at"} for unit, choice in state.choices.items()}
    return {"items": items, "asked": asked, "chosen": chosen, "openings": state.openings, "finished": state.finished}


def of_kind(works: list[Work], *kinds: str) -> list[Work]:
    return [work for work in works if work.kind in kinds]
