"""A sweep of ours beside the published figures: the same cells on the same tasks, with the published band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from chembench.paper.published import SPLITS, Figure, configurations
from chembench.report.rows import ResultRow, State, rows_from_state
from chembench.statistics.estimates import Estimate, Key, Value, estimate_crossed

Place = Literal["within band", "outside", "not comparable"]
METRIC = {"regression": "test_rmse_normalised", "classification": "test_roc_auc"}


class Beside(Value):
    """One cell on one task."""

    method: str
    task: str
    published: float
    low: float
    high: float
    """95 % t interval of the published mean over five head seeds."""
    ours: Estimate | None
    place: Place
    reason: str = ""


def called(state: State) -> str:
    """The sweep's name, and that it is a replay if it is one: its scores are then none of ours."""
    told = state.header.get("recorded")
    return state.name if told is None else f"{state.name}, a replay of {told['name']},"


def beside(state: State) -> tuple[Beside, ...]:
    """Every published figure whose cell the sweep has, too; ordered by task and cell."""
    rows = [row for row in rows_from_state(state) if row.kind == "confirm" and not row.superseded]
    lines = []
    for method, tasks in configurations().items():
        own = [row for row in rows if row.method == method]
        if own:
            lines += [_line(method, task, figure, own, state.header) for task, figure in tasks.items()]
    return tuple(sorted(lines, key=lambda line: (line.task, line.method)))


def _line(method: str, task: str, figure: Figure, rows: list[ResultRow], header: Mapping[str, Any]) -> Beside:
    low, high = figure.band
    kept = [row for row in rows if row.task == task]
    ours, reason = _ours(kept), _why_not(task, kept, header)
    place: Place = "not comparable"
    if not reason and ours is not None:
        place = "within band" if low <= ours.mean <= high else "outside"
    return Beside(
        method=method, task=task, published=figure.mean, low=low, high=high, ours=ours, place=place, reason=reason
    )


def _ours(rows: list[ResultRow]) -> Estimate | None:
    scores = {}
    for row in rows:
        assert row.task_kind is not None
        value = row.metrics.get(METRIC[row.task_kind])
        if row.status != "finished" or value is None:
            return None
        scores[Key(row.pretrain_seed or 0, row.split or 0, row.head_seed or 0, row.outer or 0)] = value
    return estimate_crossed(scores) if scores else None


def _why_not(task: str, rows: list[ResultRow], header: Mapping[str, Any]) -> str:
    """Why ours and the published figure are of different things; empty if they are not."""
    facts = header["tasks"].get(task)
    if facts is None:
        return "the sweep does not have this task"
    if not rows or any(row.status != "finished" for row in rows):
        return "its confirm runs are not all finished"
    if facts.get("split") != SPLITS[task]:
        return f"it is divided by {facts.get('split')}, the paper's by {SPLITS[task]}"
    if any(row.outer or row.split for row in rows):
        return "it is scored on other divisions than the named split alone"
    if _ours(rows) is None:
        return "its rows lack RMSE in standard deviations of the training labels"
    table = header["space"].get("task", {}).get(task, {})
    return f"max_rows is {table['max_rows']}" if table.get("max_rows") else ""
