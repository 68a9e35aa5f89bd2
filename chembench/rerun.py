"""One item once more: does what is recorded come out again?

::

    equal         every metric, every epoch and every prediction is the recorded one, bit for bit
    within noise  objective and scores differ by no more than recorded replicates of the same cell and task do,
                  or by a thousandth where no replicate is recorded
    different     anything else

A prediction, or a count such as the best epoch, that is another one is told but not judged: the scores follow from it.

The second run stays in a folder of its own beside the attempts, and is no result of the sweep.
"""

from __future__ import annotations

import contextlib
import csv
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from chembench.errors import ConfigError
from chembench.header import places_of, require_same_inputs, space_of
from chembench.paths import RunPaths, SweepPaths, as_written
from chembench.recordings import inputs_of, recording_of
from chembench.specs import BaselineSpec, Inputs, Outcome, PretrainSpec, TrialSpec, Work
from chembench.sweep.contents import units_of
from chembench.sweep.plugin import work_of
from chembench.sweep.progress import place_of
from chembench.sweep.resolve import Resolver
from chembench.sweep.shard import Shard
from chembench.sweep.state import ItemRecord, SweepState
from chembench.trial import run_item

Verdict = Literal["equal", "within noise", "different"]

WITHOUT_REPLICATES = 1e-3
"""Relative difference that is taken for noise where no replicate is recorded."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that came out otherwise."""

    name: str
    recorded: float
    repeated: float
    noise: float | None
    """How far it may lie off; none for what only follows from the scores, such as the best epoch."""

    @property
    def in_noises(self) -> float:
        """Its size, measured in noise."""
        if self.noise is None:
            return 0.0
        size = abs(self.repeated - self.recorded)
        return size / self.noise if self.noise else math.inf

    @property
    def text(self) -> str:
        noise = "" if self.noise is None else f", noise is {self.noise:.2g}"
        return f"{self.name} was {self.recorded:.9g}, is {self.repeated:.9g}{noise}"


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came out of an item that was carried out once more."""

    uid: str
    folder: Path
    outcome: Outcome
    verdict: Verdict | None = None
    """None where it was not held against the record."""
    reason: str = ""
    """What the verdict stands on."""
    largest: Difference | None = None
    """The difference that is largest, measured in noise; none when there is none."""

    @property
    def text(self) -> str:
        """For people."""
        lines = [f"item {self.uid}, once more in {as_written(self.folder)}: {self.outcome.status}"]
        if self.outcome.status == "failed":
            place = place_of(RunPaths(self.folder))
            lines += [f"{self.outcome.cause}: {self.outcome.message}", *([f"traceback in {place}"] if place else [])]
        if self.verdict is not None:
            lines.append(f"{self.verdict}: {self.reason}")
        if self.largest is not None:
            lines.append(f"largest difference: {self.largest.text}")
        return "\n".join(lines)

    def as_data(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "uid": self.uid,
            "folder": str(self.folder),
            "outcome": self.outcome.model_dump(mode="json"),
            "verdict": self.verdict,
            "reason": self.reason,
            "largest": None if self.largest is None else asdict(self.largest),
        }


def rerun(paths: SweepPaths, state: SweepState, uid: str, *, check: bool) -> Rerun:
    """Carry out an item that has ended well once more.

    Args:
        paths: folder of its sweep.
        state: state of its sweep; it is not changed, and whoever drives the sweep is not disturbed.
        uid: the item.
        check: hold what comes out against the record.

    Raises:
        ConfigError: if the item has not ended well.
        DataError: if an input cannot be used any more.
    """
    item = state.items[uid]
    if item.status not in ("finished", "pruned"):
        raise ConfigError(f"only an item that is finished or pruned can be repeated, {uid} is {item.status}; resume it")
    recorded = paths.run(uid, item.attempt)
    again = RunPaths(_new_folder(recorded.root.parent))
    resolver = _resolver(paths, state)
    inputs = _inputs(paths, state, item, again, resolver)
    work = _recorded(paths, state, item, resolver)
    outcome = run_item(work.model_copy(update={"inputs": inputs, "folder": str(again.root), "save_model": False}))
    if isinstance(item.spec, PretrainSpec) and inputs.checkpoint is not None:
        shutil.rmtree(inputs.checkpoint, ignore_errors=True)  # large, and the shared one is the one that counts
    done = Rerun(uid, again.root, outcome)
    return judged(done, state, recorded) if check else done


def _new_folder(item_folder: Path) -> Path:
    """The first ``rerun-<n>`` that is free; it is made, so that nobody else takes it."""
    for n in range(1, 1_000_000):
        folder = item_folder / f"rerun-{n}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.resolve()
    raise ConfigError(f"an item is repeated a million times at most, {item_folder} is full; remove some of them")


def _resolver(paths: SweepPaths, state: SweepState) -> Resolver:
    """Of the sweep's space and inputs, which are prepared anew where they are gone."""
    space, places = space_of(state), places_of(state)
    prepared = inputs_of(space, places, paths, recording_of(paths, state))
    require_same_inputs(prepared, state)
    return Resolver(space, prepared, places.cache)


