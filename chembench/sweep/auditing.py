"""The audit of a task, a space or a sweep: which tasks, splits, corpus and tokenizer it is about, and its making."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from chembench.chem.descriptors import rdkit_version
from chembench.chem.encoders import SmilesTokenizer, Tokenizer
from chembench.chem.pool import Processes
from chembench.chem.tokens import load_tokenizer
from chembench.config import digest_of
from chembench.data import measures
from chembench.data.audit import LAYOUT, Audit, CorpusAudit, TaskAudit, read_audit, write_audit
from chembench.data.catalog import TASKS, TaskDef
from chembench.data.corpora import Corpus, open_corpus, prepare_corpus
from chembench.data.findings import findings_of
from chembench.data.overlap import Identities, Seen, seen_in
from chembench.data.splits import Division, Split, open_split, prepare_split
from chembench.data.tasks import Task, open_task, prepare_task
from chembench.errors import ConfigError, DataError, UnknownNameError
from chembench.paths import CachePaths, SweepPaths, as_written, read_json, write_json
from chembench.sweep.cells import grid_cells, vocabulary_of
from chembench.sweep.inputs import Prepared, Say, division_of
from chembench.sweep.reading import read_space, shipped_spaces, space_from
from chembench.sweep.space import Space
from chembench.sweep.state import SweepState

CHEAP_ROWS = 10_000
"""Rows of all tasks together up to which a sweep is audited when it begins."""
CHEAP_MOLECULES = 100_000
"""Corpus molecules up to which it is; they take about 0.2 ms each on one core."""
CHEAP_TESTS = 100_000
"""Rows of all tasks, once for each outer fold, up to which it is."""
WORTH_PROCESSES = (4_000, 20_000)
"""Rows of a task and molecules of a corpus from which on several processes pay."""
SHOWN_UNREADABLE = 5


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an audit is about."""

    target: str
    of: Literal["task", "space", "sweep"]
    tasks: tuple[tuple[Task, Split, TaskDef], ...]
    """A line for each test set. Split index 0: the test is that of every index, and it is held against training and
    validation together."""
    tokenizer: Tokenizer
    corpus: Corpus | None = None
    scales: tuple[int, ...] = ()
    """Training molecules of the corpus that models are pre-trained on."""

    @property
    def is_cheap(self) -> bool:
        """Whether the audit takes seconds."""
        rows = [task.rows for task, _, _ in self.tasks]
        once = sum({task.name: task.rows for task, _, _ in self.tasks}.values())
        return once <= CHEAP_ROWS and sum(rows) <= CHEAP_TESTS and max(self.scales, default=0) <= CHEAP_MOLECULES

    def matches(self, audit: Audit) -> bool:
        """Whether ``audit`` is about exactly these."""
        tasks = [(task.name, task.digest, split.digest) for task, split, _ in self.tasks]
        corpus = (self.corpus.digest, self.scales) if self.corpus else None
        audited = (audit.corpus.corpus_digest, audit.corpus.scales) if audit.corpus else None
        same = [(task.name, task.task_digest, task.split_digest) for task in audit.tasks] == tasks and corpus == audited
        return same and (audit.tokenizer, audit.rdkit) == (self.tokenizer.digest, rdkit_version())


# ---- what is audited ----


def inputs_of_task(definition: TaskDef, cache: CachePaths, data_dir: Path, tokenizer: Tokenizer | None) -> Inputs:
    """A task that is known by name, or one of a space; it is prepared if it was not.

    Raises:
        DataError: if its file cannot be had or used.
    """
    way = Division(definition.split, definition.split_seed, similarity=definition.split_similarity)
    return Inputs(definition.name, "task", (_prepared(definition, way, cache, data_dir, None),), tokenizer or own())


