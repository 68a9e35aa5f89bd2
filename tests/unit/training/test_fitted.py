import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chembench.errors import DataError
from chembench.models.base import tensors_to_save
from chembench.training.finetune import finetune
from chembench.training.fitted import FittedModel
from chembench.training.pretrain import pretrain


@pytest.fixture(scope="module")
def split(world):
    return world.write_split("fitted", lambda smiles: [[float(len(text))] for text in smiles])[0]


def fitted_by(world, split, method, precision="fp32"):
    spec = world.trial_spec(recipe={"method": method}, precision=precision)
    fit = finetune(spec, split, lambda *_: False)
    return FittedModel(spec, ("length",), "characters", fit.scaling, fit.model, world.root / "tokenizer"), fit


@pytest.fixture
def saved(world, split, tmp_path):
    fitted_by(world, split, "full")[0].save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("method", ["full", "lora", "linear_probe", "descriptor_probe"])
def test_a_model_comes_back_and_predicts_the_same(world, split, tmp_path, method):
    made, fit = fitted_by(world, split, method)
    made.save(tmp_path / "model")
    loaded = FittedModel.load(tmp_path / "model")
    valid = fit.predictions[0]
    # LoRA is merged when saved, which changes the last digits
    assert loaded.predict(valid.rows.smiles) == pytest.approx(valid.predicted_NM, rel=1e-4)
    assert loaded.predict([]).shape == (0, 1)
    assert (loaded.target_names, loaded.unit, loaded.kind, loaded.task) == (
        ("length",),
        "characters",
        "regression",
        "made",
    )


def test_the_order_and_company_of_molecules_do_not_matter(saved):
    model = FittedModel.load(saved)
    smiles = ["CCO", "c1ccccc1C(=O)NCC", "C", "CCOCC"]
    together = model.predict(smiles)
    alone = np.concatenate([model.predict([text]) for text in smiles])
    assert together == pytest.approx(alone, rel=1e-5)
    assert model.predict(smiles[::-1])[::-1] == pytest.approx(together, rel=1e-5)


def test_a_character_that_no_smiles_has_is_refused(saved):
    with pytest.raises(DataError):
        FittedModel.load(saved).predict(["C C"])


def without(settings, name):
    return {key: value for key, value in settings.items() if key != name}


def test_one_bit_of_the_weights_is_seen(saved):
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"model\.safetensors must have sha256 .* as it was written, it has .*; fit the"
    ):
        FittedModel.load(saved)


