"""What crosses between a driver and workers that have no folder in common, by way of a `Storage`.

::

    driver  begin, hand_out       ─> <url>/<kind>/<digest>/                                     ─> worker
            take_in               <─ <url>/sweeps/<sweep>/trials/<uid>/<attempt>/{folder,resume} <─ carry_out_away
            stop file             ─> <url>/sweeps/<sweep>/trials/<uid>/<attempt>/stop            ─> worker

Prepared inputs and checkpoints are named by their digest, as in a cache. The driver's own folders end up as if the
workers had written there, so nothing that reads a sweep knows of the storage; the ledger never leaves the driver.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from chembench.errors import ChembenchError, ConfigError, DiskFullError, StorageError
from chembench.paths import (
    CachePaths,
    RunPaths,
    SweepPaths,
    default_cache,
    key_of,
    read_json,
    working_folder,
    write_json,
)
from chembench.specs import Inputs, Outcome, Work
from chembench.storage import Storage

BEAT_SECONDS = 5.0
"""How often a worker asks whether it shall stop, and sends the state from which its item could go on."""
LOOK_SECONDS = 1.0
"""How often a driver looks whether it asked an item to stop."""

_log = logging.getLogger(__name__)


def attempt_key(sweep: str, uid: str, attempt: int, what: Literal["folder", "resume", "stop"]) -> str:
    """Where a part of an attempt lies."""
    return f"sweeps/{sweep}/trials/{uid}/{attempt}/{what}"


# ----------------------------------------------------------------------------------------------------- the worker


def carried_out(work: Work, run: Callable[[Work], Outcome]) -> Outcome:
    """What came out of an attempt, carried out where the driver's folders are, or away from them by way of a storage.

    Args:
        work: as the driver handed it out.
        run: carries out work whose folders are those of this machine; `chembench.trial.run_item`.

    Raises:
        StorageError: if the storage fails, or lacks what the item reads; nothing of the attempt counts then.
        DiskFullError: if no space is left here for what the storage holds.
    """
    return run(work) if work.storage is None else carry_out_away(work, run)


def not_carried_out(work: Work, error: StorageError | DiskFullError) -> Outcome:
    """What is told of an attempt that a storage or a full disk kept from being carried out; it waits again."""
    is_full = isinstance(error, DiskFullError)
    return Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status="failed",
        cause="preempted" if is_full else "worker-lost",
        message=str(error),
        measured={"disk_full": True} if is_full else {},
    )


def carry_out_away(
    work: Work, run: Callable[[Work], Outcome], cache: CachePaths | None = None, beat_seconds: float = BEAT_SECONDS
) -> Outcome:
    """Carry out an attempt in folders of this machine; what it reads is pulled, what it leaves is pushed.

    Args:
        work: as the driver handed it out, with its storage.
        run: carries out the same work with places of this machine; `chembench.trial.run_item`.
        cache: where this machine keeps what it pulled; ``CHEMBENCH_CACHE_DIR`` by default.
        beat_seconds: time between two looks at what is to be sent or heeded.

    Raises:
        StorageError: if the storage fails, or lacks what the item reads; nothing of the attempt counts then.
        DiskFullError: if no space is left here.
    """
    assert work.storage is not None, "work without a storage is carried out where it is"
    storage, cache = Storage(work.storage), cache or CachePaths(default_cache())
    with working_folder(cache.work, work.uid) as folder:
        here = _brought_here(work, cache, folder)
        paths = RunPaths(Path(here.folder))
        paths.root.mkdir(parents=True)
        _pull(storage, here, cache)
        with _Beat(storage, here, paths, beat_seconds):
            outcome = run(here)
        _hand_in(storage, here, paths, outcome)
    return outcome


def _brought_here(work: Work, cache: CachePaths, folder: Path) -> Work:
    """The same work with folders of this machine in place of the driver's."""

    def place(there: str | None) -> str | None:
        return None if there is None else str(cache.named(key_of(there)))

    given = work.inputs
    inputs = Inputs(
        tokenizer=place(given.tokenizer),
        shards=tuple(str(place(shard)) for shard in given.shards),
        validation_shards=tuple(str(place(shard)) for shard in given.validation_shards),
        statistics=place(given.statistics),
        checkpoint=place(given.checkpoint),
        trunk=place(given.trunk),
        split=place(given.split),
        sealed=place(given.sealed),
    )
    own = folder / work.uid / str(work.attempt)
    return work.model_copy(update={"inputs": inputs, "folder": str(own), "storage": None})


