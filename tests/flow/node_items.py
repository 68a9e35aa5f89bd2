"""Items for workers in tests: they obey files in a folder, so that a test knows what runs where and when it ends.

A worker that Ray starts with ``__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR=node_items.install`` carries out these.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chembench import trial
from chembench.paths import RunPaths, write_json
from chembench.specs import Kind, Outcome, Work

CONTROL = "CHEMBENCH_TEST_CONTROL"
PATIENCE_SECONDS = 120.0
"""Longest wait of a test, and of an item for it; machines are loaded."""


REAL = trial.run_item


def install() -> None:
    """Called in each worker as it starts."""
    trial.run_item = run_item


@dataclass(frozen=True)
class Control:
    """The folder of one test."""

    folder: Path

    @property
    def real(self) -> Path:
        """While this file is there, items are what they are elsewhere; they tell their pid all the same."""
        return self.folder / "real"

    def hold(self, uid: str, attempt: int = 1) -> None:
        """This attempt goes on when it is told to, or to stop."""
        (self.folder / f"{uid}.{attempt}.held").touch()

    def let_go(self, uid: str, attempt: int = 1) -> None:
        (self.folder / f"{uid}.{attempt}.held").unlink()

    def is_held(self, uid: str, attempt: int) -> bool:
        return (self.folder / f"{uid}.{attempt}.held").exists()

    def began(self, uid: str, attempt: int) -> Path:
        """Holds the pid of the worker once the attempt has begun."""
        return self.folder / f"{uid}.{attempt}.pid"

    def pid(self, uid: str, attempt: int = 1) -> int:
        """The worker of an attempt, as soon as it has begun."""
        wait_until(self.began(uid, attempt).exists)
        return int(self.began(uid, attempt).read_text())


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"{holds} does not hold after {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.02)


def run_item(work: Work) -> Outcome:
    """An item that does nothing."""
    control, paths = Control(Path(os.environ[CONTROL])), RunPaths(Path(work.folder))
    paths.root.mkdir(parents=True, exist_ok=True)
    part = control.folder / f".{os.getpid()}"
    part.write_text(str(os.getpid()))
    part.rename(control.began(work.uid, work.attempt))
    if control.real.exists():
        return run_real_item(work)
    wait_until(lambda: not control.is_held(work.uid, work.attempt) or paths.stop.exists())
    outcome = finished(work.uid, work.attempt, work.kind)
    if paths.stop.exists():
        outcome = outcome.model_copy(update={"status": "failed", "cause": "preempted", "metrics": {}})
    elif work.kind == "pretrain":
        Path(work.inputs.checkpoint).mkdir(parents=True, exist_ok=True)
    write_json(paths.result, outcome.model_dump(mode="json"))
    return outcome


def run_real_item(work: Work) -> Outcome:
    """What it is elsewhere, but that its state is kept after each epoch."""
    from chembench.training import attempt

    attempt.EPOCH_SECONDS = attempt.TIMES_ITS_COST = 0.0
    return REAL(work)


def finished(uid: str, attempt: int, kind: Kind) -> Outcome:
    """What comes out of an attempt; its objective is its number."""
    metrics = {"objective": float(attempt)}
    return Outcome(uid=uid, attempt=attempt, kind=kind, status="finished", metrics=metrics)
