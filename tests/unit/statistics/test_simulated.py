"""The short form of `python -m torture.statistics`: fewer boards, the same promises within what chance allows."""

import numpy as np
import pytest
from scipy.stats import binom
from torture import simulated, statistics

from chembench.statistics.comparison import compare

BOARDS = 150
MOST = int(binom.ppf(0.999, BOARDS, statistics.LIMIT))
"""What a rate of 7 % exceeds once in a thousand times."""


@pytest.mark.parametrize("layout", simulated.LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("truth", [simulated.EVEN, simulated.DOUBLE], ids=lambda truth: truth.name)
def test_few_boards_without_an_effect_show_one(layout, truth):
    found = statistics.false_separations(layout, truth, 5, BOARDS, seed=1)
    assert found["false"] * BOARDS <= MOST
    assert min(found["mean"], found["difference"]) > 0.88


@pytest.mark.parametrize("layout", simulated.LAYOUTS[:4], ids=lambda layout: layout.name)
def test_a_promised_effect_is_found(layout):
    record = statistics.powers(layout, simulated.EVEN, 5, BOARDS, seed=1)
    assert record["power"] == pytest.approx(0.8, abs=0.11)
    assert record["all"] > 0.88


def test_folds_of_molecules_that_teach_and_test_show_no_effect():
    found = statistics.false_separations(simulated.LAYOUTS[4], simulated.TRAINED, 5, BOARDS, seed=1)
    assert found["false"] * BOARDS <= MOST


@pytest.mark.parametrize("layout", simulated.LAYOUTS, ids=lambda layout: layout.name)
def test_what_is_simulated_is_what_compare_says(layout):
    scores_MPHB = simulated.scores_of(np.random.default_rng(2), layout, simulated.EVEN, 4, [-4.0, 0.0, 0.0, 0.0])
    first, second, between, half = statistics.judged(scores_MPHB, layout)
    for pair in compare(simulated.keyed(scores_MPHB, layout), better="lower").pairs:
        at = next(k for k in range(6) if {f"m{first[k]:02d}", f"m{second[k]:02d}"} == {pair.first, pair.second})
        assert pair.difference == pytest.approx(between[at])
        assert pair.high - pair.difference == pytest.approx(half[at])
        assert (pair.verdict == "first") == (abs(between[at]) > half[at])
