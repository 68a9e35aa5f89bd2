"""Small result rows with hand-worked numbers, and a sweep state made of the real classes."""

from chembench.report.board import Design, TaskFacts
from chembench.report.rows import ResultRow
from chembench.specs import BaselineSpec, Cell, FinetuneSpec, ModelSpec, Outcome, PretrainSpec, TrialSpec
from chembench.sweep.state import ItemRecord, SweepState

REGRESSION = {"delaney": TaskFacts(kind="regression", unit="log mol/L")}
RECIPE = FinetuneSpec(learning_rate=1e-3, max_epochs=5)
MODEL = ModelSpec(
    architecture="roberta", hidden=64, ffn=256, layers=2, heads=2, vocabulary=200, pad_id=1, bos_id=0, eos_id=2
)


def design(**changes):
    promised = {"sweep": "s", "tasks": REGRESSION, "head_seeds": 3, "cells": ("roberta-w64x2-1000",)}
    return Design(**(promised | changes))


def row(uid, **changes):
    """A finished confirm run of one cell, unless told otherwise."""
    fields = {
        "uid": uid,
        "sweep": "s",
        "space_digest": "d",
        "kind": "confirm",
        "method": "roberta-w64x2-1000",
        "architecture": "roberta",
        "size": "w64x2",
        "molecules": 1000,
        "parameters": 105_000,
        "pretrain_uid": "p0",
        "pretrain_seed": 0,
        "task": "delaney",
        "task_kind": "regression",
        "unit": "log mol/L",
        "split": 0,
        "head_seed": 0,
        "recipe": RECIPE.digest,
        "finetune": RECIPE,
        "status": "finished",
        "epochs": 5,
        "device_hours": 0.5,
    }
    return ResultRow(**(fields | changes))


def scored(uid, test, head_seed=0, valid=1.0, **changes):
    metrics = {
        "test_rmse": test,
        "valid_rmse": valid,
        "test_mae": test / 2,
        "test_r2": 0.5,
        "test_rmse_normalised": test,
    }
    return row(uid, head_seed=head_seed, metrics=metrics, **changes)


def three(name, scores, method="roberta-w64x2-1000", **changes):
    """Three head seeds of one method."""
    return [scored(f"{name}{seed}", score, seed, method=method, **changes) for seed, score in enumerate(scores)]


def forest(scores=(1.8, 1.7, 1.9), **changes):
    own = {
        "kind": "baseline",
        "architecture": None,
        "size": None,
        "molecules": None,
        "parameters": None,
        "pretrain_uid": None,
        "pretrain_seed": None,
        "recipe": None,
        "finetune": None,
        "epochs": None,
        "untuned": True,
    }
    return three("f", scores, method="forest_ecfp4", **(own | changes))


def pretraining(uid, loss, seed=0, molecules=1000, **changes):
    fields = {
        "kind": "pretrain",
        "method": f"roberta-w64x2-{molecules}",
        "molecules": molecules,
        "pretrain_uid": uid,
        "pretrain_seed": seed,
        "task": None,
        "task_kind": None,
        "split": None,
        "head_seed": None,
        "recipe": None,
        "finetune": None,
        "metrics": {"valid_loss": loss},
        "epochs": 3,
        "molecules_seen": 3 * molecules,
        "device_hours": 2.0,
    }
    return row(uid, **(fields | changes))


# ------------------------------------------------------------------------------------------------ a whole sweep


def _outcome(record, metrics, *, epochs=5.0, **changes):
    known = {
        "uid": record.uid,
        "attempt": 1,
        "kind": record.spec.kind,
        "status": "finished",
        "metrics": metrics | {"objective": 0.4, "epochs": epochs},
        "facts": {"parameters": 104_999},
        "measured": {"device_hours": 0.0123, "wall_seconds": 44.28, "peak_memory_mib": 512.0, "device_name": "cpu"},
    }
    record.outcome = Outcome(**(known | changes))
    record.status, record.attempt = record.outcome.status, 1
    return record


