"""Who may write to a sweep: one driver at a time, proved by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from chembench.errors import ChembenchError, ConfigError, DataError, DiskFullError
from chembench.paths import SweepPaths, as_written, is_disk_full
from chembench.sweep.stopping import resume_command

TAKE_SECONDS = 1.0
"""How long a lock is asked for: whoever only looks whether it is held has it for an instant."""


def take_lock(paths: SweepPaths) -> IO[str]:
    """The lock of a sweep, which is given back when the file is closed.

    Raises:
        ConfigError: if another process holds it.
        DataError: if the sweep's folder cannot be written.
        DiskFullError: if no space is left to write down who holds it.
    """
    try:
        lock = _locked(paths, "a+", fcntl.LOCK_EX)
    except OSError as error:
        raise cannot_write(paths, error) from error
    try:
        _sign(lock)
    except OSError as error:
        if not paths.ledger.exists():
            leave_nothing(paths, made=())
        lock.close()
        raise cannot_write(paths, error) from error
    return lock


def leave_nothing(paths: SweepPaths, made: Iterable[Path]) -> None:
    """Remove what a start made whose sweep could not begin; its lock is held. A storage's mark and other files stay.

    Args:
        paths: the sweep's folder.
        made: what the start made beside the ledger and the lock, which are never a person's.
    """
    for file in (*made, paths.ledger, paths.lock):
        file.unlink(missing_ok=True)
    for folder in (paths.log, paths.root):
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()


def _sign(lock: IO[str]) -> None:
    """Write down who holds it."""
    os.ftruncate(lock.fileno(), 0)
    os.pwrite(lock.fileno(), f"{os.getpid()} on {platform.node()}".encode(), 0)


def is_held(paths: SweepPaths, lock: IO[str]) -> bool:
    """Whether a lock that was taken is the one that others ask for; not so if its file was removed or replaced."""
    try:
        return os.path.samestat(paths.lock.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def require_alone(paths: SweepPaths, lock: IO[str], foreign_bytes: int) -> None:
    """Refuse to write where another process may write, or has written.

    Args:
        paths: the sweep's folder.
        lock: what this process took.
        foreign_bytes: how much longer its ledger is than this process left it.

    Raises:
        DataError: if the lock was removed, or the ledger's length is another.
    """
    if is_held(paths, lock) and not foreign_bytes:
        return
    found = f"{paths.ledger} was changed by {foreign_bytes:+d} bytes"
    if not is_held(paths, lock):
        found = f"{paths.lock} was removed or replaced"
    raise DataError(
        f"one process at a time drives a sweep, {found} while this one did; leave that file alone, make sure that "
        f"no other one is at work, then {resume_command(as_written(paths.root))}"
    )


@contextmanager
def at_rest(paths: SweepPaths) -> Iterator[None]:
    """Within the block no driver works on the sweep; nothing in its folder is changed but who holds its lock.

    Raises:
        ConfigError: if one is at work.
    """
    with ExitStack() as held:
        with suppress(FileNotFoundError):  # nobody ever drove it
            lock = held.enter_context(_locked_for_rest(paths))
            with suppress(OSError):  # it may only be read, or the disk is full; then an earlier holder is named
                _sign(lock)
        yield


def _locked_for_rest(paths: SweepPaths) -> IO[str]:
    try:
        return _locked(paths, "r+", fcntl.LOCK_EX)
    except FileNotFoundError:
        raise
    except OSError:  # somebody else's: it may only be read, which keeps a driver away as well
        return _locked(paths, "r", fcntl.LOCK_SH)


def is_at_rest(paths: SweepPaths) -> bool:
    """Whether no process drives the sweep, or holds it at rest, at this moment."""
    try:
        with paths.lock.open() as lock:
            return _is_taken(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return True


def _locked(paths: SweepPaths, mode: str, how: int) -> IO[str]:
    until = time.monotonic() + TAKE_SECONDS
    while True:
        lock = _lock_file(paths, mode, until)
        if _is_taken(lock, how) and is_held(paths, lock):
            return lock
        lock.close()
        if time.monotonic() > until:
            raise ConfigError(
                f"sweep {paths.root.name} is driven by another process (pid {holder_of(paths)}); "
                "wait for it, or end it and try again"
            )
        time.sleep(0.01)


def _lock_file(paths: SweepPaths, mode: str, until: float) -> IO[str]:
    """Open the lock; where that may make it, its folder too: who held it removes both if its sweep cannot begin."""
    while True:
        try:
            return paths.lock.open(mode)
        except FileNotFoundError:
            if "a" not in mode or time.monotonic() > until:
                raise
        paths.root.mkdir(parents=True, exist_ok=True)


def _is_taken(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder_of(paths: SweepPaths) -> str:
    """The process that holds the lock, or did last: its number, with its machine if that is another one."""
    try:
        signed = paths.lock.read_text()
    except FileNotFoundError:  # its sweep could not begin, this very moment
        return "unknown"
    return signed.strip().removesuffix(f" on {platform.node()}") or "unknown"


def cannot_write(paths: SweepPaths, error: OSError) -> ChembenchError:
    """What is raised when an event could not be written down; it did not happen then."""
    if is_disk_full(error):
        return DiskFullError(
            f"every event of a sweep must be written down, no space is left for {paths.ledger}; "
            f"free some space, or chembench gc; then {_way_on(paths)}"
        )
    return DataError(
        f"every event of a sweep must be written down, {error.filename or paths.ledger} cannot be: {error.strerror}; "
        f"make it writable, then {_way_on(paths)}"
    )


def _way_on(paths: SweepPaths) -> str:
    """What goes on with a sweep; one whose first event was not written down cannot be found by its folder."""
    has_begun = paths.ledger.is_file() and paths.ledger.stat().st_size > 0
    return resume_command(as_written(paths.root)) if has_begun else "give the same command again"
