"""Which of architecture, size, molecules and method matters: sums of squares of factors and of their interactions.

The unit of a claim is what was drawn independently: the checkpoint where a configuration has several, else the
configuration, of which then the interactions of three factors and more are the error. Five head seeds of one checkpoint
are five looks at one model; `unit="run"` counts them as models, as is often done, and is here to be compared with.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from chembench.errors import ConfigError, DataError
from chembench.statistics.estimates import CONFIDENCE, Key, Value, mean

Floats = npt.NDArray[np.float64]
Better = Literal["lower", "higher"]
Unit = Literal["checkpoint", "configuration", "run"]

MOST = 1e6
"""Noncentrality that stands for all that are larger."""
TASK_TYPE = "task type"
SCALE = (
    "scores are standardised within each task: the mean over configurations is taken off, the standard deviation of "
    "configurations is one, and higher is better"
)


class Run(Value):
    """One score and what it was made with."""

    task: str
    task_type: str
    better: Better
    levels: dict[str, str]
    """Factor -> level, such as ``architecture: bart``; the same factors in every run."""
    key: tuple[int, int, int, int]
    """Pre-training seed, split, head seed, outer test set."""
    score: float

    @property
    def configuration(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self.levels.items()))


class Effect(Value):
    """One factor or interaction."""

    term: str
    """``architecture``, ``architecture x size``, ``architecture x task type``."""
    sum_of_squares: float
    freedom: int
    error_freedom: int
    f: float | None
    p: float | None
    """None where nothing is left over to be the error."""
    eta2: float
    """Share of the sum of squares between units."""
    eta2_low: float
    eta2_high: float
    partial_eta2: float
    """Share of what this term and the error have together."""
    partial_eta2_low: float
    partial_eta2_high: float


class Effects(Value):
    """All effects of a sweep."""

    unit: Unit
    units: int
    scale: str
    effects: tuple[Effect, ...]
    means: dict[str, dict[str, float]]
    """Factor -> level -> mean standardised score; higher is better."""
    notes: tuple[str, ...]


def effects(runs: Iterable[Run], unit: Unit | None = None) -> Effects:
    """Type II sums of squares of all factors, pairs of factors, and each with the task type.

    A unit's score is its mean over tasks; its interaction with the task type is the difference of its means over the
    two types, so that the error of either is between units. Intervals of partial eta squared come from the noncentral F
    distribution (Steiger 2004), those of eta squared take the other terms as they were found. A term that the others
    hold already, as where two factors change together, is left out with a note.

    Args:
        runs: every score, each task with the same configurations.
        unit: what counts as independent; by default the checkpoint if there are several of a configuration, else the
            configuration.

    Raises:
        ConfigError: if the unit is unknown.
        DataError: if runs are malformed (see `standardised`), no factor has two levels, a unit lacks a task, or no unit
            is left for the error.

    Reference:
        Steiger, J. H. Psychol. Methods 2004, 9, 164. doi:10.1037/1082-989X.9.2.164
    """
    kept = sorted(runs, key=lambda run: (run.task, run.configuration, run.key))
    if unit is not None and unit not in get_args(Unit):
        raise ConfigError(f"unknown unit {unit!r}; known: {', '.join(get_args(Unit))}")
    scaled = standardised(kept)
    chosen: Unit = unit or ("checkpoint" if _has_checkpoints(kept) else "configuration")
    units = _units(kept, scaled, chosen)
    factors = _factors(kept)
    terms = _terms(factors, units)
    notes = [] if len(terms[-1]) > 1 or len(factors) == 1 else ["too few units for interactions: they are the error"]
    if chosen == "configuration":
        notes.append("one checkpoint per configuration: interactions of higher order are the error")
    if chosen == "run":
        notes.append("runs are counted as if each were a model of its own: claims about architectures are too sure")
    means_U = np.array([mean(list(by_type.values())) for _, by_type in units])
    found = _analysis([levels for levels, _ in units], means_U, terms, "")
    shown = {effect.term for effect in found}
    notes += [
        f"{name} goes together with other terms: left out" for name in map(" x ".join, terms) if name not in shown
    ]
    types = sorted({run.task_type for run in kept})
    if len(types) == 2:
        differences_U = np.array([by_type[types[0]] - by_type[types[1]] for _, by_type in units])
        found += _analysis([levels for levels, _ in units], differences_U, terms, f" x {TASK_TYPE}")
    return Effects(
        unit=chosen,
        units=len(units),
        scale=SCALE,
        effects=tuple(found),
        means={factor: _level_means(factor, units) for factor in factors},
        notes=tuple(notes),
    )


def standardised(runs: Sequence[Run]) -> list[float]:
    """Scores on one scale over tasks, in the order given.

    Raises:
        DataError: if there is no run, a replicate is there twice, runs name different factors, or all configurations of
            a task score the same.
    """
    _check(runs)
    scale: dict[str, tuple[float, float, int]] = {}
    for task in sorted({run.task for run in runs}):
        own = [run for run in runs if run.task == task]
        by: dict[object, list[float]] = {}
        for run in own:
            by.setdefault(run.configuration, []).append(run.score)
        means = np.array([mean(values) for _, values in sorted(by.items(), key=lambda item: str(item[0]))])
        sd = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
        if sd == 0:
            raise DataError(f"configurations must differ on a task to be compared, all have one score on {task}")
        scale[task] = (float(means.mean()), sd, 1 if own[0].better == "higher" else -1)
    return [scale[r.task][2] * (r.score - scale[r.task][0]) / scale[r.task][1] for r in runs]


def _check(runs: Sequence[Run]) -> None:
    if not runs:
        raise DataError("factor effects need runs, got none; wait for the first confirmed cells")
    seen: set[object] = set()
    for run in runs:
        if set(run.levels) != set(runs[0].levels):
            raise DataError(
                f"all runs need the same factors, got {', '.join(sorted(run.levels))} beside "
                f"{', '.join(sorted(runs[0].levels))}; leave baselines out"
            )
        if (place := (run.task, run.configuration, run.key)) in seen:
            raise DataError(
                f"a replicate has one score, {' '.join(level for _, level in run.configuration)} on {run.task} has two "
                f"for replicate {run.key}; keep one of them"
            )
        seen.add(place)


def _has_checkpoints(runs: Sequence[Run]) -> bool:
    return len({(run.configuration, run.key[0]) for run in runs}) > len({run.configuration for run in runs})


def _factors(runs: Sequence[Run]) -> list[str]:
    found = [name for name in sorted(runs[0].levels) if len({run.levels[name] for run in runs}) > 1]
    if not found:
        raise DataError("factor effects need a factor with two levels, every run has the same; compare more cells")
    return found


Units = list[tuple[Mapping[str, str], dict[str, float]]]


def _units(runs: Sequence[Run], scaled: Sequence[float], unit: Unit) -> Units:
    """Levels of each unit and its mean by task type; tasks weigh the same inside a type."""
    cells: dict[tuple[object, ...], dict[tuple[str, str], list[float]]] = {}
    levels: dict[tuple[object, ...], Mapping[str, str]] = {}
    for run, score in zip(runs, scaled, strict=True):
        own: object = {"configuration": 0, "checkpoint": run.key[0], "run": run.key}[unit]
        place: tuple[object, ...] = (run.configuration, own)
        cells.setdefault(place, {}).setdefault((run.task_type, run.task), []).append(score)
        levels[place] = run.levels
    tasks = {task for own_cells in cells.values() for task in own_cells}
    found: Units = []
    for place in sorted(cells, key=str):
        if lacking := sorted(tasks - set(cells[place])):
            raise DataError(
                f"every {unit} needs every task, {' '.join(levels[place].values())} has no score on {lacking[0][1]}; "
                "leave the task or the configuration out"
            )
        by_type: dict[str, list[float]] = {}
        for (kind, _), values in sorted(cells[place].items()):
            by_type.setdefault(kind, []).append(mean(values))
        found.append((levels[place], {kind: mean(values) for kind, values in by_type.items()}))
    return found


def _terms(factors: Sequence[str], units: Units) -> list[tuple[str, ...]]:
    """Factors and their pairs, as far as units are left over for the error."""
    singles: list[tuple[str, ...]] = [(name,) for name in factors]
    pairs: list[tuple[str, ...]] = list(itertools.combinations(factors, 2))
    for terms in ([*singles, *pairs], singles):
        if len(units) - np.linalg.matrix_rank(_design([levels for levels, _ in units], terms)) > 0:
            return terms
    raise DataError(
        f"nothing is left to be the error: {len(units)} units for {len(factors)} factors; "
        "add pre-training seeds, or cells of other factors"
    )


def _design(levels_U: Sequence[Mapping[str, str]], terms: Sequence[tuple[str, ...]]) -> Floats:
    """Columns of the constant and of each term, a factor's levels coded as deviations from their mean."""
    columns = [np.ones((len(levels_U), 1))]
    for term in terms:
        block = np.ones((len(levels_U), 1))
        for factor in term:
            block = np.einsum("ua,ub->uab", block, _coded(levels_U, factor)).reshape(len(levels_U), -1)
        columns.append(block)
    return np.hstack(columns)


