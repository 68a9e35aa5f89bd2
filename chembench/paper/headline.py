"""What can be said of the ranking of all configurations, and how the recomputed figures lie to the published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chembench.errors import DataError
from chembench.paper.published import configurations, groups, summaries
from chembench.recorded.table import Row, Table
from chembench.statistics.aggregate import aggregate
from chembench.statistics.comparison import compare
from chembench.statistics.estimates import Key, Value, mean
from chembench.statistics.replicates import Better


class TaskHeadline(Value):
    """How far one task tells the configurations apart."""

    task: str
    better: Better
    configurations: int
    best: str
    """The best mean."""
    best_mean: float
    p_best: float | None
    """Chance that it is the best, by bootstrap over runs."""
    tie_group: tuple[str, ...]
    """The best mean and all that are not shown to be worse."""
    separated_pairs: int
    pairs: int
    omnibus_p: float | None
    test: str


class Recomputed(Value):
    """A published table beside the same means of these rows."""

    table: str
    figures: int
    """Published figures that the rows have, too."""
    largest_difference: float | None
    where: str = ""


class Headline(Value):
    """All tasks, and the published tables recomputed."""

    tasks: tuple[TaskHeadline, ...]
    recomputed: tuple[Recomputed, ...]
    first_by: dict[str, tuple[str, ...]]
    """Way of bringing all tasks to one order -> who stands first; empty if they cannot be."""
    no_order: str = ""
    """Why they cannot be."""


def headline(table: Table) -> Headline:
    """The headline figures of recorded scores."""
    rows = list(table.rows.values())
    better = {row.task: _better(row) for row in rows}
    means = {task: _means(rows, task, by_cell) for task in better}
    firsts, tes, no_order = {}, {}, ""
    try:
        whole = aggregate(means, better, "tes")
    except DataError as error:
        no_order = str(error)
    else:
        firsts, tes = dict(sorted(whole.firsts.items())), {line.method: line.tes for line in whole.standings}
    return Headline(
        tasks=tuple(_task(rows, task) for task in better),
        recomputed=tuple(_recomputed(rows, means, tes)),
        first_by=firsts,
        no_order=no_order,
    )


def _better(row: Row) -> Better:
    return "higher" if row.metric == "roc_auc" else "lower"


def _task(rows: list[Row], task: str) -> TaskHeadline:
    own = [row for row in rows if row.task == task]
    scores: dict[str, dict[Key, float]] = {}
    for row in own:
        scores.setdefault(row.cell.name, {})[Key(row.pretrain_seed, row.split, row.head_seed)] = row.test
    found = compare(scores, better=_better(own[0]))
    best = found.methods[0]
    return TaskHeadline(
        task=task,
        better=found.better,
        configurations=len(found.methods),
        best=best,
        best_mean=mean(list(scores[best].values())),
        p_best=found.p_best.get(best),
        tie_group=found.tie_group,
        separated_pairs=sum(pair.verdict in ("first", "second") for pair in found.pairs),
        pairs=len(found.pairs),
        omnibus_p=found.omnibus_p,
        test=found.test,
    )


def by_cell(row: Row) -> str:
    return row.cell.name


_LEVELS: dict[str, Callable[[Row], str]] = {
    "architecture": lambda row: row.cell.architecture,
    "architecture x size": lambda row: f"{row.cell.architecture}-{row.cell.size}",
    "molecules": lambda row: str(row.cell.molecules),
}


def _means(rows: list[Row], task: str, level: Callable[[Row], str]) -> dict[str, float]:
    by: dict[str, list[float]] = {}
    for row in rows:
        if row.task == task:
            by.setdefault(level(row), []).append(row.test)
    return {name: mean(values) for name, values in by.items()}


def _recomputed(
    rows: list[Row], means: Mapping[str, Mapping[str, float]], tes: Mapping[str, float]
) -> list[Recomputed]:
    cells = {(name, task): figure.mean for name, own in configurations().items() for task, figure in own.items()}
    lines = [_held("configurations (T2)", cells, {(n, t): v for t, own in means.items() for n, v in own.items()})]
    is_whole = set(means) == {task for _, task in cells} and set(tes) == {name for name, _ in cells}
    lines.append(
        _held("TES of configurations (T2)", {(n, "TES"): v for n, v in summaries().items()},
              {(n, "TES"): v for n, v in tes.items()} if is_whole else {})
    )  # fmt: skip
    for (name, published), label in zip(groups().items(), ("T3", "T4", "T5"), strict=True):
        own = {(n, t): v for t in means for n, v in _means(rows, t, _LEVELS[name]).items()}
        lines.append(_held(f"{name} ({label})", {(n, t): v for n, f in published.items() for t, v in f.items()}, own))
    return lines


def _held(table: str, published: Mapping[tuple[str, str], float], own: Mapping[tuple[str, str], float]) -> Recomputed:
    shared = {place: abs(own[place] - value) for place, value in published.items() if place in own}
    if not shared:
        return Recomputed(table=table, figures=0, largest_difference=None)
    where = max(shared, key=lambda place: shared[place])
    return Recomputed(table=table, figures=len(shared), largest_difference=shared[where], where=" on ".join(where))
