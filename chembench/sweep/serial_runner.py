"""One item after the other in this process."""

from __future__ import annotations

from collections.abc import Callable

from chembench.sweep.plugin import Engine
from chembench.sweep.running import RunnerOptions
from chembench.trial import run_item


def run_serially(engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> None:
    """Drive the sweep to its end in this process.

    Args:
        engine: the sweep.
        options: ignored but for ``stop``; there is one worker.
        on_change: called after every start and end of an item.
    """
    while not engine.done and not options.stop():
        work = engine.ask()
        assert work is not None, "one item at a time: something is always ready until the sweep is done"
        on_change()
        engine.tell(run_item(work))
        on_change()
