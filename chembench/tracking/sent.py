"""What was already sent, remembered beside the ledger: a hint that saves questions. Without it MLflow is asked."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from chembench.paths import append_line


@dataclass(frozen=True, slots=True)
class Seen:
    """How far one run in MLflow has come."""

    run_id: str
    attempt: int
    status: str
    epoch: int = -1
    """Last epoch of this attempt that was sent."""
    extras: str = ""
    """Digest of the boards (parents), place of the served model (winners)."""
    is_whole: bool = True
    """False: found by asking MLflow, so that how much of it was sent is not known."""

    def with_(self, **changes: Any) -> Seen:
        return replace(self, **changes)


class SentFile:
    """``mlflow.sent.jsonl``: one line per step forward, the last one of each uid counts.

    A line counts only for the store and the parent run it was written under: after a change of tracking URI, or in a
    new database, nothing counts as sent.
    """

    def __init__(self, path: Path, tracking_uri: str) -> None:
        self._path = path
        self._uri = tracking_uri
        self._known: dict[tuple[str, str], Seen] = {}
        for line in _whole_lines(path):
            if line.pop("uri") == tracking_uri:
                key = (line.pop("parent"), line.pop("uid"))
                self._known[key] = Seen(**line)

    def find(self, parent: str, uid: str) -> Seen | None:
        """How far ``uid`` was sent below the run ``parent``; ``""`` is above the parents themselves."""
        return self._known.get((parent, uid))

    def add(self, parent: str, uid: str, seen: Seen) -> None:
        """Remember a step; it was carried out before."""
        self._known[parent, uid] = seen
        fields = {key: value for key, value in asdict(seen).items() if key != "is_whole"}
        append_line(self._path, {"uri": self._uri, "parent": parent, "uid": uid, **fields})

    def count_sent(self, wanted: Mapping[str, tuple[int, str]]) -> int:
        """How many of ``wanted`` (uid to attempt and status) are noted as sent, under whatever parent."""
        last = {uid: (seen.attempt, seen.status) for (_, uid), seen in self._known.items()}
        return sum(last.get(uid) == state for uid, state in wanted.items())


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that can be read; a torn or foreign one is worth nothing, as the file is a hint."""
    if not path.is_file():
        return
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"uri", "parent", "uid", "run_id", "attempt", "status"} <= line.keys():
            yield line


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
