"""What may be deleted of sweeps and of the cache that they share, in which order, and what never is.

::

    goes    parts of dead processes, reruns ─> what no sweep uses ─> states of ended items
            ─> fitted models, the worst first ─> checkpoints, the largest first
    stays   ledger, results, curves, predictions, errors, boards
            models and checkpoints of winners, and of recipes that may still win
            checkpoints that waiting or running items read
            everything of a sweep whose driver is at work, and whatever another sweep of the cache uses

A checkpoint that is missing when a later trial needs it is trained again; a fitted model is not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chembench.errors import DataError
from chembench.holdings import (
    Thing,
    What,
    cache_parts,
    cache_things,
    checkpoints,
    parts_in,
    size_of,
    size_text,
    sweep_things,
)
from chembench.paths import CachePaths, RunPaths, SweepPaths, builder_of, part_beside, process_space, read_json
from chembench.register import Use, registered, registering, stamp_of, use_of
from chembench.sweep.locking import at_rest
from chembench.sweep.state import ItemRecord

ORDER: tuple[What, ...] = ("part", "register", "rerun", "input", "state", "model", "checkpoint", "records")
"""What goes first; checkpoints that no sweep uses go with the inputs that none uses."""
UNTOUCHED_SECONDS = 86_400.0
"""What another machine may be writing, or a machine wrote before it was restarted, counts as left behind after this."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What becomes of one thing."""

    what: What
    path: Path
    bytes: int
    goes: bool
    why: str
    rank: tuple[int, float] = (0, 0.0)
    """Of those that may go, the smallest goes first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection deletes and what it leaves."""

    entries: tuple[Entry, ...]
    keep_bytes: int | None
    """What may be left; none: everything that may go goes."""
    cache: CachePaths | None = None
    """What it was made for; none where a driver makes it for itself, see `keeper`."""
    sweeps: tuple[SweepPaths, ...] = ()
    """The sweeps that were named."""
    at_rest: tuple[SweepPaths, ...] = ()
    """Sweeps that no driver may work on while it is carried out."""

    @property
    def goes(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.goes)

    @property
    def freed(self) -> int:
        return _sum(self.goes)

    @property
    def left(self) -> int:
        return _sum(self.entries) - self.freed

    @property
    def warning(self) -> str:
        """That the bound cannot be kept, and why; empty if it is."""
        if self.keep_bytes is None or self.left <= self.keep_bytes:
            return ""
        by_what: Counter[str] = Counter()
        for entry in self.entries:
            by_what[entry.what] += 0 if entry.goes else entry.bytes
        largest = ", ".join(f"{_plural(what)} {size_text(size)}" for what, size in by_what.most_common(3) if size)
        return (
            f"--keep {size_text(self.keep_bytes)} cannot be kept, {size_text(self.left)} are needed ({largest}); "
            "nothing needed is deleted, allow more or free disk space elsewhere"
        )


def plan_gc(
    cache: CachePaths,
    sweeps: Sequence[SweepPaths] = (),
    keep_bytes: int | None = None,
    held: Collection[SweepPaths] = (),
) -> Plan:
    """What `collect` would delete; nothing is deleted yet.

    Args:
        cache: the cache that the sweeps share.
        sweeps: the sweeps to collect from, and the checkpoints they use; none: all that use ``cache``, and the cache.
        keep_bytes: delete no more than is needed to stay below this; none: everything that may go.
        held: sweeps that the caller itself keeps every driver away from.
    """
    uses = list(registered(cache, held=held))
    known = {use.paths.root.resolve() for use in uses}
    uses += [use_of(paths, paths in held) for paths in sweeps if paths.root.resolve() not in known]
    wanted = {paths.root.resolve() for paths in sweeps}
    chosen = [use for use in uses if not wanted or use.paths.root.resolve() in wanted]
    own = [use for use in chosen if use.is_open]
    others = [use for use in uses if not (use.is_gone or any(use is one for one in own))]
    referred = {digest for use in own for digest in use.needs.referred}
    entries = [entry for use in chosen if not use.is_gone for entry in _sweep_entries(use)]
    in_cache = checkpoints(cache, referred) if wanted else [*cache_parts(cache), *cache_things(cache)]
    entries += [_judged_in_cache(thing, own, others) for thing in in_cache]
    entries += _gone_entries(uses) if not wanted else []
    return Plan(bounded(entries, keep_bytes), keep_bytes, cache, tuple(sweeps), tuple(use.paths for use in own))


