"""Sweeps of any length for benchmarks: planned and recorded by chembench's own engine, with outcomes that are made up.

18 cells and their controls on six tasks, as `full_grid` has, but nothing is trained: a method's score is its own level,
what its checkpoint and its head seed add, and noise, all drawn from the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rdkit import RDConfig

from chembench.api import load_space, open_engine
from chembench.config import stable_seed
from chembench.paths import RunPaths, write_json
from chembench.specs import Outcome, Work
from chembench.sweep.plugin import Engine
from chembench.sweep.space import Space

ROWS = 128
TASK = """
[task.{name}]
kind = "{kind}"
file = "{name}.csv"
smiles = "smiles"
targets = ["value"]
split = "random"
"""
SPACE = """
name = "made_up"
tasks = [{tasks}]
{tables}
[corpus]
files = ["rdkit:NCI/first_5K.smi"]
validation = 64
[labels]
descriptors = "paper105"
statistics_molecules = 64
[grid]
architecture = ["roberta", "bart", "llama"]
size = ["w16x1", "w32x1"]
molecules = [64, 128, 192]
[controls]
from_scratch = true
baselines = ["forest_ecfp4", "forest_descriptors", "constant"]
[pretrain]
epochs = 1
learning_rate = 1e-3
batch_size = 32
[finetune]
method = {{ choice = ["full", "lora", "linear_probe"] }}
learning_rate = {{ low = 3e-4, high = 3e-3, log = true }}
dropout = {{ low = 0.0, high = 0.2, when = {{ method = "full" }} }}
max_epochs = 20
[search]
sampler = "random"
trials = {trials}
ask_window = 4
[confirm]
rescore_top = 3
rescore_seeds = 3
pretrain_seeds = 3
splits = 1
head_seeds = 5
"""
TASKS = {f"{kind}_{number}": kind for kind in ("regression", "classification") for number in range(3)}
EPOCHS = 20


def space_in(folder: Path, trials: int) -> Space:
    """The space, with the files of its tasks in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
    smiles = [words[0] for words in map(str.split, lines) if words and len(words[0]) < 40]
    tables = []
    for name, kind in TASKS.items():
        draw = np.random.default_rng(stable_seed(name))
        labels = draw.normal(size=ROWS) if kind == "regression" else draw.integers(2, size=ROWS)
        rows = (f"{molecule},{label}" for molecule, label in zip(smiles, labels, strict=False))
        (folder / f"{name}.csv").write_text("\n".join(["smiles,value", *rows]) + "\n")
        tables.append(TASK.format(name=name, kind=kind))
    names = ", ".join(f'"{name}"' for name in TASKS)
    file = folder / "made_up.toml"
    file.write_text(SPACE.format(tasks=names, tables="".join(tables), trials=trials))
    return load_space(str(file))


def _drawn(*parts: object) -> float:
    return float(np.random.default_rng(stable_seed(*parts)).normal())


def outcome_of(work: Work) -> Outcome:
    """What the specification alone decides, with the files that a worker leaves."""
    paths, spec = RunPaths(Path(work.folder)), work.spec
    if work.inputs.checkpoint:  # one that is missing would be made again, for ever
        Path(work.inputs.checkpoint).mkdir(parents=True, exist_ok=True)
    method = spec.baseline if spec.kind == "baseline" else work.cell.name if work.cell else ""
    level = 0.02 * _drawn("method", method) + 0.01 * _drawn("run", spec.digest)
    level += 0.01 * _drawn("checkpoint", method, work.labels.get("pretrain_seed"))
    metrics = {"valid/loss": 0.5 + level, "train/loss": 0.4 + level}
    if spec.kind != "pretrain":
        kind = spec.task_kind
        parts = ("valid", "test") if spec.kind in ("confirm", "baseline") else ("valid",)
        scores = (
            {"rmse": 0.7 + level, "rmse_normalised": 0.6 + level, "mae": 0.5 + level, "r2": 0.5 - level}
            if kind == "regression"
            else {"roc_auc": 0.8 - level, "pr_auc": 0.7 - level, "mcc": 0.4 - level}
        )
        metrics |= {f"{part}/{name}": value for part in parts for name, value in scores.items()}
        metrics |= {"objective": 0.6 + level, "best_epoch": 11.0, "epochs": float(EPOCHS)}
    outcome = Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status="finished",
        metrics=metrics,
        objectives=tuple(0.6 + level + 1 / (epoch + 1) for epoch in range(EPOCHS)) if spec.kind == "search" else (),
        facts={"parameters": 1_000_000, "checkpoint": getattr(spec, "pretrained", None), "undefined": []},
        measured={"wall_seconds": 1.0, "device_hours": 1 / 3600, "device": "cpu", "molecules_seen": 2000},
    )
    write_json(paths.spec, work.model_dump(mode="json"))
    write_json(paths.result, outcome.model_dump(mode="json"))
    return outcome


def driven(folder: Path, space: Space, name: str, enough: Callable[[Engine], bool]) -> None:
    """A sweep under ``folder`` that was left as soon as there was ``enough``.

    Raises:
        ClickException: if it came to its end before.
    """
    with open_engine(space, name=name, out=folder, cache_dir=folder / "cache") as engine:
        while not enough(engine):
            work = engine.ask()
            if work is None:
                raise click.ClickException(f"the sweep ended with {len(engine.state.items)} items; ask for fewer")
            engine.tell(outcome_of(work))


def finished(engine: Engine) -> int:
    """Items that are over."""
    return sum(item.is_final for item in engine.state.items.values())
