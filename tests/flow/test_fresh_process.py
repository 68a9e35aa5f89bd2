"""An item carried out in a process that has done hundreds of others equals the same item in a fresh one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chembench.paths import RunPaths
from chembench.specs import Outcome, TrialSpec, Work

FRESH = """
import os, sys
import peft, torch, transformers
from chembench.specs import Work
from chembench.trial import run_item
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run_item(Work.model_validate_json(line))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
"""Imports once; each item has a process of its own, in which nothing ran before."""


def last_of_each_kind(swept, methods):
    """The pre-training and the trial of each method that came last, each as the work it was."""
    found = {}
    state = swept.view.state()
    for uid, item in state.items.items():
        if item.status != "finished":
            continue
        if item.kind == "pretrain":
            found["pretrain"] = uid
        elif isinstance(item.spec, TrialSpec) and item.spec.pretrained and item.spec.finetune.method in methods:
            found[item.spec.finetune.method] = uid
    assert set(found) == {"pretrain", *methods}
    read = {}
    for what, uid in found.items():
        folder = swept.view.paths.run(uid, state.items[uid].attempt)
        read[what] = Work.model_validate(json.loads(folder.spec.read_text()))
    return read


@pytest.fixture(scope="module")
def pairs(serial, paper, tmp_path_factory):
    """What -> (the work in the long process, the same work in a fresh one)."""
    folder = tmp_path_factory.mktemp("fresh")
    used = last_of_each_kind(serial["full_grid_tiny"], ("full", "lora", "linear_probe"))
    used["descriptor_probe"] = last_of_each_kind(paper, ("descriptor_probe",))["descriptor_probe"]
    fresh = {}
    for what, work in used.items():
        inputs = work.inputs
        if what == "pretrain":
            inputs = inputs.model_copy(update={"checkpoint": str(folder / "checkpoint")})
        fresh[what] = work.model_copy(update={"folder": str(folder / what), "inputs": inputs})
    lines = "".join(work.model_dump_json() + "\n" for work in fresh.values())
    subprocess.run([sys.executable, "-c", FRESH], input=lines, text=True, check=True)
    return {what: (used[what], fresh[what]) for what in used}


@pytest.mark.parametrize("what", ["pretrain", "full", "lora", "linear_probe", "descriptor_probe"])
def test_an_item_in_a_used_process_equals_it_in_a_fresh_one(what, pairs):
    used, fresh = (RunPaths(Path(work.folder)) for work in pairs[what])
    before, after = (Outcome.model_validate_json(paths.result.read_text()) for paths in (used, fresh))
    assert after.status == "finished", after.message
    assert (before.metrics, before.objectives, before.facts) == (after.metrics, after.objectives, after.facts)
    if what == "pretrain":
        weights = [weights_of(work) for work in pairs[what]]
        assert weights[0] == weights[1]
    else:
        assert used.predictions.read_bytes() == fresh.predictions.read_bytes()


def weights_of(work):
    folder = Path(work.inputs.checkpoint)
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
    assert found
    return found
