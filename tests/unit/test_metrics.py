import numpy as np
import pytest
from sklearn import metrics as reference

from chembench.errors import DataError
from chembench.metrics import METRICS, objective, scores


def classes(molecules=200, seed=0):
    draw = np.random.default_rng(seed)
    measured = (draw.random(molecules) < 0.3).astype(float)
    # one digit only: many ties
    predicted = np.round(np.clip(0.3 * measured + draw.random(molecules) * 0.7, 0, 1), 1)
    return measured, predicted


def column(values):
    return np.asarray(values, float)[:, None]


@pytest.mark.parametrize("seed", range(5))
def test_classification_scores_are_those_of_sklearn_with_ties(seed):
    measured, predicted = classes(seed=seed)
    found = scores("classification", column(measured), column(predicted), np.zeros(1)).values
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(measured, predicted), abs=1e-12)
    assert found["pr_auc"] == pytest.approx(reference.average_precision_score(measured, predicted), abs=1e-12)
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(measured, predicted >= 0.5), abs=1e-12)


def test_regression_scores_are_those_of_sklearn():
    draw = np.random.default_rng(1)
    measured, predicted = draw.normal(size=50), draw.normal(size=50)
    found = scores("regression", column(measured), column(predicted), np.array([2.0])).values
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(measured, predicted), abs=1e-12)
    assert found["rmse_normalised"] == pytest.approx(found["rmse"] / 2.0, abs=1e-12)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(measured, predicted), abs=1e-12)
    assert found["r2"] == pytest.approx(reference.r2_score(measured, predicted), abs=1e-12)


def test_scores_worked_by_hand():
    found = scores("classification", column([0, 0, 1, 1]), column([0.1, 0.6, 0.6, 0.9]), np.zeros(1)).values
    assert found == pytest.approx({"roc_auc": 3.5 / 4, "pr_auc": 0.5 * 1.0 + 0.5 * 2 / 3, "mcc": 1 / np.sqrt(3)})
    found = scores("regression", column([1.0, 3.0]), column([2.0, 3.0]), np.array([0.5])).values
    assert found == pytest.approx({"rmse": 0.5**0.5, "rmse_normalised": 2**0.5, "mae": 0.5, "r2": 0.5})


def test_several_targets_are_averaged_over_those_with_both_classes():
    (one, said_one), (two, said_two) = classes(seed=3), classes(seed=4)
    one[:40] = np.nan
    measured = np.stack([one, two, np.ones(200), np.full(200, np.nan)], axis=1)
    predicted = np.stack([said_one, said_two, said_one, said_two], axis=1)
    found = scores("classification", measured, predicted, np.zeros(4))
    expected = (reference.roc_auc_score(one[40:], said_one[40:]) + reference.roc_auc_score(two, said_two)) / 2
    assert found.values["roc_auc"] == pytest.approx(expected, abs=1e-12)
    assert found.undefined == ()


def test_a_score_that_no_target_defines_is_left_out_and_named():
    found = scores("classification", np.ones((3, 1)), np.full((3, 1), 0.5), np.zeros(1))
    assert found.values == {}
    assert found.undefined == ("roc_auc", "pr_auc", "mcc")
    found = scores("regression", column([1.0, 1.0]), column([1.0, 2.0]), np.zeros(1))
    assert set(found.values) == {"rmse", "mae"}
    assert found.undefined == ("rmse_normalised", "r2")


def test_mcc_is_zero_where_one_class_is_never_predicted():
    assert scores("classification", column([0, 1]), column([0.1, 0.2]), np.zeros(1)).values["mcc"] == 0.0


def test_the_objective_is_lower_for_better_predictions():
    assert objective("regression", {"rmse_normalised": 0.4}) == 0.4
    assert objective("classification", {"roc_auc": 0.9}) == pytest.approx(0.1)


def test_each_metric_says_what_it_needs():
    assert {name for name, metric in METRICS.items() if metric.kind == "classification"} == {"roc_auc", "pr_auc", "mcc"}
    assert {name for name, metric in METRICS.items() if metric.better == "lower"} == {"rmse", "rmse_normalised", "mae"}
    assert all(name == metric.name for name, metric in METRICS.items())


def test_an_undefined_objective_is_refused():
    with pytest.raises(DataError, match="roc_auc needs a target with both classes among the validation molecules"):
        objective("classification", {})
    with pytest.raises(DataError, match="rmse_normalised needs a target with two different training measurements"):
        objective("regression", {"rmse": 1.0})


def test_predictions_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="predictions must be finite, 1 of 2 are not; lower the learning rate"):
        scores("regression", column([1.0, 2.0]), column([1.0, np.inf]), np.ones(1))


def test_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"must share one shape \(molecules, targets\), got \(2, 1\) and \(3, 1\)"):
        scores("regression", np.zeros((2, 1)), np.zeros((3, 1)), np.ones(1))
