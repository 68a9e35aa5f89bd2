"""Leaderboards: pure functions from result rows to boards, one per task type.

A line stands for one method on one task: a cell of the grid, a from-scratch control or a baseline. Only a method whose
replicates are all there has a score; the others are listed apart with the reason. Nothing here knows a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from chembench.errors import DataError
from chembench.report.badges import EXTENDED, RECIPE_CHANGED, REPLAYED, REUSED
from chembench.report.board import (
    BETTER,
    FOREST,
    PRIMARY,
    SECONDARY,
    Design,
    Entry,
    Incomplete,
    Leaderboard,
    TaskFacts,
    TaskSection,
)
from chembench.report.lines import control_of, group_of, recipes_text, scope_of, why_incomplete
from chembench.report.rows import ResultRow, State
from chembench.report.same_rows import require_same_rows
from chembench.report.spent import spent_on
from chembench.report.standing import compared, placed
from chembench.specs import Cell, TaskKind
from chembench.statistics.against import difference
from chembench.statistics.aggregate import Aggregate, aggregate
from chembench.statistics.estimates import (
    Key,
    estimate_crossed,
    mean,
    what_varies,
)


def design_from_state(state: State) -> Design:
    """What the header of a sweep promises."""
    header = state.header
    tasks = {
        name: TaskFacts(
            kind=facts["kind"],
            unit=facts.get("unit") or "",
            note=facts.get("note") or "",
            targets=_count(facts.get("targets", 1)),
        )
        for name, facts in header["tasks"].items()
    }
    cells = [*header.get("cells", ()), *header.get("control_cells", ())]
    counts = {name: header["confirm"][name] for name in ("pretrain_seeds", "splits", "head_seeds")}
    return Design(
        sweep=state.name,
        space_digest=state.space_digest,
        tasks=tasks,
        cells=tuple(sorted(_cell_name(cell) for cell in cells)),
        outer_folds=header["confirm"].get("outer_folds", 0),
        outers=header["confirm"].get("outer_folds", 0) * header["confirm"].get("outer_repeats", 1),
        **counts,
    )


def _count(targets: Any) -> int:
    return targets if isinstance(targets, int) else len(targets)


def _cell_name(cell: str | Mapping[str, Any] | Cell) -> str:
    return cell if isinstance(cell, str) else Cell.model_validate(cell).name


def leaderboards(rows: Iterable[ResultRow], design: Design) -> dict[TaskKind, Leaderboard]:
    """One board per task type that the sweep has tasks of.

    Args:
        rows: all rows of the sweep, in any order.
        design: what the sweep promises.

    Raises:
        DataError: if one replicate has two results, or two lines were fitted to different rows of a task.
    """
    kept = sorted(rows, key=lambda row: row.uid)
    require_same_rows(kept)
    return {
        kind: _board(kept, design, kind)
        for kind in get_args(TaskKind)
        if any(task.kind == kind for task in design.tasks.values())
    }


def _board(rows: Sequence[ResultRow], design: Design, kind: TaskKind) -> Leaderboard:
    tasks = sorted(name for name, facts in design.tasks.items() if facts.kind == kind)
    sections = tuple(_section(rows, design, task) for task in tasks)
    return Leaderboard(
        sweep=design.sweep, space_digest=design.space_digest, kind=kind, sections=sections, overall=overall(sections)
    )


def _section(rows: Sequence[ResultRow], design: Design, task: str) -> TaskSection:
    facts = design.tasks[task]
    own = [row for row in rows if row.task == task]
    pretrainings = {row.uid: row for row in rows if row.kind == "pretrain"}
    candidates = [_Candidate(name, group, design) for name, group in _methods(own, design).items()]
    forest = next((c for c in candidates if c.name == FOREST and not c.missing), None)
    entries = [_entry(c, own, pretrainings, forest) for c in candidates if not c.missing]
    incomplete = [_incomplete(c, own) for c in candidates if c.missing]
    if not design.cells and all(row.kind != "confirm" or row.superseded for row in own):
        trials = [row for row in own if row.kind != "baseline"]
        incomplete.append(
            Incomplete(method="search", done=0, expected=len(design.replicates), reason=why_incomplete((), trials))
        )
    sign = 1 if BETTER[facts.kind] == "lower" else -1
    entries.sort(key=lambda entry: (sign * entry.score.mean, entry.method))
    whole = {c.name: c for c in candidates if not c.missing}
    comparison = compared(
        {name: line.scores for name, line in whole.items()},
        {name: [row for _, row in sorted(line.rows.items())] for name, line in whole.items()},
        BETTER[facts.kind],
        design.overlap,
    )
    return TaskSection(
        task=task,
        kind=facts.kind,
        unit=facts.unit,
        metric=PRIMARY[facts.kind],
        better=BETTER[facts.kind],
        note=facts.note,
        targets=facts.targets,
        entries=placed(entries, comparison),
        comparison=comparison,
        incomplete=tuple(sorted(incomplete, key=lambda line: line.method)),
    )


def _methods(own: Sequence[ResultRow], design: Design) -> dict[str, list[ResultRow]]:
    """Name of each line -> its test-opening rows, of the recipe that stands."""
    lines: dict[str, list[ResultRow]] = {}
    for row in own:
        if row.kind in ("confirm", "baseline") and not row.superseded:
            lines.setdefault(row.method, []).append(row)
    if design.cells:
        promised = {*design.cells, *(row.method for row in own)} - set(lines)
        lines |= {method: [] for method in promised}
    return dict(sorted(lines.items()))


def replicates_of(rows: Iterable[ResultRow], design: Design, task: str) -> dict[str, list[ResultRow]]:
    """Method -> the rows behind its score on a task, in the order of replicates; methods that are complete alone.

    Raises:
        DataError: if one replicate has two results.
    """
    own = sorted((row for row in rows if row.task == task), key=lambda row: row.uid)
    lines = [_Candidate(name, group, design) for name, group in _methods(own, design).items()]
    return {line.name: [row for _, row in sorted(line.rows.items())] for line in lines if not line.missing}


class _Candidate:
    """The replicates of one line: those that have a score, and those that are missing."""

    def __init__(self, name: str, group: Sequence[ResultRow], design: Design) -> None:
        self.name, self.group, self.overlap = name, group, design.overlap
        self.is_baseline = any(row.kind == "baseline" for row in group)
        self.rows: dict[Key, ResultRow] = {}
        for row in group:
            if row.status == "finished" and _score(row, "test") is not None:
                self._add(row)
        present = {key_of(row) for row in group}
        self.expected = present if self.is_baseline else design.replicates | present
        self.missing = self.expected - set(self.rows)

    def _add(self, row: ResultRow) -> None:
        key = key_of(row)
        if key in self.rows and not row.deterministic:
            raise DataError(
                f"a replicate has one result, {self.name} on {row.task} has two ({self.rows[key].uid} and {row.uid}) "
                f"for pre-training seed {key.pretrain_seed}, split {key.split}, head seed {key.head_seed}; "
                "leave the rows of one sweep out"
            )
        self.rows[key] = row

    @property
    def scores(self) -> dict[Key, float]:
        return {key: score for key, row in sorted(self.rows.items()) if (score := _score(row, "test")) is not None}


def key_of(row: ResultRow) -> Key:
    """Which replicate a row is; a deterministic method has one for each division of the data."""
    return Key(row.pretrain_seed or 0, row.split or 0, 0 if row.deterministic else row.head_seed or 0, row.outer or 0)


def _score(row: ResultRow, part: str) -> float | None:
    assert row.task_kind is not None
    return row.metrics.get(f"{part}_{PRIMARY[row.task_kind]}")


def _entry(
    line: _Candidate,
    own: Sequence[ResultRow],
    pretrainings: Mapping[str, ResultRow],
    forest: _Candidate | None,
) -> Entry:
    rows = [row for _, row in sorted(line.rows.items())]
    first = rows[0]
    assert first.task_kind is not None
    group = group_of(first)
    checkpoint = pretrainings.get(first.pretrain_uid or "")
    means = {name: _mean_of(rows, f"test_{name}") for name in SECONDARY[first.task_kind]}
    compared = forest is not None and forest.name != line.name
    return Entry(
        method=line.name,
        group=group,
        architecture=first.architecture,
        size=first.size,
        molecules=first.molecules,
        control=control_of(first),
        parameters=first.parameters,
        pretrain_flops=checkpoint.pretrain_flops if checkpoint else None,
        score=estimate_crossed(line.scores, line.overlap),
        expected=len(line.expected),
        varies=what_varies(
            line.rows,
            "pre-training seed" if group == "cell" else "initial weights",
            "seed" if group == "baseline" else "head seed",
        ),
        scope=scope_of(rows),
        validation=_mean_of(rows, f"valid_{PRIMARY[first.task_kind]}"),
        secondary={name: value for name, value in means.items() if value is not None},
        vs_forest=difference(line.scores, forest.scores, overlap=line.overlap) if compared and forest else None,
        spent=spent_on(first.method, rows, own, pretrainings),
        recipe=first.recipe if len({row.recipe for row in rows}) == 1 else None,
        recipe_text=recipes_text(rows),
        untuned=first.untuned,
        badges=_badges(line.group),
    )


def _badges(group: Sequence[ResultRow]) -> tuple[str, ...]:
    told = {
        RECIPE_CHANGED: any(row.recipe_changed for row in group),
        EXTENDED: any(row.extended for row in group),
        REUSED: any(row.recipe_reused for row in group),
        REPLAYED: any(row.replayed for row in group),
    }
    return tuple(badge for badge, holds in told.items() if holds)


def _mean_of(rows: Sequence[ResultRow], metric: str) -> float | None:
    """Mean over all rows; none if one of them lacks the metric."""
    values = [row.metrics[metric] for row in rows if metric in row.metrics]
    return mean(values) if len(values) == len(rows) else None


def _incomplete(line: _Candidate, own: Sequence[ResultRow]) -> Incomplete:
    trials = [row for row in own if row.method == line.name]
    return Incomplete(
        method=line.name,
        done=len(line.rows),
        expected=len(line.expected),
        reason=why_incomplete(line.group, trials, sum(_score(row, "test") is None for row in line.group)),
        badges=_badges(line.group),
    )


def overall(sections: Sequence[TaskSection]) -> Aggregate | None:
    """One order over tasks, of the methods that are complete on all of them and among these alone."""
    if len(sections) < 2:
        return None
    shared = set.intersection(*({entry.method for entry in section.entries} for section in sections))
    if len(shared) < 2:
        return None
    return aggregate(
        {
            section.task: {entry.method: entry.score.mean for entry in section.entries if entry.method in shared}
            for section in sections
        },
        {section.task: section.better for section in sections},
    )
