"""What comes out of attempts: how it is read, written down, and when it is no result yet."""

from __future__ import annotations

from pathlib import Path

from chembench.errors import Cause
from chembench.specs import Outcome
from chembench.sweep.packing import ran_short
from chembench.sweep.state import ItemRecord
from chembench.sweep.units import Event

MAX_ATTEMPTS = 3
"""Attempts at an item whose worker was lost; other causes would only repeat.

An attempt that was preempted, or that ended with its driver, is not counted: that was not the item's doing."""

AGAIN: tuple[Cause, ...] = ("worker-lost", "preempted")
"""Causes that say nothing about the item."""


def read_outcome(path: Path) -> Outcome | None:
    """The outcome in a ``result.json``, or none if it is not there or not whole."""
    try:
        return Outcome.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # also text that is no UTF-8, and what is no outcome
        return None


def result_event(outcome: Outcome, again: bool) -> Event:
    """The event that folds in what came out of an attempt."""
    return {"event": "result", "uid": outcome.uid, "again": again, "outcome": outcome.model_dump(mode="json")}


def waits_again(item: ItemRecord, outcome: Outcome) -> bool:
    """Whether an item is handed out once more after ``outcome``."""
    if outcome.status != "failed" or (outcome.cause not in AGAIN and not ran_short(item.memory_fraction, outcome)):
        return False
    return outcome.cause != "worker-lost" or item.losses + 1 < MAX_ATTEMPTS
