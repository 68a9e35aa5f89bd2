"""The process on a node that carries out items one after the other; it imports little, so that it starts quickly."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chembench.errors import DiskFullError, RunError, StorageError
from chembench.specs import Outcome, Work
from chembench.sweep.stopping import ask_to_stop

HOLD_SECONDS = 0.5
"""An idle actor would be ended by Tune and its warm caches lost; a hold item keeps it busy for this long."""

UNWRITTEN = "unwritten"


def trainable() -> Any:
    """The class trainable: one process, many items; imported late, as Ray is."""
    from ray import tune

    class Worker(tune.Trainable):
        """Carries out items one after the other; caches of `run_item` stay warm between them."""

        def setup(self, config: dict[str, Any]) -> None:
            self.item = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.item = new_config
            return True

        def step(self) -> dict[str, Any]:
            return carry_out(self.item)

    return Worker


def carry_out(item: Mapping[str, Any]) -> dict[str, Any]:
    """Run one item in a worker.

    Returns:
        What Tune needs to know, and the outcome where a full disk or a storage keeps it from the attempt's folder.

    Raises:
        RunError: after the result is written, if the process must not be used again (out of memory, NaN, SIGTERM).
    """
    if item["work"] is None:
        time.sleep(HOLD_SECONDS)
        return {"done": True}
    from chembench.transfer import carried_out, not_carried_out
    from chembench.trial import run_item

    told: list[int] = []

    def run(here: Work) -> Outcome:
        with _stopped_by_sigterm(Path(here.folder), told):
            return run_item(here)

    work = Work.model_validate_json(item["work"])
    try:
        outcome = carried_out(work, run)
    except (StorageError, DiskFullError) as error:
        return {"done": True, UNWRITTEN: not_carried_out(work, error).model_dump_json()}
    if outcome.cause in ("oom", "nan") or told:
        raise RunError(outcome.message, outcome.cause or "preempted")
    unwritten = {UNWRITTEN: outcome.model_dump_json()} if outcome.measured.get("disk_full") else {}
    return {"done": True, **unwritten}


@contextlib.contextmanager
def _stopped_by_sigterm(folder: Path, told: list[int]) -> Iterator[None]:
    """Within the block the first SIGTERM has the attempt keep its state; a second one ends the process, as without it.

    Args:
        folder: of the attempt.
        told: takes the signals that came.
    """

    def on_signal(number: int, frame: object) -> None:
        told.append(number)
        signal.signal(signal.SIGTERM, before)
        ask_to_stop(folder)

    before = signal.signal(signal.SIGTERM, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by whoever started Ray
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
