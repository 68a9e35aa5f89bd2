import numpy as np
import pytest
from baseline_rows import rows, spec

from chembench.errors import DataError
from chembench.registry import BASELINES

NONE = float("nan")


def fit(train_labels, kind="regression", targets=1):
    train = rows(["C"] * len(train_labels), train_labels)
    return BASELINES.load("constant")(
        spec("constant", kind, targets), train, rows(["C", "CC"], [[0] * targets] * 2), rows(["CCC"], [[0] * targets])
    )


def test_it_predicts_the_training_mean_of_each_target_over_what_was_measured():
    found = fit([[1.0, 10.0], [2.0, NONE], [6.0, 20.0]], targets=2)
    assert found.valid_predicted_NM.tolist() == [[3.0, 15.0], [3.0, 15.0]]
    assert found.test_predicted_NM.tolist() == [[3.0, 15.0]]


def test_it_predicts_the_rate_of_positives():
    assert fit([1, 0, 0, 0], "classification").test_predicted_NM.tolist() == [[0.25]]


def test_it_says_that_it_is_untuned_and_that_the_seed_changes_nothing():
    facts = fit([1.0, 3.0]).facts
    assert (facts["untuned"], facts["deterministic"], facts["predicts"]) == (True, True, [2.0])


def test_a_target_that_was_never_measured_is_refused():
    with pytest.raises(DataError, match="target 1 of task t has none on split 0; leave this target out"):
        fit([[1.0, NONE], [2.0, NONE]], targets=2)


def test_predictions_are_float64():
    assert fit([1.0, 3.0]).test_predicted_NM.dtype == np.float64
