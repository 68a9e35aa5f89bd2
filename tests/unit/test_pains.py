"""What users of samplers, GPUs and benchmarks complain about does not happen here; no sweep is needed to see it.

One test per pain: its name says what holds instead, its docstring the pain and the threads. The other pains stand in
``flow/test_pains.py``.
"""

import json
import os
import re
import string
import subprocess
import sys
from collections import Counter

import pytest
import torch
from rdkit import Chem
from sweep_fakes import drive, engine_on, failed, finished, grid_space, opened, swept
from tracked_sweep import seven_items

from chembench import cli, trial
from chembench.chem.tokens import SmilesTokenizer
from chembench.data.catalog import TaskDef
from chembench.data.splits import Division, load_rows, load_sealed, prepare_split
from chembench.data.tasks import prepare_task
from chembench.paths import CachePaths, read_json
from chembench.registry import SPLITTERS
from chembench.sweep.space import ResourceShape


def test_sweeps_that_begin_at_once_share_a_database_that_is_not_there_yet(tmp_path):
    """ "database is locked", and migrations that break each other.

    optuna/optuna#820, #815, #6036, #4034; mlflow/mlflow#4123; daizutabi/hydraflow#245
    """
    sweeps = [seven_items(tmp_path / "sweeps" / name) for name in ("one", "two")]
    command = [sys.executable, "-m", "chembench.tracking.mlflow_sync", "--sweep"]
    senders = [
        subprocess.Popen(
            [*command, str(made.paths.root)], env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for made in sweeps
    ]
    for sender in senders:
        out, err = sender.communicate()
        report = json.loads(out.splitlines()[-1])
        assert (sender.returncode, report["sent"], report["unsent"], report["message"]) == (0, 7, 0, ""), err


def test_the_same_point_is_not_trained_twice(tmp_path):
    """The sampler suggests the same point again, and it is paid for again.

    optuna/optuna#2021, #3055, #4627, #5489, #5780, #5153
    """
    recipe = {"method": {"choice": ["full", "linear_probe"]}, "learning_rate": 1e-3}
    state, works = swept(grid_space(finetune=recipe, search__trials=6), tmp_path)
    uids = [[point.uid for point in points.values()] for points in state.asked.values()]
    assert all(len(study) == 6 and len(set(study)) <= 2 for study in uids)
    assert state.asked_twice == sum(6 - len(set(study)) for study in uids) >= 4 * len(uids)
    assert max(Counter(work.uid for work in works).values()) == 1


def test_an_item_may_hold_no_more_of_a_gpu_than_it_was_scheduled_for(tmp_path, monkeypatch):
    """A fraction of a GPU is no limit of its memory.

    ray-project/ray#5902, #20563, #23971, #30414, #14873, #35908, #44914
    """
    limits: list[float] = []
    known: list[float] = []
    for name in ("reset_peak_memory_stats", "is_available"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    measured = {"device": "cuda", "peak_memory_mib": 7_000.0, "device_memory_mib": 80_000.0}
    space = grid_space(controls__baselines=[], resources={"cpus": 1, "gpus": 1, "pack": True, "precision": "bf16"})
    scheduled: list[ResourceShape] = []
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)

        def run(work):
            known.append(trial._start(work).memory_share)
            scheduled.append(engine.shape_of(work))
            larger = work.memory_fraction < 1 and len(scheduled) % 5 == 0
            return failed(work, "oom") if larger else finished(work).model_copy(update={"measured": measured})

        works = drive(engine, run)
    assert limits == known == [shape.gpus for shape in scheduled] and set(limits) == {1.0, 0.125}
    again = [work for work in works if work.attempt == 2]
    assert again and {work.memory_fraction for work in again} == {1.0}
    assert {item.status for item in ledger.state.items.values()} == {"finished"}


@pytest.mark.parametrize("name", list(SPLITTERS))
def test_no_molecule_is_learnt_from_and_tested_on(name, tmp_path):
    """The same molecule is in training and test, written in two ways.

    mims-harvard/TDC#217, #158, #166; deepchem/deepchem#3122, #2336, #967, #3512; MolCA#6
    """
    rings = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCNCC1", "c1ccsc1", "c1ccoc1", "C1CCOCC1", "c1ccc2ccccc2c1")
    once = [f"C1CCCCC1{'C' * size}{ring}" for size in range(1, 11) for ring in rings]
    again = [Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(text), 1, randomSeed=7)[0] for text in once]
    assert sum(one != other for one, other in zip(once, again, strict=True)) > 70
    file = tmp_path / "assay.csv"
    file.write_text("smiles,y\n" + "".join(f"{text},{row}\n" for row, text in enumerate([*once, *again])))
    cache = CachePaths(tmp_path / "cache")
    task = prepare_task(TaskDef(name="own", kind="regression", file=str(file), targets=("y",)), tmp_path, cache)
    assert read_json(cache.task(task.digest) / "manifest.json")["duplicates"] == 80
    for index in (0, 1):
        split = prepare_split(task, Division(name, 3, index), cache)
        train, valid = (set(load_rows(split.folder, part).smiles) for part in ("train", "valid"))
        test = set(load_sealed(split.sealed_folder).smiles)
        assert len(train) + len(valid) + len(test) == len(once) == len(train | valid | test)


def test_a_tokenizer_that_confuses_molecules_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    """A broken tokenizer was shipped: it drops what it does not know, and nobody noticed.

    deepchem/deepchem#4253; seyonechithrananda/bert-loves-chemistry#59
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *set(string.printable) - {"l"}])}
    split = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    broken = {"version": "1.0", "added_tokens": [], "pre_tokenizer": split, "model": model}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(broken))
    assert cli.run(["sweep", "--space", "quickstart", "--set", f"tokenizer.file={str(file)!r}", "--quiet"]) == 2
    assert re.search(r"keep different molecules apart.*l.*allow_lossy", capsys.readouterr().err)
    assert not (tmp_path / "sweeps").exists()
    ours = SmilesTokenizer()
    for smiles in ("CCl", "[Cl-].[NH4+]", "C[C@@H](F)Br", "[2H]C([Xe])=[U@OH25]"):
        assert ours.decode(ours.encode(smiles)) == smiles
