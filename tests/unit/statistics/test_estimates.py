import math

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from chembench.statistics.against import difference
from chembench.statistics.estimates import Key, estimate, estimate_crossed, what_varies


def keyed(scores, split=0):
    return {Key(0, split, seed): score for seed, score in enumerate(scores)}


def test_the_interval_is_students_t_over_replicates():
    found = estimate([1.0, 2.0, 3.0])
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3)  # t of 2 degrees of freedom, standard deviation 1
    assert found.mean == 2.0
    assert (found.low, found.high) == (pytest.approx(2 - half, rel=1e-9), pytest.approx(2 + half, rel=1e-9))
    assert found.n == 3


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_agrees_with_scipys_own(n):
    values = [math.sin(k) for k in range(n)]
    mean = sum(values) / n
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    low, high = t.interval(0.95, n - 1, loc=mean, scale=error)
    found = estimate(values)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_one_replicate_has_no_interval():
    found = estimate([0.7])
    assert (found.mean, found.low, found.high, found.n) == (0.7, None, None, 1)


def test_the_order_of_the_replicates_changes_no_bit():
    values = [0.1 * 3**k for k in range(9)]
    assert estimate(values) == estimate(values[::-1])


def test_replicates_on_one_axis_are_taken_as_independent():
    assert estimate_crossed(keyed([1.0, 2.0, 4.0])) == estimate([1.0, 2.0, 4.0])


def of_checkpoints(checkpoints, seeds):
    return {Key(p, 0, s): 1 + own + at for p, own in enumerate(checkpoints) for s, at in enumerate(seeds)}


def test_what_checkpoints_differ_by_is_in_the_interval():
    checkpoints = [-0.1, 0.0, 0.1]
    found = estimate_crossed(of_checkpoints(checkpoints, [0.0, 0.0, 0.0, 0.0, 0.0]))
    alone = estimate([1 + own for own in checkpoints])
    assert (found.mean, found.n) == (pytest.approx(1), 15)
    assert (found.low, found.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


def test_the_variances_of_crossed_axes_add_up():
    found = estimate_crossed(of_checkpoints([-0.1, 0.0, 0.1], [-0.2, 0.0, 0.2]))
    # mean squares 0.03 and 0.12 with 2 degrees of freedom each, and no rest
    half = float(t.ppf(0.975, 0.15**2 / (0.03**2 / 2 + 0.12**2 / 2))) * math.sqrt(0.15 / 9)
    assert found.high - found.mean == pytest.approx(half, rel=1e-6)


def test_the_interval_of_crossed_replicates_covers_the_truth():
    draw = np.random.default_rng(0).normal
    covered = 0
    for _ in range(400):
        scores = {
            key: score + draw(0, 0.02)
            for key, score in of_checkpoints(draw(0, 0.1, 3).tolist(), [0.0, 0.0, 0.0, 0.0, 0.0]).items()
        }
        found = estimate_crossed(scores)
        against = difference(scores, keyed((1 + draw(0, 0.01, 5)).tolist()))
        covered += (found.low <= 1 <= found.high) + (against.low <= 0 <= against.high)
    assert 0.92 < covered / 800 < 0.98  # taken as independent: 0.52 and, averaged over checkpoints, 0.24


def test_one_seed_of_several_checkpoints_gives_the_difference_an_interval():
    found = difference(of_checkpoints([-0.1, 0.0, 0.1], [0.0]), keyed([1.5]))
    assert (found.value, found.n) == (pytest.approx(-0.5), 3)
    assert found.high - found.value == pytest.approx(float(t.ppf(0.975, 2)) * 0.1 / math.sqrt(3))


def test_one_split_is_paired_by_seed():
    found = difference(keyed([1.0, 2.0, 4.0]), keyed([1.5, 1.5, 3.0]))
    # differences -0.5, 0.5, 1.0: mean 1/3, variance 7/12
    half = float(t.ppf(0.975, 2)) * math.sqrt(7 / 12 / 3)
    assert found.basis == "paired by seed"
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high, found.n) == (pytest.approx(1 / 3 - half), pytest.approx(1 / 3 + half), 3)


def test_several_splits_are_paired_by_split_after_averaging_the_seeds():
    own = keyed([1.0, 3.0], split=0) | keyed([7.0, 5.0], split=1)  # neither seed is the better one
    forest = keyed([1.0], split=0) | keyed([4.0], split=1)
    found = difference(own, forest)  # split means 2 and 6 against 1 and 4: differences 1 and 2
    half = float(t.ppf(0.975, 1)) * math.sqrt(0.5 / 2)
    assert (found.basis, found.value, found.n) == ("paired by split", 1.5, 2)
    assert found.high - found.low == pytest.approx(2 * half)


