import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chembench.errors import DataError
from chembench.training.finetune import finetune
from chembench.training.fitted import FittedModel


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
    with pytest.raises(DataError, match=r"weights must name the .* tensors of this model"):
        FittedModel.load(saved)
