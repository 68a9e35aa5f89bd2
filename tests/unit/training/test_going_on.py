"""A stopped training goes on, and ends with the digits of one that was never stopped."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chembench.errors import RunError
from chembench.models.base import tensors_to_save
from chembench.training import attempt as attempt_module
from chembench.training.attempt import Attempt
from chembench.training.checkpoint import read_checkpoint
from chembench.training.finetune import FinetuneState, finetune
from chembench.training.pretrain import PretrainState, pretrain


def labels(smiles):
    return [[float(len(text)), np.nan if "Cl" in text else float(text.count("O"))] for text in smiles]


class StopAfter:
    """Asks to stop at the border after so many steps of this attempt."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self):
        self.steps -= 1
        return self.steps < 0


class Curve:
    """What an attempt reports; ``stop`` says after which epochs a pruner would stop it."""

    def __init__(self, stop=()):
        self.lines, self.stop = [], stop

    def __call__(self, epoch, values):
        self.lines.append((epoch, dict(values)))
        return epoch in self.stop


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory):
    spec = world.pretrain_spec(keep_every_epoch=True, epochs=2)
    folder = tmp_path_factory.mktemp("cache") / "made"
    pretrain(spec, world.pretrain_inputs(folder), Curve())
    return spec.digest, str(folder)


@pytest.fixture(scope="module")
def confirm(world, checkpoint):
    split, sealed = world.write_split("going_on", labels)
    inputs = split.model_copy(update={"checkpoint": checkpoint[1], "sealed": sealed})

    def of(**recipe):
        recipe = {"max_epochs": 4, "dropout": 0.3, **recipe}
        return world.trial_spec("confirm", targets=2, pretrained=checkpoint[0], recipe=recipe), inputs

    return of


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def in_parts(spec, inputs, folder, stops):
    """The trial, stopped after each number of further steps; its last attempt, the curve of that, and what it said."""
    files = []
    for number, steps in enumerate([*stops, None], start=1):
        files.insert(0, folder / f"{number}.pt")
        attempt = Attempt(files[0], files, stop=(lambda: False) if steps is None else StopAfter(steps))
        curve = Curve()
        if steps is None:
            return finetune(spec, inputs, curve, attempt=attempt), curve, attempt.measured
        with pytest.raises(RunError, match="stopped as asked") as told:
            finetune(spec, inputs, curve, attempt=attempt)
        assert told.value.cause == "preempted"
    raise AssertionError


def require_same_outcome(parts, whole):
    assert (parts.metrics, parts.objectives, parts.facts) == (whole.metrics, whole.objectives, whole.facts)
    assert (parts.molecules_seen, parts.weights_file) == (whole.molecules_seen, whole.weights_file)
    for one, other in zip(parts.predictions, whole.predictions, strict=True):
        assert one.part == other.part and np.array_equal(one.predicted_NM, other.predicted_NM)
    assert same(tensors_to_save(parts.model), tensors_to_save(whole.model))


# 48 molecules in steps of 16: 3 steps an epoch, 12 in all, with two candidates 24 (or less, where patience ends one)
@pytest.mark.parametrize("method", ["full", "lora", "linear_probe", "descriptor_probe"])
@pytest.mark.parametrize("stops", [[1], [3], [4, 1], [11], [2, 3, 5]], ids=str)
def test_a_fine_tuning_goes_on_to_the_digits_of_one_that_never_stopped(confirm, tmp_path, method, stops):
    spec, inputs = confirm(method=method, max_epochs=4)
    curve = Curve()
    whole = finetune(spec, inputs, curve)
    parts, told, measured = in_parts(spec, inputs, tmp_path, stops)
    require_same_outcome(parts, whole)
    assert told.lines == curve.lines
    assert measured["resumed_at_step"] == sum(stops)