def _coded(levels_U: Sequence[Mapping[str, str]], factor: str) -> Floats:
    names = sorted({levels[factor] for levels in levels_U})
    is_level = np.array([[levels[factor] == name for name in names] for levels in levels_U], dtype=np.float64)
    return np.asarray(is_level[:, :-1] - is_level[:, -1:])


def _analysis(
    levels_U: Sequence[Mapping[str, str]], score_U: Floats, terms: Sequence[tuple[str, ...]], suffix: str
) -> list[Effect]:
    """Sums of squares of one response; with a suffix, those of its interaction with the task type."""
    full, rank = _hat(_design(levels_U, terms))
    left = len(score_U) - rank
    error = float(((score_U - full @ score_U) ** 2).sum())
    total = float(((score_U - score_U.mean()) ** 2).sum())
    lines = []
    for term in terms:
        projection, freedom = _type_two(levels_U, terms, term)
        if freedom:  # else it goes together with others
            squares = float(((projection @ score_U) ** 2).sum())
            lines.append(_effect(" x ".join(term) + suffix, squares, error, total, (freedom, left)))
    return lines


def _effect(term: str, squares: float, error: float, total: float, freedom: tuple[int, int]) -> Effect:
    from scipy.stats import f as f_distribution

    eta, partial = (squares / whole if whole > 0 else 0.0 for whole in (total, squares + error))
    ratio = squares / freedom[0] / (error / freedom[1]) if error > 1e-12 * total else None
    partials = (partial, partial) if ratio is None else _partial_ends(ratio, freedom)
    ends = (eta, eta) if ratio is None else tuple(_of_all(end, error, total - squares) for end in partials)
    return Effect(
        term=term,
        sum_of_squares=squares,
        freedom=freedom[0],
        error_freedom=freedom[1],
        f=ratio,
        p=None if ratio is None else float(f_distribution.sf(ratio, *freedom)),
        eta2=eta,
        eta2_low=ends[0],
        eta2_high=ends[1],
        partial_eta2=partial,
        partial_eta2_low=partials[0],
        partial_eta2_high=partials[1],
    )


