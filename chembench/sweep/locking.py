"""Who may write to a sweep: one driver at a time, proved by a lock that ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from chembench.errors import ChembenchError, ConfigError, DataError, DiskFullError
from chembench.paths import SweepPaths, as_written, is_disk_full
from chembench.sweep.stopping import resume_command


def take_lock(paths: SweepPaths) -> IO[str]:
    """The lock of a sweep, which is given back when the file is closed.

    Raises:
        ConfigError: if another driver holds it.
        DataError: if the sweep's folder cannot be written.
        DiskFullError: if no space is left to write down who holds it.
    """
    try:
        lock = paths.lock.open("a+")
    except OSError as error:
        raise cannot_write(paths, error) from error
    _lock(paths, lock)
    if not is_held(paths, lock):  # removed while it was waited for
        lock.close()
        return take_lock(paths)
    try:
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {platform.node()}")
        lock.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            lock.close()
        raise cannot_write(paths, error) from error
    return lock


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
    """Within the block no driver works on the sweep; nothing in its folder is changed.

    Raises:
        ConfigError: if one is at work.
    """
    if not paths.lock.is_file():
        yield
        return
    with paths.lock.open() as lock:
        _lock(paths, lock)
        yield


def _lock(paths: SweepPaths, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"sweep {paths.root.name} is driven by another process (pid {holder_of(paths)}); "
            "wait for it, or end it and try again"
        ) from error


def holder_of(paths: SweepPaths) -> str:
    """The process that took the lock last: its number, with its machine if that is another one."""
    return paths.lock.read_text().strip().removesuffix(f" on {platform.node()}") or "unknown"


def cannot_write(paths: SweepPaths, error: OSError) -> ChembenchError:
    """What is raised when an event could not be written down; it did not happen then."""
    if is_disk_full(error):
        return DiskFullError(
            f"every event of a sweep must be written down, no space is left for {paths.ledger}; "
            f"free some space, or chembench gc; then {resume_command(as_written(paths.root))}"
        )
    return DataError(
        f"every event of a sweep must be written down, {error.filename or paths.ledger} cannot be: {error.strerror}; "
        f"make it writable, then {resume_command(as_written(paths.root))}"
    )
