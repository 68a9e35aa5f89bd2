"""Critical values of all pairs of a board: the studentised range, and Student's t for pairs that go by themselves.

scipy integrates each value anew, at a tenth of a second. Here the range of normal values is tabulated once for a
number of methods, and the average over the spread is a sum over fixed nodes: equal to scipy's to 1e-7.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = int | npt.NDArray[np.int64]

FEWEST = 15
"""Least degrees of freedom of `enough`."""
WIDER, LEVEL = 1.2, 0.05
NORMAL = 1e6
"""Degrees of freedom from which on the spread counts as known."""
_NODES = 96
_STEP = 0.01
_WIDEST = 40.0
"""A range of normal values beyond which nothing is left."""


@lru_cache(maxsize=256)
def _range_table(methods: int) -> Floats:
    """P(range of ``methods`` standard normal values < w), for w on a grid."""
    from scipy.special import ndtr

    nodes, weights = _legendre(160)
    z_Z = 9.0 * nodes
    density_Z = 9.0 * weights * np.exp(-(z_Z**2) / 2) / np.sqrt(2 * np.pi)
    w_W = np.arange(0.0, 2.0 * 9.0 + _STEP, _STEP)
    inside_WZ = np.clip(ndtr(z_Z) - ndtr(z_Z - w_W[:, None]), 0.0, 1.0)
    return np.asarray(np.minimum(1.0, methods * (inside_WZ ** (methods - 1)) @ density_Z))


def _range_cdf(w: Floats, methods: int) -> Floats:
    """Four-point Lagrange interpolation in the table; 1 beyond it."""
    table = _range_table(methods)
    place = np.minimum(np.maximum(w / _STEP, 0.0), len(table) - 1.0)
    left = np.clip(place.astype(np.int64), 1, len(table) - 3)
    x = place - left
    before, here, after, beyond = (table[left + k] for k in (-1, 0, 1, 2))
    value = (
        -x * (x - 1) * (x - 2) / 6 * before
        + (x + 1) * (x - 1) * (x - 2) / 2 * here
        - (x + 1) * x * (x - 2) / 2 * after
        + (x + 1) * x * (x - 1) / 6 * beyond
    )
    return np.asarray(np.clip(value, 0.0, 1.0))


@lru_cache(maxsize=4)
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(nodes)


@lru_cache(maxsize=4096)
def _spread_nodes(freedom: float) -> tuple[Floats, Floats]:
    """Nodes and weights of the spread s = sqrt(chi2 / freedom)."""
    from scipy.special import gammaincinv, xlogy  # scipy.stats.chi says the same and takes half a second to import

    half = freedom / 2
    low, high = np.sqrt(gammaincinv(half, [1e-13, 1 - 1e-13]) / half)
    nodes, weights = _legendre(_NODES)
    s = (high + low) / 2 + (high - low) / 2 * nodes
    log_density = xlogy(freedom - 1, s) - half * s**2
    mass = weights * np.exp(log_density - log_density.max())
    return s, mass / mass.sum()


def near(freedom: Floats) -> Floats:
    """Degrees of freedom on a grid of 2 % steps, so that few tails are ever reckoned."""
    return np.asarray(np.maximum(1.0, np.exp(np.round(np.log(np.clip(freedom, 1.0, NORMAL)) / 0.02) * 0.02)))


def tail(q: Any, methods: int, freedom: float) -> Floats:
    """P(studentised range > q) of ``methods`` means with ``freedom`` degrees of freedom, for each q."""
    q_N = np.atleast_1d(np.asarray(q, dtype=np.float64))
    if freedom >= NORMAL:
        return 1.0 - _range_cdf(q_N, methods)
    s_S, mass_S = _spread_nodes(freedom)
    return np.asarray(np.clip(1.0 - _range_cdf(q_N[:, None] * s_S, methods) @ mass_S, 0.0, 1.0))


@lru_cache(maxsize=4096)
def quantile(alpha: float, methods: int, freedom: float) -> float:
    """The q that the studentised range exceeds with probability ``alpha``."""
    from scipy.optimize import brentq

    def excess(q: float) -> float:
        return float(tail(q, methods, freedom)[0]) - alpha

    high = 8.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-10))


def tails(q_MM: Floats, methods: int, freedom_MM: Floats) -> Floats:
    """`tail` with degrees of freedom of its own for each q."""
    found = np.empty(q_MM.shape)
    for freedom in np.unique(freedom_MM):
        here = freedom_MM == freedom
        found[here] = tail(q_MM[here], methods, float(freedom))
    return found


@lru_cache(maxsize=64)
def _interpolated(alpha: float, methods: int) -> Any:
    """Logarithms of quantiles as a function of 1 / degrees of freedom."""
    from scipy.interpolate import PchipInterpolator

    inverse = np.linspace(0.0, 1.0, 41) ** 2
    logs = [math.log(quantile(alpha, methods, 1 / x if x > 0 else NORMAL)) for x in inverse]
    return PchipInterpolator(inverse, logs)


@lru_cache(maxsize=256)
def enough(methods: int) -> int:
    """Degrees of freedom from which on a pair's own variance is used: its t is then no more than a fifth above Tukey's.

    With more methods each pair's level is lower, and t with few degrees of freedom has long tails.
    """
    from scipy.special import stdtrit

    most, freedom = WIDER * quantile(LEVEL, methods, NORMAL) / math.sqrt(2), FEWEST
    while float(stdtrit(freedom, 1 - _of_each(LEVEL, methods) / 2)) > most:
        freedom += 1
    return freedom


def suffice(methods: int, both: Ints, fewer: Ints) -> npt.NDArray[np.bool_]:
    """Whether an axis has degrees of freedom `enough` in a pair; that hangs on the replicates, not on their scores.

    Satterthwaite's are no guide: they are high where an axis of few levels happens to vary little, just when that
    variance is too low.

    Args:
        methods: how many are compared.
        both: degrees of freedom of the two together; of shared blocks those of the blocks.
        fewer: of the one that has fewer; less than half of what is enough is too few, however many the other has.
    """
    wanted = enough(methods)
    return np.asarray((both >= wanted) & (fewer >= wanted // 2))


def _of_each(alpha: float, methods: int) -> float:
    """The level of each pair, by Šidák."""
    return -math.expm1(math.log1p(-alpha) / math.comb(methods, 2))


def critical(alpha: float, methods: int, freedom: Floats, goes_alone: npt.NDArray[np.bool_]) -> Floats:
    """How many standard errors a difference must exceed, at a level of ``alpha`` for all pairs together.

    Tukey's where the error is pooled; where it is a pair's own, Student's t with the level that Šidák gives each pair,
    which holds however the pairs depend on each other (Dunnett's T3 without its small gain).

    Args:
        alpha: family-wise level.
        methods: how many are compared.
        freedom: degrees of freedom of each pair's error.
        goes_alone: whether that error is its own, shape as ``freedom``.
    """
    from scipy.special import stdtrit

    found = np.empty(freedom.shape)
    found[goes_alone] = stdtrit(freedom[goes_alone], 1 - _of_each(alpha, methods) / 2)
    if not goes_alone.all():
        found[~goes_alone] = quantiles(alpha, methods, freedom[~goes_alone]) / math.sqrt(2)
    return found


def familywise(errors: Floats, methods: int, freedom: Floats, goes_alone: npt.NDArray[np.bool_]) -> Floats:
    """The family-wise p of differences of so many standard errors; `critical` says how."""
    from scipy.special import stdtr

    found = np.empty(errors.shape)
    with np.errstate(divide="ignore"):  # where nothing differs
        each = np.log1p(-2 * stdtr(freedom[goes_alone], -errors[goes_alone]))
    found[goes_alone] = -np.expm1(math.comb(methods, 2) * each)
    found[~goes_alone] = tails(errors[~goes_alone] * math.sqrt(2), methods, freedom[~goes_alone])
    return found


def quantiles(alpha: float, methods: int, freedom: Floats) -> Floats:
    """`quantile` for each degrees of freedom, interpolated to 1e-5."""
    return np.asarray(np.exp(_interpolated(alpha, methods)(np.clip(1 / freedom, 0.0, 1.0))))
