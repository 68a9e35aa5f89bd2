"""A finished sweep as one file: what it read, and what came out of every item, curves included.

The first line says what the sweep was; each further line holds one item that has ended, found by its uid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from chembench.config import Spec, canonical_json, mistakes_in
from chembench.errors import Cause, DataError
from chembench.recorded.source import Recording
from chembench.specs import Kind, Status, TaskKind


class TaskRecord(Spec):
    """What is known of a task without its molecules."""

    kind: TaskKind
    targets: tuple[str, ...]
    unit: str
    note: str
    content: str
    """Its digest."""
    rows: int


class SplitRecord(Spec):
    """The digests of a split."""

    task: str
    outer: int = 0
    """Which outer test set."""
    index: int
    data: str
    test_rows: str
    sealed: str
    whole: str
    """Of all its parts."""


class Head(Spec):
    """The first line of an archive."""

    format: Literal["chembench recorded sweep"] = "chembench recorded sweep"
    schema_version: Literal[1] = 1
    sweep: str
    space: dict[str, Any]
    tokenizer: str
    corpus: str | None = None
    labels: str | None = None
    outputs: int = 1
    """Descriptors of the pre-training."""
    tasks: dict[str, TaskRecord]
    splits: tuple[SplitRecord, ...]


class ItemRecord(Spec):
    """What came out of one item."""

    uid: str
    kind: Kind
    status: Status
    cause: Cause | None = None
    message: str = ""
    metrics: dict[str, float] = {}
    objectives: tuple[float, ...] = ()
    facts: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    """What it cost when it was carried out."""
    curve: tuple[dict[str, float], ...] = ()
    """One table of values for each epoch, as ``curves.jsonl`` holds them."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished sweep as it was recorded."""

    head: Head
    items: Mapping[str, ItemRecord]


def archive_bytes(head: Head, items: Iterable[ItemRecord]) -> bytes:
    """An archive as a file holds it; the same sweep gives the same bytes."""
    lines = [head, *sorted(items, key=lambda item: item.uid)]
    return "".join(canonical_json(line.model_dump(mode="json")) + "\n" for line in lines).encode()


def read_archive(recording: Recording) -> Archive:
    """A recorded sweep.

    Raises:
        DataError: naming the file, the line and what does not fit.
    """
    head: Head | None = None
    items: dict[str, ItemRecord] = {}
    for number, line in enumerate(recording.text().splitlines(), 1):
        try:
            if head is None:
                head = Head.model_validate(json.loads(line))
                continue
            item = ItemRecord.model_validate(json.loads(line))
        except (ValueError, RecursionError) as error:
            why = mistakes_in(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(
                f"{recording.name}, line {number}: a recorded sweep is what `chembench replay` keeps of it, this is "
                f"none ({why}); give the sweep itself"
            ) from error
        if item.uid in items:
            raise DataError(f"{recording.name}, line {number}: an item is recorded once, {item.uid} is there twice")
        items[item.uid] = item
    if head is None:
        raise DataError(f"{recording.name}, line 1: a recorded sweep says what it was, the file is empty")
    return Archive(head, items)
