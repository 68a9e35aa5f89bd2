"""Which methods are better on one task: all pairs, with intervals that hold together, as `docs/statistics.md` explains.

The heart is which replicates are independent. Checkpoints and head seeds of two methods are; splits and outer test sets
are shared, so that methods are compared inside them. Without several of either, the independent units are compared as
they are, and with one pre-training seed the comparison speaks for these checkpoints alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from chembench.errors import ConfigError
from chembench.statistics.chances import chances, drawn_means
from chembench.statistics.estimates import OVERLAP, Value
from chembench.statistics.letters import letters
from chembench.statistics.power import Design, replicates_needed
from chembench.statistics.ranks import Tested, by_ranks
from chembench.statistics.replicates import Better, Method, Scores, Table, table
from chembench.statistics.spread import Spread, spread
from chembench.statistics.studentized import critical, familywise

Floats = npt.NDArray[np.float64]
Verdict = Literal["first", "second", "equivalent", "undecided"]
Test = Literal["means", "rank"]

ALPHA = 0.05


class Pair(Value):
    """Two methods, the one with the better mean first."""

    first: str
    second: str
    difference: float
    """Mean of first minus mean of second, in the metric's own unit."""
    low: float | None = None
    high: float | None = None
    """Simultaneous interval at 1 - alpha; none where there are not enough replicates, and none from ranks."""
    p: float | None = None
    """Adjusted for all pairs of the board."""
    effect: float | None = None
    """Difference over the standard deviation of replicates."""
    n: int
    basis: str
    """How they were brought together."""
    verdict: Verdict
    """Which is shown to be better; ``equivalent`` if the whole interval lies within the region; else undecided."""
    material: bool | None = None
    """Whether the whole interval lies beyond the region: a difference that matters; none without a region."""


class Comparison(Value):
    """All methods on one task."""

    better: Better
    test: str
    """In words."""
    omnibus_p: float | None
    """Of no difference between any two methods: of an F test, or the least of all pairs that go by themselves."""
    alpha: float
    region: float | None
    """Half width of the region of practical equivalence, in the metric's own unit."""
    methods: tuple[str, ...]
    """By mean, best first."""
    pairs: tuple[Pair, ...]
    tie_group: tuple[str, ...]
    """The best mean and all that are not shown to be worse."""
    letters: dict[str, str]
    """Methods that share a letter are not separated."""
    p_best: dict[str, float]
    """Share of bootstrap draws with the best mean; methods that were not replicated are left out."""
    needed: dict[str, int | None]
    """For every method but the best: further replicates that separate it from the best mean at 80 % power, for each of
    the two; none if it is separated already, or if none can do it."""
    needed_axis: dict[str, str]
    """Which replicate to buy, where ``needed`` has a number."""
    notes: tuple[str, ...]


def compare(  # noqa: PLR0913 - the options of one comparison, each with its default
    scores: Scores,
    *,
    better: Better,
    region: float | None = None,
    alpha: float = ALPHA,
    fixed: Collection[str] = (),
    overlap: float = OVERLAP,
    test: Test = "means",
) -> Comparison:
    """Compare all methods on one task with one another.

    Args:
        scores: method -> replicate -> score of one metric.
        better: which way is better.
        region: half width of the region of practical equivalence in the metric's unit; without one nothing is called
            equivalent.
        alpha: family-wise level of all pairs.
        fixed: methods without variance by construction, such as a deterministic baseline: one score is enough.
        overlap: n_test / n_train of the outer test sets; 0 if their training sets do not overlap.
        test: ``means``, or ``rank`` for ranks inside the blocks.

    Raises:
        ConfigError: if an option is wrong.
        DataError: if a score cannot be used, or methods have no block in common.
    """
    _check_options(region, alpha, overlap, test)
    board = table(scores, better, fixed)
    inner = replace(board, methods=_comparable(board))
    overlap = overlap if board.block_axis == "outer" and len(board.blocks) > 1 else 0.0
    found = spread(inner, overlap) if len(inner.methods) > 1 else None
    if found is None:
        return _nothing(board, alpha, region)
    tested = _by_means(inner, found, alpha) if test == "means" else by_ranks(inner, overlap)
    return _comparison(board, inner, found, tested, (alpha, region))


