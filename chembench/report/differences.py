"""Pairs of methods, on every task they share: two lines of a board, families of lines, or two sweeps.

Each pair is compared as a board compares two lines, by what the two share and by what these two vary, where a board
pools all methods; over all pairs that are asked for at once the chance of any false separation is held at 5 % (Holm).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, Literal, get_args

from chembench.errors import ConfigError, DataError, UnknownNameError
from chembench.report.board import BETTER, PRIMARY, Design
from chembench.report.leaderboard import key_of, replicates_of
from chembench.report.lines import control_of, group_of
from chembench.report.rows import ResultRow
from chembench.report.standing import region_of
from chembench.statistics.comparison import compare
from chembench.statistics.estimates import Key, Value
from chembench.statistics.multiplicity import adjust

ALPHA = 0.05
Verdict = Literal["better", "worse", "equivalent", "undecided"]

FAMILIES = {
    (
        "smallest",
        "largest",
    ): "of each architecture and scale, the models with the fewest and the most parameters",
    ("scratch", "pretrained"): "each pre-trained cell and its control from scratch",
}
"""Pairs of words that stand for many pairs of lines."""


class Contrast(Value):
    """``first`` beside ``second`` on one task."""

    task: str
    metric: str
    unit: str
    better: Literal["lower", "higher"]
    first: str
    second: str
    first_mean: float
    second_mean: float
    difference: float
    """First minus second, in the metric's unit."""
    low: float | None
    high: float | None
    """95 % interval of this pair alone."""
    p: float | None
    """Adjusted for every pair that was asked for."""
    pairs: int
    basis: str
    verdict: Verdict
    """Of ``first``, on the adjusted p."""
    note: str = ""