def inputs_of_space(
    space: Space, cache: CachePaths, data_dir: Path, tokenizer: Tokenizer | None, processes: int, say: Say
) -> Inputs:
    """All tasks of a space and its corpus; they are prepared if they were not. Nothing is labelled.

    Raises:
        DataError: if a file cannot be had or used.
    """
    base, tasks = Path(space.base), []
    for name in space.tasks:
        say(f"task: {name}")
        definition = space.task_def(name)
        for outer in space.confirm.outers:
            tasks.append(_prepared(definition, division_of(space, name, outer, 0), cache, data_dir, base))
    scales, corpus = scales_of(space), None
    if scales:
        say(f"corpus: {', '.join(space.corpus.files)}")
        corpus = prepare_corpus(space.corpus, cache, base, Processes(processes), say, data_dir)
        corpus.require(scales[-1])
    return Inputs(space.name, "space", tuple(tasks), tokenizer or vocabulary_of(space)[0], corpus, scales)


def inputs_of_prepared(name: str, space: Space, prepared: Prepared) -> Inputs:
    """The inputs of a sweep that begins."""
    tasks = [
        (prepared.tasks[task], prepared.splits[task, outer, 0], space.task_def(task))
        for task in space.tasks
        for outer in space.confirm.outers
    ]
    tokenizer = load_tokenizer(prepared.tokenizer_folder)
    scales = scales_of(space) if prepared.corpus else ()
    return Inputs(name, "sweep", tuple(tasks), tokenizer, prepared.corpus, scales)


def inputs_of_sweep(state: SweepState, tokenizer: Tokenizer | None = None) -> Inputs:
    """The inputs that a sweep was begun with, as they lie in its cache; raw files are not needed.

    Raises:
        ConfigError: if the ledger does not say where they are.
        DataError: if one is gone, or is not as it was prepared.
    """
    header = state.header
    if not {"places", "space", "inputs"} <= set(header):
        raise ConfigError(
            f"an audit needs to know where the inputs of sweep '{state.name}' lie, its ledger does not say; "
            "give its `chembench sweep` command again, once"
        )
    cache, digests = CachePaths(Path(header["places"]["cache_dir"])), header["inputs"]
    space = space_from(header["space"])
    tasks = []
    for name in header["tasks"]:
        definition = space.task_def(name)
        task = open_task(definition, digests[f"task {name}"], cache)
        for outer in space.confirm.outers:
            of = f"outer {outer} of {name}" if outer else name
            split = open_split(digests[f"split 0 of {of}"], digests[f"test of {of}"], cache)
            tasks.append((task, split, definition))
    corpus = open_corpus(digests["corpus"], cache) if "corpus" in digests else None
    used = tokenizer or load_tokenizer(cache.tokenizer(digests["tokenizer"]))
    return Inputs(state.name, "sweep", tuple(tasks), used, corpus, scales_of(space) if corpus else ())


def _refuse_overrides(name: str, overrides: Sequence[str]) -> None:
    """Make sure that nothing is to be changed where nothing can be.

    Raises:
        ConfigError: otherwise.
    """
    if overrides:
        raise ConfigError(
            f"--set changes a space, '{name}' is none and is audited as it is, got {overrides[0]!r}; leave --set out, "
            "or name a space file"
        )


def _tokenizer_from(place: Path | str | None) -> Tokenizer | None:
    """The tokenizer in a file or folder; none if no place is given.

    Raises:
        ConfigError: if none is there.
        DataError: if it is malformed.
    """
    return None if place is None else load_tokenizer(place)


def scales_of(space: Space) -> tuple[int, ...]:
    """Training molecules of the pre-trainings of a space, ascending; none if nothing is pre-trained."""
    return tuple(sorted({cell.molecules for cell in grid_cells(space) if cell.molecules}))


def own() -> SmilesTokenizer:
    """The built-in tokenizer, which a task by itself is held against."""
    return SmilesTokenizer()


def _prepared(
    definition: TaskDef, way: Division, cache: CachePaths, data_dir: Path, base: Path | None
) -> tuple[Task, Split, TaskDef]:
    task = prepare_task(definition, data_dir, cache, base)
    return task, prepare_split(task, way, cache), definition


