"""A sweep of seven items, written by hand through the real ledger."""

import os

from chembench.appended import append_line
from chembench.paths import SweepPaths, write_json
from chembench.specs import BaselineSpec, Cell, FinetuneSpec, ModelSpec, Outcome, PretrainSpec, TrialSpec
from chembench.sweep.ledger import Ledger
from chembench.sweep.reading import read_space

MODEL = ModelSpec(
    architecture="roberta", hidden=8, ffn=16, layers=1, heads=2, vocabulary=256, pad_id=0, bos_id=1, eos_id=2
)
CELL = Cell(architecture="roberta", size="w8x1", molecules=64)
PRETRAIN = PretrainSpec(
    model=MODEL,
    outputs=3,
    molecules=64,
    corpus="c" * 12,
    labels="1" * 12,
    tokenizer="t" * 12,
    learning_rate=1e-3,
    epochs=2,
)
STARTED_AT = 1_700_000_000.0


def trial(kind, task="solubility", task_kind="regression", head_seed=0, learning_rate=1e-3):
    return TrialSpec(
        kind=kind,
        model=MODEL,
        pretrained=PRETRAIN.digest,
        descriptors=3,
        tokenizer="t" * 12,
        task=task,
        task_kind=task_kind,
        targets=1,
        data="d" * 12,
        test_rows="r" * 12,
        sealed="5" * 12 if kind == "confirm" else None,
        finetune=FinetuneSpec(learning_rate=learning_rate),
        head_seed=head_seed,
    )


SEARCH, PRUNED, FAILED, RUNNING = (trial("search", learning_rate=rate) for rate in (1e-3, 2e-3, 3e-3, 4e-3))
CONFIRM = trial("confirm")
BASELINE = BaselineSpec(
    baseline="forest_ecfp4",
    task="toxicity",
    task_kind="classification",
    targets=2,
    data="e" * 12,
    test_rows="r" * 12,
    sealed="6" * 12,
)


class FakeSweep:
    """A sweep whose results are written by hand, through the real ledger."""

    def __init__(self, root):
        self.paths = SweepPaths(root)
        root.mkdir(parents=True)
        self.paths.space.write_text('name = "tiny"\n')
        header = {
            "at": STARTED_AT,
            "command": ["chembench", "sweep", "--space", "tiny"],
            "versions": {"torch": "2.13.0"},
            "space": read_space("full_grid_tiny").as_data(),
            "tasks": {"solubility": {"kind": "regression", "unit": "log mol/L", "note": "", "targets": ["logS"]}},
        }
        self.append({"event": "sweep", "name": root.name, "space_digest": "5" * 12, "header": header})

    def append(self, *events):
        with Ledger(self.paths) as ledger:
            for event in events:
                ledger.append(event)

    def add(self, spec, cell=CELL, **labels):
        event = {"uid": spec.digest, "spec": spec.canonical(), "cell": cell and cell.canonical(), "labels": labels}
        self.append({"event": "item", **event})

    def start(self, spec, attempt=1):
        self.append({"event": "started", "uid": spec.digest, "attempt": attempt})
        file = self.paths.run(spec.digest, attempt).spec
        write_json(file, {"uid": spec.digest})
        os.utime(file, (STARTED_AT + 100 * attempt, STARTED_AT + 100 * attempt))

    def epochs(self, spec, values, attempt=1, first=1):
        for epoch, entry in enumerate(values, start=first):
            at = STARTED_AT + 100 * attempt + epoch
            append_line(self.paths.run(spec.digest, attempt).curves, {"epoch": epoch, "at": at, **entry})

    def end(self, spec, status="finished", attempt=1, again=False, **fields):
        measured = {
            "started_at": STARTED_AT + 100 * attempt,
            "ended_at": STARTED_AT + 100 * attempt + 10,
            "wall_seconds": 10.0,
            "device_hours": 0.003,
            "peak_memory_mib": 300.0,
            "device": "cpu",
            "device_name": "a processor",
        }
        outcome = Outcome(
            uid=spec.digest, attempt=attempt, kind=spec.kind, status=status, **{"measured": measured, **fields}
        )
        folder = self.paths.run(spec.digest, attempt)
        write_json(folder.result, outcome.model_dump(mode="json"))
        result = {"uid": spec.digest, "again": again, "outcome": outcome.model_dump(mode="json")}
        self.append({"event": "result", **result})

    def again(self, seed):
        """One more search trial, which has finished; its specification."""
        spec = trial("search", head_seed=seed)
        self.add(spec, study="roberta/solubility", ordinal=seed, task="solubility", head_seed=seed)
        self.start(spec)
        self.epochs(spec, curve(0.6))
        self.end(spec, metrics={"objective": 0.6})
        return spec

    def finish(self):
        self.append({"event": "finished"})


def curve(*objectives):
    return [
        {"train/loss": 2 * o, "valid/loss": o, "valid/rmse": 3 * o, "objective": o, "seconds": 1.0} for o in objectives
    ]


def seven_items(root):
    """Pre-training, three search trials (finished, pruned, failed), one running, one confirm, one baseline."""
    made = FakeSweep(root)
    made.add(PRETRAIN, pretrain_seed=0)
    for ordinal, spec in enumerate((SEARCH, PRUNED, FAILED, RUNNING)):
        made.add(spec, study="roberta/solubility", ordinal=ordinal, task="solubility", head_seed=0)
    made.add(CONFIRM, task="solubility", unit="u", pretrain_seed=0, split=0, head_seed=0)
    made.add(BASELINE, cell=None, task="toxicity", split=0, head_seed=0)
    for spec in (PRETRAIN, SEARCH, PRUNED, FAILED, RUNNING, CONFIRM, BASELINE):
        made.start(spec)
    made.epochs(PRETRAIN, [{"train/loss": 0.9, "valid/loss": 0.8}, {"train/loss": 0.7, "valid/loss": 0.6}])
    made.end(PRETRAIN, metrics={"valid/loss": 0.6, "epochs": 2.0}, facts={"parameters": 1234})
    made.epochs(SEARCH, curve(0.9, 0.5, 0.7))
    best = {"valid/rmse": 1.5, "valid/mae": 1.1, "objective": 0.5, "best_epoch": 2.0, "epochs": 3.0}
    made.end(SEARCH, metrics=best, facts={"parameters": 2345})
    made.epochs(PRUNED, curve(1.5))
    made.end(PRUNED, "pruned", metrics={"valid/rmse": 4.5, "objective": 1.5, "best_epoch": 1.0})
    made.paths.run(FAILED.digest, 1).error.write_text("Traceback: out of memory\n")
    made.end(FAILED, "failed", cause="oom", message="the model does not fit")
    made.epochs(RUNNING, curve(0.8))
    made.epochs(CONFIRM, curve(0.5))
    made.paths.run(CONFIRM.digest, 1).predictions.write_text("part,row,smiles,target,measured,predicted\n")
    made.end(CONFIRM, metrics={**best, "test/rmse": 1.6, "test/mae": 1.2})
    made.end(BASELINE, metrics={"valid/roc_auc": 0.8, "test/roc_auc": 0.75, "objective": 0.2})
    return made
