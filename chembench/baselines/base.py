"""What every baseline gives back, and the checks they share.

A baseline is a function ``(spec: BaselineSpec, train: Rows, valid: Rows, test: Rows) -> BaselineFit`` in
`chembench.registry.BASELINES`. It fits on the training rows alone and sees the measurements of no other part.

Axes: N molecules, R measured molecules, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chembench.errors import DataError
from chembench.specs import BaselineSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BaselineFit:
    """Predictions of one fitted baseline, in the task's own unit or as probabilities."""

    valid_predicted_NM: Floats
    test_predicted_NM: Floats
    facts: dict[str, Any]
    """``untuned`` (no setting was searched), ``deterministic`` (the seed changes nothing), and how it was made."""


def measured_rows(spec: BaselineSpec, labels_NM: npt.NDArray[np.float32], target: int) -> npt.NDArray[np.intp]:
    """Training rows on which a target was measured.

    Raises:
        DataError: if there are none.
    """
    rows_R = np.flatnonzero(np.isfinite(labels_NM[:, target]))
    if rows_R.size == 0:
        raise DataError(
            f"baseline {spec.baseline} needs a training measurement of every target, target {target} of task "
            f"{spec.task} has none on split {spec.split}; leave this target out of the task or choose another split"
        )
    return rows_R