def bounded(entries: Iterable[Entry], keep_bytes: int | None) -> tuple[Entry, ...]:
    """``entries`` in the order of going, with those spared that need not go to stay below ``keep_bytes``."""
    ordered = sorted(entries, key=lambda entry: (not entry.goes, *entry.rank, str(entry.path)))
    left, decided = sum(entry.bytes for entry in ordered), []
    for entry in ordered:
        is_rubbish = entry.what in ("part", "register")
        if entry.goes and keep_bytes is not None and left <= keep_bytes and not is_rubbish:
            entry = replace(entry, goes=False, why=f"the bound is kept without it ({entry.why})")
        left -= entry.bytes if entry.goes else 0
        decided.append(entry)
    return tuple(decided)


def collect(plan: Plan) -> Plan:
    """Delete what ``plan`` says and what may still go when its turn comes.

    No driver can take its sweeps up meanwhile. Others may begin or go on at any moment; where one did, everything is
    judged again before the next deletion.

    Returns:
        What was deleted and what was left.

    Raises:
        ConfigError: if a driver began to work on one of its sweeps meanwhile.
        DataError: if something cannot be deleted.
    """
    assert plan.cache is not None, "a driver deletes by itself"
    seen, now, done = None, dict[Path, Entry](), []
    with ExitStack() as stack:
        for paths in plan.at_rest:
            stack.enter_context(at_rest(paths))
        for entry in plan.goes:
            with registering(plan.cache):
                if (stamp := stamp_of(plan.cache)) != seen:
                    again = plan_gc(plan.cache, plan.sweeps, plan.keep_bytes, plan.at_rest)
                    seen, now = stamp, {found.path: found for found in again.entries}
                done.append(now.get(entry.path, replace(entry, bytes=0, goes=False, why="somebody else deleted it")))
                if done[-1].goes:
                    delete(entry.path)
    return replace(plan, entries=(*done, *(entry for entry in plan.entries if not entry.goes)))


def clear_parts(cache: CachePaths, paths: SweepPaths) -> int:
    """Delete what dead processes left unfinished in a sweep and its cache; how many bytes that were.

    A driver calls it when it takes a sweep up, so that one which is killed often does not grow by it.
    """
    things = list(cache_parts(cache))
    things += [Thing("part", part, size_of(part)) for part in parts_in(paths.root)]
    left_behind = [thing for thing in things if _judged_part(thing).goes]
    for thing in left_behind:
        delete(thing.path)
    return sum(thing.bytes for thing in left_behind)


def delete(path: Path) -> None:
    """Remove a file or folder; nobody ever sees a part of it under its name.

    Raises:
        DataError: if it cannot be removed.
    """
    try:
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        going = path if builder_of(path) else path.rename(part_beside(path))
        shutil.rmtree(going)
    except FileNotFoundError:
        return  # somebody else was faster
    except OSError as error:
        raise DataError(f"'{path}' must be deleted, it cannot be: {error.strerror}; make it writable") from error


# ------------------------------------------------------------------------------------------------ what may go


def as_rows(plan: Plan) -> list[dict[str, Any]]:
    """The plan for people: what goes one by one, what stays together by its reason."""
    goes = [(entry, "goes", str(entry.path), entry.bytes) for entry in plan.goes]
    together: dict[tuple[str, str], list[Entry]] = {}
    for entry in plan.entries:
        if not entry.goes:
            together.setdefault((entry.what, entry.why), []).append(entry)
    stays = [
        (found[0], "stays", str(found[0].path) if len(found) == 1 else f"{len(found)} of them", _sum(found))
        for found in together.values()
    ]
    return [
        {"": verdict, "what": entry.what, "size": size_text(size), "bytes": size, "where": where, "why": entry.why}
        for entry, verdict, where, size in [*goes, *stays]
    ]


def summary(plan: Plan, *, is_done: bool) -> str:
    """One line at the end."""
    what = f"{len(plan.goes)} thing{'' if len(plan.goes) == 1 else 's'}, {size_text(plan.freed)}"
    return f"{'deleted' if is_done else 'would delete'} {what}; {size_text(plan.left)} stay"


def _sum(entries: Iterable[Entry]) -> int:
    return sum(entry.bytes for entry in entries)


def _sweep_entries(use: Use) -> list[Entry]:
    why = use.unknown or (f"the driver of sweep '{use.name}' is at work" if use.at_work else "")
    things = sweep_things(use.paths) if use.paths.root.is_dir() else []
    return [_stays(thing, why) if why else judged(thing, use) for thing in things]


def judged(thing: Thing, use: Use) -> Entry:
    """What may become of a thing in the folder of a sweep that is at rest, or whose own driver asks."""
    if thing.what == "part":
        return _judged_part(thing)
    if thing.what == "rerun":
        return _judged_rerun(thing)
    item = use.state.items.get(thing.digest) if use.state else None
    if thing.what == "state" and item is not None:
        return _goes(thing, f"{item.kind} {item.uid} has ended") if item.is_final else _stays(thing, _not_ended(item))
    if thing.what == "model" and item is not None:
        return _judged_model(thing, item, use)
    return _stays(thing, "never collected" if thing.what == "records" else f"the ledger knows no item {thing.digest}")


