"""Which molecules of a task stand in a pre-training corpus, and from which scale on: prefixes of a corpus are nested.

Axes: N molecules of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptors import rdkit_version
from chembench.chem.identity import CONNECTIVITY, Wanted, candidate_finder, inchikeys
from chembench.chem.pool import Processes
from chembench.config import digest_of
from chembench.data.corpora import Corpus, Progress
from chembench.data.tasks import Task
from chembench.paths import CachePaths, read_json, write_json

By = Literal["smiles", "inchikey", "connectivity"]
"""What makes two molecules the same: canonical SMILES, InChIKey, or its part without stereo, isotopes and charge."""

SAMENESS: tuple[By, ...] = get_args(By)
NEVER = np.iinfo(np.int64).max
"""Stands for the row of a molecule that no row of the corpus repeats."""

_LAYOUT = 1
"""Raised when the same task and corpus give another answer than before."""
_CHUNK = 2_000
_TELL_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Seen:
    """The first training row of the corpus that holds each molecule of a task."""

    first: dict[By, NDArray[np.int64]]
    """By sameness, shape (N,); `NEVER` where none does."""

    def within(self, by: By, molecules: int) -> NDArray[np.bool_]:
        """Whether each molecule is among the first ``molecules`` of the corpus, shape (N,)."""
        return self.first[by] < molecules


@dataclass(frozen=True)
class Identities:
    """What the molecules of a task are called."""

    task: Task
    cache: CachePaths
    processes: int = 1

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """InChIKey of each row; empty where InChI cannot be made. Kept in the cache."""
        index = self.cache.index(f"inchikeys-{digest_of([_LAYOUT, self.task.digest, rdkit_version()])}")
        if index.is_file():
            return tuple(read_json(index))
        found = inchikeys(self.task.canonical, self.processes)
        write_json(index, found)
        return tuple(found)

    def of(self, by: By) -> tuple[str, ...]:
        """One text a row, equal for rows with the same molecule; a row without InChIKey equals no other."""
        if by == "smiles":
            return self.task.canonical
        length = CONNECTIVITY if by == "connectivity" else None
        return tuple(key[:length] if key else f"row {row}" for row, key in enumerate(self.keys))


def seen_in(
    tasks: Sequence[Identities], corpus: Corpus, molecules: int, cache: CachePaths, processes: int, progress: Progress
) -> list[Seen]:
    """Where the molecules of tasks stand among the first training molecules of a corpus.

    The corpus is streamed once for all tasks that were not held against it before; memory does not grow with it.

    Args:
        tasks: with their molecules' names.
        corpus: prepared.
        molecules: how many training molecules are looked through.
        cache: where answers are kept.
        processes: how many work at it.
        progress: told how many molecules are looked through, now and then.

    Raises:
        DataError: if the corpus is smaller than ``molecules``.
        RunError: if a worker process dies.
    """
    corpus.require(molecules)
    places = [cache.index(f"seen-{_request(one.task, corpus, molecules)}") for one in tasks]
    missing = [one for one, place in zip(tasks, places, strict=True) if not place.is_file()]
    if missing:
        found = _scan(missing, corpus, molecules, processes, progress)
        for one, answer in zip(missing, found, strict=True):
            write_json(cache.index(f"seen-{_request(one.task, corpus, molecules)}"), answer)
    return [_seen(one.task, read_json(place)) for one, place in zip(tasks, places, strict=True)]


def _request(task: Task, corpus: Corpus, molecules: int) -> str:
    return digest_of([_LAYOUT, task.digest, corpus.digest, molecules, rdkit_version()])


def _seen(task: Task, answer: dict[str, list[list[int]]]) -> Seen:
    first: dict[By, NDArray[np.int64]] = {}
    for by in SAMENESS:
        first[by] = np.full(task.rows, NEVER)
        for row, place in answer[by]:
            first[by][row] = place
    return Seen(first)


def _scan(
    tasks: Sequence[Identities], corpus: Corpus, molecules: int, processes: int, progress: Progress
) -> list[dict[By, list[list[int]]]]:
    """For each task and sameness the rows that are seen, each with the place where it is seen first."""
    smiles = {text for one in tasks for text in one.task.canonical}
    wanted = {by: {name for one in tasks for name in one.of(by)} for by in SAMENESS}
    first: dict[By, dict[str, int]] = {by: {} for by in SAMENESS}
    find = candidate_finder(Wanted.of(smiles))
    done = told = 0
    for chunk, found in Processes(processes).map(find, _chunks(corpus, molecules)):
        for place, text in enumerate(chunk, start=done):
            if text in smiles:
                first["smiles"].setdefault(text, place)
        for within, key in found:
            names: dict[By, str] = {"inchikey": key, "connectivity": key[:CONNECTIVITY]}
            for by, name in names.items():
                if name in wanted[by]:
                    first[by].setdefault(name, done + within)
        done += len(chunk)
        if done - told >= _TELL_ROWS:
            told = done
            progress(f"audit: {done:,} of {molecules:,} corpus molecules looked through")
    return [
        {by: [[row, first[by][name]] for row, name in enumerate(one.of(by)) if name in first[by]] for by in SAMENESS}
        for one in tasks
    ]


def _chunks(corpus: Corpus, molecules: int) -> Iterator[list[str]]:
    for start in range(0, molecules, _CHUNK):
        yield corpus.smiles("train", start, min(start + _CHUNK, molecules))


def grouped(names: Sequence[Any]) -> list[list[int]]:
    """Rows that have the same name as another row, together, in order of the first."""
    rows_of: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        rows_of.setdefault(name, []).append(row)
    return [rows for rows in rows_of.values() if len(rows) > 1]
