"""The moments at which something is killed, drawn from a seed."""

import random
from dataclasses import dataclass

Plan = dict
"""What ``injected/sitecustomize.py`` waits for, without ``id`` and ``victim``."""


def plan(role: str, call: str, path: str, moment: str, nth: int = 1) -> Plan:
    return {"role": role, "call": call, "path": path, "moment": moment, "nth": nth}


MID_ITEM = plan("worker", "open", "*/trials/*/curves.jsonl", "before")
"""A worker that has trained an epoch of an item and has more to do."""

WRITES: dict[str, list[Plan]] = {
    "driver in a ledger write": [
        plan("driver", "fsync", "*/ledger.jsonl", moment) for moment in ("torn", "before", "after")
    ],
    "worker in a result write": [
        plan("worker", "fsync", "*/trials/*/.result.json.*", "torn"),
        plan("worker", "rename", "*/trials/*/result.json", "before"),
        plan("worker", "rename", "*/trials/*/result.json", "after"),
    ],
    "worker in a state write": [
        plan("worker", "fsync", "*/.resume.pt.*", "torn"),
        plan("worker", "rename", "*/resume.pt", "before"),
        plan("worker", "rename", "*/resume.pt", "after"),
    ],
    "worker in a checkpoint write": [
        plan("worker", "rename", "*/pretrained/*/settings.json", "before"),
        plan("worker", "rename", "*/pretrained/????????????", "before"),
        plan("worker", "rename", "*/pretrained/????????????", "after"),
    ],
    "mlflow sender": [plan("mlflow", "open", "*/mlflow.sent.jsonl", "before")],
}
"""Kinds that wait for a call of the process that dies."""

DRIVER, WORKER, NODE, DRIVER_MID_ITEM, WORKER_MID_ITEM = (
    "driver",
    "worker",
    "node",
    "driver in mid-item",
    "worker in mid-item",
)
KINDS = (DRIVER, WORKER, DRIVER_MID_ITEM, WORKER_MID_ITEM, *WRITES)
"""Every kind but `NODE`, which needs a cluster of several nodes."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what dies, and when."""

    kind: str
    after: int
    """Results in the ledger before it is sent, or armed."""
    delay_seconds: float = 0.0
    """From then on, for kills that wait for no call."""
    plan: Plan | None = None
    kills_driver: bool = False
    """The plan is carried out by a worker, on the driver."""


def kill(kind: str, after: int, moments: random.Random) -> Kill:
    """A kill of ``kind`` at a moment drawn from ``moments``."""
    if kind in WRITES:
        return Kill(kind, after, plan={**moments.choice(WRITES[kind]), "nth": moments.randint(1, 2)})
    if kind in (DRIVER_MID_ITEM, WORKER_MID_ITEM):
        mid = {**MID_ITEM, "nth": moments.randint(1, 2)}
        return Kill(kind, after, plan=mid, kills_driver=kind == DRIVER_MID_ITEM)
    return Kill(kind, after, delay_seconds=round(moments.uniform(0.0, 1.5), 3))


def drawn(count: int, results: int, seed: int, *, with_nodes: bool) -> list[Kill]:
    """So many kills of one sweep, spread over its ``results``, every kind in turn; the same for the same seed."""
    moments = random.Random(seed)
    kinds = [*KINDS, NODE] if with_nodes else list(KINDS)
    moments.shuffle(kinds)
    last = max(count, results * 9 // 10)
    places = sorted(moments.sample(range(last), count))
    return [kill(kinds[place % len(kinds)], after, moments) for place, after in enumerate(places)]
