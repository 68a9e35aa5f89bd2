"""Where things lie on disk. Nobody else joins these paths."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chembench.errors import ChembenchError, ConfigError, DataError, DiskFullError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PART = re.compile(r"\..+\.(?P<space>[0-9a-f]{8})\.(?P<pid>[0-9]+)\.[0-9a-f]{8}")


def safe_name(kind: str, name: str) -> str:
    """``name``, if it can be the name of a folder and cannot leave its parent.

    Raises:
        ConfigError: otherwise.
    """
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} name must be 1-80 letters, digits, '.', '_' or '-' and start with a letter or digit, got {name!r}"
        )
    return name


def is_disk_full(error: BaseException | None) -> bool:
    """Whether ``error``, or one that it came from, says that no space is left; torch and safetensors wrap the first."""
    while error is not None:
        if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _NO_SPACE):
            return True
        if any(f"(os error {number})" in str(error) for number in _NO_SPACE):  # as safetensors writes it
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_told(place: Path) -> Iterator[None]:
    """Turn a lack of space within the block into `DiskFullError` about the device that holds ``place``."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise no_space_left(place) from error


def no_space_left(place: Path) -> DiskFullError:
    """The error for a full device."""
    return DiskFullError(f"no space left on the device that holds {place}; free some, then give the same command again")