@pytest.mark.parametrize("method", ["full", "linear_probe"])
@pytest.mark.parametrize("stops", [[5], [12], [13, 5], [23]], ids=str)
def test_a_fine_tuning_of_several_candidates_goes_on_in_the_right_one(confirm, tmp_path, method, stops):
    spec, inputs = confirm(method=method, checkpoints="every_epoch", learning_rate=0.02)
    curve = Curve()
    whole = finetune(spec, inputs, curve)
    parts, told, _ = in_parts(spec, inputs, tmp_path, stops)
    require_same_outcome(parts, whole)
    assert told.lines == curve.lines and len(curve.lines) == 8


def test_the_best_of_an_earlier_candidate_comes_back_with_its_own_backbone(confirm, tmp_path):
    # the first candidate learns for one epoch alone and stays the better one under this seed
    for seed in range(8):
        spec, inputs = confirm(method="linear_probe", checkpoints="every_epoch", learning_rate=0.05)
        spec = spec.model_copy(update={"head_seed": seed})
        whole = finetune(spec, inputs, Curve())
        if "checkpoint_epoch" not in whole.facts:  # written for later candidates alone
            break
    assert "checkpoint_epoch" not in whole.facts
    parts, _, _ = in_parts(spec, inputs, tmp_path, [20])
    require_same_outcome(parts, whole)
    assert parts.weights_file.parent.name == "epochs"


def test_patience_counts_on(confirm, tmp_path):
    spec, inputs = confirm(max_epochs=30, patience=2, learning_rate=0.05, warmup_fraction=0.0)
    whole = finetune(spec, inputs, Curve())
    epochs = len(whole.objectives)
    assert 2 < epochs < 30
    parts, _, _ = in_parts(spec, inputs, tmp_path, [3 * (epochs - 1)])
    require_same_outcome(parts, whole)


def test_an_epoch_that_was_judged_is_not_judged_again(confirm, tmp_path):
    spec, inputs = confirm()
    attempt = Attempt(tmp_path / "1.pt", stop=StopAfter(7))
    with pytest.raises(RunError, match="stopped as asked after 7 optimiser steps, in epoch 3"):
        finetune(spec, inputs, Curve(), attempt=attempt)
    # a judge that now would stop after epoch 2, where it let the trial go on, and would stop after epoch 3 too
    curve = Curve(stop=(2, 3))
    fit = finetune(spec, inputs, curve, attempt=Attempt(resume_from=[tmp_path / "1.pt"]))
    assert [epoch for epoch, _ in curve.lines] == [1, 2, 3]
    assert fit.pruned and len(fit.objectives) == 3


def test_states_are_kept_between_steps_where_a_training_takes_long(confirm, tmp_path, monkeypatch):
    monkeypatch.setattr(attempt_module, "EPOCH_SECONDS", -1.0)
    monkeypatch.setattr(attempt_module, "TIMES_ITS_COST", 0.0)
    spec, inputs = confirm()
    with pytest.raises(KeyboardInterrupt):
        finetune(spec, inputs, raise_after(2), attempt=Attempt(tmp_path / "1.pt"))
    attempt = Attempt(resume_from=[tmp_path / "1.pt"])
    require_same_outcome(finetune(spec, inputs, Curve(), attempt=attempt), finetune(spec, inputs, Curve()))
    assert attempt.measured["resumed_at_step"] == 3


def raise_after(epochs):
    def report(epoch, values):
        if epoch == epochs:
            raise KeyboardInterrupt
        return False

    return report


def test_a_damaged_state_costs_time_alone(confirm, tmp_path):
    spec, inputs = confirm()
    whole = finetune(spec, inputs, Curve())
    files = [tmp_path / f"{number}.pt" for number in (3, 2, 1)]
    for file, steps in ((files[2], 4), (files[1], 3)):
        with pytest.raises(RunError, match="stopped as asked"):
            finetune(spec, inputs, Curve(), attempt=Attempt(file, files, StopAfter(steps)))
    files[1].write_bytes(files[1].read_bytes()[:-100])
    older = Attempt(resume_from=files)
    require_same_outcome(finetune(spec, inputs, Curve(), attempt=older), whole)
    assert older.measured["resumed_at_step"] == 4
    assert older.measured["refused_state"].startswith(f"{files[1]} must be the state of a stopped item")
    files[2].write_bytes(b"")
    anew = Attempt(resume_from=files)
    require_same_outcome(finetune(spec, inputs, Curve(), attempt=anew), whole)
    assert anew.measured["resumed_at_step"] == 0


