"""What a model is fitted to: scaled labels, and predictions brought back to their unit; on numpy alone.

Axes: N molecules, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chembench.data.splits import Rows, load_sealed
from chembench.errors import DataError
from chembench.paths import read_json
from chembench.specs import BaselineSpec, TaskKind, TrialSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and standard deviation of the training measurements of each target."""

    kind: TaskKind
    mean_M: Floats
    sd_M: Floats
    """0 where a target is constant or unmeasured; such a target is moved, not stretched."""

    @classmethod
    def of(cls, kind: TaskKind, labels_NM: NDArray[np.floating]) -> Scaling:
        """The scaling that training rows give; NaN labels are left out."""
        mean, sd = [], []
        for column_N in np.asarray(labels_NM, np.float64).T:
            known = column_N[~np.isnan(column_N)]
            mean.append(float(known.mean()) if len(known) else 0.0)
            sd.append(float(known.std()) if len(known) else 0.0)
        return cls(kind, np.array(mean), np.array(sd))

    def applied(self, labels_NM: NDArray[np.floating]) -> NDArray[np.float32]:
        """Labels as a model learns them: standardised in a regression, as they are in a classification."""
        if self.kind == "classification":
            return np.asarray(labels_NM, np.float32)
        return ((np.asarray(labels_NM, np.float64) - self.mean_M) / _stretch(self.sd_M)).astype(np.float32)

    def undone(self, output_NM: NDArray[np.floating]) -> Floats:
        """A model's outputs in the task's own unit, or as probabilities of class 1."""
        output = np.asarray(output_NM, np.float64)
        if self.kind == "regression":
            return output * _stretch(self.sd_M) + self.mean_M
        return 0.5 * (1.0 + np.tanh(0.5 * output))  # the logistic function in a form that cannot overflow


def _stretch(sd_M: Floats) -> Floats:
    return np.where(sd_M > 0, sd_M, 1.0)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a split's folder says about its targets."""

    names: tuple[str, ...]
    unit: str
    """Of regression targets; may be empty."""


def target_facts(split_folder: Path, spec: TrialSpec | BaselineSpec) -> TargetFacts:
    """Names and unit of the targets in the split that ``spec`` names.

    Raises:
        DataError: if the folder holds no split, or another one.
    """
    file = split_folder / "manifest.json"
    try:
        manifest = read_json(file)
        found = TargetFacts(tuple(map(str, manifest["targets"])), str(manifest["unit"]))
        held = (manifest["data"], manifest["test_rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} must describe a split ({error!r}); prepare the inputs again") from error
    if held != (spec.data, spec.test_rows):
        raise DataError(
            f"the item names rows {spec.data} and test rows {spec.test_rows}, {split_folder} holds "
            f"{held[0]} and {held[1]}; prepare the inputs again"
        )
    if len(found.names) != spec.targets:
        raise DataError(
            f"the item names {spec.targets} targets, {split_folder} holds {len(found.names)}; prepare the inputs again"
        )
    return found


def open_sealed(folder: Path, digest: str) -> Rows:
    """The sealed test rows of that digest, which names their folder.

    Raises:
        DataError: if the folder is another one, or does not hold what was sealed.
    """
    if folder.name != digest:
        raise DataError(f"the item names sealed rows {digest}, {folder} holds others; prepare the inputs again")
    return load_sealed(folder)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions for one part, in the task's own unit or as probabilities."""

    part: str
    rows: Rows
    measured_NM: Floats
    predicted_NM: Floats


def known_labels(spec: TrialSpec, labels_NM: NDArray[np.floating]) -> NDArray[np.float64]:
    """Labels as the trial reads them: NaN where unknown, or 0 there in paper mode."""
    labels = np.asarray(labels_NM, np.float64)
    return labels if spec.mask_missing else np.nan_to_num(labels, nan=0.0)
