"""Molecules in a GPU's memory are those on the host, to the last bit; the CPU stands for the GPU here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chembench.data.shards import open_shards
from chembench.errors import DataError
from chembench.models.base import build_pretraining_model
from chembench.training import pretrain as pretraining
from chembench.training import resident
from chembench.training.device import CPU, CUDA, resolve_device
from chembench.training.loop import as_batch
from chembench.training.pretrain import pretrain
from chembench.training.resident import Hosted, Resident, bytes_of, molecules_on


@pytest.fixture
def shards(world):
    return open_shards([world.root / "shard"], world.root / "statistics", 200)


def backbone_of(world, architecture="roberta", **changes):
    return build_pretraining_model(world.model(architecture, **changes), outputs=6, seed=0).backbone


@pytest.mark.parametrize("max_length", [64, 9])
def test_batches_and_labels_are_those_of_the_host(world, shards, max_length, monkeypatch):
    monkeypatch.setattr(resident, "_CHUNK", 64)
    backbone = backbone_of(world, max_length=max_length)
    here, there = Hosted(shards, backbone, CPU), Resident.of(shards, backbone, CPU)
    same_length_B = np.flatnonzero(shards.lengths_N == 9)[:5]
    for indices_B in (np.arange(200), np.array([7, 3, 199]), np.array([11]), same_length_B):
        (ids, mask), (found_ids, found_mask) = here.batch(indices_B), there.batch(indices_B)
        assert torch.equal(found_ids, ids) and found_ids.dtype == ids.dtype
        assert (mask is None) == (found_mask is None) and (mask is None or torch.equal(found_mask, mask))
        wanted, found = here.labels(indices_B), there.labels(indices_B)
        assert torch.equal(found.values_BK.nan_to_num(99), wanted.values_BK.nan_to_num(99))
        assert found.known == wanted.known
    assert here.batch(same_length_B)[1] is None


def test_a_pre_training_on_resident_molecules_is_the_same(world, tmp_path, monkeypatch):
    curves = []
    for number, way in enumerate((Hosted, Resident.of)):
        monkeypatch.setattr(pretraining, "molecules_on", way)
        inputs = world.pretrain_inputs(tmp_path / str(number))
        curves.append(pretrain(world.pretrain_spec(), inputs, lambda epoch, values: False).metrics)
    assert curves[0] == curves[1]


def test_what_is_sent_to_a_device_is_checked_before(world):
    backbone = backbone_of(world)
    ids_BT, lengths_B = np.ones((2, 65), np.int64), np.array([65, 3])
    with pytest.raises(DataError, match="at most 64 tokens, got 65; truncate it"):
        as_batch(ids_BT, lengths_B, backbone, torch.device("meta"))


def test_what_is_kept_on_a_device_is_checked_before(world, shards):
    backbone = backbone_of(world, "bart", eos_id=len(world.tokenizer.vocabulary) - 1)
    with pytest.raises(DataError, match="bart pools at the last </s>"):
        Resident.of(shards, backbone, CPU)


def test_a_gpu_keeps_what_it_has_room_for(world, shards, monkeypatch):
    backbone = backbone_of(world)
    made = object()
    monkeypatch.setattr(Resident, "of", classmethod(lambda *_: made))
    room = int(bytes_of(shards) / resident.LARGEST_SHARE)
    for free_bytes, is_kept in ((room + 4, True), (room - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free_bytes: (free, 10 * free))
        assert (molecules_on(shards, backbone, CUDA) is made) == is_kept
    assert isinstance(molecules_on(shards, backbone, CPU), Hosted)


def test_an_item_with_a_share_of_a_gpu_keeps_nothing_there(world, shards, monkeypatch):
    backbone, made = backbone_of(world), object()
    monkeypatch.setattr(Resident, "of", classmethod(lambda *_: made))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # an empty GPU of 80 GiB; what it says knows nothing of the process's share
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * 2**30, 80 * 2**30))
    for share, is_kept in ((None, True), (1.0, True), (0.5, False), (0.125, False)):
        assert (molecules_on(shards, backbone, resolve_device("cuda", share)) is made) == is_kept


def test_a_device_may_have_its_model_compiled(world, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options) or model)
    ways = {"plain": CPU, "compiled": replace(CPU, compiled=True)}
    metrics = {}
    for name, device in ways.items():
        spec, inputs = world.pretrain_spec(epochs=1), world.pretrain_inputs(tmp_path / name)
        metrics[name] = pretrain(spec, inputs, lambda epoch, values: False, device=device).metrics
    assert compiled == [{"dynamic": True}]
    assert metrics["plain"] == metrics["compiled"]
