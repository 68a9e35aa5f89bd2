import math

import numpy as np
import pytest
from scipy.stats import nct, studentized_range
from scipy.stats import t as student

from chembench.errors import ConfigError
from chembench.statistics.letters import letters
from chembench.statistics.power import Design, detectable_difference, power, replicates_needed
from chembench.statistics.studentized import quantile, quantiles, tail


@pytest.mark.parametrize(("methods", "freedom"), [(2, 3), (5, 10), (18, 36.2)])
def test_the_studentised_range_is_scipys(methods, freedom):
    q = np.array([0.5, 2.0, 3.5, 6.0])
    assert tail(q, methods, freedom) == pytest.approx(studentized_range.sf(q, methods, freedom), abs=1e-7)
    assert quantile(0.05, methods, freedom) == pytest.approx(studentized_range.ppf(0.95, methods, freedom), rel=1e-6)


def test_the_studentised_range_of_two_is_students_t():
    assert quantile(0.05, 2, 4) / math.sqrt(2) == pytest.approx(float(student.ppf(0.975, 4)), rel=1e-8)


def test_quantiles_between_the_grid_are_right():
    freedom = np.array([1.3, 4.7, 33.3, 900.0])
    exact = [quantile(0.05, 7, float(df)) for df in freedom]
    assert quantiles(0.05, 7, freedom) == pytest.approx(exact, rel=1e-5)


def test_power_of_two_methods_is_that_of_the_t_test():
    design = Design(methods=2, head_seeds=5, head_seed=1.0)
    shift = 2.0 / math.sqrt(2 / 5)
    bound = float(student.ppf(0.975, 8))
    exact = float(nct.sf(bound, 8, shift) + nct.cdf(-bound, 8, shift))
    assert power(design, 2.0) == pytest.approx(exact, abs=0.01)


def test_the_detectable_difference_has_the_power_it_was_asked_for():
    design = Design(methods=6, pretrain_seeds=3, head_seeds=3, pretrain_seed=0.5, head_seed=0.1, run=0.3)
    assert power(design, detectable_difference(design)) == pytest.approx(0.8, abs=1e-3)
    assert detectable_difference(design, 0.5) < detectable_difference(design)


def test_what_holds_most_of_the_variance_is_bought_first():
    design = Design(methods=6, pretrain_seeds=3, head_seeds=3, pretrain_seed=1.0, head_seed=0.01, run=0.01)
    more, axis = replicates_needed(design, 1.5)
    assert axis == "pre-training seed"
    larger = Design(**{**design.__dict__, "pretrain_seeds": 3 + more})
    fewer = Design(**{**design.__dict__, "pretrain_seeds": 3 + more - 1})
    assert detectable_difference(larger) <= 1.5 < detectable_difference(fewer)


def test_folds_that_overlap_cannot_be_bought_without_end():
    design = Design(methods=4, blocks=5, block=1.0, overlap=0.25)
    assert replicates_needed(design, 0.5, "outer") is None
    assert replicates_needed(Design(methods=4, blocks=5, block=1.0), 0.5) is not None


def test_a_pair_that_varies_more_than_the_others_is_told_to_buy_for_its_own_few_degrees_of_freedom():
    even = Design(methods=12, head_seeds=3, head_seed=1.0)
    wide = Design(methods=12, head_seeds=3, head_seed=1.0, wider=9.0)
    assert detectable_difference(wide) > 3 * detectable_difference(even), (
        "the spread is three times as large, and less sure"
    )
    few, more = replicates_needed(even, 2.5), replicates_needed(wide, 7.5)
    assert few[0] < more[0] and few[1] == more[1] == "head seed"


def test_a_pair_with_many_replicates_has_the_power_of_its_own_t_test():
    design = Design(methods=6, blocks=21, block=1.0, wider=0.25)
    shift = 0.5 / math.sqrt(2 * 0.25 / 21)
    bound = float(student.ppf(1 - (1 - 0.95 ** (1 / 15)) / 2, 20))
    exact = float(nct.sf(bound, 20, shift) + nct.cdf(-bound, 20, shift))
    assert power(design, 0.5) == pytest.approx(exact, abs=0.01)


def test_the_fewest_replicates_are_found_on_both_sides_of_where_a_pair_goes_by_itself():
    design = Design(methods=18, head_seeds=5, head_seed=1.0)
    for difference in (1.6, 1.8, 2.0, 2.2, 2.4, 2.6):
        more, _ = replicates_needed(design, difference)
        larger = [Design(**{**design.__dict__, "head_seeds": 5 + n}) for n in range(1, more + 1)]
        assert [detectable_difference(one) <= difference for one in larger] == [False] * (more - 1) + [True]


def test_without_a_difference_or_replicates_nothing_is_bought():
    assert replicates_needed(Design(methods=3, head_seeds=3, head_seed=1.0), 0.0) is None
    assert replicates_needed(Design(methods=3), 1.0) is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Design(methods=1), "at least two methods"),
        (lambda: Design(methods=2, head_seed=math.nan), "variances must be finite"),
        (lambda: Design(methods=2, wider=0.0), "that of a pair above 0, got 0.0 of the pooled one"),
        (lambda: power(Design(methods=2), 1.0), "power needs replicates"),
        (lambda: detectable_difference(Design(methods=2, blocks=3), 1.0), "power must lie between 0 and 1, got 1"),
    ],
)
def test_designs_without_an_answer_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_letters_by_hand():
    assert letters("abc", [("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("abcd", [("a", "c"), ("a", "d"), ("b", "d")]) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    assert letters("abc", [("b", "c")]) == {"a": "ab", "b": "a", "c": "b"}
    assert letters("ab", []) == {"a": "a", "b": "a"}
