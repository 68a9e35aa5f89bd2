"""Folders that Ray needs in the temporary one: locked by the process that made them, so that left ones are known."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RAY, TUNE = "chembench_ray_", "chembench_tune_"
"""How their names begin; short, as a socket's path has at most 107 characters."""
LOCK = "owner.lock"
UNLOCKED_SECONDS = 86_400.0
"""A folder without a lock is being made, or an earlier version uses it, until nothing in it changes for this long."""


@contextmanager
def ray_folder(kind: str) -> Iterator[str]:
    """A new folder that is removed after the block; one of a process that was killed goes at the next start.

    Args:
        kind: `RAY` or `TUNE`.
    """
    folder = Path(tempfile.mkdtemp(prefix=kind))
    # processes of a Ray that did not come up are ended by its own hook, which runs before this one
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            Path(lock.name).rename(folder / LOCK)  # nobody ever sees it unlocked
            yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_ray_folders() -> None:
    """Remove the folders of our own processes that are dead and whose Ray is, too."""
    for kind in (RAY, TUNE):
        for folder in Path(tempfile.gettempdir()).glob(f"{kind}*"):
            if _is_left(folder) and not _is_used(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        if folder.lstat().st_uid != os.getuid():
            return False
    except FileNotFoundError:  # its process has just removed it
        return False
    try:
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return folder.is_dir() and time.time() - _changed_at(folder) > UNLOCKED_SECONDS
    except OSError:  # it is locked
        return False


def _changed_at(folder: Path) -> float:
    """When anything in it changed last; now, if it changes while it is looked at."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _is_used(folder: Path) -> bool:
    """Whether a living process was started with that folder; so too where processes cannot be seen."""
    commands = list(map(_command_of, Path("/proc").glob("[0-9]*/cmdline")))
    return not commands or any(os.fsencode(folder) in command for command in commands)


def _command_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has just ended
        return b""
