"""A sweep that was carried out as one file of recorded results; nothing but its ledger and its curves is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chembench.errors import ConfigError
from chembench.paths import SweepPaths
from chembench.recorded.archive import Head, ItemRecord, SplitRecord, TaskRecord, archive_bytes
from chembench.recorded.source import Recording
from chembench.specs import PretrainSpec, TrialSpec
from chembench.sweep.inputs import test_name
from chembench.sweep.state import ItemRecord as LedgerItem
from chembench.sweep.state import SweepState

MOMENTS = ("started_at", "ended_at")
"""Of what was measured, what tells when and not what it cost."""


def record(paths: SweepPaths, state: SweepState) -> Recording:
    """What a sweep measured so far, to be replayed.

    Args:
        paths: its folder, for curves; where they are gone the objectives of each epoch stay.
        state: its state.

    Raises:
        ConfigError: if it is a replay itself, or nothing of it has ended.
    """
    if "recorded" in state.header:
        told = state.header["recorded"]["name"]
        raise ConfigError(f"sweep '{state.name}' is a replay itself; replay what it was made from: {told}")
    items = [item for item in state.items.values() if item.is_final and item.outcome is not None]
    if not items:
        raise ConfigError(
            f"a replay needs recorded results, nothing of sweep '{state.name}' has ended; go on with it first"
        )
    return Recording(state.name, "jsonl", archive_bytes(_head(state), (_item(paths, item) for item in items)))


def _head(state: SweepState) -> Head:
    header, inputs = state.header, state.header["inputs"]
    tasks = {
        name: TaskRecord(
            kind=facts["kind"],
            targets=tuple(facts["targets"]),
            unit=facts.get("unit") or "",
            note=facts.get("note") or "",
            content=facts["digest"],
            rows=facts["rows"],
        )
        for name, facts in header["tasks"].items()
    }
    return Head(
        sweep=state.name,
        space=header["space"],
        tokenizer=inputs["tokenizer"],
        corpus=inputs.get("corpus"),
        labels=inputs.get("labels"),
        outputs=_outputs(state),
        tasks=tasks,
        splits=tuple(_splits(state, inputs)),
    )


def _outputs(state: SweepState) -> int:
    specs = [item.spec for item in state.items.values()]
    found = [spec.outputs for spec in specs if isinstance(spec, PretrainSpec)]
    found += [spec.descriptors for spec in specs if isinstance(spec, TrialSpec)]
    return found[0] if found else 1


def _splits(state: SweepState, inputs: Mapping[str, str]) -> list[SplitRecord]:
    """Every split that an item was carried out on."""
    found: dict[tuple[str, int, int], SplitRecord] = {}
    for item in state.items.values():
        spec = item.spec
        if isinstance(spec, PretrainSpec) or (spec.task, spec.outer, spec.split) in found:
            continue
        of = test_name(spec.task, spec.outer)
        found[spec.task, spec.outer, spec.split] = SplitRecord(
            task=spec.task,
            outer=spec.outer,
            index=spec.split,
            data=spec.data,
            test_rows=spec.test_rows,
            sealed=inputs[f"test of {of}"],
            whole=inputs[f"split {spec.split} of {of}"],
        )
    return [split for _, split in sorted(found.items())]


def _item(paths: SweepPaths, item: LedgerItem) -> ItemRecord:
    outcome = item.outcome
    assert outcome is not None
    return ItemRecord(
        uid=item.uid,
        kind=outcome.kind,
        status=outcome.status,
        cause=outcome.cause,
        message=outcome.message,
        metrics=outcome.metrics,
        objectives=outcome.objectives,
        facts=outcome.facts,
        measured={name: value for name, value in outcome.measured.items() if name not in MOMENTS},
        curve=tuple(_curve(paths, item)),
    )


def _curve(paths: SweepPaths, item: LedgerItem) -> list[dict[str, float]]:
    file = paths.run(item.uid, item.attempt).curves
    if not file.is_file():
        return []
    lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in ("at", "epoch")} for line in lines]