# ---- the audit ----


def audit_inputs(inputs: Inputs, cache: CachePaths, processes: int, say: Say) -> Audit:
    """Measure everything; what was measured before, of the same content, is read from the cache.

    Raises:
        DataError: if an input is not as it was prepared.
        RunError: if a worker process dies.
    """
    named = {task.name: Identities(task, cache, _processes(task, processes)) for task, _, _ in inputs.tasks}
    seen: dict[str, Seen] = {}
    corpus = None
    if inputs.corpus is not None:
        workers = processes if inputs.scales[-1] > WORTH_PROCESSES[1] else 1
        answers = seen_in(list(named.values()), inputs.corpus, inputs.scales[-1], cache, workers, say)
        seen = dict(zip(named, answers, strict=True))
        corpus = CorpusAudit(
            corpus_digest=inputs.corpus.digest,
            train=inputs.corpus.train,
            validation=inputs.corpus.validation,
            unreadable=inputs.corpus.unreadable,
            duplicates=inputs.corpus.duplicates,
            scales=inputs.scales,
        )
    found: list[TaskAudit] = []
    for task, split, definition in inputs.tasks:
        subject = measures.Subject(task, split, definition, named[task.name])
        is_first = all(other.name != task.name for other in found)
        if is_first:
            say(f"audit: {task.name}")
        found.append(_audited(subject, seen.get(task.name), inputs, cache, is_first=is_first))
    return Audit(
        target=inputs.target,
        of=inputs.of,
        rdkit=rdkit_version(),
        tokenizer=inputs.tokenizer.digest,
        tasks=tuple(found),
        corpus=corpus,
    )


def _processes(task: Task, processes: int) -> int:
    return processes if task.rows > WORTH_PROCESSES[0] else 1


def _audited(
    subject: measures.Subject, seen: Seen | None, inputs: Inputs, cache: CachePaths, *, is_first: bool
) -> TaskAudit:
    measured = _measured(subject, inputs.tokenizer, cache)
    overlap = tuple(measures.overlaps_of(subject, seen, inputs.scales)) if seen is not None else ()
    whole = measured.model_copy(update={"overlap": overlap})
    return whole.model_copy(update={"findings": findings_of(whole, of_its_fold_alone=not is_first)})


def _measured(subject: measures.Subject, tokenizer: Tokenizer, cache: CachePaths) -> TaskAudit:
    """All but overlap and findings, kept in the cache."""
    task, split = subject.task, subject.split
    unreadable = _first_lines(task.unreadable_list)
    parts = [LAYOUT, task.digest, split.digest, tokenizer.digest, unreadable, task.unreadable, rdkit_version()]
    index = cache.index(f"audit-{digest_of(parts)}")
    if index.is_file():
        return TaskAudit.model_validate(read_json(index))
    division = subject.division
    made = TaskAudit(
        name=task.name,
        kind=task.kind,
        unit=task.unit,
        task_digest=task.digest,
        split_digest=split.digest,
        split=str(division["name"]),
        split_seed=int(division["seed"]),
        outer=int(division.get("outer", 0)),
        rows=task.rows,
        sampled=subject.definition.max_rows is not None and task.rows == subject.definition.max_rows,
        unreadable=task.unreadable,
        unreadable_first=tuple(unreadable),
        without_key=sum(not key for key in subject.identities.keys),
        duplicates=tuple(measures.duplicates_of(subject)),
        conflicts=measures.conflicts_of(subject),
        parts=tuple(measures.parts_of(subject)),
        shared=tuple(measures.shared_of(subject)),
        similarity=tuple(measures.similarity_of(subject)),
        tokens=measures.tokens_of(subject, tokenizer),
    )
    write_json(index, made.model_dump(mode="json"))
    return made


def _first_lines(listed: Path) -> list[str]:
    return listed.read_text(errors="replace").splitlines()[:SHOWN_UNREADABLE] if listed.is_file() else []


