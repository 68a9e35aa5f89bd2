import math

import pytest
from scipy.stats import kendalltau, linregress, spearmanr

from chembench.errors import ConfigError, DataError
from chembench.statistics.aggregate import aggregate
from chembench.statistics.components import variance_components
from chembench.statistics.estimates import Key
from chembench.statistics.multiplicity import adjust
from chembench.statistics.scaling import fit
from chembench.statistics.transfer import correlations

TWO = {"bace": {"a": 0.8, "b": 0.7, "c": 0.7}, "delaney": {"a": 0.5, "b": 0.4, "c": 0.8}}
WAYS = {"bace": "higher", "delaney": "lower"}


def test_holm_and_benjamini_hochberg_by_hand():
    p = {"x": 0.01, "y": 0.04, "z": 0.03}
    assert adjust(p) == pytest.approx({"x": 0.03, "y": 0.06, "z": 0.06})
    assert adjust(p, "benjamini-hochberg") == pytest.approx({"x": 0.03, "y": 0.04, "z": 0.04})


def test_p_values_that_are_none_are_refused():
    with pytest.raises(DataError, match="p values lie between 0 and 1, x has nan"):
        adjust({"x": math.nan})
    with pytest.raises(DataError, match="at least one p value"):
        adjust({})
    with pytest.raises(ConfigError, match="unknown adjustment 'sidak'; known: holm, benjamini-hochberg"):
        adjust({"x": 0.1}, "sidak")


def test_four_aggregations_by_hand():
    found = aggregate(TWO, WAYS)
    by = {line.method: line for line in found.standings}
    assert {name: by[name].mean_rank for name in by} == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert by["a"].win_rate == pytest.approx((1 + 0.5) / 2)
    assert by["c"].win_rate == pytest.approx((0.25 + 0) / 2)
    assert by["b"].improvability == pytest.approx((1 - 0.2 / 0.3) / 2)
    assert by["c"].tes == pytest.approx(0.1 + 0.4)
    assert found.wins["b"]["c"] == pytest.approx((0.5 + 1) / 2)
    assert found.firsts == {"mean_rank": ("a",), "win_rate": ("a",), "improvability": ("a",), "tes": ("a", "b")}


def test_the_chosen_aggregation_orders_and_the_others_are_held_against_it():
    found = aggregate(TWO, WAYS, "tes")
    assert [line.method for line in found.standings][-1] == "c"
    assert set(found.agreement) == {"mean_rank", "win_rate", "improvability"}
    assert 0 <= found.first_changes <= 1
    assert sum(line.p_first for line in found.standings) == pytest.approx(1)


def test_the_interval_of_a_mean_rank_is_students_over_tasks():
    first, second = {"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}
    scores = {"w": first, "x": first, "y": first, "z": second}
    found = aggregate(scores, dict.fromkeys("wxyz", "lower")).standings[0]
    assert (found.method, found.mean_rank) == ("a", 1.25)
    assert (found.rank_low, found.rank_high) == (1, pytest.approx(min(2, 1.25 + 3.182446 * 0.5 / 2)))
    two = aggregate(TWO, WAYS)
    assert {(line.rank_low, line.rank_high) for line in two.standings if line.method != "c"} == {(1, 3)}
    assert "win_rate" not in two.agreement, "it is the mean rank in another form"


def test_a_method_that_is_best_on_every_task_stays_first_in_every_draw():
    found = aggregate({t: {"a": 0.1, "b": 0.2, "c": 0.3} for t in "xyz"}, dict.fromkeys("xyz", "lower"))
    assert (found.standings[0].p_first, found.first_changes, found.rank_stability) == (1, 0, pytest.approx(1))
    assert (found.standings[0].rank_low, found.standings[0].rank_high) == (1, 1)


@pytest.mark.parametrize(
    ("scores", "ways", "says"),
    [
        ({"x": {"a": 1.0, "b": 2.0}, "y": {"a": 1.0}}, {"x": "lower", "y": "lower"}, "b has none on y"),
        ({"x": {"a": 1.0}}, {"x": "lower"}, "two methods, got 1 and 1"),
        ({"x": {"a": math.inf, "b": 1.0}}, {"x": "lower"}, "a has inf on x"),
        ({"x": {"a": 1.2, "b": 1.0}}, {"x": "higher"}, "errors must not be negative, a on x"),
        ({"x": {"a": 1.2, "b": 1.0}}, {}, "x has None"),
    ],
)
def test_scores_that_make_no_order_are_refused(scores, ways, says):
    with pytest.raises(DataError, match=says):
        aggregate(scores, ways)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ConfigError, match="unknown aggregation 'elo'; known: mean_rank, win_rate"):
        aggregate(TWO, WAYS, "elo")


def test_a_power_law_is_found_again():
    points = [(10.0**k, 3.0 * (10.0**k) ** -0.2) for k in range(5, 9)]
    found = fit(points, "parameters")
    assert (found.slope, found.r2) == (pytest.approx(-0.2), pytest.approx(1))
    assert found.doubled == pytest.approx(2**-0.2)
    floored = fit([(s, 0.5 + v) for s, v in points], "parameters").above_floor
    assert (floored.floor, floored.exponent) == (pytest.approx(0.5, rel=1e-3), pytest.approx(0.2, rel=1e-2))


