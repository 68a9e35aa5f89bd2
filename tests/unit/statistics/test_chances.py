"""P(best) says how often it is right: on boards with a known truth, claimed and found chances agree."""

import numpy as np
import pytest

from chembench.statistics.comparison import compare
from chembench.statistics.estimates import Key


@pytest.mark.parametrize(("seeds", "methods"), [(3, 5), (5, 3)])
def test_the_chance_of_the_likeliest_method_is_how_often_it_is_the_best(seeds, methods):
    random = np.random.default_rng(0)
    claimed, right = [], []
    for _ in range(150):
        truth = random.normal(0, 0.7, methods)
        scores = {
            f"m{m}": {Key(0, 0, seed): value for seed, value in enumerate(truth[m] + random.normal(0, 1, seeds))}
            for m in range(methods)
        }
        found = compare(scores, better="lower").p_best
        best = max(found, key=found.get)
        claimed.append(found[best])
        right.append(best == f"m{truth.argmin()}")
    assert np.mean(claimed) == pytest.approx(np.mean(right), abs=0.08)  # two standard errors of 150 boards