def _check_options(region: float | None, alpha: float, overlap: float, test: str) -> None:
    problems = []
    if region is not None and not (math.isfinite(region) and region > 0):
        problems.append(f"region must be > 0 in the metric's unit, got {region}; leave it out for no equivalence")
    if not 0 < alpha < 1:
        problems.append(f"alpha must lie between 0 and 1, got {alpha}; 0.05 is usual")
    if not (math.isfinite(overlap) and overlap >= 0):
        problems.append(f"overlap is n_test / n_train and must be >= 0, got {overlap}; five folds have 0.25")
    if test not in ("means", "rank"):
        problems.append(f"test must be 'means' or 'rank', got {test!r}")
    if problems:
        raise ConfigError(problems)


def _comparable(board: Table) -> tuple[Method, ...]:
    """Methods of which something shows how much their score would vary."""
    if len(board.blocks) > 1:
        return board.methods
    return tuple(m for m in board.methods if m.is_fixed or np.isfinite(m.scores_PHB).sum() > 1)


def _by_means(board: Table, found: Spread, alpha: float) -> Tested:
    """Tukey's test, or t tests of pairs that go alone, on the variances of `spread`.

    Tukey's is exact where one axis varies and variances are equal, t tests are where one axis varies.
    """
    size = len(board.methods)
    mean_M = np.array([method.mean for method in board.methods])
    between_MM = np.abs(mean_M[:, None] - mean_M)
    between_MM[between_MM < 1e-12 * max(float(np.abs(mean_M).max()), 1e-300)] = 0.0
    error_MM = np.sqrt(found.variance_MM)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors_MM = np.where(between_MM == 0, 0.0, np.minimum(between_MM / error_MM, 1e6))
    p_MM = np.ones((size, size))
    upper = np.triu_indices(size, 1)
    p_MM[upper] = familywise(errors_MM[upper], size, found.freedom_MM[upper], found.goes_alone_MM[upper])
    half_MM = half_widths(found, alpha)
    p_MM[found.variance_MM == 0] = half_MM[found.variance_MM == 0] = math.nan
    alone = found.goes_alone_MM[upper].all()
    omnibus_p = float(np.nanmin(p_MM[upper])) if alone else _omnibus(board, found, mean_M)
    return Tested(words(board, found), omnibus_p, p_MM, half_MM)


def half_widths(found: Spread, alpha: float) -> Floats:
    """Half of each pair's simultaneous interval, shape (methods, methods): what a difference must exceed."""
    size = len(found.variance_MM)
    return critical(alpha, size, found.freedom_MM, found.goes_alone_MM) * np.sqrt(found.variance_MM)


def _omnibus(board: Table, found: Spread, mean_M: Floats) -> float | None:
    """F test of equal means on pooled variances; fixed values without blocks have none."""
    from scipy.special import fdtrc  # scipy.stats.f.sf, without half a second of imports

    own_M = found.of_mean
    kept = own_M > 1e-12 * float(own_M.max())
    if kept.sum() < 2:
        return None
    weight_M, mean_M = 1 / own_M[kept], mean_M[kept]
    centre = float((weight_M * mean_M).sum() / weight_M.sum())
    statistic = float((weight_M * (mean_M - centre) ** 2).sum()) / (len(mean_M) - 1)
    return float(fdtrc(len(mean_M) - 1, found.freedom, statistic))


def words(board: Table, found: Spread) -> str:
    """The test in words, as the board prints it."""
    alone = found.goes_alone_MM[np.triu_indices(len(found.variance_MM), 1)]
    axes = {component.axis for component in found.components}
    own = [name for axis, name in (("pretrain_seed", "checkpoints"), ("head_seed", "head seeds")) if axis in axes]
    if "block" in axes:
        blocks = f"{len(board.blocks)} {'outer test sets' if board.block_axis == 'outer' else 'splits'}"
        inside = f" with the variance of {' and '.join(own)}" if own else ""
        corrected = ", corrected for overlapping training sets" if found.overlap else ""
        over, pooled, each = f"{blocks}{inside}{corrected}", "repeated-measures ANOVA", "paired t tests"
        test = "Tukey HSD"
    else:
        over, pooled, each, test = " and ".join(own), "one-way ANOVA", "Welch's t tests", "Tukey-Kramer"
    if alone.all():
        return f"{each} over {over}, for all pairs by Šidák"
    told = f"{pooled} over {over}, {test}, a pair's own variance where larger"
    return f"{told}; where replicates are many {each}, by Šidák" if alone.any() else told


