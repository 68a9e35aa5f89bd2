"""How far a sweep is, from its ledger's state alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chembench.sweep.ledger import SweepState


def status_of(state: SweepState) -> dict[str, Any]:
    """Counts per kind and status, failures by cause, and the time left (fields of `chembench.api.SweepStatus`)."""
    counts: dict[str, Counter[str]] = {}
    for item in state.items.values():
        counts.setdefault(item.kind, Counter())[item.status] += 1
    failed = [item for item in state.items.values() if item.status == "failed"]
    causes = Counter(item.outcome.cause or "bug" for item in failed if item.outcome)
    first = next((f"{item.uid}: {item.outcome.message}" for item in failed if item.outcome), "")
    return {
        "name": state.name,
        "counts": {kind: dict(sorted(by_status.items())) for kind, by_status in sorted(counts.items())},
        "left": sum(not item.is_final for item in state.items.values()),
        "expected": expected_items(state),
        "finished": state.finished,
        "failures": dict(sorted(causes.items())),
        "first_failure": first,
        "asked_twice": state.asked_twice,
        "eta_seconds": None if state.finished else seconds_left(state),
    }


def expected_items(state: SweepState) -> int:
    """Items the whole sweep will have as planned; never fewer than are known, and those alone at the end."""
    known = Counter(item.kind for item in state.items.values())
    planned = {} if state.finished else state.header.get("expected", {})
    return sum(max(known[kind], planned.get(kind, 0)) for kind in {*known, *planned})


def seconds_left(state: SweepState) -> float | None:
    """Mean wall time of each kind so far, times what is left of it, over the workers; none before the first result."""
    spent: dict[str, list[float]] = {}
    for item in state.items.values():
        if item.outcome is not None and "wall_seconds" in item.outcome.measured:
            spent.setdefault(item.kind, []).append(float(item.outcome.measured["wall_seconds"]))
    if not spent:
        return None
    every = [seconds for kind in spent.values() for seconds in kind]
    known = Counter(item.kind for item in state.items.values())
    final = Counter(item.kind for item in state.items.values() if item.is_final)
    planned = state.header.get("expected", {})
    total = 0.0
    for kind in {*known, *planned}:
        mean = sum(spent.get(kind, every)) / len(spent.get(kind, every))
        total += mean * (max(known[kind], planned.get(kind, 0)) - final[kind])
    return total / max(1, int(state.header.get("workers", 1)))
