"""The predictor that looks at no molecule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chembench.baselines.base import BaselineFit, measured_rows
from chembench.specs import BaselineSpec

if TYPE_CHECKING:
    from chembench.data.splits import Rows


def constant(spec: BaselineSpec, train: Rows, valid: Rows, test: Rows) -> BaselineFit:
    """Predict the mean of the training measurements for every molecule: of classes, the rate of positives.

    Raises:
        DataError: if a target has no training measurement.
    """
    mean_M = np.array(
        [
            train.labels_NM[measured_rows(spec, train.labels_NM, target), target].mean(dtype=np.float64)
            for target in range(spec.targets)
        ]
    )
    return BaselineFit(
        valid_predicted_NM=np.tile(mean_M, (len(valid.smiles), 1)),
        test_predicted_NM=np.tile(mean_M, (len(test.smiles), 1)),
        facts={"untuned": True, "deterministic": True, "predicts": [float(mean) for mean in mean_M]},
    )
