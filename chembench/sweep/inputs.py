"""What a sweep reads, prepared once and named by content: tokenizer, corpus, labelled shards, tasks, splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chembench.data.corpora import Corpus, prepare_corpus
from chembench.data.shards import ShardSet, build_shards
from chembench.data.splits import Division, Split, prepare_split
from chembench.data.tasks import Task, prepare_task
from chembench.paths import CachePaths
from chembench.sweep.cells import Vocabulary, grid_cells, tokenizer_notes, vocabulary_of
from chembench.sweep.space import Space

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything items of a sweep can refer to."""

    tokenizer_digest: str
    tokenizer_folder: Path
    vocabulary: Vocabulary
    corpus: Corpus | None
    shards: ShardSet | None
    tasks: dict[str, Task]
    splits: dict[tuple[str, int], Split]
    """(task, split index) -> split."""

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
        if self.corpus is not None and self.shards is not None:
            found |= {"corpus": self.corpus.digest, "labels": self.shards.labels_digest}
        found |= {f"task {name}": task.digest for name, task in self.tasks.items()}
        for (task, index), split in self.splits.items():
            found |= {f"split {index} of {task}": split.digest, f"test of {task}": split.sealed}
        return found


def prepare(space: Space, cache: CachePaths, data_dir: Path, processes: int, say: Say) -> Prepared:
    """Prepare what the space names; what exists is not made again.

    Args:
        space: a checked space.
        cache: where prepared data lie.
        data_dir: where raw task files lie or are downloaded to.
        processes: worker processes for parsing and labelling.
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
        corpus = prepare_corpus(space.corpus, cache, base, processes, say, data_dir)
        corpus.require(largest)
        say(f"labels: {space.labels.descriptors} descriptors of {largest + corpus.validation:,} molecules")
        shards = build_shards(corpus, tokenizer, space.labels, largest, cache, processes, say)
    return Prepared(tokenizer.digest, folder, vocabulary, corpus, shards, tasks, splits)


def _tasks(
    space: Space, cache: CachePaths, data_dir: Path, base: Path, say: Say
) -> tuple[dict[str, Task], dict[tuple[str, int], Split]]:
    tasks, splits = {}, {}
    for name in space.tasks:
        say(f"task: {name}")
        definition = space.task_def(name)
        tasks[name] = prepare_task(definition, data_dir, cache, base)
        for index in range(space.confirm.splits):
            way = Division(definition.split, definition.split_seed, index, definition.split_similarity)
            splits[name, index] = prepare_split(tasks[name], way, cache)
    return tasks, splits
