import numpy as np
import pytest

from chembench.data.batches import Packing, cut, epoch_steps, steps_per_epoch
from chembench.errors import ConfigError


@pytest.fixture(scope="module")
def lengths():
    return np.random.default_rng(0).integers(5, 120, size=1000)


def padded(lengths, batches):
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


SMALL = Packing(2000)


def steps_of(lengths, packing=SMALL, **changes):
    steps = epoch_steps(len(lengths), **{"batch_size": 64, "seed": 1, "epoch": 0, **changes})
    return [cut(indices, lengths, packing) for indices in steps]


def test_an_epoch_holds_every_molecule_once_and_keeps_the_short_last_step(lengths):
    steps = steps_of(lengths)
    assert len(steps) == steps_per_epoch(1000, 64) == 16
    sizes = [sum(map(len, micro)) for micro in steps]
    assert sizes == [64] * 15 + [40]
    everything = np.concatenate([batch for micro in steps for batch in micro])
    assert np.array_equal(np.sort(everything), np.arange(1000))


def test_each_step_is_a_random_set_that_mixes_lengths(lengths):
    spread = [lengths[np.concatenate(micro)].std() for micro in steps_of(lengths)]
    assert min(spread) > 0.7 * lengths.std()


def test_micro_batches_keep_the_budget_and_save_padding(lengths):
    steps = steps_of(lengths)
    for micro in steps:
        for batch in micro:
            assert len(batch) * lengths[batch].max() <= 2000
    whole = sum(len(np.concatenate(micro)) * int(lengths[np.concatenate(micro)].max()) for micro in steps)
    assert sum(padded(lengths, micro) for micro in steps) < 0.75 * whole
    assert sum(padded(lengths, micro) for micro in steps) < 1.2 * lengths.sum()


def test_no_cut_is_made_where_another_pass_costs_more_than_the_padding(lengths):
    steps = steps_of(lengths, packing=Packing(10**6, pass_cost=10**6))
    assert [len(micro) for micro in steps] == [1] * 16


def test_the_order_depends_on_seed_and_epoch_alone(lengths):
    def first(**changes):
        return np.concatenate(steps_of(lengths, **changes)[0]).tolist()

    assert first() == first()
    assert first() != first(seed=2)
    assert first() != first(epoch=1)


def test_skipped_steps_leave_the_later_ones_as_they_were(lengths):
    whole, later = steps_of(lengths), steps_of(lengths, skip=10)
    assert len(later) == 6
    for one, other in zip(whole[10:], later, strict=True):
        assert [batch.tolist() for batch in one] == [batch.tolist() for batch in other]


def test_a_molecule_longer_than_the_budget_goes_alone():
    batches = cut(np.arange(4), np.array([50, 10, 10, 10]), Packing(20))
    assert [batch.tolist() for batch in batches] == [[0], [1, 2], [3]]


def test_evaluation_batches_hold_every_molecule_once_with_little_padding(lengths):
    batches = cut(np.arange(1000), lengths, Packing(4096))
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(1000))
    assert padded(lengths, batches) < 1.15 * lengths.sum()


def test_no_molecules_make_no_batches():
    assert cut(np.array([], int), np.array([], int), Packing(100)) == []
    assert list(epoch_steps(0, 4, 0, 0)) == []


def test_a_budget_without_tokens_is_refused():
    with pytest.raises(ConfigError, match="token_budget must be at least 1 token, got 0; give a few thousand"):
        cut(np.array([0]), np.array([3]), Packing(0))