def test_replicates_of_a_scale_are_no_further_scales():
    points = [(1.0, 1.0), (1.0, 1.1), (10.0, 0.8), (100.0, 0.7), (100.0, 0.6)]
    y = [(math.log(1.0) + math.log(1.1)) / 2, math.log(0.8), (math.log(0.7) + math.log(0.6)) / 2]
    theirs = linregress([math.log(s) for s in (1, 10, 100)], y)
    found = fit(points, "molecules")
    assert (found.slope, found.p) == (pytest.approx(theirs.slope), pytest.approx(theirs.pvalue))
    assert found.high - found.slope == pytest.approx(12.7062047 * theirs.stderr)
    assert found.above_floor is None and "one degree of freedom" in found.notes[0]


def test_values_that_never_change_have_no_slope_and_no_interval_that_is_no_number():
    found = fit([(scale, 0.5) for scale in (1, 2, 4, 8)], "molecules")
    assert (found.slope, found.low, found.high, found.p, found.r2) == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_two_scales_are_refused():
    with pytest.raises(DataError, match=r"needs 3 distinct FLOPs, got 2 \(10, 1000\); add scales"):
        fit([(10.0, 1.0), (1000.0, 0.5), (10.0, 1.1)], "FLOPs")
    with pytest.raises(DataError, match=r"positive finite numbers, got molecules 0\.0: 1\.0"):
        fit([(0.0, 1.0)], "molecules")


LOSSES = {"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.2, "e": 0.1}


def test_rank_correlations_agree_with_scipy_and_point_the_same_way_for_both_kinds_of_score():
    rmse = {"a": 0.9, "b": 0.7, "c": 0.8, "d": 0.5, "e": 0.6}
    auc = {name: 1 - score for name, score in rmse.items()}
    found = {line.task: line for line in correlations(LOSSES, {"x": rmse, "y": auc}, {"x": "lower", "y": "higher"})}
    names = sorted(LOSSES)
    theirs = spearmanr([LOSSES[n] for n in names], [rmse[n] for n in names]).statistic
    assert found["x"].spearman == pytest.approx(theirs) == found["y"].spearman == found["all tasks"].spearman
    assert found["x"].kendall == pytest.approx(kendalltau(list(LOSSES.values()), list(rmse.values())).statistic)
    assert -1 <= found["x"].spearman_low < found["x"].spearman < found["x"].spearman_high <= 1


def test_draws_agree_with_scipy_also_where_values_are_tied():
    import numpy as np

    from chembench.statistics.transfer import _drawn

    loss, score = np.array([0.1, 0.2, 0.2, 0.4]), np.array([3.0, 1.0, 3.0, 4.0])
    draw = np.array([0, 1, 1, 2, 3])
    theirs = spearmanr(loss[draw], score[draw]).statistic, kendalltau(loss[draw], score[draw]).statistic
    assert tuple(_drawn(loss, score, draw)) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("losses", "scores", "ways", "says"),
    [
        (LOSSES, {"x": {"a": 1.0, "b": 2.0, "c": 3.0}}, {"x": "lower"}, "needs 4 configurations .* x has 3"),
        (LOSSES, {"x": dict.fromkeys("abcd", 1.0)}, {"x": "lower"}, "all scores of x are equal"),
        (LOSSES, {"x": {**dict.fromkeys("abc", 1.0), "d": math.nan}}, {"x": "lower"}, "d on x has 0.2 and nan"),
        (LOSSES, {"x": LOSSES}, {}, "x has None"),
        (LOSSES, {}, {}, "at least one task"),
    ],
)
def test_too_little_for_a_correlation_is_refused(losses, scores, ways, says):
    with pytest.raises(DataError, match=says):
        correlations(losses, scores, ways)


def test_components_of_crossed_axes_by_hand():
    own = {Key(p, 0, s): 1 + a + b for p, a in enumerate((-1.0, 0.0, 1.0)) for s, b in enumerate((-2.0, 0.0, 2.0))}
    found = variance_components({"a": own})
    by = {part.axis: part for part in found.parts}
    assert (by["pre-training seed"].sd, by["head seed"].sd, by["single runs"].sd) == (
        pytest.approx(1),
        pytest.approx(2),
        pytest.approx(0),
    )
    assert by["head seed"].share == pytest.approx(0.8)
    assert (found.held, found.not_held) == (("pre-training seed", "head seed"), ("split", "outer test set"))


def test_what_all_methods_have_in_common_is_a_component_that_makes_no_difference_uncertain():
    hard = [0.0, 1.0, 2.0]
    own = {name: {Key(0, k, 0): at + b for k, b in enumerate(hard)} for name, at in (("a", 0.0), ("b", 1.0))}
    by = {part.axis: part for part in variance_components(own).parts}
    assert (by["split (all methods alike)"].sd, by["split (all methods alike)"].counts) == (pytest.approx(1), False)
    assert by["split x method"].sd == pytest.approx(0)


def test_components_without_replicates_are_refused():
    with pytest.raises(DataError, match="need replicates, every method has one"):
        variance_components({"a": {Key(0, 0, 0): 1.0}, "b": {Key(0, 0, 0): 2.0}})