def _scores(kind, value):
    names = ("rmse", "mae", "r2", "rmse_normalised") if kind == "regression" else ("roc_auc", "pr_auc", "mcc")
    return {f"{part}/{name}": value + 0.01 * place for part in ("valid", "test") for place, name in enumerate(names)}


def _trial(kind, cell, task, task_kind, ordinal, pretrained):
    spec = TrialSpec(
        kind=kind,
        model=MODEL.model_copy(update={"architecture": cell.architecture}),
        pretrained=pretrained,
        descriptors=105,
        tokenizer="t",
        task=task,
        task_kind=task_kind,
        targets=1,
        data="data",
        test_rows="rows",
        sealed="sealed" if kind == "confirm" else None,
        finetune=RECIPE,
        head_seed=ordinal,
    )
    labels = {"task": task, "unit": f"{cell.name}/{task}", "pretrain_seed": 0, "split": 0, "head_seed": ordinal}
    return ItemRecord(spec.digest, spec, cell, labels)


def _baseline(name, task, task_kind, seed):
    spec = BaselineSpec(
        baseline=name, task=task, task_kind=task_kind, targets=1, data="data", test_rows="r", sealed="s", seed=seed
    )
    return ItemRecord(spec.digest, spec, None, {"task": task, "split": 0, "head_seed": seed, "pretrain_seed": None})


def _pretraining(cell):
    model = MODEL.model_copy(update={"architecture": cell.architecture})
    spec = PretrainSpec(
        model=model, outputs=105, molecules=cell.molecules, corpus="c", labels="l", tokenizer="t", learning_rate=1e-3
    )
    return ItemRecord(spec.digest, spec, cell, {"pretrain_seed": 0})


TASKS = {
    "bace_classification": {"kind": "classification", "unit": "", "note": "", "targets": ["Class"]},
    "delaney": {"kind": "regression", "unit": "log mol/L", "note": "", "targets": ["y"]},
    "freewilson_pic50": {
        "kind": "regression",
        "unit": "pIC50",
        "note": "one congeneric series, demonstration",
        "targets": ["y"],
    },
}


def _records(cells):
    found = []
    for place, cell in enumerate(cells):
        pretrained = None
        if cell.molecules:
            made = _pretraining(cell)
            pretrained = made.uid
            found.append(_outcome(made, {"valid/loss": 0.51 + place / 7}, epochs=3.0))
        for task, facts in TASKS.items():
            search = [_trial("search", cell, task, facts["kind"], k, pretrained) for k in range(2)]
            confirm = [_trial("confirm", cell, task, facts["kind"], k, pretrained) for k in range(3)]
            found += [_outcome(record, {}) for record in search]
            for seed, record in enumerate(confirm):
                value = 0.61803398875 + place / 13 + seed / 29
                found.append(_outcome(record, _scores(facts["kind"], value)))
    return found


def whole_state():
    """Two architectures, a scale and from scratch, three tasks; one cell lost a replicate on delaney."""
    cells = [Cell(architecture=a, size="w64x2", molecules=m) for a in ("roberta", "bart") for m in (4000, 0)]
    records = _records(cells)
    for task, facts in TASKS.items():
        for name, count in (("forest_ecfp4", 3), ("constant", 1)):
            for seed in range(count):
                record = _baseline(name, task, facts["kind"], seed)
                kept = {"untuned": True, "deterministic": name == "constant"}
                found = _outcome(record, _scores(facts["kind"], 0.7 + seed / 50), facts=kept)
                found.outcome.metrics.pop("epochs")
                records.append(found)
    lost = next(r for r in records if r.spec.kind == "confirm" and r.spec.task == "delaney" and r.cell == cells[2])
    _outcome(lost, {}, status="failed", cause="oom", message="out of memory")
    header = {
        "tasks": TASKS,
        "cells": [cell.canonical() for cell in cells if cell.molecules],
        "confirm": {"pretrain_seeds": 1, "splits": 1, "head_seeds": 3, "rescore_top": 1, "rescore_seeds": 1},
    }
    items = {record.uid: record for record in records}
    return SweepState(name="demo", space_digest="abc", header=header, items=items)
