"""Many tasks, many tests: p values that hold for all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from chembench.errors import ConfigError, DataError

Method = Literal["holm", "benjamini-hochberg"]
_STATSMODELS: dict[Method, str] = {"holm": "holm", "benjamini-hochberg": "fdr_bh"}


def adjust(p_values: Mapping[str, float], method: Method = "holm") -> dict[str, float]:
    """Adjusted p values, in the order given.

    Args:
        p_values: one per task, or per whatever is tested.
        method: ``holm`` keeps the chance of any false claim below alpha; ``benjamini-hochberg`` the share of false
            claims among those made.

    Raises:
        ConfigError: if the method is unknown.
        DataError: if there is none, or one is no probability.
    """
    from statsmodels.stats.multitest import multipletests

    if method not in get_args(Method):
        raise ConfigError(f"unknown adjustment {method!r}; known: {', '.join(get_args(Method))}")
    if not p_values:
        raise DataError("an adjustment needs at least one p value, got none; leave it out")
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise DataError(f"p values lie between 0 and 1, {name} has {p}; leave out what was not tested")
    adjusted = multipletests(list(p_values.values()), method=_STATSMODELS[method])[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))
