"""What a sweep reads, prepared once and named by content: tokenizer, corpus, labelled shards, tasks, splits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chembench.chem.pool import Pool
from chembench.data.corpora import Corpus, prepare_corpus
from chembench.data.shards import ShardSet, build_shards
from chembench.data.splits import Division, Split, prepare_split
from chembench.data.tasks import Task, prepare_task
from chembench.paths import CachePaths
from chembench.recorded.source import Recording
from chembench.sweep.cells import Vocabulary, grid_cells, tokenizer_notes, vocabulary_of
from chembench.sweep.space import Space

UNEVEN = 1.3
"""A fold of so many times the mean is told."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Of a replay: what it gives back, and where workers find it."""

    recording: Recording
    file: Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything items of a sweep can refer to."""

    tokenizer_digest: str
    tokenizer_folder: Path
    vocabulary: Vocabulary
    corpus: Corpus | None
    shards: ShardSet | None
    tasks: dict[str, Task]
    splits: dict[tuple[str, int, int], Split]
    """(task, outer test set, split index) -> split."""
    replayed: Replayed | None = None
    """Of a replay, where the folders above hold nothing: its recorded results."""

    @property
    def folders(self) -> list[Path]:
        """Every folder that an item may read, in a cache each under its digest."""
        found = [self.tokenizer_folder]
        if self.shards is not None:
            found += [*self.shards.train, *self.shards.validation, self.shards.statistics]
        return [*found, *(place for split in self.splits.values() for place in (split.folder, split.sealed_folder))]

    def digests(self) -> dict[str, str]:
        """What the inputs are: equal digests, equal inputs."""
        found = {"tokenizer": self.tokenizer_digest}
        if self.replayed is not None:
            found["recorded"] = self.replayed.recording.sha256
        if self.corpus is not None and self.shards is not None:
            found |= {"corpus": self.corpus.digest, "labels": self.shards.labels_digest}
        found |= {f"task {name}": task.digest for name, task in self.tasks.items()}
        for (task, outer, index), split in self.splits.items():
            of = test_name(task, outer)
            found |= {f"split {index} of {of}": split.digest, f"test of {of}": split.sealed}
        return found


def test_name(task: str, outer: int) -> str:
    """What a test set is called among the inputs."""
    return f"outer {outer} of {task}" if outer else task


def prepare(space: Space, cache: CachePaths, data_dir: Path, pool: Pool, say: Say) -> Prepared:
    """Prepare what the space names; what exists is not made again.

    Args:
        space: a checked space.
        cache: where prepared data lie.
        data_dir: where raw task files lie or are downloaded to.
        pool: who reads and labels the molecules of the corpus.
        say: told one line per step.

    Raises:
        DataError: if a file, a task or a split cannot be used; nothing has been trained then.
    """
    tokenizer, vocabulary = vocabulary_of(space)
    for note in tokenizer_notes(space):
        say(note)
    folder = cache.tokenizer(tokenizer.digest)
    if not (folder / "tokenizer.json").is_file():
        tokenizer.save(folder)
    base = Path(space.base)
    tasks, splits = _tasks(space, cache, data_dir, base, say)
    largest = max(cell.molecules for cell in grid_cells(space))
    corpus, shards = None, None
    if largest:
        say(f"corpus: {', '.join(space.corpus.files)}")
        corpus = prepare_corpus(space.corpus, cache, base, pool, say, data_dir)
        corpus.require(largest)
        say(f"labels: {space.labels.descriptors} descriptors of {largest + corpus.validation:,} molecules")
        shards = build_shards(corpus, tokenizer, space.labels, largest, cache, pool, say)
    return Prepared(tokenizer.digest, folder, vocabulary, corpus, shards, tasks, splits)


def _tasks(
    space: Space, cache: CachePaths, data_dir: Path, base: Path, say: Say
) -> tuple[dict[str, Task], dict[tuple[str, int, int], Split]]:
    tasks: dict[str, Task] = {}
    splits: dict[tuple[str, int, int], Split] = {}
    for name in space.tasks:
        say(f"task: {name}")
        definition = space.task_def(name)
        tasks[name] = prepare_task(definition, data_dir, cache, base)
        own: dict[tuple[str, int, int], Split] = {}
        for outer, index in _places(space):
            way = division_of(space, name, outer, index)
            own[name, outer, index] = prepare_split(tasks[name], way, cache)
        splits |= own
        if space.confirm.outer_folds:
            say(_folds_told(space, name, [split for (_, outer, index), split in own.items() if outer and not index]))
    return tasks, splits


def _places(space: Space) -> list[tuple[int, int]]:
    """(outer test set, split index) of every split that is needed: replicates, and what is searched on."""
    table = space.confirm
    crossed = itertools.product(table.outers, range(table.splits))
    return sorted({*crossed, *((outer, 0) for outer in table.searched)})


def division_of(space: Space, task: str, outer: int, index: int) -> Division:
    """How the rows of a task are divided for one outer test set and split index."""
    table, known = space.confirm, space.task_def(task)
    if not outer:
        return Division(known.split, known.split_seed, index, known.split_similarity)
    return Division(
        table.outer_groups, known.split_seed, index, known.split_similarity, folds=table.outer_folds, outer=outer
    )


def _folds_told(space: Space, task: str, folds: list[Split]) -> str:
    table, sizes = space.confirm, [split.counts["test"] for split in folds]
    told = (
        f"outer folds of {task}: {table.outer_folds} x {table.outer_repeats} by {table.outer_groups}, "
        f"tests of {min(sizes):,} to {max(sizes):,} molecules"
    )
    if max(sizes) * table.outer_folds > UNEVEN * sum(folds[0].counts.values()):
        return f"{told}; one {table.outer_groups} is larger than a fold and stays whole, other outer_groups may not be"
    return told
