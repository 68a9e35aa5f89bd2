"""One order over many tasks: four ways to get it, and how much hangs on which was chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from chembench.config import stable_seed
from chembench.errors import ConfigError, DataError
from chembench.statistics.estimates import CONFIDENCE, Value

Floats = npt.NDArray[np.float64]
Better = Literal["lower", "higher"]
Aggregation = Literal["mean_rank", "win_rate", "improvability", "tes"]

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
ALIKE = ({"mean_rank", "win_rate"}, *({name} for name in AGGREGATIONS))
"""Give one order: the win rate is 1 - (mean rank - 1) / (methods - 1)."""
DRAWS = 1000


class Standing(Value):
    """One method over all tasks."""

    method: str
    mean_rank: float
    """1 is best on every task; equal scores share the mean of their ranks."""
    rank_low: float
    rank_high: float
    """95 % t interval over tasks; from 1 to the number of methods for a single task."""
    win_rate: float
    """Share of the other methods that it beats, mean over tasks; equal scores count one half."""
    improvability: float
    """By what share its error would fall if it were the best: 1 - best error / own error, mean over tasks."""
    tes: float
    """The paper's total error: sum over tasks of |score - best score|, unscaled, so that the widest task decides."""
    p_first: float
    """Share of draws of tasks in which it stands first by the chosen aggregation."""


class Aggregate(Value):
    """All methods over all tasks, by one aggregation that was chosen beforehand, and what the others would say."""

    chosen: Aggregation
    tasks: tuple[str, ...]
    standings: tuple[Standing, ...]
    """Best first."""
    wins: dict[str, dict[str, float]]
    """Row beats column on this share of tasks."""
    firsts: dict[str, tuple[str, ...]]
    """Aggregation -> who stands first by it."""
    agreement: dict[str, float]
    """Kendall's rank correlation between the chosen order and that of each other aggregation."""
    first_changes: float
    """Share of draws of tasks in which the aggregations do not agree on who is first."""
    rank_stability: float
    """Mean Kendall correlation between the order and the orders of draws of tasks."""


def aggregate(
    scores: Mapping[str, Mapping[str, float]], better: Mapping[str, Better], chosen: Aggregation = "mean_rank"
) -> Aggregate:
    """Bring mean scores of several tasks to one order.

    Args:
        scores: task -> method -> mean score; every method needs every task.
        better: task -> which way is better. Where higher is better, the error is 1 - score.
        chosen: the aggregation that the order follows.

    Raises:
        ConfigError: if the aggregation is unknown.
        DataError: if a method lacks a task, a score is not finite, or an error is negative.

    Reference:
        Erickson et al., TabArena, 2025. arXiv:2506.16791 (win rate, improvability)
    """
    if chosen not in AGGREGATIONS:
        raise ConfigError(f"unknown aggregation {chosen!r}; known: {', '.join(AGGREGATIONS)}")
    tasks, methods = _checked(scores, better)
    error_TM = np.array([[_error(scores[task][name], better[task], task, name) for name in methods] for task in tasks])
    random = np.random.default_rng(stable_seed("tasks", tasks, len(methods)))
    draws_DT = random.integers(0, len(tasks), (DRAWS, len(tasks)))
    per_task = {name: _per_task(name, error_TM) for name in AGGREGATIONS}
    whole = {name: table_TM.mean(0) for name, table_TM in per_task.items()}
    drawn = {name: table_TM[draws_DT].mean(1) for name, table_TM in per_task.items()}
    first_DM = _shared_first(drawn[chosen])
    half_M = _half_width(per_task["mean_rank"])
    order = sorted(range(len(methods)), key=lambda m: (round(float(whole[chosen][m]), 12), methods[m]))
    return Aggregate(
        chosen=chosen,
        tasks=tasks,
        standings=tuple(
            Standing(
                method=methods[m],
                mean_rank=float(whole["mean_rank"][m]),
                rank_low=max(1.0, float(whole["mean_rank"][m] - half_M[m])),
                rank_high=min(float(len(methods)), float(whole["mean_rank"][m] + half_M[m])),
                win_rate=1 - float(whole["win_rate"][m]),
                improvability=float(whole["improvability"][m]),
                tes=float(whole["tes"][m]) * len(tasks),
                p_first=float(first_DM[:, m].mean()),
            )
            for m in order
        ),
        wins=_wins(error_TM, methods, order),
        firsts={name: _names_first(values_M, methods) for name, values_M in whole.items()},
        agreement={name: _kendall(whole[chosen], whole[name]) for name in AGGREGATIONS if {name, chosen} not in ALIKE},
        first_changes=_first_changes(drawn),
        rank_stability=float(np.mean([_kendall(whole[chosen], row_M) for row_M in drawn[chosen]])),
    )