def _pull(storage: Storage, here: Work, cache: CachePaths) -> None:
    """Bring what the item reads and this machine lacks, and the newest state of an earlier attempt."""
    given = here.inputs
    places = [given.tokenizer, *given.shards, *given.validation_shards, given.statistics, given.split, given.sealed]
    for place in places:
        if place is not None:
            _pull_once(storage, Path(place), cache)
    if given.checkpoint is not None and (here.kind != "pretrain" or storage.has(key_of(given.checkpoint))):
        _pull_once(storage, Path(given.checkpoint), cache)
    elif given.trunk is not None:
        _pull_once(storage, Path(given.trunk), cache)
    for attempt in range(here.attempt, 0, -1):
        key = attempt_key(here.sweep, here.uid, attempt, "resume")
        if storage.has(key):
            storage.pull_file(key, RunPaths(Path(here.folder).parent / str(attempt)).resume)
            return


def _pull_once(storage: Storage, place: Path, cache: CachePaths) -> None:
    """Bring a folder here; of the workers of a machine that lack it one does, and the others wait for it."""
    if place.is_dir():
        return
    lock = cache.pulling(key_of(place))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        storage.pull_folder(key_of(place), place)


def _hand_in(storage: Storage, here: Work, paths: RunPaths, outcome: Outcome) -> None:
    """Send what the attempt left; its folder last, which is what makes it count."""
    if here.kind == "pretrain" and outcome.status == "finished":
        assert here.inputs.checkpoint is not None
        storage.push_folder(Path(here.inputs.checkpoint), key_of(here.inputs.checkpoint))
    if paths.resume.is_file():
        storage.push_file(paths.resume, attempt_key(here.sweep, here.uid, here.attempt, "resume"))
    elif outcome.status != "failed":
        for attempt in range(1, here.attempt + 1):
            storage.remove(attempt_key(here.sweep, here.uid, attempt, "resume"))
    if paths.result.is_file():  # there is none where the disk was too full for it
        left_out = (paths.resume.name, paths.stop.name)
        storage.push_folder(paths.root, attempt_key(here.sweep, here.uid, here.attempt, "folder"), left_out)


class _Beat:
    """While an item is carried out: hands the driver's wish to stop on to it, and sends each state it keeps."""

    def __init__(self, storage: Storage, here: Work, paths: RunPaths, seconds: float) -> None:
        self._storage, self._paths, self._seconds = storage, paths, seconds
        self._stop_key = attempt_key(here.sweep, here.uid, here.attempt, "stop")
        self._resume_key = attempt_key(here.sweep, here.uid, here.attempt, "resume")
        self._sent: tuple[int, int] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chembench-storage", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._look()
            except (
                ChembenchError,
                OSError,
            ) as error:  # training goes on meanwhile; what matters is sent again at its end
                _log.warning("%s", error)

    def _look(self) -> None:
        if not self._paths.stop.exists() and self._storage.has(self._stop_key):
            self._paths.stop.touch()
        try:
            state = self._paths.resume.stat()
            if self._sent != (state.st_ino, state.st_mtime_ns):
                self._storage.push_file(self._paths.resume, self._resume_key)
                self._sent = (state.st_ino, state.st_mtime_ns)
        except FileNotFoundError:  # none is kept yet, or the item has just ended
            return


# ----------------------------------------------------------------------------------------------------- the driver


