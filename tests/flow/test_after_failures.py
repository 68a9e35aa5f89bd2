"""What a process carries out after items that failed in the middle equals what a fresh one gives, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_fresh_process import FRESH

from chembench.errors import RunError
from chembench.paths import RunPaths
from chembench.specs import Outcome, TrialSpec, Work
from chembench.sweep.ray_worker import carry_out
from chembench.training.loop import Stepper


def raising(error):
    def learn(stepper, batches):
        raise error

    return learn


def not_a_number(stepper, batches):
    return torch.tensor(float("nan")), 1


FAILURES = {
    "bug": raising(ValueError("a bug in the middle of a step")),
    "oom": raising(torch.OutOfMemoryError("CUDA out of memory")),
    "nan": not_a_number,
}
"""What an optimiser step does in the end, and the cause that is told."""


@pytest.fixture(scope="module")
def works(small):
    """A pre-training, and a trial of each method, as they were handed out in a sweep."""
    state, found = small.view.state(), {}
    for item in state.items.values():
        method = item.spec.finetune.method if isinstance(item.spec, TrialSpec) else item.kind
        if item.status == "finished" and item.kind != "baseline":
            found[method] = small.view.paths.run(item.uid, item.attempt).spec
    assert {"pretrain", "full"} <= set(found)
    return {method: Work.model_validate(json.loads(spec.read_text())) for method, spec in found.items()}


def moved(work, folder):
    """The same work in a folder of its own."""
    inputs = work.inputs
    if work.kind == "pretrain":
        inputs = inputs.model_copy(update={"checkpoint": str(folder / "checkpoint")})
    return work.model_copy(update={"folder": str(folder / "1"), "inputs": inputs, "attempt": 1})


def told(work):
    return Outcome.model_validate_json(RunPaths(Path(work.folder)).result.read_text())


@pytest.fixture(scope="module")
def fresh(works, tmp_path_factory):
    """The same works, each in a process in which nothing ran before."""
    there = {what: moved(work, tmp_path_factory.mktemp("fresh") / what) for what, work in works.items()}
    lines = "".join(work.model_dump_json() + "\n" for work in there.values())
    subprocess.run([sys.executable, "-c", FRESH], input=lines, text=True, check=True)
    return there


def fail(work, cause, monkeypatch):
    """Carry out ``work`` in this process, and have a step fail that has changed the weights."""
    learn = Stepper._learn

    def sabotaged(stepper, batches):
        learn(stepper, batches)
        return FAILURES[cause](stepper, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "_learn", sabotaged)
        if cause == "bug":
            assert carry_out({"work": work.model_dump_json()}) == {"done": True}, "the process is used again"
        else:
            with pytest.raises(RunError):  # Ray's actor is retired; the serial runner has but this process
                carry_out({"work": work.model_dump_json()})
    assert told(work).cause == cause, told(work).message


@pytest.mark.parametrize("cause", FAILURES)
def test_items_after_failed_ones_equal_those_of_a_fresh_process(cause, works, fresh, tmp_path, monkeypatch):
    for what, work in works.items():
        fail(moved(work, tmp_path / "failed" / what), cause, monkeypatch)
    for what, work in works.items():
        here, there = moved(work, tmp_path / what), fresh[what]
        carry_out({"work": here.model_dump_json()})
        after, alone = told(here), told(there)
        assert alone.status == "finished", alone.message
        assert (after.metrics, after.objectives, after.facts) == (alone.metrics, alone.objectives, alone.facts)
        assert left(here) == left(there)


def left(work):
    """Predictions and weights, byte for byte."""
    folders = [Path(work.folder)] + ([Path(work.inputs.checkpoint)] if work.kind == "pretrain" else [])
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".csv", ".safetensors")]
    assert files
    return {path.name: path.read_bytes() for path in files}