def _checked(
    scores: Mapping[str, Mapping[str, float]], better: Mapping[str, Better]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tasks = tuple(sorted(scores))
    methods = tuple(sorted({name for own in scores.values() for name in own}))
    if len(methods) < 2:
        raise DataError(f"an aggregation needs at least one task and two methods, got {len(tasks)} and {len(methods)}")
    for task in tasks:
        if better.get(task) not in ("lower", "higher"):
            raise DataError(f"better must name 'lower' or 'higher' for each task, {task} has {better.get(task)!r}")
        if lacking := [name for name in methods if name not in scores[task]]:
            raise DataError(f"every method needs a score on every task, {lacking[0]} has none on {task}; leave it out")
    return tasks, methods


def _error(score: float, better: Better, task: str, method: str) -> float:
    if not math.isfinite(score):
        raise DataError(f"scores must be finite numbers, {method} has {score} on {task}; leave the method out")
    error = score if better == "lower" else 1 - score
    if error < 0:
        raise DataError(f"errors must not be negative, {method} on {task} has {score}, where {better} is better")
    return error


def _per_task(name: Aggregation, error_TM: Floats) -> Floats:
    """What each task adds to the aggregation's mean; less is better."""
    best_T1 = error_TM.min(1, keepdims=True)
    if name == "mean_rank":
        return _ranks(error_TM)
    if name == "win_rate":
        return np.asarray((_ranks(error_TM) - 1) / (error_TM.shape[1] - 1))
    if name == "improvability":
        return np.asarray(1 - np.divide(best_T1, error_TM, out=np.ones_like(error_TM), where=error_TM > 0))
    return np.asarray(error_TM - best_T1)


def _ranks(values_TM: Floats) -> Floats:
    """Ranks of each line, ties at their mean: one more than what is less, and half of what is equal beside it."""
    one, other = values_TM[:, :, None], values_TM[:, None, :]
    return np.asarray(0.5 + (other < one).sum(2) + 0.5 * (other == one).sum(2))


def _shared_first(values_DM: Floats) -> Floats:
    is_first_DM = values_DM <= values_DM.min(1, keepdims=True) + 1e-12
    return np.asarray(is_first_DM / is_first_DM.sum(1, keepdims=True))


def _half_width(ranks_TM: Floats) -> Floats:
    """Of t intervals over tasks: a bootstrap of a handful of tasks holds the truth far too seldom."""
    from scipy.special import stdtrit  # scipy.stats.t.ppf, without half a second of imports

    tasks = len(ranks_TM)
    if tasks < 2:
        return np.full(ranks_TM.shape[1], np.inf)
    error_M = ranks_TM.std(0, ddof=1) / math.sqrt(tasks)
    return np.asarray(stdtrit(tasks - 1, 0.5 + CONFIDENCE / 2) * error_M)


def _names_first(values_M: Floats, methods: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name, share in zip(methods, _shared_first(values_M[None])[0], strict=True) if share > 0)


def _wins(error_TM: Floats, methods: tuple[str, ...], order: list[int]) -> dict[str, dict[str, float]]:
    wins: dict[str, dict[str, float]] = {methods[m]: {} for m in order}
    for a, b in itertools.permutations(order, 2):
        better, equal = error_TM[:, a] < error_TM[:, b], error_TM[:, a] == error_TM[:, b]
        wins[methods[a]][methods[b]] = float((better + 0.5 * equal).mean())
    return wins


def _first_changes(drawn: Mapping[Aggregation, Floats]) -> float:
    """Where no method is first, alone or with others, by every aggregation."""
    agreed_DM = np.prod([_shared_first(values_DM) > 0 for values_DM in drawn.values()], axis=0)
    return float((agreed_DM.sum(1) == 0).mean())


def _kendall(a_M: Floats, b_M: Floats) -> float:
    """Kendall's tau-b; 1 for two orders that are one great tie, 0 if one of them is."""
    above_a, above_b = np.sign(np.round(a_M[:, None] - a_M, 12)), np.sign(np.round(b_M[:, None] - b_M, 12))
    size = math.sqrt(float((above_a**2).sum() * (above_b**2).sum()))
    if size == 0:
        return float(not above_a.any() and not above_b.any())
    return float((above_a * above_b).sum() / size)