def test_a_seed_that_is_better_on_every_split_is_in_the_interval():
    own = keyed([1.0, 3.0], split=0) | keyed([5.0, 7.0], split=1)
    found = difference(own, keyed([1.0], split=0) | keyed([4.0], split=1))
    # seeds 1 and 2: variance 2 / 2; split differences 1 and 2: variance 0.5 / 2; one degree of freedom each
    half = float(t.ppf(0.975, 1.25**2 / (1 + 0.25**2))) * math.sqrt(1.25)
    assert found.high - found.value == pytest.approx(half)


def test_checkpoints_of_both_sides_count_on_one_split():
    found = difference(of_checkpoints([-0.1, 0.0, 0.1], [0.0]), of_checkpoints([-0.3, 0.0, 0.3], [0.0]))
    freedom = 0.1**2 / ((0.01**2 + 0.09**2) / 2)  # Welch's
    half = float(t.ppf(0.975, freedom)) * math.sqrt((0.01 + 0.09) / 3)
    assert (found.basis, found.n, found.high - found.value) == ("means", 3, pytest.approx(half))


def test_outer_test_sets_are_paired_and_their_overlap_counts():
    own = {Key(0, 0, 0, k): score for k, score in enumerate([1.0, 2.0, 4.0, 3.0, 5.0])}
    forest = {Key(0, 0, 0, k): score for k, score in enumerate([1.5, 2.0, 4.5, 4.0, 5.0])}
    found = difference(own, forest)  # differences -0.5, 0, -0.5, -1, 0: variance 0.175
    half = float(t.ppf(0.975, 4)) * math.sqrt(0.175 * (1 / 5 + 0.25))
    assert (found.basis, found.value, found.n) == ("paired by outer test set", pytest.approx(-0.4), 5)
    assert found.high - found.value == pytest.approx(half)


def test_the_mean_over_outer_folds_varies_more_than_independent_folds_would():
    own = {Key(0, 0, 0, k): score for k, score in enumerate([1.0, 2.0, 4.0, 3.0, 5.0])}
    found, plain = estimate_crossed(own), estimate(list(own.values()))
    assert found.high - found.mean == pytest.approx((plain.high - plain.mean) * math.sqrt((1 / 5 + 0.25) / (1 / 5)))
    assert what_varies(own) == "outer test set"


def test_without_two_common_seeds_the_means_are_subtracted():
    found = difference(keyed([1.0, 2.0]), keyed([3.0]))
    assert (found.basis, found.value, found.low, found.n) == ("means", -1.5, None, 1)


def test_splits_that_only_the_forest_was_run_on_do_not_count():
    found = difference(keyed([1.0, 2.0]), keyed([3.0], split=0) | keyed([100.0], split=1))
    assert found.value == -1.5


def test_a_forest_that_was_not_run_on_a_split_is_not_compared():
    assert difference(keyed([1.0], split=0) | keyed([1.0], split=1), keyed([3.0], split=0)) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([(0, 0, 0)], "-"),
        ([(0, 0, 0), (0, 0, 1)], "head seed"),
        ([(0, 0, 0), (0, 1, 0)], "split"),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], "head seed x split"),
        ([(0, 0, 0), (1, 1, 1)], "pre-training seed x head seed x split"),
    ],
)
def test_what_the_replicates_vary_is_named(keys, words):
    assert what_varies(Key(*key) for key in keys) == words


def test_a_method_with_more_seeds_than_the_forest_keeps_its_interval():
    own = {Key(0, 0, seed): score for seed, score in enumerate([1.0, 1.2, 1.1, 1.3, 0.9])}
    forest = {Key(0, 0, seed): score for seed, score in enumerate([0.8, 0.9, 0.7])}
    found = difference(own, forest)
    low, high = ttest_ind(list(own.values()), list(forest.values()), equal_var=False).confidence_interval(0.95)
    assert found.basis == "means" and (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_a_forest_with_more_seeds_than_a_method_counts_with_all_of_them():
    own = {Key(checkpoint, 0, 0): score for checkpoint, score in enumerate([1.0, 1.02, 0.98])}
    forest = {Key(0, 0, seed): score for seed, score in enumerate([0.8, 1.1, 1.25])}
    found = difference(own, forest)
    assert (found.basis, found.value) == ("means", pytest.approx(-0.05)) and found.low < 0 < found.high
