"""The space and the inputs of a replay: what was recorded, and nothing else, can be planned.

A table gives the axes: its architectures, sizes and molecules, its tasks, its replicates. The recipe is fixed, as the
table does not tell what it was searched from. A recorded sweep brings its own space, search and pruning included.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from chembench.config import digest_of
from chembench.data.catalog import TASKS
from chembench.data.corpora import Corpus
from chembench.data.shards import ShardSet
from chembench.data.splits import Split
from chembench.data.tasks import Task
from chembench.errors import ConfigError, DataError
from chembench.recorded.archive import Archive, Head, read_archive
from chembench.recorded.source import Recording
from chembench.recorded.table import UNRECORDED, Row, Table, read_table
from chembench.specs import Kind
from chembench.sweep.cells import vocabulary_of
from chembench.sweep.inputs import Prepared, Replayed
from chembench.sweep.mistakes import Source
from chembench.sweep.overrides import apply_overrides
from chembench.sweep.reading import space_from
from chembench.sweep.space import GRID_AXES, Space

MOST_REPLICATES = 100
"""Levels of one axis of replicates in a table; the axes are crossed."""
NORMALISED = "RMSE is in normalised units: multiply by the standard deviation of the training labels"


def space_of_table(space: Space, table: Table) -> Space:
    """``space`` restricted to what a table holds: its axes, its tasks, its replicates, one fixed recipe.

    Raises:
        ConfigError: if a row has a value that the space does not compare, or a task that nobody knows.
        DataError: if an index of a replicate is no small number.
    """
    rows = list(table.rows.values())
    _require_on_axes(space, table.name, rows)
    _require_a_design(table.name, rows)
    data = space.as_data()
    for name in ("model", "task"):
        data.pop(name, None)
    data |= {
        "tasks": table.values(lambda row: row.task),
        "task": {name: table_ for name, table_ in space.as_data()["task"].items() if name in _tasks(rows)},
        "grid": {
            "architecture": _ordered(space, "architecture", rows),
            "size": _ordered(space, "size", rows),
            "molecules": sorted({row.cell.molecules for row in rows} - {0}),
        },
        "controls": {"from_scratch": any(row.cell.is_control for row in rows), "baselines": []},
        "search": {"sampler": "grid", "trials": 1, "ask_window": 1, "replacements": 0, "give_up_after": 1_000_000},
        "confirm": {
            "rescore_top": 1,
            "rescore_seeds": 0,
            "pretrain_seeds": 1 + max(row.pretrain_seed for row in rows),
            "splits": 1 + max(row.split for row in rows),
            "head_seeds": 1 + max(row.head_seed for row in rows),
        },
        "finetune": _recipe(space, data["finetune"]),
        "resources": {"precision": space.resources.precision},
    }
    return _of_no_folder(space_from(data))


def _require_a_design(file: str, rows: Sequence[Row]) -> None:
    """Indices that count from 0 make a design which the rows can fill; one that is off would plan without end."""
    for name in ("pretrain_seed", "split", "head_seed"):
        row = max(rows, key=lambda row: int(getattr(row, name)))
        if getattr(row, name) >= MOST_REPLICATES:
            raise DataError(
                f"{file}, line {row.line}: {name} counts replicates from 0 and stays below {MOST_REPLICATES:,}, "
                f"got {getattr(row, name):,}; number them anew"
            )


def space_of_archive(archive: Archive, overrides: Sequence[str] = ()) -> Space:
    """The space of a recorded sweep, to be replayed on any machine.

    Args:
        archive: the sweep.
        overrides: ``--set``; another seed or sampler asks for what was never recorded.

    Raises:
        ConfigError: with one sentence for each mistake.
    """
    data = json.loads(json.dumps(archive.head.space))
    keys = apply_overrides(data, overrides)
    space = space_from(data, Source(overridden=keys))
    return _of_no_folder(space_from({**space.as_data(), "resources": _on_any_machine(space)}))


def _of_no_folder(space: Space) -> Space:
    """No file that a space names is read in a replay: where they would be looked for says nothing."""
    return space.model_copy(update={"base": ""})


def replayed_inputs(space: Space, recording: Recording, file: Path) -> Prepared:
    """What the items of a replay refer to, in the place of prepared data.

    Args:
        space: of the replay.
        recording: what it gives back.
        file: where that lies, for workers.

    Raises:
        DataError: if the recording is malformed, or lacks a task of the space.
    """
    replayed = Replayed(recording, file)
    if recording.form == "csv":
        return _of_table(space, read_table(recording), replayed)
    return _of_archive(space, read_archive(recording).head, replayed)


def _require_on_axes(space: Space, name: str, rows: Sequence[Row]) -> None:
    for axis in GRID_AXES:
        known = _values(space, axis)
        for row in rows:
            value = getattr(row.cell, axis)
            if value not in known and not (axis == "molecules" and value == 0):
                told = ", ".join(map(str, known))
                raise ConfigError(
                    f"{name}, line {row.line}: {axis} must be one that space '{space.name}' compares ({told}), got "
                    f"{value}; choose another --space, or --set grid.{axis}=[...]"
                )
    for row in rows:
        definition = space.task.get(row.task) or TASKS.get(row.task)
        if definition is None:
            raise ConfigError(
                f"{name}, line {row.line}: a task must be known by name or be defined in space '{space.name}', "
                f"'{row.task}' is neither; add [task.{row.task}] to the space, or correct the name"
            )
        if definition.kind != row.kind:
            raise ConfigError(
                f"{name}, line {row.line}: task '{row.task}' is a {definition.kind}, the line says {row.kind}; "
                "correct one"
            )
    if all(row.cell.is_control for row in rows):
        raise ConfigError(f"{name}: at least one row must have molecules above 0, all are from scratch; add the others")


def _values(space: Space, axis: str) -> tuple[Any, ...]:
    parameter = space.axes.get(axis)
    if parameter is None:
        return tuple(space.grid.get(axis, ()))
    return tuple(parameter.choice or (parameter.fixed,))


def _ordered(space: Space, axis: str, rows: Sequence[Row]) -> list[Any]:
    recorded = {getattr(row.cell, axis) for row in rows}
    return [value for value in _values(space, axis) if value in recorded]


def _tasks(rows: Sequence[Row]) -> set[str]:
    return {row.task for row in rows}


def _recipe(space: Space, table: dict[str, Any]) -> dict[str, Any]:
    """The recipe of the space where it is fixed whole; else the one that stands for none."""
    is_fixed = not any(p.is_searched for p in space.parameters.values()) and not any(
        axis.startswith("finetune.") for axis in space.grid
    )
    return table if is_fixed else dict(UNRECORDED)


def _on_any_machine(space: Space) -> dict[str, Any]:
    """No GPU, as nothing is computed; threads and precision stay as they were, they name items."""
    threads = {kind: space.resources.shape(kind).threads for kind in get_args(Kind)}
    kinds = {kind: {"cpus": number, "threads": number} for kind, number in threads.items()}
    return {"precision": space.resources.precision, **kinds}


# -------------------------------------------------------------------------------------------------------- inputs


def _of_table(space: Space, table: Table, replayed: Replayed) -> Prepared:
    tasks, splits = {}, {}
    for name in space.tasks:
        row = next(row for row in table.rows.values() if row.task == name)
        definition = space.task_def(name)
        is_normalised = row.metric == "rmse_normalised"
        notes = [replayed.recording.words, definition.note, NORMALISED if is_normalised else ""]
        tasks[name] = Task(
            name=name,
            kind=row.kind,
            targets=definition.targets,
            unit="normalised" if is_normalised else definition.unit,
            digest=_digest(replayed, "task", name),
            folder=replayed.file.parent,
            rows=0,
            note="; ".join(filter(None, notes)),
            unreadable=0,
            unreadable_list=replayed.file,
        )
        for index in range(space.confirm.splits):
            splits[name, 0, index] = _split(replayed, name, 0, index)
    _, vocabulary = vocabulary_of(space)
    folder = replayed.file.parent
    return Prepared(_digest(replayed, "tokenizer"), folder, vocabulary, None, None, tasks, splits, replayed)


def _split(replayed: Replayed, task: str, outer: int, index: int) -> Split:
    """A split of which nothing is recorded but that there was one."""
    name = (task, str(outer), str(index))
    return Split(
        data=_digest(replayed, "data", *name),
        test_rows=_digest(replayed, "test rows", *name),
        sealed=_digest(replayed, "test", task, str(outer)),
        digest=_digest(replayed, "split", *name),
        folder=replayed.file.parent,
        sealed_folder=replayed.file.parent,
        index=index,
        counts={},
        train_sd=(),
        outer=outer,
    )


def _digest(replayed: Replayed, *parts: str) -> str:
    """A digest that no prepared data has."""
    return digest_of(["recorded", replayed.recording.sha256, *parts])


def _of_archive(space: Space, head: Head, replayed: Replayed) -> Prepared:
    folder = replayed.file.parent
    missing = next((name for name in space.tasks if name not in head.tasks), None)
    if missing is not None:
        raise DataError(f"a replay has the tasks of sweep '{head.sweep}', '{missing}' is none of them; leave it out")
    tasks = {
        name: Task(
            name=name,
            kind=known.kind,
            targets=known.targets,
            unit=known.unit,
            digest=known.content,
            folder=folder,
            rows=known.rows,
            note="; ".join(filter(None, (replayed.recording.words, known.note))),
            unreadable=0,
            unreadable_list=replayed.file,
        )
        for name, known in head.tasks.items()
        if name in space.tasks
    }
    confirm = space.confirm
    places = itertools.product(space.tasks, {*confirm.outers, *confirm.searched}, range(confirm.splits))
    splits = {place: _split(replayed, *place) for place in places}
    for known in head.splits:
        if (known.task, known.outer, known.index) in splits:
            splits[known.task, known.outer, known.index] = Split(
                data=known.data,
                test_rows=known.test_rows,
                sealed=known.sealed,
                digest=known.whole,
                folder=folder,
                sealed_folder=folder,
                index=known.index,
                counts={},
                train_sd=(),
                outer=known.outer,
            )
    _, vocabulary = vocabulary_of(space)
    corpus, shards = None, None
    if head.corpus is not None and head.labels is not None:
        corpus = Corpus(head.corpus, folder, 0, 0, 0, 0, replayed.file)
        shards = ShardSet((), (), folder, head.labels, head.outputs, ())
    return Prepared(head.tokenizer, folder, vocabulary, corpus, shards, tasks, splits, replayed)
