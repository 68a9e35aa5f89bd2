"""How a sweep ends before its time: the first signal has running items keep their state, a second one ends it at once.

::

    signal 1 ─> Stopping.request ─> `stop` file of each running attempt ─> it saves its state, ends as preempted
    signal 2, or the end of the grace ─> KeyboardInterrupt in the main thread
"""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chembench.errors import ChembenchError, InterruptedSweepError
from chembench.paths import RunPaths

GRACE_SECONDS = 30.0
"""How long items may take to save their state; the rest is left to the next start."""


def resume_command(sweep_root: Path) -> str:
    """What goes on with a sweep that ended before its time."""
    return shlex.join(["chembench", "resume", str(sweep_root)])


def retry_command(sweep_root: Path) -> str:
    """What lets all failed items of a sweep wait again."""
    return shlex.join(["chembench", "retry", str(sweep_root), "--failed"])


def interrupted(sweep_root: Path) -> InterruptedSweepError:
    """The error for a sweep that somebody ended."""
    return InterruptedSweepError(f"interrupted; what is finished is kept. Go on with: {resume_command(sweep_root)}")


def ask_to_stop(folder: Path) -> None:
    """Have the attempt in ``folder`` keep its state and end; where the disk is full it cannot be told, nor keep any."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        RunPaths(folder).stop.touch()


class Stopping:
    """Whether a sweep is to end before its time, and why."""

    def __init__(self, say: Callable[[str], None] = lambda line: None, grace_seconds: float = GRACE_SECONDS) -> None:
        self.reason: ChembenchError | None = None
        """What the sweep ends with; set once."""
        self._say, self._grace_seconds = say, grace_seconds
        self._stop_items: Callable[[], int] | None = None
        self._items = 0
        self._asked, self._ended = threading.Event(), threading.Event()

    @property
    def requested(self) -> bool:
        """Whether no more work is to be handed out."""
        return self.reason is not None

    def request(self, reason: ChembenchError) -> None:
        """Have the running items keep their state; once they have ended, the sweep ends with ``reason``."""
        if self.reason is None:
            self.reason = reason
            self._items = self._stop_items() if self._stop_items is not None else 0
            self._asked.set()

    @contextmanager
    def while_running(self, stop_items: Callable[[], int]) -> Iterator[None]:
        """Within the block items may run; ``stop_items`` asks each of them to stop and says how many they are."""
        self._stop_items = stop_items
        try:
            yield
        finally:
            self._stop_items = None
            self._ended.set()

    @contextmanager
    def on_signals(self, reason: ChembenchError) -> Iterator[None]:
        """Within the block the first SIGINT or SIGTERM is a request; a second one raises KeyboardInterrupt.

        So does the first one while no items run. A signal that is ignored stays ignored, as SIGINT is under nohup.
        Outside the main thread nothing changes.

        Args:
            reason: what the sweep then ends with.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: object) -> None:
            if self.requested or self._stop_items is None:
                raise KeyboardInterrupt
            self.request(reason)

        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in numbers}
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            self._asked.set()
            watch.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self) -> None:
        """Tell a request, and end it when the grace is over; a handler must not print or start threads itself."""
        self._asked.wait()
        if not self.requested:
            return
        if self._items:
            items = "1 item saves its" if self._items == 1 else f"{self._items} items save their"
            self._say(f"stopping: {items} state (again to stop at once)")
        if not self._ended.wait(self._grace_seconds):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