def _recorded(paths: SweepPaths, state: SweepState, item: ItemRecord, resolver: Resolver) -> Work:
    """The item as it was handed out last; from the ledger where its ``spec.json`` is gone or damaged."""
    run = paths.run(item.uid, max(item.attempt, 1))
    with contextlib.suppress(OSError, ValueError):
        work = Work.model_validate_json(run.spec.read_text(encoding="utf-8"))
        if work.spec == item.spec:
            return work
    shard = state.header.get("shard")
    units = units_of(resolver.space, resolver, Shard.parse(shard) if shard else None)
    return work_of(item, run.root, resolver, state, {unit.name: unit for unit in units})


def _inputs(paths: SweepPaths, state: SweepState, item: ItemRecord, again: RunPaths, resolver: Resolver) -> Inputs:
    """What the item reads; a pre-training writes its checkpoint beside the rerun."""
    inputs = resolver.inputs(item.spec)
    needed = inputs.trunk if isinstance(item.spec, PretrainSpec) else inputs.checkpoint
    if needed is not None and not Path(needed).is_dir():
        _make_checkpoint(paths, state, state.items[item.spec.starts_from], resolver)
    if isinstance(item.spec, PretrainSpec) and item.spec.recorded is None:
        return inputs.model_copy(update={"checkpoint": str(again.root / "checkpoint")})
    return inputs


def _make_checkpoint(paths: SweepPaths, state: SweepState, pretrain: ItemRecord, resolver: Resolver) -> None:
    """Pre-train again, into the cache, what an item stands on and the cache has lost; what that continues first."""
    work = _recorded(paths, state, pretrain, resolver)
    folder = _new_folder(paths.run(pretrain.uid, 1).root.parent)
    inputs = resolver.inputs(pretrain.spec)
    if inputs.trunk is not None and not Path(inputs.trunk).is_dir():
        _make_checkpoint(paths, state, state.items[pretrain.spec.starts_from], resolver)
    outcome = run_item(work.model_copy(update={"inputs": inputs, "folder": str(folder)}))
    if outcome.status != "finished":
        raise ConfigError(
            f"the checkpoint of pre-training {pretrain.uid} is not in the cache, and making it again failed: "
            f"{outcome.message}; see {folder}"
        )


# -------------------------------------------------------------------------------------------------------- judging


