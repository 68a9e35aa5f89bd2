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
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from chembench import __version__
from chembench.config import canonical_json, digest_of, mistakes_in, release_of
from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths
from chembench.specs import Cell, FinetuneSpec, ItemSpec, Kind, Outcome
from chembench.sweep.locking import cannot_write, is_held, require_alone, take_lock

EVENTS = ("sweep", "item", "asked", "started", "lost", "result", "retried", "chosen", "opened", "finished")
"""Every event a ledger may hold."""
ItemStatus = Literal["waiting", "running", "finished", "pruned", "failed"]
_SPEC: TypeAdapter[Any] = TypeAdapter(ItemSpec)


def orphan_message(pretrained: str) -> str:
    """How the message of a trial begins that failed because its pre-training did."""
    return f"its pre-training {pretrained} failed: "


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
    """Attempts whose worker was lost, so that the item was handed out again."""
    memory_fraction: float | None = None
    """Share of a GPU that the last attempt was limited to; none: no limit."""
    outcome: Outcome | None = None
    """Of the last attempt that ended; none again when the item is retried."""
    status: ItemStatus = "waiting"
    superseded: bool = False
    """A confirm run of a recipe that stands no longer: if it waits, it is not run."""

    @property
    def kind(self) -> Kind:
        kind: Kind = self.spec.kind
        return kind

    @property
    def is_final(self) -> bool:
        return self.status in ("finished", "pruned", "failed")

    @property
    def failed_with(self) -> str | None:
        """The pre-training whose failure alone failed it: it was never carried out itself."""
        needed: str | None = getattr(self.spec, "pretrained", None)
        if self.status != "failed" or self.outcome is None or needed is None:
            return None
        return needed if self.outcome.message.startswith(orphan_message(needed)) else None

    @property
    def is_left(self) -> bool:
        """Whether something must still be done about it."""
        return self.status == "running" or (self.status == "waiting" and not self.superseded)


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
    opened: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    events: int = 0
    asked_twice: int = 0
    """Points whose item had been asked for before, and were answered from the ledger."""
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Unit -> its last choice, which always tells its basis."""
    openings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Unit -> (cell, recipe) for which its test has been opened, in that order."""
    _asked_uids: set[str] = field(default_factory=set)
    confirms: dict[str, list[ItemRecord]] = field(default_factory=dict)
    """Unit -> its confirm items, of whatever recipe."""
    rescores: dict[str, list[ItemRecord]] = field(default_factory=dict)
    """Unit -> its rescore items."""
    _standing: dict[str, tuple[Cell | None, FinetuneSpec | None]] = field(default_factory=dict)
    """Unit -> the recipe of its last choice."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Fold one event in.

        Raises:
            DataError: if this version does not know the event, or it does not fit those before it; named is the version
                that wrote the sweep, where that is a later one.
        """
        name = event.get("event")
        if name not in EVENTS:
            raise unreadable(self.header, f"events are {', '.join(EVENTS)}, got {name!r}")
        try:
            getattr(self, f"_{name}")(event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = mistakes_in(error) if isinstance(error, ValidationError) else f"{type(error).__name__} {error}"
            raise unreadable(self.header, f"event '{name}' does not fit those before it: {why}") from error
        self.events += 1

    def basis(self, unit: str, rescored: Mapping[str, float]) -> str:
        """What a choice of ``unit`` is made from now: its trials that have ended, and means of rescored recipes.

        Args:
            unit: the unit, which is called like its study.
            rescored: ordinal of a recipe -> mean objective over the new seeds.
        """
        told = []
        for ordinal, point in sorted(self.asked.get(unit, {}).items()):
            item = self.items[point.uid]
            if item.is_final and item.outcome is not None:
                told.append([ordinal, point.uid, item.outcome.status, item.outcome.metrics.get("objective")])
        return digest_of([told, rescored])

    def _sweep(self, event: Mapping[str, Any]) -> None:
        self.header = dict(event["header"])
        self.name, self.space_digest = event["name"], event["space_digest"]
        self.finished = False

    def _item(self, event: Mapping[str, Any]) -> None:
        self.finished = False
        if event["uid"] in self.items:
            return
        spec = _SPEC.validate_python(event["spec"])
        cell = Cell.model_validate(event["cell"]) if event["cell"] else None
        item = self.items[event["uid"]] = ItemRecord(event["uid"], spec, cell, dict(event["labels"]))
        unit = str(item.labels.get("unit"))
        if item.kind == "rescore":
            self.rescores.setdefault(unit, []).append(item)
        if item.kind == "confirm":
            self.confirms.setdefault(unit, []).append(item)
            self._supersede(unit, item)

    def _asked(self, event: Mapping[str, Any]) -> None:
        point = Asked(event["study"], event["ordinal"], event["uid"], dict(event["params"]))
        self.asked_twice += point.uid in self._asked_uids
        self._asked_uids.add(point.uid)
        self.asked.setdefault(point.study, {})[point.ordinal] = point
        self.finished = False

    def _started(self, event: Mapping[str, Any]) -> None:
        item = self.items[event["uid"]]
        item.attempt, item.status = event["attempt"], "running"
        item.memory_fraction = event.get("memory_fraction")

    def _lost(self, event: Mapping[str, Any]) -> None:
        self.items[event["uid"]].status = "waiting"

    def _result(self, event: Mapping[str, Any]) -> None:
        outcome = Outcome.model_validate(event["outcome"])
        item = self.items[outcome.uid]
        item.outcome = outcome
        item.losses += bool(event["again"]) and outcome.cause == "worker-lost"
        item.status = "waiting" if event["again"] else outcome.status

    def _retried(self, event: Mapping[str, Any]) -> None:
        item = self.items[event["uid"]]
        if item.status != "failed":
            raise ValueError(f"{item.uid} is {item.status}, not failed")
        item.status, item.outcome, item.losses = "waiting", None, 0
        self.finished = False

    def _chosen(self, event: Mapping[str, Any]) -> None:
        unit = event["unit"]
        choice = {key: value for key, value in event.items() if key != "event"}
        if "basis" not in choice:  # written by an earlier version: what the choice was made from stands right before it
            choice["basis"] = self.basis(unit, event.get("rescored", {}))
        self.choices[unit] = choice
        cell = Cell.model_validate(choice["cell"]) if choice["recipe"] else None
        recipe = FinetuneSpec.model_validate(choice["recipe"]) if choice["recipe"] else None
        self._standing[unit] = (cell, recipe)
        for item in self.confirms.get(unit, ()):
            self._supersede(unit, item)
        self.finished = False

    def _supersede(self, unit: str, item: ItemRecord) -> None:
        own = (item.cell, item.spec.finetune)
        item.superseded = self._standing.get(unit, own) != own

    def _opened(self, event: Mapping[str, Any]) -> None:
        self.opened.append({key: value for key, value in event.items() if key != "event"})
        self.openings.setdefault(event["unit"], []).append((event["cell_name"], event["recipe"]))

    def _finished(self, event: Mapping[str, Any]) -> None:
        self.finished = True


def unreadable(header: Mapping[str, Any], what: str) -> DataError:
    """The error for something in a ledger that does not fit: written by a later version, or damaged.

    Args:
        header: the ledger's.
        what: the rule, and what stands there.
    """
    wrote = str(header.get("versions", {}).get("chembench-sweeps", ""))
    if release_of(wrote) > release_of(__version__):
        return DataError(
            f"{what}: chembench {wrote} wrote the sweep, this is {__version__}; "
            f"go on with {wrote} or a later one, nothing was changed"
        )
    return DataError(f"{what}; restore the ledger from a copy, nothing was changed")


def _sum(event: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(event).encode()).hexdigest()[:8]


def line_of(event: Mapping[str, Any]) -> bytes:
    """An event as it stands in a ledger, with its checksum."""
    return json.dumps({**event, "sum": _sum(event)}, allow_nan=False).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or none if the line is damaged."""
    try:
        event = json.loads(line)
        claimed = event.pop("sum")
        return event if claimed == _sum(event) else None
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