def _nothing(board: Table, alpha: float, region: float | None) -> Comparison:
    """No replicates: nothing can be said."""
    names = board.names
    way_out = "one replicate each says nothing about differences; add head seeds, splits or pre-training seeds"
    pairs = tuple(
        Pair(first=a.name, second=b.name, difference=a.mean - b.mean, n=1, basis="one replicate", verdict="undecided")
        for a, b in itertools.combinations(board.methods, 2)
    )
    return Comparison(
        better=board.better,
        test="none: no replicates" if len(names) > 1 else "none: one method",
        omnibus_p=None,
        alpha=alpha,
        region=region,
        methods=names,
        pairs=pairs,
        tie_group=names,
        letters=letters(names, ()),
        p_best={},
        needed={name: None for name in names[1:]},
        needed_axis={},
        notes=(*board.notes, *((way_out,) if len(names) > 1 else ())),
    )


def _comparison(
    board: Table, inner: Table, found: Spread, tested: Tested, limits: tuple[float, float | None]
) -> Comparison:
    place = {name: index for index, name in enumerate(inner.names)}
    pairs = tuple(
        _pair(a, b, place, (inner, found, tested), limits) for a, b in itertools.combinations(board.methods, 2)
    )
    separated = {(pair.first, pair.second) for pair in pairs if pair.verdict in ("first", "second")}
    best = board.names[0]
    needed = {pair.second: _needed(pair, place, inner, found, limits[0]) for pair in pairs if pair.first == best}
    return Comparison(
        better=board.better,
        test=tested.words,
        omnibus_p=tested.omnibus_p,
        alpha=limits[0],
        region=limits[1],
        methods=board.names,
        pairs=pairs,
        tie_group=tuple(name for name in board.names if (best, name) not in separated),
        letters=letters(board.names, separated),
        p_best=chances(inner, drawn_means(inner, found.overlap)),
        needed={name: plan[0] if plan else None for name, plan in needed.items()},
        needed_axis={name: plan[1] for name, plan in needed.items() if plan},
        notes=(*board.notes, *tested.notes, *_notes(board, inner, found)),
    )


def _pair(
    a: Method,
    b: Method,
    place: Mapping[str, int],
    ground: tuple[Table, Spread, Tested],
    limits: tuple[float, float | None],
) -> Pair:
    inner, found, tested = ground
    alpha, region = limits
    difference = a.mean - b.mean
    lone = [m.name for m in (a, b) if m.name not in place]
    i, j = (place.get(m.name, 0) for m in (a, b))
    p, half = (math.nan, math.nan) if lone else (float(tested.p_MM[i, j]), float(tested.half_MM[i, j]))
    low, high = (None, None) if math.isnan(half) else (difference - half, difference + half)
    n, basis = (1, "one replicate") if lone else _basis(a, b, inner)
    inside = region is not None and low is not None and high is not None and max(-low, high) < region
    beyond = None if region is None or low is None or high is None else low > region or high < -region
    verdict: Verdict = "equivalent" if inside else "first" if p <= alpha and difference else "undecided"
    sd = found.replicate_sd
    return Pair(
        first=a.name,
        second=b.name,
        difference=difference,
        low=low,
        high=high,
        p=None if math.isnan(p) else p,
        effect=difference / sd if sd > 0 and not lone else None,
        n=n,
        basis=basis,
        verdict=verdict,
        material=beyond,
    )


def _basis(a: Method, b: Method, inner: Table) -> tuple[int, str]:
    """How many units stand behind a pair, and what they are."""
    if len(inner.blocks) > 1:
        return len(inner.blocks), "paired by outer test set" if inner.block_axis == "outer" else "paired by split"
    if a.is_fixed and b.is_fixed:
        return 1, "two fixed values"
    moving = [m for m in (a, b) if not m.is_fixed]
    against = " against a fixed value" if len(moving) == 1 else ""
    if max(m.checkpoints for m in moving) > 1:
        return min(m.checkpoints for m in moving), f"independent checkpoints{against}"
    return min(m.head_seeds for m in moving), f"independent head seeds of one checkpoint{against}"


