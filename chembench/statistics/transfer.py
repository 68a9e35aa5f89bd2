"""Whether a lower pre-training loss goes with a better fine-tuned score: rank correlations over configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from chembench.config import stable_seed
from chembench.errors import DataError
from chembench.statistics.estimates import CONFIDENCE, Value

Floats = npt.NDArray[np.float64]

DRAWS = 2000
FEWEST = 4
Better = Literal["lower", "higher"]


class Correlation(Value):
    """A rank correlation: 1 if the lower loss always has the better score, -1 if always the worse one."""

    task: str
    """Or ``all tasks``: the mean over tasks, each with its own ranks."""
    spearman: float
    spearman_low: float
    spearman_high: float
    kendall: float
    kendall_low: float
    kendall_high: float
    configurations: int


def correlations(
    losses: Mapping[str, float], scores: Mapping[str, Mapping[str, float]], better: Mapping[str, Better]
) -> tuple[Correlation, ...]:
    """Correlations of each task, and over all tasks if there are several.

    Intervals are percentiles of a bootstrap over configurations, which are drawn for all tasks at once: one
    configuration is one pre-trained model, however many tasks it was fine-tuned on.

    Args:
        losses: configuration -> pre-training loss, the mean over its checkpoints.
        scores: task -> configuration -> score, the mean over replicates.
        better: task -> which way is better.

    Raises:
        DataError: if a task has fewer than four configurations with a loss, a number is not finite, all losses or all
            scores of a task are equal, or a task's direction is missing.
    """
    named = sorted({name for own in scores.values() for name in own} & set(losses))
    if not scores:
        raise DataError("a correlation needs at least one task, got none")
    table_TC = np.full((len(scores), len(named)), np.nan)
    for place, (task, own) in enumerate(sorted(scores.items())):
        _check(task, losses, own, better)
        sign = 1.0 if better[task] == "lower" else -1.0
        table_TC[place] = [sign * own[name] if name in own else np.nan for name in named]
    loss_C = np.array([losses[name] for name in named])
    random = np.random.default_rng(stable_seed("transfer", named, sorted(scores)))
    draws_DC = random.integers(0, len(named), (DRAWS, len(named)))
    found = [_both(loss_C, row_C, draws_DC) for row_C in table_TC]
    lines = [_line(task, *own) for task, own in zip(sorted(scores), found, strict=True)]
    if len(found) > 1:
        centre = np.mean([own[0] for own in found], axis=0)
        lines.append(_line("all tasks", centre, np.mean([own[1] for own in found], axis=0), len(named)))
    return tuple(lines)


def _check(task: str, losses: Mapping[str, float], own: Mapping[str, float], better: Mapping[str, Better]) -> None:
    kept = [name for name in own if name in losses]
    if better.get(task) not in ("lower", "higher"):
        raise DataError(f"better must name 'lower' or 'higher' for each task, {task} has {better.get(task)!r}")
    if len(kept) < FEWEST:
        raise DataError(
            f"a rank correlation needs {FEWEST} configurations with a loss and a score, {task} has {len(kept)}; "
            "add configurations"
        )
    for name in kept:
        if not (math.isfinite(losses[name]) and math.isfinite(own[name])):
            raise DataError(f"losses and scores must be finite, {name} on {task} has {losses[name]} and {own[name]}")
    if len({losses[name] for name in kept}) < 2 or len({own[name] for name in kept}) < 2:
        raise DataError(f"a rank correlation needs values that differ, all losses or all scores of {task} are equal")


def _both(loss_C: Floats, score_C: Floats, draws_DC: npt.NDArray[np.int64]) -> tuple[Floats, Floats, int]:
    """Spearman's and Kendall's coefficient, as they are and in each draw, shape (2,) and (draws, 2)."""
    from scipy.stats import kendalltau, spearmanr

    has = np.isfinite(score_C)
    loss, score = loss_C[has], score_C[has]
    place = np.cumsum(has) - 1
    centre = np.array([spearmanr(loss, score).statistic, kendalltau(loss, score).statistic])
    drawn = np.array([_drawn(loss, score, place[draw[has[draw]]]) for draw in draws_DC])
    return centre, drawn, int(has.sum())


def _drawn(loss: Floats, score: Floats, draw: npt.NDArray[np.int64]) -> Floats:
    """Both coefficients of one draw, 0 where nothing varies."""
    a, b = loss[draw], score[draw]
    if len(draw) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.zeros(2)
    above_a, above_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    kendall = (above_a * above_b).sum() / math.sqrt(float((above_a**2).sum() * (above_b**2).sum()))
    rank_a, rank_b = above_a.sum(1), above_b.sum(1)  # ranks around their mean, ties shared, times two
    spearman = (rank_a * rank_b).sum() / math.sqrt(float((rank_a**2).sum() * (rank_b**2).sum()))
    return np.array([spearman, kendall])


def _line(task: str, centre: Floats, drawn_D2: Floats, configurations: int) -> Correlation:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn_D2, [tail, 1 - tail], axis=0)
    return Correlation(
        task=task,
        spearman=float(centre[0]),
        spearman_low=float(low[0]),
        spearman_high=float(high[0]),
        kendall=float(centre[1]),
        kendall_low=float(low[1]),
        kendall_high=float(high[1]),
        configurations=configurations,
    )
