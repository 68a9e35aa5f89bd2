"""Warm-up, stable and decay: one trunk, from which every scale goes on as if it had been trained alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from chembench.data.batches import prefix_steps, steps_per_epoch
from chembench.errors import DataError, RunError
from chembench.training.attempt import Attempt
from chembench.training.checkpoint import TRUNK, DamagedError, find_whole
from chembench.training.pretrain import pretrain
from chembench.training.schedule import factor_of, shared_molecules, stable_factor, steps_before_decay, trunk_steps

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


@pytest.mark.parametrize("decay_fraction", [0.03, 0.1, 0.25, 0.9])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_before_its_decay_a_scale_is_shown_what_every_larger_one_is_shown(decay_fraction, batch_size):
    scales = [1, 7, 64, 100, 333, 1000, 2500]
    orders = {n: list(prefix_steps(n, batch_size, 3, 0, decay_fraction)) for n in scales}
    for molecules, order in orders.items():
        assert np.array_equal(np.sort(np.concatenate(order)), np.arange(molecules)), "each once"
        assert {len(step) for step in order[:-1]} <= {batch_size} and len(order) == steps_per_epoch(
            molecules, batch_size
        )
        before = steps_before_decay(len(order), decay_fraction)
        for larger in (orders[n] for n in scales if n > molecules):
            assert all(np.array_equal(one, other) for one, other in zip(order[:before], larger, strict=False))


def test_an_order_goes_on_anywhere_and_hangs_on_its_seed_and_epoch():
    whole = list(prefix_steps(1000, 16, 3, 0, 0.1))
    for skip in (0, 1, 20, 62, 63):
        rest = list(prefix_steps(1000, 16, 3, 0, 0.1, skip=skip))
        assert len(rest) == 63 - skip
        assert all(np.array_equal(one, other) for one, other in zip(rest, whole[skip:], strict=True))
    for other in (prefix_steps(1000, 16, 4, 0, 0.1), prefix_steps(1000, 16, 3, 1, 0.1)):
        assert not np.array_equal(np.concatenate(list(other)), np.concatenate(whole))


def test_the_rate_rises_stays_and_falls_along_one_minus_a_root():
    factors = [stable_factor(step, 100, 10, 80) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[9:81] == [1.0] * 72
    assert factors[85] == pytest.approx(1 - math.sqrt(5 / 20))
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[80:]))
    assert 0 < factors[-1] < 0.03
    assert stable_factor(0, 1, 0, 0) == 1.0


def test_up_to_its_decay_the_rate_does_not_know_how_long_the_training_is(world):
    short, long = (world.pretrain_spec(**WSD, molecules=molecules) for molecules in (70, 200))
    same_until = trunk_steps(short)
    assert [factor_of(short, k) for k in range(same_until)] == [factor_of(long, k) for k in range(same_until)]
    assert factor_of(short, same_until + 1) < factor_of(long, same_until + 1) == 1.0


def test_a_stopped_trunk_goes_on_at_any_step_and_keeps_what_the_next_scale_needs(world, tmp_path):
    (small, _), (large, undisturbed) = chain(world, tmp_path / "whole", (70, 133))
    stops = range(1, 9)
    for steps in stops:
        root = tmp_path / str(steps)
        for spec, parent in ((small, None), (large, small)):
            inputs = world.pretrain_inputs(root / spec.digest)
            inputs = inputs.model_copy(update={"trunk": parent and str(root / parent.digest)})
            state, left = root / f"{spec.digest}.pt", iter([False] * steps)
            with pytest.raises(RunError, match="stopped as asked"):
                pretrain(spec, inputs, quiet, attempt=Attempt(state, stop=lambda left=left: next(left, True)))
            outcome = pretrain(spec, inputs, quiet, attempt=Attempt(state, [state]))
        assert same(weights(root / large.digest), weights(tmp_path / "whole" / large.digest))
        assert outcome.metrics == undisturbed.metrics
        assert (outcome.molecules_seen, outcome.facts) == (undisturbed.molecules_seen, undisturbed.facts)


def test_time_that_a_trunk_took_is_not_counted_again(world, tmp_path):
    (small, first), (large, _) = chain(world, tmp_path, (70, 133))
    inputs = world.pretrain_inputs(tmp_path / "again").model_copy(update={"trunk": str(tmp_path / small.digest)})
    attempt = Attempt()
    pretrain(large, inputs, quiet, attempt=attempt)
    assert first.built["device_hours"] > 0 and attempt.earlier_seconds == 0


@pytest.mark.parametrize("damage", ["gone", "torn", "changed"])
def test_a_trunk_that_is_not_whole_is_told_with_the_way_out(world, tmp_path, damage):
    (small, _), (large, _) = chain(world, tmp_path, (70, 133))
    file = tmp_path / small.digest / TRUNK
    whole = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole if damage == "changed" else whole[:-100])
    inputs = world.pretrain_inputs(tmp_path / "again").model_copy(update={"trunk": str(tmp_path / small.digest)})
    with pytest.raises(DamagedError, match=r"the trunk in .* cannot be continued .*delete .* and retry what failed"):
        pretrain(large, inputs, quiet)
    with pytest.raises(DamagedError, match=r"trunk.state"):
        find_whole(tmp_path / small.digest, small.digest)
    again = pretrain(small, world.pretrain_inputs(tmp_path / small.digest), quiet)
    assert not again.reused
    assert not pretrain(large, inputs, quiet).reused


def test_a_trunk_of_another_pre_training_is_refused(world, tmp_path):
    (small, _), (large, _) = chain(world, tmp_path, (70, 133))
    inputs = world.pretrain_inputs(tmp_path / "again").model_copy(update={"trunk": str(tmp_path / large.digest)})
    with pytest.raises(DataError, match=f"must belong to item {small.digest}, it belongs to {large.digest}"):
        pretrain(large, inputs, quiet)


def test_a_trunk_that_is_not_named_is_missed(world, tmp_path):
    _, (large, _) = chain(world, tmp_path, (70, 133))
    with pytest.raises(DataError, match=r"a pre-training reads inputs\.trunk, none is given"):
        pretrain(large, world.pretrain_inputs(tmp_path / "again"), quiet)


def test_without_sharing_no_state_is_kept(world, tmp_path):
    spec = world.pretrain_spec(**WSD)
    outcome = pretrain(spec, world.pretrain_inputs(tmp_path / "made"), quiet)
    assert not (tmp_path / "made" / TRUNK).exists() and "molecules_shared" not in outcome.facts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"share_trunk": True, "epochs": 1},
            "a trunk is shared before its decay, which a cosine has not; set schedule",
        ),
        ({"schedule": "wsd", "share_trunk": True}, "in one pass over nested molecules, got epochs = 3"),
        ({"schedule": "wsd", "continues": "a" * 12}, "only a pre-training that shares its trunk continues another"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(world, changes, told):
    with pytest.raises(ValidationError, match=told):
        world.pretrain_spec(**changes)
