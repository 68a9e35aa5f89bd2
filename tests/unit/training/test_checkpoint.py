import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chembench.errors import DataError
from chembench.training import checkpoint as module
from chembench.training.attempt import Attempt
from chembench.training.checkpoint import DamagedError, find_whole, read_checkpoint, read_settings
from chembench.training.finetune import finetune
from chembench.training.pretrain import pretrain


def quiet(epoch, values):
    return False


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    spec, folder = world.pretrain_spec(epochs=2, keep_every_epoch=True), tmp_path_factory.mktemp("cache") / "made"
    pretrain(spec, world.pretrain_inputs(folder), quiet)
    return spec, folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "made")
    return tmp_path / "made"


def flip(file):
    """Change one bit of the last weight, which no header tells."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


DAMAGES = {
    "flipped weight": lambda folder: flip(folder / "model.safetensors"),
    "flipped weight of an epoch": lambda folder: flip(folder / "epochs" / "0001.safetensors"),
    "cut weights": lambda folder: cut(folder / "model.safetensors"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no weights of an epoch": lambda folder: (folder / "epochs" / "0001.safetensors").unlink(),
    "torn settings": lambda folder: cut(folder / "settings.json"),
    "empty settings": lambda folder: (folder / "settings.json").write_bytes(b""),
    "torn training": lambda folder: cut(folder / "training.json"),
    "training of another kind": lambda folder: (folder / "training.json").write_text("[]"),
    "no training": lambda folder: (folder / "training.json").unlink(),
    "nothing": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}


def test_a_whole_folder_names_the_checksum_of_each_weight_file(made):
    found = find_whole(made[1], made[0].digest)
    assert sorted(found.training["sha256"]) == ["epochs/0001.safetensors", "model.safetensors"]
    assert [file.name for file in found.weight_files] == ["0001.safetensors", "model.safetensors"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_seen_and_made_again(world, made, folder, damage):
    DAMAGES[damage](folder)
    with pytest.raises(DamagedError, match=r"retry what failed .*, it is then made again|make the folder again"):
        find_whole(folder, made[0].digest)
    attempt = Attempt()
    outcome = pretrain(made[0], world.pretrain_inputs(folder), quiet, attempt=attempt)
    assert not outcome.reused and str(folder) in attempt.measured["refused_checkpoint"]
    again, first = (load_file(place / "model.safetensors") for place in (folder, made[1]))
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert [place.name for place in folder.parent.iterdir()] == ["made"]
    assert pretrain(made[0], world.pretrain_inputs(folder), quiet).reused


def test_a_folder_written_before_there_were_checksums_is_read(world, made, folder):
    training = json.loads((folder / "training.json").read_text())
    del training["sha256"]
    (folder / "training.json").write_text(json.dumps(training))
    assert pretrain(made[0], world.pretrain_inputs(folder), quiet).reused
    cut(folder / "model.safetensors")
    with pytest.raises(DamagedError, match=r"model\.safetensors must be a whole safetensors file"):
        find_whole(folder, made[0].digest)


def test_a_trial_that_meets_damaged_weights_says_how_they_are_made_again(world, made, folder):
    inputs, _ = world.write_split("damaged", lambda smiles: [[float(len(text))] for text in smiles])
    inputs = inputs.model_copy(update={"checkpoint": str(folder)})
    flip(folder / "model.safetensors")
    with pytest.raises(
        DataError,
        match=rf"model\.safetensors must be a whole safetensors file \(its sha256 is .*, it was written with .*\); "
        rf"delete {folder} and retry what failed \(chembench retry SWEEP --failed\), it is then made again",
    ):
        finetune(world.trial_spec(pretrained=made[0].digest), inputs, quiet)


def test_a_file_is_held_against_its_checksum_once(made, folder, monkeypatch):
    read, sha256_of = [], module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda file: read.append(file.name) or sha256_of(file))
    for _ in range(3):
        found = find_whole(folder, made[0].digest)
        found.tensors(found.weight_files[-1])
    assert sorted(read) == ["0001.safetensors", "model.safetensors"]


def test_the_folder_of_another_model_is_never_replaced(world, made, folder):
    other = world.pretrain_spec(epochs=1, seed=5)
    with pytest.raises(DataError, match=r"must describe pre-training .*, it describes .*; delete the folder"):
        pretrain(other, world.pretrain_inputs(folder), quiet)
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(DataError, match="must describe a pretrained model in format 1, it does not"):
        pretrain(made[0], world.pretrain_inputs(folder), quiet)
    (folder / "settings.json").write_text(json.dumps({**settings, "spec": {**settings["spec"], "later": 1}}))
    (folder / "training.json").unlink()
    with pytest.raises(DataError, match=r"must describe a pre-training as this version of chembench does \(") as told:
        pretrain(made[0], world.pretrain_inputs(folder), quiet)
    assert not isinstance(told.value, DamagedError)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["settings.json", "training.json", "model.safetensors"])
def test_a_file_that_cannot_be_read_now_is_no_damage(made, folder, monkeypatch, name):
    def unreachable(real):
        def call(path, *args, **kwargs):
            if path.name == name:
                raise OSError(116, "Stale file handle")
            return real(path, *args, **kwargs)

        return call

    for method in ("read_text", "stat"):
        monkeypatch.setattr(Path, method, unreachable(getattr(Path, method)))
    with pytest.raises(DataError, match=r"cannot be read \(.*Stale file handle\); make it readable") as told:
        find_whole(folder, made[0].digest)
    assert not isinstance(told.value, DamagedError)


def test_a_folder_that_was_repaired_meanwhile_stays(world, made, folder, monkeypatch):
    DAMAGES["cut weights"](folder)

    def report(epoch, values):
        if epoch == 2:  # somebody else is done first
            shutil.rmtree(folder)
            shutil.copytree(made[1], folder)
            (folder / "theirs").touch()
        return False

    pretrain(made[0], world.pretrain_inputs(folder), report)
    assert (folder / "theirs").exists()


def test_settings_of_no_folder_are_refused(tmp_path):
    with pytest.raises(DamagedError, match=r"settings\.json must be the settings of a fitted model, it cannot be read"):
        read_settings(tmp_path / "nowhere", "fitted")
    with pytest.raises(DamagedError, match="must be the settings of a pretrained model"):
        read_checkpoint(tmp_path / "nowhere", "abc")
