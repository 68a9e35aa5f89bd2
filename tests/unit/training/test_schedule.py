import itertools
import math

import pytest

from chembench.training.schedule import rate_factor


def test_the_rate_rises_in_a_line_to_its_peak_and_falls_along_a_cosine():
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert rate_factor(0, 7, 0.0) == 1.0


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.99), (3, 0.5)])
def test_no_step_of_a_short_training_is_without_a_rate(total, warmup):
    assert all(0 < rate_factor(step, total, warmup) <= 1 for step in range(total))
