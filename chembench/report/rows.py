"""Result rows: every item of a sweep as one flat record, the only thing that boards are made of.

A sweep's state is read through the protocols below, so that rows can be made from a ledger, a merge or a table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from chembench.config import collection_paused
from chembench.models.sizes import training_flops
from chembench.recorded.table import is_unrecorded
from chembench.specs import (
    BaselineSpec,
    Cell,
    FinetuneSpec,
    Kind,
    Outcome,
    PretrainSpec,
    TaskKind,
    TrialSpec,
)

ItemStatus = Literal["waiting", "running", "finished", "pruned", "failed"]

MEASURED = frozenset({"attempt", "device_hours", "wall_seconds", "peak_memory_mib", "device", "message"})
"""Columns that differ when the same sweep is run again; a comparison of two sweeps leaves them out."""

_COUNTS = ("objective", "best_epoch", "epochs")


class Record(Protocol):
    """What a row needs of one item."""

    @property
    def uid(self) -> str: ...
    @property
    def spec(self) -> PretrainSpec | TrialSpec | BaselineSpec: ...
    @property
    def cell(self) -> Cell | None: ...
    @property
    def labels(self) -> Mapping[str, Any]: ...
    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def status(self) -> str: ...
    @property
    def superseded(self) -> bool: ...


class State(Protocol):
    """What rows and boards need of a sweep."""

    @property
    def name(self) -> str: ...
    @property
    def space_digest(self) -> str: ...
    @property
    def header(self) -> Mapping[str, Any]: ...
    @property
    def items(self) -> Mapping[str, Record]: ...
    @property
    def openings(self) -> Mapping[str, Sequence[tuple[str, str]]]: ...
    @property
    def extensions(self) -> Mapping[str, int]: ...


class ResultRow(BaseModel):
    """One item of a sweep: what it was, what came out, what it cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    uid: str
    attempt: int | None = None
    sweep: str
    space_digest: str
    kind: Kind
    method: str
    """Name of the cell, or of the baseline."""
    architecture: str | None = None
    size: str | None = None
    molecules: int | None = None
    """Pre-training molecules of the cell; 0 is from scratch."""
    settings: dict[str, str | bool | int | float] = {}
    """Further axes of the grid, such as ``finetune.method``; of a pre-training those that concern it."""
    parameters: int | None = None
    pretrain_uid: str | None = None
    trunk: str | None = None
    """Uid of the smallest pre-training on the trunk that this one, or that of the trial, shares: rows of one trunk are
    not independent, they have one seed and one order of molecules."""
    continues: str | None = None
    """Of a pre-training: uid of the smaller scale whose state before the decay it began with."""
    pretrain_seed: int | None = None
    """Index of the pre-training seed, of the initial weights where there was no pre-training."""
    study: str | None = None
    """The unit of search that asked for it: cell x task in a grid, task in an adaptive space."""
    ordinal: int | None = None
    task: str | None = None
    task_kind: TaskKind | None = None
    unit: str | None = None
    data: str | None = None
    """Digest of the training and validation rows; of the corpus for a pre-training."""
    split: int | None = None
    outer: int | None = None
    """Index of the outer test set; 0 is the named split's own."""
    head_seed: int | None = None
    """Index of the seed of the head, or of the baseline."""
    recipe: str | None = None
    """Digest of the hyper-parameters of fine-tuning."""
    finetune: FinetuneSpec | None = None
    metrics: dict[str, float] = {}
    """``valid_rmse``, ``test_roc_auc``...: part of the data, then the metric."""
    objective: float | None = None
    """On validation; lower is better."""
    best_epoch: int | None = None
    epochs: float | None = None
    superseded: bool = False
    """A confirm run of a recipe that another has taken the place of; no board counts it."""
    recipe_changed: bool = False
    """Of a confirm run: the test was opened for another recipe, too."""
    extended: bool = False
    """Of a confirm run: its line was given more head seeds after its test scores had been seen."""
    recipe_reused: bool = False
    """Of a confirm run: its recipe was chosen on another division, whose search saw molecules of this test."""
    untuned: bool = False
    replayed: bool = False
    """Recorded elsewhere and given back by a replay, not measured by the sweep."""
    pretrain_flops: float | None = None
    """Of a pre-training: estimated operations of all molecules behind it, those of its trunk too."""
    deterministic: bool = False
    """The seed changes nothing."""
    molecules_seen: int | None = None
    """Those that the item itself was shown, not those of a trunk that it continues."""
    molecules_shared: int | None = None
    """Of a pre-training on a shared trunk: those that the scales below were shown, and it was not again."""
    status: ItemStatus
    cause: str | None = None
    device_hours: float | None = None
    """Of the attempt that ended; of a checkpoint found in the cache, what it cost when it was built."""
    wall_seconds: float | None = None
    peak_memory_mib: float | None = None
    device: str | None = None
    message: str = ""


def rows_from_state(state: State) -> list[ResultRow]:
    """One row per item, whatever became of it, in an order that does not depend on when the items ended."""
    with collection_paused():
        rows = [row_from_record(state, record) for record in state.items.values()]
        return sorted(rows, key=_order)


def row_from_record(state: State, record: Record) -> ResultRow:
    """The row of one item."""
    return ResultRow.model_validate(
        {
            "uid": record.uid,
            "sweep": state.name,
            "space_digest": state.space_digest,
            "kind": record.spec.kind,
            "study": record.labels.get("unit"),
            "ordinal": record.labels.get("ordinal"),
            "status": record.status,
            "replayed": record.spec.recorded is not None,
            **_cell_fields(record),
            **_spec_fields(state, record),
            **(_outcome_fields(record.spec, record.outcome) if record.outcome else {}),
        }
    )