def _judged_rerun(thing: Thing) -> Entry:
    if RunPaths(thing.path).result.is_file():
        return _goes(thing, f"the rerun of {thing.digest} has ended")
    if _untouched_seconds(thing.path) < UNTOUCHED_SECONDS:
        return _stays(thing, f"the rerun of {thing.digest} has not ended")
    return _goes(thing, f"the rerun of {thing.digest} was untouched for a day")


def _judged_model(thing: Thing, item: ItemRecord, use: Use) -> Entry:
    task = str(item.labels["task"])
    if not item.is_final:
        return _stays(thing, _not_ended(item))
    if thing.attempt != item.attempt:
        return _goes(thing, f"attempt {item.attempt} replaced it", float("-inf"))
    if item.uid in use.needs.models:
        return _stays(thing, use.needs.models[item.uid])
    objective = item.outcome.metrics.get("objective", float("inf")) if item.outcome else float("inf")
    return _goes(thing, f"not the winner of {task}", use.needs.best.get(task, 0.0) - objective)


def _not_ended(item: ItemRecord) -> str:
    return f"{item.kind} {item.uid} has not ended"


def _judged_in_cache(thing: Thing, own: Sequence[Use], others: Sequence[Use]) -> Entry:
    if thing.what == "part":
        return _judged_part(thing)
    if thing.what == "checkpoint":
        return judged_checkpoint(thing, own, others)
    for use in (*own, *others):
        if use.may_use(thing.digest) or (thing.path.parent.name == "shards" and _may_use_shard(use, thing.path)):
            return _stays(thing, use.unknown or f"sweep '{use.name}' uses it")
    return _goes(thing, "no registered sweep uses it")


def judged_checkpoint(thing: Thing, own: Sequence[Use], others: Sequence[Use]) -> Entry:
    """What may become of a checkpoint.

    Args:
        thing: the checkpoint.
        own: the sweeps that are collected from.
        others: further sweeps of the cache; what they refer to stays.
    """
    for use in own:
        if thing.digest in use.needs.checkpoints:
            return _stays(thing, f"{use.needs.checkpoints[thing.digest]} (sweep '{use.name}')")
    for use in others:
        if use.may_use(thing.digest):
            return _stays(thing, use.unknown or f"sweep '{use.name}' uses it")
    if any(use.may_use(thing.digest) for use in own):
        return _goes(thing, "all its trials have ended", -thing.bytes)
    return replace(_goes(thing, "no registered sweep uses it"), rank=(ORDER.index("input"), 0.0))


def _may_use_shard(use: Use, folder: Path) -> bool:
    """Whether a shard is of the corpus and the tokenizer of a sweep; which of them it reads hangs on its scales."""
    try:
        manifest = read_json(folder / "manifest.json")
        return {manifest["corpus"], manifest["tokenizer"]} <= use.needs.referred
    except (OSError, ValueError, KeyError):
        return False  # it is no shard that could be read


def _gone_entries(uses: Iterable[Use]) -> Iterator[Entry]:
    for use in uses:
        if use.is_gone and use.record is not None:
            thing = Thing("register", use.record, size_of(use.record))
            yield _goes(thing, f"the folder of sweep '{use.name}' is gone")


def _judged_part(thing: Thing) -> Entry:
    builder = builder_of(thing.path)
    if builder is None:
        return _stays(thing, "not written by chembench")
    space, pid = builder
    if space == process_space():
        return _stays(thing, f"process {pid} writes it") if _is_alive(pid) else _goes(thing, f"process {pid} is dead")
    if _untouched_seconds(thing.path) < UNTOUCHED_SECONDS:
        return _stays(thing, "written elsewhere or before a restart, less than a day ago")
    return _goes(thing, "written elsewhere or before a restart, untouched for a day")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _untouched_seconds(path: Path) -> float:
    """How long nothing in ``path`` was written, by the clock that stamps its files: it may be another machine's."""
    inner = (Path(root, name) for root, _, names in os.walk(path) for name in names)
    try:
        last = max((file.lstat().st_mtime for file in inner), default=path.lstat().st_mtime)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            return os.fstat(file.fileno()).st_mtime - last
    except OSError:  # it changes under our hands, or the disk is full: it counts as just touched
        return 0.0


def _goes(thing: Thing, why: str, rank: float = 0.0) -> Entry:
    return Entry(thing.what, thing.path, thing.bytes, True, why, (ORDER.index(thing.what), rank))


def _stays(thing: Thing, why: str) -> Entry:
    return Entry(thing.what, thing.path, thing.bytes, False, why, (ORDER.index(thing.what), 0.0))


def _plural(what: str) -> str:
    return what if what.endswith("s") else f"{what}s"
