import pytest
import torch
from safetensors.torch import load_file

from chembench.training.pretrain import pretrain
from chembench.training.schedule import shared_molecules, trunk_steps

WSD = {"schedule": "wsd", "epochs": 1, "batch_size": 8, "decay_fraction": 0.25, "warmup_steps": 2}


def quiet(epoch, values):
    return False


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def chain(world, root, scales, architecture="roberta", **changes):
    """Pre-trainings of rising scale, each continuing the one before: (specification, outcome) of each."""
    done, parent = [], None
    for molecules in scales:
        fields = WSD | {"share_trunk": True, "molecules": molecules, "continues": parent and parent.digest} | changes
        spec = world.pretrain_spec(architecture, **fields)
        inputs = world.pretrain_inputs(root / spec.digest)
        trunk = str(root / parent.digest) if parent else None
        done.append((spec, pretrain(spec, inputs.model_copy(update={"trunk": trunk}), quiet)))
        parent = spec
    return done


@pytest.mark.parametrize("architecture", ["roberta", "bart", "llama"])
def test_a_scale_that_continues_a_trunk_is_bit_for_bit_the_one_that_was_trained_alone(world, tmp_path, architecture):
    for spec, outcome in chain(world, tmp_path, (70, 133, 200), architecture):
        alone = world.pretrain_spec(architecture, **WSD, molecules=spec.molecules)
        other = pretrain(alone, world.pretrain_inputs(tmp_path / alone.digest), quiet)
        assert other.metrics == outcome.metrics
        assert same(weights(tmp_path / spec.digest), weights(tmp_path / alone.digest))


def test_molecules_of_a_trunk_are_counted_once(world, tmp_path):
    (first, one), (second, two), (_, three) = chain(world, tmp_path, (70, 133, 200))
    assert one.molecules_seen == 70
    assert two.molecules_seen == 133 - shared_molecules(first)
    assert three.molecules_seen == 200 - shared_molecules(second)
    assert [o.facts["molecules_shared"] for o in (one, two, three)] == [
        0,
        shared_molecules(first),
        shared_molecules(second),
    ]
    assert shared_molecules(first) == trunk_steps(first) * 8 == 48
