"""Scores of predictions, on numpy alone.

Axes: M molecules, T targets. NaN in ``measured_MT`` means that no measurement was made; such entries are left out. A
score of several targets is the mean over those where it is defined: regression needs one measurement, classification
both classes. A score that is defined for no target is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chembench.errors import DataError
from chembench.specs import TaskKind

Floats = NDArray[np.float64]


def rmse(measured_M: Floats, predicted_M: Floats, train_sd: float) -> float | None:
    """Root mean square error, in the target's own unit."""
    return float(np.sqrt(np.mean((predicted_M - measured_M) ** 2)))


def rmse_normalised(measured_M: Floats, predicted_M: Floats, train_sd: float) -> float | None:
    """Root mean square error in standard deviations of the training targets; undefined where these are constant."""
    if not train_sd > 0:
        return None
    return float(np.sqrt(np.mean((predicted_M - measured_M) ** 2)) / train_sd)


def mae(measured_M: Floats, predicted_M: Floats, train_sd: float) -> float | None:
    """Mean absolute error, in the target's own unit."""
    return float(np.mean(np.abs(predicted_M - measured_M)))


def r2(measured_M: Floats, predicted_M: Floats, train_sd: float) -> float | None:
    """Share of the variance explained; undefined for fewer than two different measurements."""
    spread = float(np.sum((measured_M - measured_M.mean()) ** 2))
    if spread == 0.0:
        return None
    return 1.0 - float(np.sum((predicted_M - measured_M) ** 2)) / spread


def roc_auc(measured_M: Floats, predicted_M: Floats, train_sd: float = 1.0) -> float | None:
    """Probability that a random positive is ranked above a random negative; ties count one half."""
    _, place_M, count_U = np.unique(predicted_M, return_inverse=True, return_counts=True)
    rank_U = np.cumsum(count_U) - (count_U - 1) / 2.0
    positive_M = measured_M > 0.5
    positives, negatives = int(positive_M.sum()), int((~positive_M).sum())
    above = float(rank_U[place_M][positive_M].sum()) - positives * (positives + 1) / 2.0
    return above / (positives * negatives)


def pr_auc(measured_M: Floats, predicted_M: Floats, train_sd: float = 1.0) -> float | None:
    """Average precision: precision at each threshold, weighted by the recall gained there."""
    order_M = np.argsort(-predicted_M, kind="stable")
    found_M = np.cumsum(measured_M[order_M] > 0.5)
    last_U = np.append(np.flatnonzero(np.diff(predicted_M[order_M])), len(order_M) - 1)
    precision_U = found_M[last_U] / (last_U + 1.0)
    gained_U = np.diff(found_M[last_U], prepend=0) / found_M[-1]
    return float(np.sum(precision_U * gained_U))


def mcc(measured_M: Floats, predicted_M: Floats, train_sd: float = 1.0) -> float | None:
    """Matthews correlation of the classes at probability 0.5; 0 where one class is never predicted."""
    true_M, said_M = measured_M > 0.5, predicted_M >= 0.5
    tp, tn = float((true_M & said_M).sum()), float((~true_M & ~said_M).sum())
    fp, fn = float((~true_M & said_M).sum()), float((true_M & ~said_M).sum())
    scale = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / float(np.sqrt(scale)) if scale else 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """A score, what it needs and which way is better."""

    name: str
    better: Literal["higher", "lower"]
    needs: Literal["value", "probability"]
    score: Callable[[Floats, Floats, float], float | None]
    """Of one target's measured molecules: (measured_M, predicted_M, train_sd) -> score, none where undefined."""

    @property
    def kind(self) -> TaskKind:
        return "regression" if self.needs == "value" else "classification"


METRICS: dict[str, Metric] = {
    "rmse": Metric("rmse", "lower", "value", rmse),
    "rmse_normalised": Metric("rmse_normalised", "lower", "value", rmse_normalised),
    "mae": Metric("mae", "lower", "value", mae),
    "r2": Metric("r2", "higher", "value", r2),
    "roc_auc": Metric("roc_auc", "higher", "probability", roc_auc),
    "pr_auc": Metric("pr_auc", "higher", "probability", pr_auc),
    "mcc": Metric("mcc", "higher", "probability", mcc),
}
"""Every score that exists, the primary one of each kind of task first."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one set of predictions, and the names of those that no target defines."""

    values: dict[str, float]
    undefined: tuple[str, ...] = ()


def scores(
    kind: TaskKind,
    measured_MT: NDArray[np.floating],
    predicted_MT: NDArray[np.floating],
    train_sd_T: NDArray[np.floating],
) -> Scores:
    """All scores of a kind of task, each the mean over the targets where it is defined.

    Args:
        kind: what is predicted.
        measured_MT: measurements, shape (molecules, targets); NaN where none was made; classes are 0 and 1.
        predicted_MT: predictions in the task's own unit, or probabilities of class 1; same shape.
        train_sd_T: standard deviation of the training measurements of each target; read by `rmse_normalised` only.

    Raises:
        DataError: if the shapes differ or a prediction is NaN or infinite.
    """
    measured, predicted = np.asarray(measured_MT, np.float64), np.asarray(predicted_MT, np.float64)
    if measured.shape != predicted.shape or measured.ndim != 2:
        raise DataError(
            f"measured and predicted must share one shape (molecules, targets), got {measured.shape} and "
            f"{predicted.shape}; predict every molecule and target"
        )
    if not np.isfinite(predicted).all():
        raise DataError(
            f"predictions must be finite, {int((~np.isfinite(predicted)).sum())} of {predicted.size} are not; "
            "lower the learning rate or look for a bug in the model"
        )
    columns = [_measured_column(kind, measured[:, t], predicted[:, t]) for t in range(measured.shape[1])]
    values: dict[str, float] = {}
    undefined: list[str] = []
    for metric in METRICS.values():
        if metric.kind != kind:
            continue
        per_target = [
            metric.score(*column, float(sd))
            for column, sd in zip(columns, np.asarray(train_sd_T), strict=True)
            if column
        ]
        defined = [value for value in per_target if value is not None]
        if defined:
            values[metric.name] = float(np.mean(defined))
        else:
            undefined.append(metric.name)
    return Scores(values, tuple(undefined))


def _measured_column(kind: TaskKind, measured_M: Floats, predicted_M: Floats) -> tuple[Floats, Floats] | None:
    known_M = ~np.isnan(measured_M)
    known, predicted = measured_M[known_M], predicted_M[known_M]
    if not len(known) or (kind == "classification" and len(np.unique(known > 0.5)) < 2):
        return None
    return known, predicted


def objective(kind: TaskKind, values: Mapping[str, float]) -> float:
    """The one number a search minimises: normalised RMSE, or 1 - ROC-AUC.

    Raises:
        DataError: if the score it is made of is undefined on these molecules.
    """
    name = "rmse_normalised" if kind == "regression" else "roc_auc"
    if name not in values:
        need = "two different training measurements" if kind == "regression" else "both classes"
        raise DataError(
            f"{name} needs a target with {need} among the validation molecules, there is none; choose another split"
        )
    return values[name] if kind == "regression" else 1.0 - values[name]