def _partial_ends(ratio: float, freedom: tuple[int, int]) -> tuple[float, float]:
    """Ends of the interval of partial eta squared: noncentralities under which F is as large, or as small, at 2.5 %."""
    from scipy.optimize import brentq
    from scipy.stats import ncf

    def end(share: float) -> float:
        def beyond(noncentrality: float) -> float:
            return float(ncf.cdf(ratio, *freedom, noncentrality)) - share

        if beyond(0.0) <= 0:
            return 0.0
        most = 10.0
        while beyond(most) > 0 and most < MOST:
            most *= 2
        found = float(brentq(beyond, 0.0, most)) if most < MOST else most
        return found / (found + sum(freedom) + 1)

    tail = (1 - CONFIDENCE) / 2
    return end(1 - tail), end(tail)


def _of_all(partial: float, error: float, others: float) -> float:
    """Share of all, from that of a term and the error together; the other terms are as they were found."""
    squares = error * partial / (1 - partial) if partial < 1 else math.inf
    return squares / (squares + others) if math.isfinite(squares) else 1.0


def _type_two(
    levels_U: Sequence[Mapping[str, str]], terms: Sequence[tuple[str, ...]], term: tuple[str, ...]
) -> tuple[Floats, int]:
    """What a term adds to all terms that do not hold it."""
    others = [other for other in terms if not set(term) <= set(other)]
    (with_it, rank), (without, fewer) = (_hat(_design(levels_U, t)) for t in ([*others, term], others))
    return with_it - without, rank - fewer


def _hat(design: Floats) -> tuple[Floats, int]:
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    kept = left[:, singular > 1e-9 * singular.max()]
    return kept @ kept.T, kept.shape[1]


def _level_means(factor: str, units: Units) -> dict[str, float]:
    by: dict[str, list[float]] = {}
    for levels, by_type in units:
        by.setdefault(levels[factor], []).append(mean(list(by_type.values())))
    return {level: mean(values) for level, values in sorted(by.items())}


def key_of(key: Key) -> tuple[int, int, int, int]:
    """A replicate as `Run` holds it."""
    return key.pretrain_seed, key.split, key.head_seed, key.outer