def audit_named(
    name: str, overrides: Sequence[str], cache: CachePaths, data_dir: Path, tokenizer: Path | str | None, say: Say
) -> Audit:
    """The audit of a task by name, or of a space by name or file.

    Raises:
        ConfigError: if there is neither, or an override or the tokenizer cannot be used.
        DataError: if an input cannot be had or used.
    """
    processes, tried = len(os.sched_getaffinity(0)), _tokenizer_from(tokenizer)
    if name in TASKS:
        _refuse_overrides(name, overrides)
        inputs = inputs_of_task(TASKS[name], cache, data_dir, tried)
    else:
        _require_space(name)
        inputs = inputs_of_space(read_space(name, overrides), cache, data_dir, tried, processes, say)
    return audit_inputs(inputs, cache, processes, say)


def _require_space(name: str) -> None:
    path = Path(name)
    if path.suffix != ".toml" and path.is_file():
        raise ConfigError(
            f"an audit is of a sweep, a task or a space, '{name}' is another file; for molecules of your own "
            "write a space with a [task.NAME] table and audit that"
        )
    shipped = [info.name for info in shipped_spaces()]
    if path.suffix != ".toml" and name not in shipped:
        raise UnknownNameError("sweep, task or space", name, [*TASKS, *shipped])


def audit_begun(
    paths: SweepPaths, state: SweepState, overrides: Sequence[str], tokenizer: Path | str | None, say: Say
) -> Audit:
    """The audit of a sweep on disk; with another tokenizer it is shown alone, not kept.

    Raises:
        ConfigError: if the ledger does not say where its inputs are, the sweep is a replay, or the tokenizer cannot be
            used.
        DataError: if one is gone, or is not as it was prepared.
    """
    _refuse_overrides(state.name, overrides)
    if "recorded" in state.header:
        raise ConfigError(
            f"an audit looks at molecules, sweep '{state.name}' is a replay and holds none; "
            "audit its tasks by name, or the sweep that it was made from"
        )
    inputs = inputs_of_sweep(state, _tokenizer_from(tokenizer))
    cache, processes = CachePaths(Path(state.header["places"]["cache_dir"])), len(os.sched_getaffinity(0))
    make = audit_inputs if tokenizer else partial(audit_sweep, paths)
    return make(inputs, cache, processes, say)


def audit_sweep(paths: SweepPaths, inputs: Inputs, cache: CachePaths, processes: int, say: Say) -> Audit:
    """The audit of a sweep, kept in its folder; measured only where what is there is about other inputs, or damaged."""
    if (known := _known(paths, inputs)) is not None:
        return known
    made = audit_inputs(inputs, cache, processes, say)
    write_audit(paths, made)
    return made


def _known(paths: SweepPaths, inputs: Inputs) -> Audit | None:
    try:
        known = read_audit(paths)
    except DataError:
        return None  # it is written anew
    return known if known is not None and inputs.matches(known) else None


def audit_at_start(paths: SweepPaths, space: Space, prepared: Prepared, cache: CachePaths, processes: int) -> str:
    """Audit the inputs of a sweep before its first trial, if that takes seconds.

    Returns:
        What a person should know of it; empty if nothing, and for a replay, which holds no molecules. An audit that
        cannot be made is told and keeps no sweep from beginning: what trials cannot read fails them with its cause.
    """
    if prepared.replayed is not None:
        return ""
    command = shlex.join(["chembench", "audit", str(as_written(paths.root))])
    try:
        inputs = inputs_of_prepared(paths.root.name, space, prepared)
        if _known(paths, inputs) is None and not inputs.is_cheap:
            return f"audit: left out, as it takes a while for data of this size; make it with: {command}"
        made = audit_sweep(paths, inputs, cache, processes, lambda line: None)
    except (ConfigError, DataError) as error:
        return f"audit: left out, it cannot be made: {error}; try again with: {command}"
    return f"audit: {made.leaks} leaks between training and test; see {command}" if made.leaks else ""
