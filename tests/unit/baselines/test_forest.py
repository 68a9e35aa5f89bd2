import numpy as np
import pytest
from baseline_rows import rows, spec

from chembench.baselines import forest
from chembench.baselines.forest import FeatureSet, finite_features, fit_forests, forest_descriptors, forest_ecfp4
from chembench.errors import DataError
from chembench.registry import BASELINES

NONE = float("nan")
CHAINS = ["C" * n for n in range(1, 13)]
RINGS = ["c1ccccc1" + "C" * n for n in range(12)]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """500 trees take seconds; the promises hold with 25."""
    monkeypatch.setattr(forest.fit_forests, "__defaults__", (25,))
    forest.forget_features()


def parts(labels, kind="regression", targets=1, name="forest_ecfp4", **changes):
    train = rows(CHAINS + RINGS, labels)
    blank = [[0.0] * targets] * 2
    return (
        spec(name, kind, targets, **changes),
        train,
        rows(["CCCCC", "c1ccccc1CC"], blank),
        rows(["CCCC", "c1ccccc1C"], blank),
    )


AROMATIC = [0.0] * 12 + [1.0] * 12


@pytest.mark.parametrize("name", ["forest_ecfp4", "forest_descriptors"])
def test_it_learns_what_separates_the_training_molecules(name):
    found = BASELINES.load(name)(*parts(AROMATIC, "classification", name=name, descriptors="paper105"))
    chain, ring = found.test_predicted_NM[:, 0]
    assert chain < 0.2
    assert ring > 0.8


def test_regression_stays_in_the_units_of_the_labels():
    chain, ring = forest_ecfp4(*parts([10.0 + 90.0 * a for a in AROMATIC])).test_predicted_NM[:, 0]
    assert 10 <= chain < 30
    assert 80 < ring <= 100


def test_the_seed_alone_decides_the_predictions_whatever_the_threads():
    labels = np.linspace(0, 1, 24)
    one = forest_ecfp4(*parts(labels, seed=3))
    again = forest_ecfp4(*parts(labels, seed=3, threads=2))
    other = forest_ecfp4(*parts(labels, seed=4))
    assert np.array_equal(one.test_predicted_NM, again.test_predicted_NM)
    assert not np.array_equal(one.test_predicted_NM, other.test_predicted_NM)


def test_labels_of_validation_and_test_are_not_read():
    plain = parts(np.linspace(0, 1, 24))
    poisoned = (*plain[:2], rows(plain[2].smiles, [NONE, NONE]), rows(plain[3].smiles, [1e9, -1e9]))
    assert np.array_equal(forest_ecfp4(*plain).test_predicted_NM, forest_ecfp4(*poisoned).test_predicted_NM)


def test_molecules_without_a_measurement_are_left_out_per_target():
    labels = np.array([[a, NONE if n % 2 else a] for n, a in enumerate(AROMATIC)])
    both = forest_ecfp4(*parts(labels, "classification", 2))
    train = parts(labels[:, 1], "classification")[1]
    kept = np.flatnonzero(np.isfinite(train.labels_NM[:, 0]))
    small = rows([train.smiles[row] for row in kept], train.labels_NM[kept])
    alone = forest_ecfp4(spec("forest_ecfp4", "classification"), small, *parts(AROMATIC)[2:])
    assert np.array_equal(both.test_predicted_NM[:, 1], alone.test_predicted_NM[:, 0])


def test_a_target_with_one_class_predicts_that_class_and_is_named():
    labels = np.array([[a, 1.0] for a in AROMATIC])
    found = forest_ecfp4(*parts(labels, "classification", 2))
    assert found.test_predicted_NM[:, 1].tolist() == [1.0, 1.0]
    assert found.facts["targets_with_one_value"] == [1]


def test_a_target_that_was_never_measured_is_refused():
    with pytest.raises(DataError, match="baseline forest_ecfp4 needs a training measurement of every target, target 0"):
        forest_ecfp4(*parts([NONE] * 24))


def test_facts_say_how_it_was_made():
    facts = forest_ecfp4(*parts(AROMATIC, "classification")).facts
    assert facts["untuned"] is True
    assert facts["deterministic"] is False
    assert (facts["trees"], facts["max_features"], facts["features"]) == (25, "sqrt", 2048)


def test_gaps_take_the_training_median_and_extremes_are_clipped():
    train_NK = np.array([[1.0, NONE], [3.0, NONE], [np.inf, NONE], [5.0, NONE]])
    valid_NK, test_NK = np.array([[NONE, 2.0]]), np.array([[-np.inf, 1e300]])
    found = finite_features(train_NK, valid_NK, test_NK)
    limit = np.finfo(np.float32).max
    assert found.train_NK[:, 0].tolist() == [1.0, 3.0, limit, 5.0]
    assert found.valid_NK.tolist() == [[3.0, 0.0]]  # median of 1, 3, 5; a descriptor no training molecule has is 0
    assert found.test_NK.tolist() == [[-limit, 0.0]]
    assert found.facts == {"filled_values": 7, "clipped_values": 2}


def test_features_that_never_vary_in_training_change_nothing():
    generator = np.random.default_rng(0)
    varying = [generator.normal(size=(size, 3)).astype(np.float32) for size in (20, 4, 4)]
    wide = [np.hstack([part, np.full((len(part), 50), 7, np.float32)]) for part in varying]
    labels_NM = varying[0][:, :1]
    plain = fit_forests(spec("forest_ecfp4"), FeatureSet(*varying), labels_NM)
    padded = fit_forests(spec("forest_ecfp4"), FeatureSet(*wide), labels_NM)
    assert np.array_equal(plain.test_predicted_NM, padded.test_predicted_NM)


def test_training_molecules_that_are_all_alike_still_get_a_prediction():
    same = rows(["CCO"] * 4, [1.0, 2.0, 3.0, 6.0])
    found = forest_ecfp4(spec("forest_ecfp4"), same, same, rows(["CCO"], [0.0]))
    assert found.test_predicted_NM[0, 0] == pytest.approx(3.0, abs=1.0)


def test_features_are_computed_once_for_the_same_molecules(monkeypatch):
    import chembench.chem.fingerprints as fingerprints

    calls = []
    real = fingerprints.ecfp4
    monkeypatch.setattr(fingerprints, "ecfp4", lambda smiles: calls.append(len(smiles)) or real(smiles))
    forest_ecfp4(*parts(AROMATIC, seed=0))
    forest_ecfp4(*parts(AROMATIC, seed=1))
    assert calls == [24, 2, 2]


def test_the_forest_on_descriptors_reads_the_list_it_is_told():
    facts = forest_descriptors(*parts(AROMATIC, name="forest_descriptors", descriptors="paper105")).facts
    assert facts["features"] == 105