def test_files_that_are_missing_or_changed_are_refused_by_name(saved, tmp_path):
    def changed(name, change):
        folder = tmp_path / name
        shutil.copytree(saved, folder)
        settings = json.loads((folder / "settings.json").read_text())
        change(settings)
        (folder / "settings.json").write_text(json.dumps(settings))
        return folder

    with pytest.raises(DataError, match=r"settings\.json must be the settings of a fitted model"):
        FittedModel.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"settings\.json must describe a fitted model in format 1, it does not"):
        FittedModel.load(changed("kind", lambda settings: settings.update(kind="pretrained")))
    with pytest.raises(DataError, match=r"settings\.json must describe a fitted model \('scaling'\)"):
        FittedModel.load(changed("scaling", lambda settings: settings.pop("scaling")))
    with pytest.raises(DataError, match="a name, mean and sd for each of 1 targets, it gives 2, 1 and 1"):
        FittedModel.load(changed("names", lambda settings: settings.update(targets=["a", "b"])))
    with pytest.raises(DataError, match="must describe a fitted model"):
        FittedModel.load(changed("trial", lambda settings: settings["trial"].update(rm="rf")))
    (saved / "model.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match=r"model\.safetensors must be a whole safetensors file"):
        FittedModel.load(saved)
    save_file({"a": torch.zeros(1)}, saved / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors must have sha256 .* as it was written, it has"):
        FittedModel.load(saved)
    settings = json.loads((saved / "settings.json").read_text())
    (saved / "settings.json").write_text(json.dumps(without(settings, "sha256")))
    with pytest.raises(DataError, match=r"weights must name the .* tensors of this model"):
        FittedModel.load(saved)


# ---- probes on a pre-trained model ----


@pytest.fixture(scope="module")
def pretrained(world, tmp_path_factory):
    spec, folder = world.pretrain_spec(epochs=2, keep_every_epoch=True), tmp_path_factory.mktemp("cache") / "made"
    pretrain(spec, world.pretrain_inputs(folder), lambda *_: False)
    return spec.digest, folder


@pytest.fixture
def probe_of(world, split, pretrained):
    def of(method, checkpoints="last"):
        spec = world.trial_spec(pretrained=pretrained[0], recipe={"method": method, "checkpoints": checkpoints})
        fit = finetune(spec, split.model_copy(update={"checkpoint": str(pretrained[1])}), lambda *_: False)
        tokenizer = world.root / "tokenizer"
        return FittedModel(spec, ("length",), "", fit.scaling, fit.model, tokenizer, fit.weights_file), fit

    return of


def same_model(one, other):
    ours, theirs = tensors_to_save(one.model), tensors_to_save(other.model)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", ["linear_probe", "descriptor_probe"])
@pytest.mark.parametrize("checkpoints", ["last", "every_epoch"])
def test_a_probe_stores_its_head_alone_and_finds_its_pretrained_model(probe_of, tmp_path, method, checkpoints):
    made, fit = probe_of(method, checkpoints)
    made.save(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert stored and all(name.startswith("head.") for name in stored)
    loaded = FittedModel.load(tmp_path / "model")
    assert same_model(loaded, made)
    valid = fit.predictions[0]
    assert np.array_equal(loaded.predict(valid.rows.smiles), made.predict(valid.rows.smiles))
    assert loaded.predict(valid.rows.smiles) == pytest.approx(valid.predicted_NM, rel=1e-5)


def test_a_probe_can_be_written_whole_and_used_anywhere(probe_of, tmp_path, pretrained):
    made, _ = probe_of("linear_probe")
    made.save(tmp_path / "head")
    FittedModel.load(tmp_path / "head").save(tmp_path / "whole", whole=True)
    settings = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert "reads" not in settings and str(pretrained[1]) not in json.dumps(settings)
    loaded = FittedModel.load(tmp_path / "whole")
    assert same_model(loaded, made)
    assert np.array_equal(loaded.predict(["CCO"]), made.predict(["CCO"]))


def test_other_models_and_probes_on_random_weights_are_always_whole(world, split, probe_of, tmp_path):
    probe_of("full")[0].save(tmp_path / "full")
    fitted_by(world, split, "linear_probe")[0].save(tmp_path / "scratch")
    for name in ("full", "scratch"):
        assert "reads" not in json.loads((tmp_path / name / "settings.json").read_text())
        assert FittedModel.load(tmp_path / name).predict(["CCO"]).shape == (1, 1)


def test_a_probe_whose_pretrained_model_is_gone_or_another_one_says_so(probe_of, tmp_path, pretrained, monkeypatch):
    made, _ = probe_of("linear_probe")
    moved = tmp_path / "moved"
    shutil.copytree(pretrained[1], moved)
    gone = tmp_path / "gone"
    shutil.copytree(moved, gone)
    dataclasses.replace(made, weights_file=gone / "model.safetensors").save(tmp_path / "model")
    shutil.rmtree(gone)
    message = rf"holds the head of a probe alone, pre-trained model {pretrained[0]} must lie in .*gone \("
    with pytest.raises(DataError, match=message + r".*\); put it back, or give its folder as checkpoint"):
        FittedModel.load(tmp_path / "model")
    assert same_model(FittedModel.load(tmp_path / "model", checkpoint=moved), made)
    with monkeypatch.context() as patched:
        patched.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
        shutil.copytree(moved, tmp_path / "cache" / "pretrained" / pretrained[0])
        assert same_model(FittedModel.load(tmp_path / "model"), made)
    save_file(
        {name: tensor + 1 for name, tensor in load_file(moved / "model.safetensors").items()},
        moved / "model.safetensors",
    )
    with pytest.raises(DataError, match=r"has sha256 .*, the head was fitted on .*; put it back"):
        FittedModel.load(tmp_path / "model", checkpoint=moved)
    settings = json.loads((tmp_path / "model" / "settings.json").read_text())
    del settings["reads"]["file"]
    (tmp_path / "model" / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"must describe a fitted model \('file'\)"):
        FittedModel.load(tmp_path / "model", checkpoint=moved)
