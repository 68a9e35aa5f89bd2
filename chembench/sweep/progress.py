"""How far a sweep is, from its ledger's state alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from chembench.config import Spec
from chembench.paths import RunPaths, SweepPaths
from chembench.sweep.retrying import root_of
from chembench.sweep.space import ConfirmTable
from chembench.sweep.state import ItemRecord, SweepState

_FRAME = re.compile(r'^ *File "(?:[^"]*/)?(chembench/(?:[a-z_]+/)*[a-z_]+\.py)", line ([0-9]+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Failure:
    """Items that failed alike."""

    cause: str
    message: str
    """Of the first of them."""
    count: int
    """Items that failed so themselves."""
    first: str
    """Uid of the first of them."""
    place: str
    """Its traceback: the file, and the line of chembench that raised; empty if there is none."""
    followers: int
    """Items that were never carried out, because the pre-training they stand on is one of them."""


class SweepStatus(Spec):
    """How far a sweep is, read from its ledger alone."""

    name: str
    counts: dict[str, dict[str, int]]
    """Kind of item -> status -> number."""
    left: int
    """Items known and not in a final state."""
    expected: int
    """Items that the whole sweep will have, as planned."""
    finished: bool
    failures: dict[str, int]
    """Cause -> failed items."""
    first_failure: str
    """Uid and message of the first failed item."""
    outer: str
    """What the outer folds are; empty without them."""
    asked_twice: int
    eta_seconds: float | None
    """From the mean wall time per kind so far; none before the first result."""


def failures_of(state: SweepState, paths: SweepPaths | None = None) -> list[Failure]:
    """What went wrong, the first root cause first; items with equal cause and message are counted together.

    Args:
        state: the sweep's.
        paths: its folder, in which tracebacks are looked for; none: no places are told.
    """
    followers = Counter(root_of(state.items, item).uid for item in state.items.values() if item.failed_with is not None)
    groups: dict[tuple[str, str], list[ItemRecord]] = {}
    for item in state.items.values():
        if item.status == "failed" and item.failed_with is None and item.outcome is not None:
            alike = item.outcome.message.replace(item.uid, "")  # as in the folder of a lost worker
            groups.setdefault((item.outcome.cause or "bug", alike), []).append(item)
    return [
        Failure(
            cause=cause,
            message=group[0].outcome.message if group[0].outcome else "",
            count=len(group),
            first=group[0].uid,
            place=place_of(paths.run(group[0].uid, group[0].attempt)) if paths is not None else "",
            followers=sum(followers[item.uid] for item in group),
        )
        for (cause, _), group in groups.items()
    ]


def place_of(run: RunPaths) -> str:
    """Where the traceback of an attempt lies, with the innermost line of chembench in it; empty if there is none."""
    if not run.error.is_file():
        return ""
    frames = _FRAME.findall(run.error.read_text(errors="replace"))
    return f"{run.error}" + (f" ({frames[-1][0]}:{frames[-1][1]})" if frames else "")


def status_of(state: SweepState) -> SweepStatus:
    """Counts per kind and status, failures by cause, and the time left."""
    counts: dict[str, Counter[str]] = {}
    for item in state.items.values():
        is_over = item.status == "waiting" and not item.is_left
        counts.setdefault(item.kind, Counter())["superseded" if is_over else item.status] += 1
    failed = [item for item in state.items.values() if item.status == "failed"]
    causes = Counter(item.outcome.cause or "bug" for item in failed if item.outcome)
    first = next((f"{failure.first}: {failure.message}" for failure in failures_of(state)), "")
    return SweepStatus(
        name=state.name,
        counts={kind: dict(sorted(by_status.items())) for kind, by_status in sorted(counts.items())},
        left=sum(item.is_left for item in state.items.values()),
        expected=expected_items(state),
        finished=state.finished,
        failures=dict(sorted(causes.items())),
        first_failure=first,
        outer=ConfirmTable.model_validate(state.header.get("confirm", {})).outer_text,
        asked_twice=state.asked_twice,
        eta_seconds=None if state.finished else seconds_left(state),
    )


def expected_items(state: SweepState) -> int:
    """Items the whole sweep will have as planned; never fewer than are known, and those alone at the end."""
    known = _counted(state)
    planned = {} if state.finished else state.header.get("expected", {})
    return sum(max(known[kind], planned.get(kind, 0)) for kind in {*known, *planned})


def _counted(state: SweepState) -> Counter[str]:
    """Items of each kind that have ended or will be carried out."""
    return Counter(item.kind for item in state.items.values() if item.is_final or item.is_left)


def seconds_left(state: SweepState) -> float | None:
    """Mean wall time of each kind so far, times what is left of it, over the workers; none before the first result."""
    spent: dict[str, list[float]] = {}
    for item in state.items.values():
        if item.outcome is not None and "wall_seconds" in item.outcome.measured:
            spent.setdefault(item.kind, []).append(float(item.outcome.measured["wall_seconds"]))
    if not spent:
        return None
    every = [seconds for kind in spent.values() for seconds in kind]
    known = _counted(state)
    final = Counter(item.kind for item in state.items.values() if item.is_final)
    planned = state.header.get("expected", {})
    total = 0.0
    for kind in {*known, *planned}:
        mean = sum(spent.get(kind, every)) / len(spent.get(kind, every))
        total += mean * (max(known[kind], planned.get(kind, 0)) - final[kind])
    return total / max(1, int(state.header.get("workers", 1)))