def _needed(pair: Pair, place: Mapping[str, int], inner: Table, found: Spread, alpha: float) -> tuple[int, str] | None:
    """What separates a pair, taking the difference found for the true one."""
    if pair.verdict != "undecided" or pair.p is None:
        return None
    i, j = place[pair.first], place[pair.second]
    if not found.variance_MM[i, j] > 0 or all(method.is_fixed for method in inner.methods):
        return None  # no replicate would change it
    is_against_fixed = inner.methods[i].is_fixed != inner.methods[j].is_fixed
    design = design_of(inner, found, alpha, (inner.methods[i], inner.methods[j]))
    design = replace(design, against_fixed=is_against_fixed, wider=_wider(found, i, j))
    return replicates_needed(design, pair.difference, inner.block_axis)


def _wider(found: Spread, i: int, j: int) -> float:
    """How many times as large as the pooled variance that of a pair is; if it seems smaller, how small it is at most.

    With few replicates a small variance may be chance, so that its upper bound at 95 % is taken.
    """
    from scipy.special import chdtri

    if not (found.pooled_MM[i, j] > 0 and found.own_MM[i, j] > 0):
        return 1.0
    ratio, freedom = float(found.own_MM[i, j] / found.pooled_MM[i, j]), float(found.alone_MM[i, j])
    if found.goes_alone_MM[i, j] or ratio >= 1:
        return ratio
    return min(1.0, ratio * freedom / float(chdtri(freedom, 0.95)))


def design_of(board: Table, found: Spread, alpha: float = ALPHA, pair: Sequence[Method] = ()) -> Design:
    """The board as a balanced design, with the variance components that its replicates show.

    A pair has its own replicates: of a baseline's seeds cells have fewer, and of checkpoints a baseline has none.
    """
    by = {component.axis: component.variance for component in found.components}
    moving = [m for m in pair or board.methods if not m.is_fixed]
    most = min if pair else max
    checkpoints = most([m.checkpoints for m in moving if m.checkpoints > 1] or [1])
    seeds = most([m.head_seeds for m in moving if m.head_seeds > 1] or [1])
    blocks, run = len(board.blocks), by.get("run", 0.0)
    return Design(
        methods=len(board.methods),
        pretrain_seeds=checkpoints,
        head_seeds=seeds,
        blocks=blocks,
        pretrain_seed=max(0.0, by.get("pretrain_seed", 0.0) - run / (seeds * blocks)),
        head_seed=max(0.0, by.get("head_seed", 0.0) - run / (checkpoints * blocks)),
        block=max(0.0, by.get("block", 0.0) - run / (checkpoints * seeds)),
        run=run,
        overlap=found.overlap,
        alpha=alpha,
    )


def _notes(board: Table, inner: Table, found: Spread) -> tuple[str, ...]:
    """What the comparison does not say."""
    notes = []
    if lone := sorted(set(board.names) - set(inner.names)):
        notes.append(
            f"one replicate says nothing about differences: {', '.join(lone)}; add replicates, or name it fixed"
        )
    moving = [m for m in inner.methods if not m.is_fixed]
    if all(m.checkpoints == 1 for m in moving):
        notes.append("one pre-training seed: the comparison speaks for these checkpoints, not for their architectures")
    if (found.variance_MM[np.triu_indices(len(inner.methods), 1)] == 0).any() and len(moving) > 1:
        notes.append(
            "some pairs do not vary at all: such replicates say nothing about differences; vary something else"
        )
    if len(inner.blocks) == 2:
        notes.append("two blocks show little of how differences vary; three or more are better")
    if inner.inner_splits > 1:
        notes.append(f"{inner.inner_splits} splits inside each outer test set are averaged")
    if uneven := sorted(m.name for m in inner.methods if not np.isfinite(m.scores_PHB).all()):
        notes.append(f"replicates are not fully crossed: {', '.join(uneven)}; its variances are approximate")
    return tuple(notes)
