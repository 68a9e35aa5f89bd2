"""The one truth of a sweep: an append-only file of events, and the state they add up to.

One event a line, a checksum a line, one writer (proved by a lock). Everything else in a sweep can be rebuilt from it.
A torn last line - a driver killed while writing - is dropped; damage anywhere else is refused with its line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic_core import from_json

from chembench.config import canonical_json, collection_paused
from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths
from chembench.sweep.locking import cannot_write, is_held, require_alone, take_lock
from chembench.sweep.state import SweepState

_MARK = b', "sum": "'


def _sum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:8].encode()


def line_of(event: Mapping[str, Any]) -> bytes:
    """An event as it stands in a ledger, with its checksum."""
    text = json.dumps(event, allow_nan=False).encode()
    return text[:-1] + _MARK + _sum(text) + b'"}\n'


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or none if the line is damaged."""
    text, _, end = line.rpartition(_MARK)
    text += b"}"
    if end != _sum(text) + b'"}\n':
        return _parse_early(line)
    event: dict[str, Any]
    try:
        event = from_json(text, allow_inf_nan=False)
    except ValueError:  # halves of surrogate pairs, as in the name of a file that is no UTF-8
        event = json.loads(text)
    return event


def _parse_early(line: bytes) -> dict[str, Any] | None:
    """A line of the first ledgers, whose checksum is of the event's canonical form."""
    try:
        event: dict[str, Any] = json.loads(line)
        claimed = event.pop("sum")
        return event if claimed == _sum(canonical_json(event).encode()).decode() else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # JSON, but no event
        return None


def read_events(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every whole event with the byte offset behind it; a torn last line is left out.

    Raises:
        DataError: if a line that is not the last is damaged.
    """
    offset = 0
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        event = _parse(line) if line.endswith(b"\n") else None
        if event is None:
            if number == len(lines):
                return
            raise DataError(
                f"ledger {path} is damaged in line {number} of {len(lines)}; "
                "restore the file from a copy, nothing was changed"
            )
        offset += len(line)
        yield offset, event


def read_state(paths: SweepPaths) -> SweepState:
    """The state of a sweep as it stands on disk; needs no lock and changes nothing.

    Raises:
        ConfigError: if there is no sweep in the folder.
        DataError: if the ledger is damaged.
    """
    state = SweepState()
    with collection_paused():
        for _ in folded(paths, state):
            pass
    return state


def folded(paths: SweepPaths, state: SweepState) -> Iterator[tuple[int, dict[str, Any]]]:
    """Fold the events of a sweep into ``state``, one for each step, with the byte offset behind it.

    Raises:
        ConfigError: if there is no sweep in the folder.
        DataError: if the ledger is damaged.
    """
    if not paths.ledger.is_file():
        raise ConfigError(f"no sweep in {paths.root}; start one with `chembench sweep`, or give its folder")
    for number, (offset, event) in enumerate(read_events(paths.ledger), 1):
        try:
            state.apply(event)
        except DataError as error:
            raise DataError(f"ledger {paths.ledger}, line {number}: {error}") from error
        yield offset, event


class Ledger:
    """The writer: holds the lock, appends events, keeps the state."""

    def __init__(self, paths: SweepPaths) -> None:
        """Take the lock and read what is there; a torn last line is cut off.

        Raises:
            ConfigError: if another driver holds the lock.
            DataError: if the ledger is damaged.
        """
        _make(paths.root)
        self.paths = paths
        self.state = SweepState()
        self._lock = take_lock(paths)
        try:
            events = folded(paths, self.state) if paths.ledger.is_file() else iter(())
            with collection_paused():
                self._end = max((offset for offset, _ in events), default=0)
            self._file = _opened(paths)
            self._is_torn = False
            """Whether a line that could not be written whole may stand behind the last one."""
            self._file.truncate(self._end)
        except BaseException:
            self._lock.close()
            raise

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event through to the disk, then fold it in; a line that cannot be written whole is cut off again.

        Raises:
            DiskFullError: if no space is left; the event did not happen.
            DataError: if the file cannot be written for another reason, or another process may have written to it.
        """
        stamped = {**event, "at": round(time.time(), 3)}
        line = line_of(stamped)
        try:
            if self._is_torn:
                self._cut()
            require_alone(self.paths, self._lock, os.fstat(self._file.fileno()).st_size - self._end)
            self._is_torn = True
            self._write(line)
        except OSError as error:
            with contextlib.suppress(OSError):  # what is left is dropped as a torn last line by the next start
                self._cut()
            raise cannot_write(self.paths, error) from error
        self._end, self._is_torn = self._end + len(line), False
        self.state.apply(stamped)

    def _cut(self) -> None:
        if is_held(self.paths, self._lock):  # else another process may have written there
            self._file.truncate(self._end)
            self._is_torn = False

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(paths: SweepPaths) -> FileIO:
    try:
        return paths.ledger.open("ab", buffering=0)
    except OSError as error:
        raise cannot_write(paths, error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = (
            f"a sweep needs a folder that can be written, got '{folder}': {error.strerror}; choose another with --out"
        )
        raise ConfigError(text) from error