class Differences(Value):
    """All pairs that were asked for at once."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "task", "first", "second", "metric", "difference", "95 % interval", "p", "pairs", "first is"
    )  # fmt: skip
    contrasts: tuple[Contrast, ...]
    settings: tuple[str, ...] = ()
    """What two sweeps were told differently."""

    def as_rows(self) -> list[dict[str, str | int]]:
        """A line per pair, for people."""
        return [
            {
                "task": one.task,
                "first": one.first,
                "second": one.second,
                "metric": one.metric + (f", {one.unit}" if one.unit and one.metric == "rmse" else ""),
                "difference": f"{one.difference:+.3f}",
                "95 % interval": "-" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}",
                "p": "-" if one.p is None else f"{one.p:.3f}" if one.p >= 0.001 else "<0.001",
                "pairs": one.pairs,
                "first is": one.verdict + (f" ({one.note})" if one.note else ""),
            }
            for one in self.contrasts
        ]

    def sentences(self) -> list[str]:
        """What the lines say together."""
        counts = Counter(one.verdict for one in self.contrasts)
        said = ", ".join(f"{verdict} in {counts[verdict]}" for verdict in get_args(Verdict) if counts[verdict])
        several = f" over these {len(self.contrasts)} pairs" if len(self.contrasts) > 1 else ""
        ways = sorted({one.basis for one in self.contrasts})
        lines = [
            f"the first is {said}; difference is first minus second, {'; '.join(ways)}",
            f"p is held{several} at a family-wise 5 %; interval, equivalence and variance are those of the pair alone, "
            "so that a board, which pools the variance of all its methods, may show less",
        ]
        return lines + [f"told differently: {line}" for line in self.settings]


class Side(Value):
    """One sweep as a source of lines."""

    sweep: str
    design: Design
    rows: tuple[ResultRow, ...]


def between_lines(side: Side, first: str, second: str, tasks: Collection[str] = ()) -> tuple[Contrast, ...]:
    """Two lines of one sweep, or a family of pairs of lines (`FAMILIES`), on every task that has them complete.

    Raises:
        UnknownNameError: if there is no such line or task.
        ConfigError: if no task has both sides complete.
    """
    if first == second:
        raise ConfigError(f"a difference is one of two lines, got {first} twice; name another")
    found = []
    for task in _tasks(side.design, tasks):
        complete = replicates_of(side.rows, side.design, task)
        for one, other in _pairs(complete, first, second):
            found.append(_contrast(task, side.design, (one, complete[one]), (other, complete[other])))
    if not found:
        known = {row.method for row in side.rows if row.kind in ("confirm", "baseline")}
        for name in (first, second):
            if (first, second) not in FAMILIES and name not in known:
                raise UnknownNameError("line", name, known)
        raise ConfigError(
            f"a difference needs both sides complete on one task, {first} and {second} of sweep '{side.sweep}' are "
            "on none; see chembench leaderboard"
        )
    return _adjusted(found)


def between_sweeps(one: Side, other: Side, tasks: Collection[str] = ()) -> tuple[Contrast, ...]:
    """Every method that is complete in both sweeps, on every task they share: the first sweep beside the second.

    Raises:
        UnknownNameError: if one of ``tasks`` is not in both.
        ConfigError: if they share no task, or no method is complete in both.
        DataError: if a task has other molecules or another division in the two.
    """
    shared = [task for task in one.design.tasks if task in other.design.tasks]
    for task in tasks:
        if task not in shared:
            raise UnknownNameError("task", task, shared)
    found = []
    for task in tasks or shared:
        left, right = replicates_of(one.rows, one.design, task), replicates_of(other.rows, other.design, task)
        for method in sorted(left.keys() & right.keys()):
            _require_same_rows(task, left[method], right[method])
            names = [f"{method} ({sweep})" for sweep in _called(one.sweep, other.sweep)]
            contrast = _contrast(task, one.design, (names[0], left[method]), (names[1], right[method]))
            found.append(_without_what_is_shared(contrast, left[method], right[method]))
    if not found:
        raise ConfigError(
            f"two sweeps are compared by methods that are complete in both, '{one.sweep}' and '{other.sweep}' have "
            f"none on {', '.join(tasks or shared) or 'a task they share'}; see chembench leaderboard of each"
        )
    return _adjusted(found)


def _called(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one != other else (f"{one}, first", f"{other}, second")


def _tasks(design: Design, tasks: Collection[str]) -> list[str]:
    for task in tasks:
        if task not in design.tasks:
            raise UnknownNameError("task", task, design.tasks)
    return list(tasks or design.tasks)


def _pairs(complete: Mapping[str, Sequence[ResultRow]], first: str, second: str) -> list[tuple[str, str]]:
    if (first, second) == ("smallest", "largest"):
        return _by_size(complete)
    if (first, second) == ("scratch", "pretrained"):
        return _by_control(complete)
    return [(first, second)] if first != second and {first, second} <= complete.keys() else []


def _cells(complete: Mapping[str, Sequence[ResultRow]]) -> dict[str, ResultRow]:
    return {method: rows[0] for method, rows in complete.items() if rows[0].kind == "confirm"}


def _by_size(complete: Mapping[str, Sequence[ResultRow]]) -> list[tuple[str, str]]:
    groups: dict[tuple[object, ...], list[tuple[int, str]]] = {}
    for method, row in _cells(complete).items():
        key = (row.architecture, row.molecules, tuple(sorted(row.settings.items())))
        groups.setdefault(key, []).append((row.parameters or 0, method))
    return [(min(own)[1], max(own)[1]) for own in groups.values() if len(own) > 1]


def _by_control(complete: Mapping[str, Sequence[ResultRow]]) -> list[tuple[str, str]]:
    cells = _cells(complete)
    controls = {control_of(row): name for name, row in cells.items() if group_of(row) == "from scratch"}
    return [
        (controls[control_of(row)], method)
        for method, row in cells.items()
        if group_of(row) == "cell" and control_of(row) in controls
    ]


def _require_same_rows(task: str, one: Iterable[ResultRow], other: Iterable[ResultRow]) -> None:
    """Scores on other molecules say nothing about methods."""
    there = {(row.split, row.outer): row.data for row in one}
    for row in other:
        if there.get((row.split, row.outer), row.data) != row.data:
            raise DataError(
                f"scores are compared on the same molecules, task '{task}' is not known to have the same rows in the "
                f"two sweeps (split {row.split}: rows {there[row.split, row.outer]} and "
                f"{row.data}); leave that task out"
            )


def _without_what_is_shared(contrast: Contrast, one: Sequence[ResultRow], other: Sequence[ResultRow]) -> Contrast:
    """Items that are one and the same in both sweeps tell nothing; where all are, there is no difference to judge."""
    same = {row.uid for row in one} & {row.uid for row in other}
    if len(same) < max(len(one), len(other)):
        return contrast.model_copy(update={"note": f"{len(same)} items are the same in both"}) if same else contrast
    nothing = {"low": None, "high": None, "p": None, "verdict": "undecided"}
    return contrast.model_copy(update={**nothing, "note": "the same items in both"})


def _contrast(
    task: str, design: Design, one: tuple[str, Sequence[ResultRow]], other: tuple[str, Sequence[ResultRow]]
) -> Contrast:
    facts = design.tasks[task]
    metric = PRIMARY[facts.kind]
    scores = {name: _scores(rows, metric) for name, rows in (one, other)}
    rows = dict((one, other))
    found = compare(
        scores,
        better=BETTER[facts.kind],
        overlap=design.overlap,
        region=region_of(row for own in rows.values() for row in own),
        fixed={name for name, own in rows.items() if all(row.deterministic for row in own)},
    )
    pair, sign = found.pairs[0], 1 if found.pairs[0].first == one[0] else -1
    ends = (None, None) if pair.low is None or pair.high is None else sorted((sign * pair.low, sign * pair.high))
    means = {name: sum(own.values()) / len(own) for name, own in scores.items()}
    is_first = (pair.verdict == "first") == (sign == 1)
    decided: Verdict = "better" if is_first else "worse"
    return Contrast(
        task=task,
        metric=metric,
        unit=facts.unit,
        better=BETTER[facts.kind],
        first=one[0],
        second=other[0],
        first_mean=means[one[0]],
        second_mean=means[other[0]],
        difference=sign * pair.difference,
        low=ends[0],
        high=ends[1],
        p=pair.p,
        pairs=pair.n,
        basis=pair.basis,
        verdict=pair.verdict if pair.verdict in ("equivalent", "undecided") else decided,
    )


def _scores(rows: Iterable[ResultRow], metric: str) -> dict[Key, float]:
    return {key_of(row): row.metrics[f"test_{metric}"] for row in rows}


def _adjusted(found: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """The same contrasts, with p and verdicts held over all of them at once."""
    tested = {str(place): one.p for place, one in enumerate(found) if one.p is not None}
    over_all = adjust(tested) if tested else {}
    said = []
    for place, contrast in enumerate(found):
        p = over_all.get(str(place))
        is_lost = contrast.verdict in ("better", "worse") and (p is None or p > ALPHA)
        said.append(contrast.model_copy(update={"p": p, **({"verdict": "undecided"} if is_lost else {})}))
    return tuple(said)