def fault_of_machine(error: BaseException) -> ChembenchError | None:
    """``error`` in our words, where a disk or a right to use it is missing; none if it is another or names no file."""
    if not isinstance(error, OSError) or error.errno not in (*_NO_SPACE, *_OF_THE_MACHINE):
        return None
    if is_disk_full(error):
        return no_space_left(Path(str(error.filename)) if error.filename else Path())
    if error.filename is None:
        return None
    return DataError(
        f"chembench must be able to use '{error.filename}', it is not: {error.strerror}; "
        "make that possible, or name another folder, then give the same command again"
    )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` that takes its place only if the block ends well.

    Raises:
        DiskFullError: if no space is left.
    """
    part = part_beside(path)
    with full_disk_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def built_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its name only if the block ends well.

    A second builder of the same content loses the race without harm: its copy is removed.

    Raises:
        DiskFullError: if no space is left.
    """
    import shutil

    part = part_beside(folder)
    with full_disk_told(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        try:
            yield part
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder in ``parent`` that is removed after the block; a killed process leaves it to `gc`."""
    import shutil

    folder = part_beside(parent / name)
    with full_disk_told(parent):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def part_beside(path: Path) -> Path:
    """A new hidden name beside ``path`` that tells which process uses it; see `builder_of`."""
    return path.with_name(f".{path.name}.{process_space()}.{os.getpid()}.{os.urandom(4).hex()}")


def builder_of(part: Path) -> tuple[str, int] | None:
    """The process that `part_beside` named ``part`` for: its `process_space` and its number; none for other names."""
    found = _PART.fullmatch(part.name)
    return (found["space"], int(found["pid"])) if found else None


@cache
def process_space() -> str:
    """Where process numbers mean what they mean here: 8 hex digits of this boot and this container."""
    try:
        place = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux: a machine has one such space
        place = platform.node()
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` whole, in a form a person can read; NaN is refused."""
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text())


def as_written(folder: Path) -> Path:
    """``folder`` as a person would write it: from the current folder on, if it lies in it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def default_cache() -> Path:
    """``CHEMBENCH_CACHE_DIR`` or ``~/.cache/chembench``."""
    chosen = os.environ.get("CHEMBENCH_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "chembench"


def default_data_dir() -> Path:
    """Where raw task files are looked for and downloaded: ``CHEMBENCH_DATA_DIR`` or ``<cache>/raw``."""
    chosen = os.environ.get("CHEMBENCH_DATA_DIR")
    return Path(chosen) if chosen else default_cache() / "raw"


def spaces_dir() -> Path:
    """The folder of the spaces that come with chembench: ``search_spaces/`` of a checkout, or its copy in the wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "search_spaces"
    return beside if beside.is_dir() else package / "_spaces"


@dataclass(frozen=True, slots=True)
class CachePaths:
    """What sweeps share; every folder below is named by the digest of its content."""

    root: Path

    def corpus(self, digest: str) -> Path:
        return self.root / "corpora" / digest

    def tokenizer(self, digest: str) -> Path:
        return self.root / "tokenizers" / digest

    def shard(self, digest: str) -> Path:
        return self.root / "shards" / digest

    def labels(self, digest: str) -> Path:
        return self.root / "labels" / digest

    def task(self, digest: str) -> Path:
        return self.root / "tasks" / digest

    def split(self, digest: str) -> Path:
        return self.root / "splits" / digest

    def sealed(self, digest: str) -> Path:
        return self.root / "sealed" / digest

    def pretrained(self, digest: str) -> Path:
        return self.root / "pretrained" / digest

    def named(self, key: str) -> Path:
        """The folder that `key_of` gave ``key`` for."""
        return self.root.joinpath(*key.split("/"))

    @property
    def register(self) -> Path:
        """One file for each sweep that uses this cache."""
        return self.root / "sweeps"

    @property
    def register_lock(self) -> Path:
        """Locked by the process that notes a sweep, or deletes what none uses."""
        return self.register / "lock"

    @property
    def work(self) -> Path:
        """Folders in which workers of sweeps with a storage carry out items."""
        return self.root / "work"

    def pulling(self, key: str) -> Path:
        """Locked by the process that brings the folder called ``key`` here."""
        return self.root / "locks" / f"{key.replace('/', '-')}.lock"

    def crash(self, name: str) -> Path:
        """The traceback of a command that ended in a bug."""
        return self.root / "crashes" / f"{name}.txt"

    def index(self, name: str) -> Path:
        """A file that maps a request to the digest it was answered with."""
        return self.root / "index" / f"{name}.json"

    def index_list(self, name: str, what: str) -> Path:
        """Lines for people about the request ``name``, such as the rows that could not be read."""
        return self.root / "index" / f"{name}.{what}.txt"


def key_of(folder: Path | str) -> str:
    """What a folder of a cache is called in every other cache: its kind and its digest."""
    return "/".join(Path(folder).parts[-2:])


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The folder of one attempt at one item: ``trials/<uid>/<attempt>/``."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def curves(self) -> Path:
        return self.root / "curves.jsonl"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.csv"

    @property
    def error(self) -> Path:
        return self.root / "error.txt"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def resume(self) -> Path:
        """State from which a later attempt at a pre-training goes on; removed when it has ended."""
        return self.root / "resume.pt"

    @property
    def stop(self) -> Path:
        """Where this file exists the item keeps its state and ends as preempted."""
        return self.root / "stop"

    def attempts_so_far(self) -> list[RunPaths]:
        """This attempt and those before it, the newest first; a folder that is no number stands alone."""
        if not self.root.name.isdecimal():
            return [self]
        return [RunPaths(self.root.parent / str(n)) for n in range(int(self.root.name), 0, -1)]


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """The folder of one sweep."""

    root: Path

    @property
    def space(self) -> Path:
        return self.root / "space.toml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "driver.lock"

    def recorded(self, form: str) -> Path:
        """Of a replay: the recorded results that it gives back, ``csv`` or ``jsonl``."""
        return self.root / f"recorded.{form}"

    @property
    def storage(self) -> Path:
        """By what a storage tells this sweep from another of its name."""
        return self.root / "storage.json"

    @property
    def audit(self) -> Path:
        """What is known of its data; made from the prepared inputs, may be deleted."""
        return self.root / "audit.json"

    @property
    def journal(self) -> Path:
        return self.root / "optuna.journal"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def sent(self) -> Path:
        """What MLflow was told already; a hint that may be deleted."""
        return self.root / "mlflow.sent.jsonl"

    @property
    def sending(self) -> Path:
        """Lock of the one process that sends to MLflow."""
        return self.root / "mlflow.lock"

    @property
    def leaderboards(self) -> Path:
        return self.root / "leaderboards"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def reports(self) -> Path:
        """Where boards are copied to, beside the folder that holds the sweeps."""
        return self.root.parent.parent / "reports" / self.root.name

    @property
    def log(self) -> Path:
        return self.root / "logs"

    @property
    def ray_log(self) -> Path:
        """What Ray prints of workers that died."""
        return self.log / "ray.log"

    def run(self, uid: str, attempt: int) -> RunPaths:
        return RunPaths(self.trials / uid / str(attempt))
