"""The one truth of a sweep: an append-only file of events, and the state they add up to.

One event a line, a checksum a line, one writer (proved by a lock). Everything else in a sweep can be rebuilt from it.
A torn last line - a driver killed while writing - is dropped; damage anywhere else is refused with its line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import TypeAdapter

from chembench.config import canonical_json
from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths
from chembench.specs import Cell, ItemSpec, Kind, Outcome

EVENTS = ("sweep", "item", "asked", "started", "lost", "result", "chosen", "opened", "finished")
"""Every event a ledger may hold."""
ItemStatus = Literal["waiting", "running", "finished", "pruned", "failed"]
_SPEC: TypeAdapter[Any] = TypeAdapter(ItemSpec)


@dataclass(slots=True)
class ItemRecord:
    """What the ledger knows of one item."""

    uid: str
    spec: Any
    cell: Cell | None
    labels: dict[str, Any]
    attempt: int = 0
    """Attempts started."""
    losses: int = 0
    """Attempts whose worker was lost or preempted, so that the item was handed out again."""
    outcome: Outcome | None = None
    """Of the last attempt that ended."""
    status: ItemStatus = "waiting"

    @property
    def kind(self) -> Kind:
        kind: Kind = self.spec.kind
        return kind

    @property
    def is_final(self) -> bool:
        return self.status in ("finished", "pruned", "failed")


@dataclass(frozen=True, slots=True)
class Asked:
    """One point a study asked for."""

    study: str
    ordinal: int
    uid: str
    params: dict[str, Any]


@dataclass(slots=True)
class SweepState:
    """The fold of all events."""

    name: str = ""
    space_digest: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    items: dict[str, ItemRecord] = field(default_factory=dict)
    asked: dict[str, dict[int, Asked]] = field(default_factory=dict)
    chosen: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    events: int = 0
    asked_twice: int = 0
    """Points whose item had been asked for before, and were answered from the ledger."""
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Unit -> its last choice."""
    openings: set[str] = field(default_factory=set)
    """Units whose test has been opened."""
    _asked_uids: set[str] = field(default_factory=set)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Fold one event in.

        Raises:
            DataError: if this version does not know the event, or it does not fit those before it.
        """
        name = event.get("event")
        if name not in EVENTS:
            raise DataError(
                f"events are {', '.join(EVENTS)}, got {name!r}; read the sweep with the version that wrote it"
            )
        try:
            getattr(self, f"_{name}")(event)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"event '{name}' does not fit those before it: {type(error).__name__} {error}; "
                "restore the file from a copy, nothing was changed"
            ) from error
        self.events += 1

    def _sweep(self, event: Mapping[str, Any]) -> None:
        self.name, self.space_digest = event["name"], event["space_digest"]
        self.header = dict(event["header"])
        self.finished = False

    def _item(self, event: Mapping[str, Any]) -> None:
        spec = _SPEC.validate_python(event["spec"])
        cell = Cell.model_validate(event["cell"]) if event["cell"] else None
        self.items.setdefault(event["uid"], ItemRecord(event["uid"], spec, cell, dict(event["labels"])))
        self.finished = False

    def _asked(self, event: Mapping[str, Any]) -> None:
        point = Asked(event["study"], event["ordinal"], event["uid"], dict(event["params"]))
        self.asked_twice += point.uid in self._asked_uids
        self._asked_uids.add(point.uid)
        self.asked.setdefault(point.study, {})[point.ordinal] = point

    def _started(self, event: Mapping[str, Any]) -> None:
        item = self.items[event["uid"]]
        item.attempt, item.status = event["attempt"], "running"

    def _lost(self, event: Mapping[str, Any]) -> None:
        self.items[event["uid"]].status = "waiting"

    def _result(self, event: Mapping[str, Any]) -> None:
        outcome = Outcome.model_validate(event["outcome"])
        item = self.items[outcome.uid]
        item.outcome = outcome
        item.losses += bool(event["again"])
        item.status = "waiting" if event["again"] else outcome.status

    def _chosen(self, event: Mapping[str, Any]) -> None:
        self.chosen.append({key: value for key, value in event.items() if key != "event"})
        self.choices[event["unit"]] = self.chosen[-1]

    def _opened(self, event: Mapping[str, Any]) -> None:
        self.opened.append({key: value for key, value in event.items() if key != "event"})
        self.openings.add(event["unit"])

    def _finished(self, event: Mapping[str, Any]) -> None:
        self.finished = True


def _sum(event: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(event).encode()).hexdigest()[:8]


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps({**event, "sum": _sum(event)}, allow_nan=False).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or none if the line is damaged."""
    try:
        event = json.loads(line)
        claimed = event.pop("sum")
    except (ValueError, KeyError, AttributeError):
        return None
    return event if claimed == _sum(event) else None


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
    if not paths.ledger.is_file():
        raise ConfigError(f"no sweep in {paths.root}; start one with `chembench sweep`, or give its folder")
    state = SweepState()
    _fold(paths.ledger, state)
    return state


def _fold(path: Path, state: SweepState) -> int:
    """Fold every whole event of the file into ``state``; the offset behind the last one is given back."""
    end = 0
    for number, (offset, event) in enumerate(read_events(path), 1):
        try:
            state.apply(event)
        except DataError as error:
            raise DataError(f"ledger {path}, line {number}: {error}") from error
        end = offset
    return end


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
        self._lock = _take_lock(paths)
        try:
            end = _fold(paths.ledger, self.state) if paths.ledger.is_file() else 0
            self._file = paths.ledger.open("ab")
            self._file.truncate(end)
        except BaseException:
            self._lock.close()
            raise

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event through to the disk, then fold it in."""
        stamped = {**event, "at": round(time.time(), 3)}
        self._file.write(_line(stamped))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.state.apply(stamped)

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


def _take_lock(paths: SweepPaths) -> Any:
    lock = paths.lock.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"sweep {paths.root.name} is driven by another process (pid {holder}); wait for it, or end it and try again"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = (
            f"a sweep needs a folder that can be written, got '{folder}': {error.strerror}; choose another with --out"
        )
        raise ConfigError(text) from error
