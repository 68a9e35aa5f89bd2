"""What a person sees while a sweep runs: one line per preparation step, then a bar with the time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chembench.sweep.ledger import SweepState

LINE_EVERY_SECONDS = 30.0
"""Without a terminal: one line this often, and at the end."""


class View:
    """Progress on standard error; a bar on a terminal, a line now and then elsewhere, nothing when not ``shown``."""

    def __init__(self, shown: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=not shown, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._state: SweepState | None = None
        self._last_line = 0.0

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self.refresh()
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        if line:
            (self._bar.console if self._bar is not None else self._console).print(line, markup=False)

    def watch(self, state: SweepState) -> None:
        """Show this state from now on."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._state = state
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, left="")
        self.refresh()

    def refresh(self) -> None:
        """Draw the state again."""
        if self._state is None:
            return
        line, done, total, left = describe(self._state)
        if self._bar is not None:
            self._bar.update(self._task, description=line, completed=done, total=total, left=left)
        elif time.monotonic() - self._last_line > LINE_EVERY_SECONDS or self._state.finished:
            self._last_line = time.monotonic()
            self._console.print(f"{done}/{total} items, {left}: {line}", markup=False)


def describe(state: SweepState) -> tuple[str, int, int, str]:
    """What runs now, items done, items in all, and the time left in words."""
    from chembench.sweep.progress import expected_items, seconds_left

    running = sorted(
        f"{item.kind} {item.cell.name if item.cell else item.spec.baseline}"
        for item in state.items.values()
        if item.status == "running"
    )
    done = sum(item.is_final for item in state.items.values())
    seconds = None if state.finished else seconds_left(state)
    left = "done" if state.finished else "time left unknown" if seconds is None else f"about {_words(seconds)} left"
    return ", ".join(running) or "waiting", done, expected_items(state), left


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