def judged(done: Rerun, state: SweepState, recorded: RunPaths) -> Rerun:
    """``done`` with a verdict against what the ledger and the folder of the recorded attempt say."""
    item = state.items[done.uid]
    before, now = item.outcome, done.outcome
    assert before is not None, "an item that has ended well has an outcome"
    if before.status != now.status or set(before.metrics) != set(now.metrics):
        reason = f"it was {before.status} with {len(before.metrics)} metrics, now it is {now.status}"
        return _with(
            done, "different", f"{reason} with {len(now.metrics)}" + (f": {now.message}" if now.message else "")
        )
    spreads, reason = _noise(state, item)
    differences = [
        *_other_metrics(before, now, spreads),
        *_other_epochs(before, now, spreads),
        *_other_predictions(recorded.predictions, RunPaths(done.folder).predictions),
    ]
    if not differences:
        return _with(done, "equal", "every metric, epoch and prediction is the recorded one, bit for bit")
    largest = max(differences, key=lambda found: found.in_noises)
    verdict: Verdict = "within noise" if largest.in_noises <= 1 else "different"
    return _with(done, verdict, reason, largest)


def _with(done: Rerun, verdict: Verdict, reason: str, largest: Difference | None = None) -> Rerun:
    return Rerun(done.uid, done.folder, done.outcome, verdict, reason, largest)


def _noise(state: SweepState, item: ItemRecord) -> tuple[dict[str, float] | None, str]:
    """Metric -> largest difference between recorded replicates, or none without any; and how to say so."""
    alike = [
        other.outcome.metrics
        for other in state.items.values()
        if other.outcome is not None and other.status == "finished" and _replicate_of(other) == _replicate_of(item)
    ]
    if len(alike) < 2:
        return None, f"noise is {WITHOUT_REPLICATES:g} of the recorded value, as no other replicate is recorded"
    names = set.intersection(*(set(metrics) for metrics in alike))
    spreads = {name: max(m[name] for m in alike) - min(m[name] for m in alike) for name in names}
    return spreads, f"noise is how far {len(alike)} recorded replicates lie apart"


def _replicate_of(item: ItemRecord) -> tuple[Any, ...]:
    """Equal for items that differ in their seeds alone."""
    spec = item.spec
    cell = item.cell.name if item.cell else None
    if isinstance(spec, TrialSpec):
        return (spec.kind, cell, spec.task, spec.outer, spec.split, spec.finetune.digest)
    if isinstance(spec, BaselineSpec):
        return (spec.kind, spec.baseline, spec.task, spec.outer, spec.split)
    return (spec.kind, cell)


def _noise_of(name: str, recorded: float, spreads: Mapping[str, float] | None) -> float | None:
    if name != "objective" and "/" not in name:
        return None  # a count
    if spreads is None or name not in spreads:
        return WITHOUT_REPLICATES * abs(recorded)
    return spreads[name]


def _other_metrics(before: Outcome, now: Outcome, spreads: Mapping[str, float] | None) -> list[Difference]:
    return [
        Difference(name, old, now.metrics[name], _noise_of(name, old, spreads))
        for name, old in before.metrics.items()
        if now.metrics[name] != old
    ]


def _other_epochs(before: Outcome, now: Outcome, spreads: Mapping[str, float] | None) -> list[Difference]:
    pairs = enumerate(zip(before.objectives, now.objectives, strict=False), 1)
    found = [
        Difference(f"objective of epoch {epoch}", old, new, _noise_of("objective", old, spreads))
        for epoch, (old, new) in pairs
        if old != new
    ]
    lengths = (len(before.objectives), len(now.objectives))
    return [*found, *([Difference("number of epochs", *lengths, None)] if lengths[0] != lengths[1] else [])]


def _other_predictions(before: Path, now: Path) -> list[Difference]:
    """The prediction that lies farthest from the recorded one; nothing where no predictions are kept."""
    if not before.is_file() or not now.is_file() or before.read_bytes() == now.read_bytes():
        return []
    with before.open(newline="") as old, now.open(newline="") as new:
        rows = list(zip(csv.DictReader(old), csv.DictReader(new), strict=True))
    pairs = [(float(a["predicted"]), float(b["predicted"]), a) for a, b in rows]
    recorded, repeated, row = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    return [Difference(f"prediction of {row['target']} ({row['part']} row {row['row']})", recorded, repeated, None)]
