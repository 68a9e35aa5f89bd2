"""Which difference is too small to matter, where nobody has said so: one table of all metrics."""

from __future__ import annotations

import math
from types import MappingProxyType

from chembench.errors import DataError, UnknownNameError

REGIONS = MappingProxyType({"roc_auc": 0.01, "pr_auc": 0.01, "mcc": 0.02, "r2": 0.02, "rmse_normalised": 0.05})
"""Half width of the region of practical equivalence, in the metric's own unit."""
IN_SPREADS = MappingProxyType({"rmse": 0.05, "mae": 0.05})
"""The same for metrics in the task's unit: as a share of the standard deviation of the measured values."""


def region_of(metric: str, measured_sd: float | None = None) -> float | None:
    """Half width of the region for `comparison.compare`, in the metric's own unit.

    Args:
        metric: such as ``rmse`` or ``roc_auc``.
        measured_sd: standard deviation of the measured values of the training part, in the task's unit.

    Returns:
        None for a metric in the task's unit without ``measured_sd``: then nothing is called equivalent.

    Raises:
        UnknownNameError: if the metric is not in the table.
        DataError: if the standard deviation is not positive and finite.
    """
    if metric in REGIONS:
        return REGIONS[metric]
    if metric not in IN_SPREADS:
        raise UnknownNameError("metric", metric, [*REGIONS, *IN_SPREADS])
    if measured_sd is None:
        return None
    if not (math.isfinite(measured_sd) and measured_sd > 0):
        raise DataError(f"measured values must vary to give a region, their standard deviation is {measured_sd}")
    return IN_SPREADS[metric] * measured_sd
