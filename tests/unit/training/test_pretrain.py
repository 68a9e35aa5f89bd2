import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chembench.data.batches import Packing
from chembench.errors import DataError, RunError
from chembench.models.base import build_pretraining_model
from chembench.training import pretrain as module
from chembench.training.checkpoint import read_checkpoint
from chembench.training.device import CPU
from chembench.training.memory import MicroBatches
from chembench.training.pretrain import pretrain
from chembench.training.schedule import total_steps


def quiet(epoch, values):
    return False


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_writes_a_whole_checkpoint(world, tmp_path):
    told = []
    spec, inputs = world.pretrain_spec(), world.pretrain_inputs(tmp_path / "made")
    outcome = pretrain(spec, inputs, lambda epoch, values: told.append((epoch, values)) or False)
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    losses = [values["valid/loss"] for _, values in told]
    assert losses[2] < 0.85 * losses[0]
    assert outcome.metrics == {
        "valid/loss": losses[2],
        "train/loss": told[2][1]["train/loss"],
        "epochs": 3,
        "steps": 21,
    }
    assert outcome.molecules_seen == told[2][1]["molecules"] == 600
    assert not outcome.reused
    assert outcome.facts["validation_molecules"] == 60
    assert outcome.facts["parameters"] == sum(tensor.numel() for tensor in weights(tmp_path / "made").values())
    found = read_checkpoint(tmp_path / "made", spec.digest)
    assert found.spec == spec
    assert found.descriptors[0] == "carbons"
    assert (tmp_path / "made" / "tokenizer" / "tokenizer.json").is_file()


def test_a_checkpoint_that_exists_is_used_and_not_trained_again(world, tmp_path):
    spec, inputs = world.pretrain_spec(epochs=1), world.pretrain_inputs(tmp_path / "made")
    first = pretrain(spec, inputs, quiet)
    stamp = (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns
    told = []
    second = pretrain(spec, inputs, lambda epoch, values: told.append(epoch) or False)
    assert second.reused and second.molecules_seen == 0
    assert (second.metrics, second.facts, second.built) == (first.metrics, first.facts, first.built)
    assert told == [1]
    assert (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_folder_of_another_pretraining_is_refused(world, tmp_path):
    inputs = world.pretrain_inputs(tmp_path / "made")
    pretrain(world.pretrain_spec(epochs=1), inputs, quiet)
    with pytest.raises(DataError, match=r"must describe pre-training .*, it describes .*; delete the folder"):
        pretrain(world.pretrain_spec(epochs=1, seed=1), inputs, quiet)


@pytest.mark.parametrize("architecture", ["roberta", "bart", "llama"])
def test_the_same_specification_gives_the_same_weights_whatever_ran_before(world, tmp_path, architecture):
    spec = world.pretrain_spec(architecture, epochs=1)
    pretrain(spec, world.pretrain_inputs(tmp_path / "one"), quiet)
    torch.manual_seed(99)
    torch.randn(7)
    before = torch.get_rng_state()
    pretrain(spec, world.pretrain_inputs(tmp_path / "two"), quiet)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert torch.equal(torch.get_rng_state(), before)
    pretrain(spec.model_copy(update={"seed": 1}), world.pretrain_inputs(tmp_path / "three"), quiet)
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "three"))


def test_every_epoch_is_kept_where_it_is_asked_for(world, tmp_path):
    spec = world.pretrain_spec(keep_every_epoch=True)
    pretrain(spec, world.pretrain_inputs(tmp_path / "made"), quiet)
    files = read_checkpoint(tmp_path / "made", spec.digest).weight_files
    assert [file.name for file in files] == ["0001.safetensors", "0002.safetensors", "model.safetensors"]
    assert not same(load_file(files[0]), load_file(files[1]))


def test_steps_and_epochs_give_the_exact_number_of_optimiser_steps(world, tmp_path):
    assert total_steps(world.pretrain_spec()) == 21
    assert total_steps(world.pretrain_spec(epochs=1.5)) == 10
    assert total_steps(world.pretrain_spec(epochs=0.001)) == 1
    spec = world.pretrain_spec(epochs=None, steps=9)
    outcome = pretrain(spec, world.pretrain_inputs(tmp_path / "made"), quiet)
    assert outcome.metrics["steps"] == 9
    assert outcome.molecules_seen == 200 + 2 * 32