class Exchange:
    """The driver's side: sends what workers read, takes in what they leave."""

    def __init__(
        self, storage: Storage, paths: SweepPaths, cache: CachePaths, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self.storage, self._paths, self._cache = storage, paths, cache
        self._sweep, self._look_seconds = paths.root.name, look_seconds
        self._out: dict[Path, str] = {}
        """Folder of each attempt that is carried out elsewhere -> where its wish to stop lies."""
        self._closed = threading.Event()
        # a thread, as the wish comes from a signal handler, where nothing may be sent
        self._thread = threading.Thread(target=self._pass_on, name="chembench-storage", daemon=True)

    def __enter__(self) -> Exchange:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def begin(
        self, sweep: str, inputs: Sequence[Path], running: Iterable[tuple[str, int]], say: Callable[[str], None]
    ) -> None:
        """Make the storage ready for the sweep, and take in what ended while no driver was there.

        Args:
            sweep: what its ledger calls it; its folder may have been renamed.
            inputs: prepared folders; those that are there already are not sent again.
            running: uid and attempt of each item that ran when the last driver ended.
            say: told how far it is.

        Raises:
            ConfigError: if the storage holds another sweep of this name.
            StorageError: if it fails.
        """
        self._sweep = sweep
        self._claim()
        for number, folder in enumerate(inputs, start=1):
            if not self.storage.has(key_of(folder)):
                say(f"storage: sending prepared input {number} of {len(inputs)}")
                self.storage.push_folder(folder, key_of(folder))
        for uid, attempt in running:
            self.take_in(uid, attempt)

    def _claim(self) -> None:
        """Make sure that the sweeps of this name here and there are one, so that no result is taken for another's."""
        paths, key = self._paths, f"sweeps/{self._sweep}/owner"
        identity = read_json(paths.storage)["id"] if paths.storage.is_file() else secrets.token_hex(8)
        if self.storage.has(key):
            with working_folder(paths.root, "owner") as part:
                self.storage.pull_file(key, part / "owner.json")
                owner = read_json(part / "owner.json")["id"]
            if owner != identity:
                raise ConfigError(
                    f"storage '{self.storage.url}' holds another sweep called '{self._sweep}'; give this one a "
                    f"--name of its own, or remove sweeps/{self._sweep} there"
                )
        write_json(paths.storage, {"id": identity})
        if not self.storage.has(key):
            self.storage.push_file(paths.storage, key)

    def hand_out(self, work: Work) -> Work:
        """The work as a worker elsewhere takes it; a checkpoint that lies here is sent, so that none is made twice."""
        for checkpoint in (work.inputs.checkpoint, work.inputs.trunk):
            if checkpoint is not None and Path(checkpoint).is_dir():
                self.storage.push_folder(Path(checkpoint), key_of(checkpoint))
        self._out[Path(work.folder)] = attempt_key(work.sweep, work.uid, work.attempt, "stop")
        return work.model_copy(update={"storage": self.storage.url})

    def has_checkpoint(self, digest: str) -> bool:
        """Whether workers can have the pre-trained model of that digest."""
        folder = self._cache.pretrained(digest)
        return folder.is_dir() or self.storage.has(key_of(folder))

    def take_in(self, uid: str, attempt: int) -> bool:
        """Bring the folder of an attempt that has ended into the sweep's own, its result last.

        Returns:
            Whether there was one to bring; an attempt that was lost left none.

        Raises:
            StorageError: if the storage fails.
            DiskFullError: if no space is left here.
        """
        key, run = attempt_key(self._sweep, uid, attempt, "folder"), self._paths.run(uid, attempt)
        self._out.pop(run.root.resolve(), None)
        if run.result.exists():
            return True
        if not self.storage.has(key):
            return False
        with working_folder(run.root.parent, str(attempt)) as part:
            self.storage.pull_folder(key, part / "folder")
            self._bring_weights(part / "folder" / run.model.name)
            run.root.mkdir(exist_ok=True)  # it is there if the item was asked to stop
            for found in sorted((part / "folder").iterdir(), key=lambda path: path.name == run.result.name):
                target = run.root / found.name
                if target.is_dir():
                    shutil.rmtree(target)  # of a driver that ended between this line and the result
                found.replace(target)
        return True

    def _bring_weights(self, model: Path) -> None:
        """Bring the checkpoint that the head of a probe belongs to, so that its model predicts here."""
        settings = read_json(model / "settings.json") if model.is_dir() else {}
        if "reads" in settings:
            folder = self._cache.pretrained(settings["reads"]["pretrained"])
            self.storage.pull_folder(key_of(folder), folder)
            write_json(model / "settings.json", {**settings, "reads": {**settings["reads"], "folder": str(folder)}})

    def _pass_on(self) -> None:
        """Send the wish to stop on to each worker whose attempt was asked to: a file beside its result says so."""
        while not self._closed.wait(self._look_seconds):
            for run, key in list(self._out.items()):
                try:
                    if RunPaths(run).stop.exists():
                        self.storage.push_file(RunPaths(run).stop, key)
                        self._out.pop(run, None)
                except (ChembenchError, OSError) as error:  # tried again
                    _log.warning("%s", error)


def open_exchange(url: str, paths: SweepPaths, cache: CachePaths) -> Exchange:
    """The exchange of a sweep; nothing of the sweep is read or written yet.

    Raises:
        ConfigError: if the storage cannot be used, or lies where the sweep or its cache does.
    """
    storage = Storage(url)
    storage.require_apart([paths.root.parent, cache.root])
    storage.check()
    return Exchange(storage, paths, cache)
