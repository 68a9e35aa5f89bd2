"""What a person sees while a sweep runs: one line per preparation step, then a bar with the time left.

On a terminal the bar moves by itself; elsewhere a line is printed every half minute, also while one item takes long.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chembench.sweep.state import SweepState

LINE_EVERY_SECONDS = 30.0
"""Without a terminal: one line this often, and at the end."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a sweep stood at one moment; drawn from another thread, which must not read the state itself."""

    running: str
    done: int
    total: int
    seconds_left: float | None
    is_finished: bool
    at: float
    """On the monotonic clock."""

    @property
    def left(self) -> str:
        """The time left in words, less what has passed since."""
        if self.is_finished:
            return "done"
        if self.seconds_left is None:
            return "time left unknown"
        return f"about {_words(self.seconds_left - (time.monotonic() - self.at))} left"

    @property
    def line(self) -> str:
        return f"{self.done}/{self.total} items, {self.left}" + ("" if self.is_finished else f": {self.running}")


class View:
    """Progress on standard error; a bar on a terminal, a line now and then elsewhere, nothing when not ``shown``."""

    def __init__(self, shown: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=not shown, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._state: SweepState | None = None
        self._now: Shown | None = None
        self._printed = ""
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print one line above the bar, also when nothing else is shown."""
        was_quiet, self._console.quiet = self._console.quiet, False
        try:
            self.say(line)
        finally:
            self._console.quiet = was_quiet

    def watch(self, state: SweepState) -> None:
        """Show this state from now on."""
        self._state = state
        if self._console.is_terminal and not self._console.quiet:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task("", total=None, left="")
        self.refresh()
        if self._bar is None:
            self._print_line()
        else:
            self._bar.start()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def refresh(self) -> None:
        """Take the state up as it is now, and draw it."""
        if self._state is None:
            return
        self._now = describe(self._state)
        self._draw()
        if self._now.is_finished:
            self.end()

    def end(self) -> None:
        """Print where the sweep stands, once nothing runs any more."""
        self._ended.set()
        if self._bar is None and self._now is not None and self._now.line != self._printed:
            self._print_line()

    def _draw(self) -> None:
        if self._bar is not None and self._now is not None:
            now = self._now
            running = "" if now.is_finished else now.running
            self._bar.update(self._task, description=running, completed=now.done, total=now.total, left=now.left)

    def _tick(self) -> None:
        while not self._ended.wait(1.0 if self._bar is not None else LINE_EVERY_SECONDS):
            if self._bar is not None:
                self._draw()
            else:
                self._print_line()

    def _print_line(self) -> None:
        assert self._now is not None, "a state is watched"
        self._printed = self._now.line
        self._console.print(self._printed, markup=False, soft_wrap=True)


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        expand=True,
    )


def describe(state: SweepState) -> Shown:
    """What runs now, items done, items in all, and the time left."""
    from chembench.sweep.progress import expected_items, seconds_left

    running = sorted(
        " ".join((item.kind, item.cell.name if item.cell else item.spec.baseline, str(item.labels.get("task", ""))))
        for item in state.items.values()
        if item.status == "running"
    )
    return Shown(
        running=", ".join(name.strip() for name in running) or "nothing runs",
        done=sum(item.is_final for item in state.items.values()),
        total=expected_items(state),
        seconds_left=None if state.finished else seconds_left(state),
        is_finished=state.finished,
        at=time.monotonic(),
    )


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