# ---- pre-training: 200 molecules in steps of 32, 7 steps an epoch ----


@pytest.mark.parametrize(
    ("architecture", "stops"), [("roberta", [7]), ("roberta", [3, 5, 8]), ("bart", [10]), ("llama", [20])], ids=str
)
def test_a_pretraining_goes_on_to_the_weights_of_one_that_never_stopped(world, tmp_path, architecture, stops):
    spec = world.pretrain_spec(architecture, keep_every_epoch=True)
    curve = Curve()
    whole = pretrain(spec, world.pretrain_inputs(tmp_path / "whole"), curve)
    inputs, files = world.pretrain_inputs(tmp_path / "parts"), []
    for number, steps in enumerate(stops):
        files.insert(0, tmp_path / f"{number}.pt")
        with pytest.raises(RunError, match="stopped as asked"):
            pretrain(spec, inputs, Curve(), attempt=Attempt(files[0], files, StopAfter(steps)))
    assert not (tmp_path / "parts").exists()
    attempt, told = Attempt(tmp_path / "last.pt", files), Curve()
    outcome = pretrain(spec, inputs, told, attempt=attempt)
    assert attempt.measured["resumed_at_step"] == sum(stops)
    assert (outcome.metrics, outcome.facts) == (whole.metrics, whole.facts)
    assert outcome.molecules_seen == whole.molecules_seen == 600
    assert told.lines == curve.lines
    for name in ("model.safetensors", "epochs/0001.safetensors", "epochs/0002.safetensors"):
        assert same(load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name))
    trainings = [read_checkpoint(tmp_path / name, spec.digest).training for name in ("whole", "parts")]
    assert trainings[0]["curve"] == trainings[1]["curve"] and trainings[0]["sha256"] == trainings[1]["sha256"]
    assert trainings[1]["built"]["resumed_at"] == sum(stops)


def test_the_state_of_another_item_is_refused_and_told(world, tmp_path):
    for seed, steps in ((1, 5), (2, None)):
        spec = world.pretrain_spec(epochs=1, seed=seed)
        stop = (lambda: False) if steps is None else StopAfter(steps)
        attempt = Attempt(tmp_path / f"{seed}.pt", [tmp_path / "1.pt"], stop)
        if steps is None:
            pretrain(spec, world.pretrain_inputs(tmp_path / "made"), Curve(), attempt=attempt)
        else:
            with pytest.raises(RunError):
                pretrain(spec, world.pretrain_inputs(tmp_path / "made"), Curve(), attempt=attempt)
    assert attempt.measured["resumed_at_step"] == 0
    assert f"must belong to item {spec.digest}" in attempt.measured["refused_state"]


def test_a_state_holds_what_it_has_to_and_no_frozen_weight(confirm, tmp_path):
    spec, inputs = confirm(method="linear_probe")
    with pytest.raises(RunError):
        finetune(spec, inputs, Curve(), attempt=Attempt(tmp_path / "1.pt", stop=StopAfter(4)))
    state = attempt_module.load_state(tmp_path / "1.pt", FinetuneState, spec.digest)
    assert sorted(state.learnt) == ["head.0.mean_F", "head.0.sd_F", "head.2.bias", "head.2.weight"]
    assert (state.candidate, state.epoch, state.step, len(state.curve), state.seen) == (1, 1, 4, 1, 64)
    with pytest.raises(Exception, match="must be the state of a stopped item"):
        attempt_module.load_state(tmp_path / "1.pt", PretrainState, spec.digest)
