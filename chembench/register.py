"""Which sweeps use a cache, and what of it each of them uses."""

from __future__ import annotations

import fcntl
import platform
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chembench.config import digest_of
from chembench.errors import ConfigError, DataError
from chembench.paths import CachePaths, SweepPaths, full_disk_told, is_disk_full, read_json, write_json
from chembench.specs import PretrainSpec
from chembench.sweep.ledger import read_state
from chembench.sweep.locking import is_at_rest
from chembench.sweep.state import SweepState
from chembench.sweep.units import first_of
from chembench.sweep.winners import confirmed, is_begun, winners


def register(cache: CachePaths, paths: SweepPaths) -> None:
    """Note that the sweep in a folder uses ``cache``; written when it begins, when it goes on and when it is merged.

    Raises:
        ConfigError: if the cache cannot be written.
        DiskFullError: if no space is left there.
    """
    host, folder = platform.node(), str(paths.root.resolve())
    file = cache.register / f"{digest_of([host, folder])}.json"
    with registering(cache):
        write_json(file, {"sweep": paths.root.name, "folder": folder, "host": host, "at": time.time()})


@contextmanager
def registering(cache: CachePaths) -> Iterator[None]:
    """Within the block no other process notes a sweep in ``cache``, so what none uses now is used by none.

    Raises:
        ConfigError: if the cache cannot be written.
        DiskFullError: if no space is left there.
    """
    with full_disk_told(cache.register), ExitStack() as stack:
        try:
            cache.register.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(cache.register_lock.open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise ConfigError(
                f"a sweep notes itself in its cache, {cache.register} cannot be written: {error.strerror}; "
                "make it writable, or choose another with --cache-dir"
            ) from error
        yield


def stamp_of(cache: CachePaths) -> list[tuple[str, int, int]]:
    """Another one whenever a sweep of ``cache`` begins, goes on or writes an event."""
    return [(file.name, file.stat().st_mtime_ns, _events_size(file)) for file in sorted(cache.register.glob("*.json"))]


def _events_size(record: Path) -> int:
    """Bytes of the ledger of a noted sweep; -1 where there is none to be seen."""
    try:
        return SweepPaths(Path(read_json(record)["folder"])).ledger.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def register_merged(target: SweepPaths, sources: Iterable[SweepPaths]) -> None:
    """Note a sweep that was merged in the cache of every source that is seen from here.

    Raises:
        ConfigError: if a cache cannot be written.
        DiskFullError: if no space is left there.
    """
    caches = {read_state(source).header.get("places", {}).get("cache_dir") for source in sources}
    for cache_dir in sorted(filter(None, caches)):
        if Path(cache_dir).is_dir():
            register(CachePaths(Path(cache_dir)), target)


@dataclass(slots=True)
class Needs:
    """What a state says of checkpoints, inputs and kept models."""

    referred: set[str] = field(default_factory=set)
    """Digests of every input and every checkpoint."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """Digest of each checkpoint that must stay -> why."""
    models: dict[str, str] = field(default_factory=dict)
    """Uid of each trial whose fitted model must stay -> why."""
    best: dict[str, float] = field(default_factory=dict)
    """Task -> validation objective of its winner."""


@dataclass(slots=True)
class Use:
    """One sweep that uses a cache."""

    paths: SweepPaths
    state: SweepState | None = None
    """None: it cannot be read."""
    at_work: bool = False
    """A driver works on it."""
    unknown: str = ""
    """Why it cannot be said what the sweep uses; whatever may be its own then stays."""
    is_gone: bool = False
    """Its folder was deleted."""
    record: Path | None = None
    """Its file in the register."""
    needs: Needs = field(default_factory=Needs)

    @property
    def name(self) -> str:
        return self.paths.root.name

    @property
    def is_open(self) -> bool:
        """Whether something of it may be deleted by another process than its driver."""
        return not (self.at_work or self.unknown or self.is_gone)

    def may_use(self, digest: str) -> bool:
        """Whether the sweep refers to a prepared input or a checkpoint of that digest, as far as one can know."""
        return bool(self.unknown) or digest in self.needs.referred


def needs_of(state: SweepState) -> Needs:
    """What the sweep in this state uses, and what it must keep.

    A winner's model and its checkpoint stay, as do those of a recipe that may still win; so does every checkpoint that
    an item which waits or runs is going to read.
    """
    needs = Needs(set(map(str, state.header.get("inputs", {}).values())))
    for task, uid in winners(state).items():
        needs.models[uid] = f"winner of {task}"
        outcome = state.items[uid].outcome
        needs.best[task] = outcome.metrics["objective"] if outcome else float("inf")
    for items in confirmed(state).values():
        if any(item.is_left for item in items) or not is_begun(state, items):
            standing = (item for item in items if first_of("confirm", item))
            needs.models |= {item.uid: f"may still win {item.labels['task']}" for item in standing}
    for item in state.items.values():
        checkpoint = item.uid if isinstance(item.spec, PretrainSpec) else getattr(item.spec, "pretrained", None)
        if checkpoint is None:
            continue
        needs.referred.add(checkpoint)
        if item.is_left and isinstance(item.spec, PretrainSpec) and item.spec.continues is not None:
            needs.checkpoints.setdefault(item.spec.continues, f"pretrain {item.uid} continues it and has not ended")
        if item.uid in needs.models:
            needs.checkpoints[checkpoint] = f"of the model that is {needs.models[item.uid]}"
        elif item.is_left:
            needs.checkpoints.setdefault(checkpoint, f"{item.kind} {item.uid} has not ended")
    return needs


def use_of(paths: SweepPaths, is_held: bool = False) -> Use:
    """What the sweep in a folder uses, as its ledger stands now.

    Args:
        paths: the folder.
        is_held: the caller itself keeps every driver away from it.
    """
    use = Use(paths)
    try:
        use.at_work = not (is_held or is_at_rest(paths))
        use.state = read_state(paths)
        use.needs = needs_of(use.state)
    except ConfigError:  # no ledger: it has not begun
        use.state = SweepState()
    except (DataError, OSError) as error:  # it may be somebody else's
        use.unknown = f"sweep '{use.name}' cannot be read: {error}"
    if use.at_work and use.state is not None and not use.state.header:
        use.unknown = f"sweep '{use.name}' is preparing its inputs"
    return use


def registered(cache: CachePaths, but: SweepPaths | None = None, held: Collection[SweepPaths] = ()) -> Iterator[Use]:
    """Every sweep that was noted to use ``cache``, also where its folder is gone or on another machine.

    Args:
        cache: the cache.
        but: a sweep that is left out, and not read.
        held: sweeps that the caller itself keeps every driver away from.
    """
    for file in sorted(cache.register.glob("*.json")):
        try:
            record = read_json(file)
            if but is not None and record["folder"] == str(but.root.resolve()):
                continue
            use = _noted(SweepPaths(Path(record["folder"])), str(record["host"]), file, held)
        except (OSError, ValueError, KeyError, TypeError) as error:
            use = Use(SweepPaths(file), unknown=f"'{file}' must name a sweep, it does not ({error!r}); delete it")
        use.record = file
        yield use


def _noted(paths: SweepPaths, host: str, file: Path, held: Collection[SweepPaths]) -> Use:
    if paths.root.is_dir():
        return use_of(paths, paths in held)
    if host == platform.node():
        return Use(paths, is_gone=True)
    text = f"sweep '{paths.root.name}' of machine {host} may use it; delete {file} if that is gone"
    return Use(paths, unknown=text)