def _cell_fields(record: Record) -> dict[str, Any]:
    cell = record.cell
    if cell is not None:
        return {"method": cell.name, **cell.model_dump()}
    if isinstance(record.spec, BaselineSpec):
        return {"method": record.spec.baseline}
    architecture = record.spec.model.architecture
    return {"method": architecture, "architecture": architecture}


def _spec_fields(state: State, record: Record) -> dict[str, Any]:
    spec, labels = record.spec, record.labels
    if isinstance(spec, PretrainSpec):
        settings = record.cell.settings if record.cell else {}
        return {
            "pretrain_uid": record.uid,
            "trunk": trunk_of(state.items, record.uid),
            "continues": spec.continues,
            "molecules": spec.molecules,
            "settings": {key: value for key, value in settings.items() if key.startswith("pretrain.")},
            "data": spec.corpus,
            "pretrain_seed": labels.get("pretrain_seed", spec.seed),
        }
    task = state.header["tasks"][spec.task]
    fields = {
        "task": spec.task,
        "task_kind": spec.task_kind,
        "unit": task.get("unit"),
        "data": spec.data,
        "split": spec.split,
        "outer": spec.outer,
    }
    if isinstance(spec, BaselineSpec):
        return fields | {"head_seed": labels.get("head_seed", spec.seed)}
    recipe = None if spec.recorded and is_unrecorded(spec.finetune) else spec.finetune
    return fields | {
        "superseded": record.superseded,
        "recipe_reused": spec.kind == "confirm" and bool(spec.outer) and not _is_nested(state),
        "extended": spec.kind == "confirm" and str(labels.get("unit")) in state.extensions,
        "recipe_changed": spec.kind == "confirm" and len(state.openings.get(str(labels.get("unit")), ())) > 1,
        "pretrain_uid": spec.pretrained,
        "trunk": trunk_of(state.items, spec.pretrained),
        "pretrain_seed": labels.get("pretrain_seed", 0),
        "head_seed": labels.get("head_seed", spec.head_seed),
        "recipe": recipe and recipe.digest,
        "finetune": recipe,
    }


def _is_nested(state: State) -> bool:
    return bool(state.header.get("confirm", {}).get("outer_search") == "nested")


def trunk_of(items: Mapping[str, Record], uid: str | None) -> str | None:
    """Uid of the smallest pre-training on the trunk of another; none where no trunk is shared."""
    record = items.get(uid) if uid is not None else None
    if record is None or not isinstance(record.spec, PretrainSpec) or not record.spec.share_trunk:
        return None
    return trunk_of(items, record.spec.continues) or record.uid


def _outcome_fields(spec: PretrainSpec | TrialSpec | BaselineSpec, outcome: Outcome) -> dict[str, Any]:
    scores = {name.replace("/", "_"): value for name, value in outcome.metrics.items() if name not in _COUNTS}
    facts, measured = outcome.facts, outcome.measured
    cost = measured.get("built") if measured.get("reused") else None
    epochs = outcome.metrics.get("epochs")
    seen, flops, shared = None, None, facts.get("molecules_shared")
    if isinstance(spec, PretrainSpec) and epochs is not None:
        seen = epochs * spec.molecules - (shared or 0)
        flops = training_flops(spec.model, spec.outputs, epochs * spec.molecules)
    return {
        "attempt": outcome.attempt,
        "metrics": dict(sorted(scores.items())),
        "objective": outcome.metrics.get("objective"),
        "best_epoch": _whole(outcome.metrics.get("best_epoch")),
        "epochs": epochs,
        "parameters": facts.get("parameters"),
        "untuned": facts.get("untuned", False),
        "deterministic": facts.get("deterministic", False),
        "molecules_shared": shared,
        "pretrain_flops": flops,
        "molecules_seen": _whole(measured.get("molecules_seen") if seen is None else seen),
        "cause": outcome.cause,
        "message": outcome.message,
        "device_hours": (cost or measured).get("device_hours"),
        "wall_seconds": measured.get("wall_seconds"),
        "peak_memory_mib": measured.get("peak_memory_mib"),
        "device": measured.get("device_name", measured.get("device")),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _order(row: ResultRow) -> tuple[Any, ...]:
    indices = (row.outer, row.pretrain_seed, row.split, row.head_seed, row.ordinal)
    return (
        row.task or "",
        row.kind,
        row.architecture or "",
        row.size or "",
        -1 if row.molecules is None else row.molecules,
        row.method,
        tuple(-1 if index is None else index for index in indices),
        row.uid,
    )


def rows_as_csv(rows: Iterable[ResultRow]) -> str:
    """All rows as CSV: fixed columns, then one per hyper-parameter, then one per metric that any row has.

    Numbers are not rounded; an empty cell means that there is no such value.
    """
    kept = sorted(rows, key=_order)
    plain = [name for name in ResultRow.model_fields if name not in ("finetune", "metrics")]
    recipe = list(FinetuneSpec.model_fields)
    metrics = sorted({name for row in kept for name in row.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *(f"finetune_{name}" for name in recipe), *metrics])
    for row in kept:
        values = [
            json.dumps(row.settings, sort_keys=True) if name == "settings" else getattr(row, name) for name in plain
        ]
        values += [getattr(row.finetune, name, None) for name in recipe]
        writer.writerow(values + [row.metrics.get(name) for name in metrics])
    return text.getvalue()


def rows_as_json(rows: Iterable[ResultRow]) -> str:
    """All rows as JSON, with the names of the columns that are measured."""
    kept = [row.model_dump(mode="json") for row in sorted(rows, key=_order)]
    document = {"schema_version": 1, "measured": sorted(MEASURED), "rows": kept}
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