def test_a_step_of_many_micro_batches_equals_one_big_batch(world, tmp_path):
    spec = world.pretrain_spec(epochs=1, dropout=0.0)
    import dataclasses

    for name, packing in (("small", Packing(64)), ("big", Packing(10**6, 10**6))):
        device = dataclasses.replace(CPU, packing=packing)
        pretrain(spec, world.pretrain_inputs(tmp_path / name), quiet, device=device)
    small, big = weights(tmp_path / "small"), weights(tmp_path / "big")
    blank = build_pretraining_model(spec.model, spec.outputs, spec.seed).state_dict()
    for name, tensor in small.items():
        moved = (big[name] - blank[name]).abs().max()
        assert (tensor - big[name]).abs().max() < 1e-2 * moved + 1e-5, name


def test_the_validation_loss_is_the_mean_over_molecules_of_known_labels(world, tmp_path):
    spec, inputs = world.pretrain_spec(epochs=1), world.pretrain_inputs(tmp_path / "made")
    outcome = pretrain(spec, inputs, quiet)
    model = build_pretraining_model(spec.model, spec.outputs, 0)
    model.load_state_dict(weights(tmp_path / "made"))
    run = module._Run.begin(spec, inputs, MicroBatches(CPU))
    errors = []
    with torch.no_grad():
        for index in range(60):
            ids, length = run.valid.tokens(np.array([index]), spec.model.pad_id, spec.model.max_length)
            predicted = model.eval()(torch.tensor(ids.astype(int)), torch.ones(1, int(length[0]), dtype=torch.bool))
            errors.append(np.nanmean(np.abs(predicted.numpy() - run.valid.labels(np.array([index])))))
    assert outcome.metrics["valid/loss"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_huber_and_l1_differ_and_bf16_stays_close(world, tmp_path):
    losses = {}
    for name, changes in {"l1": {}, "huber": {"loss": "huber"}, "bf16": {"precision": "bf16"}}.items():
        outcome = pretrain(world.pretrain_spec(**changes), world.pretrain_inputs(tmp_path / name), quiet)
        losses[name] = outcome.metrics["valid/loss"]
    assert losses["huber"] != losses["l1"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["l1"], rel=0.15)


def test_a_loss_that_is_not_finite_ends_the_pretraining_at_once(world, tmp_path):
    spec = world.pretrain_spec(learning_rate=1e38, max_grad_norm=None, warmup_fraction=0.0)
    with pytest.raises(
        RunError, match=r"the training loss must stay finite, it is (nan|inf) at optimiser step [23];"
    ) as told:
        pretrain(spec, world.pretrain_inputs(tmp_path / "made"), quiet)
    assert told.value.cause == "nan"
    assert not (tmp_path / "made").exists()


def test_inputs_that_do_not_fit_the_specification_are_refused(world, tmp_path):
    inputs = world.pretrain_inputs(tmp_path / "made")
    with pytest.raises(DataError, match="a pre-training predicts 5 descriptors, its shards hold 6"):
        pretrain(world.pretrain_spec(outputs=5), inputs, quiet)
    with pytest.raises(DataError, match="shards hold 200 molecules, 201 are asked for"):
        pretrain(world.pretrain_spec(molecules=201), inputs, quiet)
    with pytest.raises(DataError, match=r"reads inputs\.statistics, none is given"):
        pretrain(world.pretrain_spec(), inputs.model_copy(update={"statistics": None}), quiet)
    with pytest.raises(DataError, match="needs epochs or steps, got neither"):
        total_steps(world.pretrain_spec(epochs=None))


def test_a_checkpoint_with_a_missing_or_broken_file_is_refused_by_name(world, tmp_path):
    spec = world.pretrain_spec(epochs=1)
    pretrain(spec, world.pretrain_inputs(tmp_path / "made"), quiet)
    for name, message in {
        "model.safetensors": r"no whole pre-trained model \(model\.safetensors is missing\); delete .* and retry",
        "settings.json": r"settings\.json must be the settings of a pretrained model, it cannot be read",
        "training.json": "is no whole pre-trained model .*training.json.*; delete .* and retry what failed",
    }.items():
        broken = tmp_path / name
        shutil.copytree(tmp_path / "made", broken)
        (broken / name).unlink()
        with pytest.raises(DataError, match=message):
            read_checkpoint(broken, spec.digest)


def test_the_training_core_needs_neither_rdkit_nor_any_of_the_engine():
    code = "import sys; from chembench.training import finetune, fitted, pretrain; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"rdkit", "ray", "optuna", "mlflow", "sklearn", "deepchem", "pandas", "peft"} & set(loaded)
