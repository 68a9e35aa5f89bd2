"""One item after the other in this process."""

from __future__ import annotations

from collections.abc import Callable

from chembench.errors import DiskFullError, StorageError
from chembench.specs import Work
from chembench.sweep.plugin import Engine
from chembench.sweep.running import Desk, RunnerOptions, desk
from chembench.transfer import carried_out
from chembench.trial import run_item


def run_serially(engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> None:
    """Drive the sweep to its end in this process.

    Args:
        engine: the sweep.
        options: ignored but for ``stopping``, ``folders`` and ``exchange``; there is one worker.
        on_change: called after every start and end of an item.

    Raises:
        ChembenchError: if the sweep is ended before its time.
    """
    with desk(engine, options, on_change) as at:
        while (work := at.ask()) is not None:
            carry_out(at, work)
        assert at.is_closed, "one item at a time: something is always ready until the sweep is done"


def carry_out(at: Desk, work: Work) -> None:
    """Carry out in this process what was asked for, and tell what came out."""
    try:
        outcome = carried_out(work, run_item)
    except (StorageError, DiskFullError) as error:
        at.leave(work, error)
    else:
        if at.take_in(work):
            at.tell(outcome)
