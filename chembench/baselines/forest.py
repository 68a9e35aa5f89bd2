"""Random forests on fingerprints and on the descriptors that pre-training learns.

One forest per target; molecules on which the target was not measured are left out. Nothing is tuned: 500 trees as in
DeepChem's benchmarks, and the usual share of features per split.

Axes: N molecules, R measured molecules of one target, M targets, K features, J varying features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chembench.baselines.base import BaselineFit, Floats, measured_rows
from chembench.specs import BaselineSpec, TaskKind

if TYPE_CHECKING:
    from chembench.data.splits import Rows

TREES = 500
MAX_FEATURES: dict[TaskKind, float | str] = {"regression": 1 / 3, "classification": "sqrt"}
"""Share or number of the varying features that each split of a tree may choose from, as Breiman advises."""

Features = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features of the three parts, each of shape (molecules, features)."""

    train_NK: Features
    valid_NK: Features
    test_NK: Features
    facts: dict[str, Any] = field(default_factory=dict)


def forest_ecfp4(spec: BaselineSpec, train: Rows, valid: Rows, test: Rows) -> BaselineFit:
    """Random forest on 2,048 bits of ECFP4.

    Raises:
        DataError: if a target has no training measurement.
    """
    train_NK, valid_NK, test_NK = (_fingerprints(tuple(part.smiles)) for part in (train, valid, test))
    return fit_forests(spec, FeatureSet(train_NK, valid_NK, test_NK), train.labels_NM)


def forest_descriptors(spec: BaselineSpec, train: Rows, valid: Rows, test: Rows) -> BaselineFit:
    """Random forest on the descriptors that are the labels of pre-training, computed rather than predicted.

    Raises:
        DataError: if a target has no training measurement.
    """
    train_NK, valid_NK, test_NK = (_descriptors(tuple(part.smiles), spec.descriptors) for part in (train, valid, test))
    return fit_forests(spec, finite_features(train_NK, valid_NK, test_NK), train.labels_NM)


def finite_features(train_NK: Floats, valid_NK: Floats, test_NK: Floats) -> FeatureSet:
    """Descriptors as a forest can read them: gaps filled with the training median, clipped to the float32 range.

    A descriptor that no training molecule has becomes 0 everywhere. The facts count what was changed.
    """
    usable_NK = np.where(np.isfinite(train_NK), train_NK, np.nan)
    empty_K = np.isnan(usable_NK).all(axis=0)
    median_K = np.zeros(train_NK.shape[1])
    median_K[~empty_K] = np.nanmedian(usable_NK[:, ~empty_K], axis=0)
    limit = float(np.finfo(np.float32).max)
    parts, filled, clipped = [], 0, 0
    for values_NK in (train_NK, valid_NK, test_NK):
        gaps_NK = np.isnan(values_NK) | empty_K
        whole_NK = np.where(gaps_NK, median_K, values_NK)
        filled += int(gaps_NK.sum())
        clipped += int((np.abs(whole_NK) > limit).sum())
        parts.append(np.clip(whole_NK, -limit, limit).astype(np.float32))
    return FeatureSet(parts[0], parts[1], parts[2], {"filled_values": filled, "clipped_values": clipped})


def varying_features(train_NK: Features) -> npt.NDArray[np.intp]:
    """Features that differ among training molecules; no split of a tree can use the others.

    Without those a forest on ECFP4 is fitted 1.5 to 2 times as fast. One feature is kept if none differs.
    """
    varying_J = np.flatnonzero(train_NK.min(axis=0) != train_NK.max(axis=0))
    return varying_J if varying_J.size else np.zeros(1, dtype=np.intp)


def fit_forests(
    spec: BaselineSpec, features: FeatureSet, labels_NM: npt.NDArray[np.float32], trees: int = TREES
) -> BaselineFit:
    """Fit one forest per target on the training rows and predict validation and test.

    Args:
        spec: what kind of task it is, the seed and the threads.
        features: features of the three parts.
        labels_NM: training measurements, NaN where none was made.
        trees: trees of each forest.

    Raises:
        DataError: if a target has no training measurement.
    """
    predicted = [_fit_target(spec, features, labels_NM, target, trees) for target in range(spec.targets)]
    one_class = [target for target, (_, _, varies) in enumerate(predicted) if not varies]
    facts = {
        "untuned": True,
        "deterministic": False,
        "trees": trees,
        "max_features": MAX_FEATURES[spec.task_kind],
        "features": features.train_NK.shape[1],
        "targets_with_one_value": one_class,
        **features.facts,
    }
    return BaselineFit(
        np.stack([valid_N for valid_N, _, _ in predicted], axis=1),
        np.stack([test_N for _, test_N, _ in predicted], axis=1),
        facts,
    )


def _fit_target(
    spec: BaselineSpec, features: FeatureSet, labels_NM: npt.NDArray[np.float32], target: int, trees: int
) -> tuple[Floats, Floats, bool]:
    """Predictions for validation and test; False if the training labels hold one value, which is then predicted."""
    rows_R = measured_rows(spec, labels_NM, target)
    labels_R = labels_NM[rows_R, target].astype(np.float64)
    if labels_R.min() == labels_R.max():
        sizes = len(features.valid_NK), len(features.test_NK)
        return np.full(sizes[0], labels_R[0]), np.full(sizes[1], labels_R[0]), False
    train_RK = features.train_NK[rows_R]
    varying_J = varying_features(train_RK)
    forest = _forest(spec, trees)
    forest.fit(train_RK[:, varying_J], labels_R if spec.task_kind == "regression" else labels_R > 0.5)
    # Threads add up the trees in the order they end, which moves the last bit of a prediction.
    forest.n_jobs = 1
    valid_N, test_N = (
        _predict(spec, forest, part_NK[:, varying_J]) for part_NK in (features.valid_NK, features.test_NK)
    )
    return valid_N, test_N, True


def _forest(spec: BaselineSpec, trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if spec.task_kind == "regression" else RandomForestClassifier
    return kind(
        n_estimators=trees,
        max_features=MAX_FEATURES[spec.task_kind],
        n_jobs=spec.threads,
        random_state=spec.seed,
    )


def _predict(spec: BaselineSpec, forest: Any, features_NK: Features) -> Floats:
    if spec.task_kind == "regression":
        return np.asarray(forest.predict(features_NK), dtype=np.float64)
    return np.asarray(forest.predict_proba(features_NK)[:, 1], dtype=np.float64)


@lru_cache(maxsize=18)
def _fingerprints(smiles: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Kept per process, because the seeds and baselines of a task share their rows; 18: six tasks, three parts."""
    from chembench.chem.fingerprints import ecfp4

    return _read_only(ecfp4(smiles))


@lru_cache(maxsize=18)
def _descriptors(smiles: tuple[str, ...], list_name: str) -> Floats:
    from chembench.chem.descriptors import compute, descriptor_names

    return _read_only(np.asarray(compute(smiles, descriptor_names(list_name)), dtype=np.float64))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


def forget_features() -> None:
    """Drop the kept fingerprints and descriptors."""
    _fingerprints.cache_clear()
    _descriptors.cache_clear()
