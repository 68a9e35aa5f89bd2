"""What was already sent, remembered beside the ledger: a hint that saves questions. Without it MLflow is asked."""

from __future__ import annotations

import copy
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from chembench.appended import append_line
from chembench.paths import written_whole


@dataclass(frozen=True, slots=True)
class Seen:
    """How far one run in MLflow has come."""

    run_id: str
    attempt: int = 0
    status: str = "unknown"
    """As chembench names it; ``unknown`` where MLflow's own status and our tag disagree."""
    digest: str = ""
    """Of the record as it was sent last; empty where that is not known, and nothing equals it."""
    epoch: int | None = None
    """Last epoch of this attempt that was sent; none where it must be asked."""
    earlier: int = -1
    """Last epoch that an earlier attempt may have sent; up to it MLflow is asked what it has."""
    model: str = ""
    """Place of the served model, of winners."""

    def with_(self, **changes: Any) -> Seen:
        return replace(self, **changes)


_SEEN: TypeAdapter[Seen] = TypeAdapter(Seen)


class SentFile:
    """``mlflow.sent.jsonl``: one line per step forward, the last one of each uid counts.

    A line counts only for the store and the parent run it was written under: after a change of tracking URI, or in a
    new database, nothing counts as sent. The process that sends writes a mark when every question it asked was
    answered; without that mark at the end, a request may have been carried out that nobody noted.
    """

    def __init__(self, path: Path, tracking_uri: str) -> None:
        self._path = path
        self._uri = tracking_uri
        self._known: dict[tuple[str, str], Seen] = {}
        self.others: set[str] = set()
        """Other stores that lines were written for."""
        self.damaged: list[int] = []
        """Numbers of the lines that cannot be read; they are passed over."""
        self._marked = False
        for number, line in enumerate(_lines(path), 1):
            self._fold(number, line)

    def _fold(self, number: int, line: dict[str, Any] | None) -> None:
        if line is None or not isinstance(line.get("uri"), str):
            self.damaged.append(number)
        elif line["uri"] != self._uri:
            self.others.add(line["uri"])
        elif line.get("answered") is True:
            self._marked = True
        else:
            self._marked = False
            try:
                seen = _SEEN.validate_python({key: line[key] for key in line.keys() & set(Seen.__slots__)})
                self._known[str(line["parent"]), str(line["uid"])] = seen
            except (ValidationError, KeyError):
                self.damaged.append(number)

    @property
    def is_whole(self) -> bool:
        """Whether everything that was sent is noted here, so that MLflow need not be asked."""
        return self._marked and not self.damaged

    def find(self, parent: str, uid: str) -> Seen | None:
        """How far ``uid`` was sent below the run ``parent``; ``""`` is above the parents themselves."""
        return self._known.get((parent, uid))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is noted for this store."""
        return not self._known

    def holding(self, known: Mapping[tuple[str, str], Seen]) -> SentFile:
        """The same file as if ``known`` were noted; it is not written."""
        other = copy.copy(self)
        other._known = dict(known)
        return other

    def run_ids(self) -> frozenset[str]:
        """Every run that is noted for this store."""
        return frozenset(seen.run_id for seen in self._known.values())

    def add(self, parent: str, uid: str, seen: Seen) -> None:
        """Remember a step; it was carried out before."""
        self._known[parent, uid] = seen
        self._marked = False
        append_line(self._path, {"uri": self._uri, "parent": parent, "uid": uid, **asdict(seen)})

    def mark(self) -> None:
        """Note that nothing was asked whose answer did not come."""
        if not self._marked:
            self._marked = True
            append_line(self._path, {"uri": self._uri, "answered": True})

    def replace(self, known: Mapping[tuple[str, str], Seen]) -> None:
        """Forget what was noted for this store, and note ``known``; damaged lines go, lines of other stores stay."""
        foreign = [line for line in _lines(self._path) if line and line.get("uri") in self.others]
        own = [{"uri": self._uri, "parent": p, "uid": uid, **asdict(seen)} for (p, uid), seen in known.items()]
        with written_whole(self._path) as part:
            part.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in [*foreign, *own]))
        self._known, self.damaged, self._marked = dict(known), [], False


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Each line, none for one that is no table."""
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        yield line if isinstance(line, dict) else None


@contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """True inside, if no other process holds ``path``: two uploaders would both find nothing and create twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process is inside for ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
