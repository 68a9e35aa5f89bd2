"""One attempt at an item that trains: it goes on from an earlier one, keeps its state, and stops when it is asked to.

::

    newest(kind, digest)     before anything is trained: the state an earlier attempt left, if one can be read
    border(step, ...)        before each optimiser step: keeps the state when it is time, raises when asked to stop

A state is one file, written whole. Nothing in it is unpickled, and every byte of it is held against its checksum.
"""

from __future__ import annotations

import pickle
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from chembench.errors import DataError, RunError
from chembench.paths import written_whole

FORMAT = 1
EPOCH_SECONDS = 60.0
"""A state is kept at the start of an epoch if the last one is older; a short training never pays for one."""
STEP_SECONDS = 300.0
"""A state is kept before any step if the last one is older."""
TIMES_ITS_COST = 20.0
"""And never sooner than after so many times the seconds that the last one took to write."""
LOOK_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class State:
    """What every state says; each kind of training adds what it needs to go on as if it had not been stopped."""

    digest: str
    """Of the specification it belongs to."""
    step: int
    """Optimiser steps done, over the whole item."""
    seconds: float = 0.0
    """Time spent by all attempts up to here; `Attempt` fills it in."""


S = TypeVar("S", bound=State)


def never() -> bool:
    """Nobody asks to stop."""
    return False


class StopFile:
    """Whether the file exists that asks an item to stop; looks once a second at most, and never takes a yes back."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._looked_at: float | None = None
        self._is_there = False

    def __call__(self) -> bool:
        now = self._clock()
        if not self._is_there and (self._looked_at is None or now - self._looked_at >= LOOK_SECONDS):
            self._is_there, self._looked_at = self._file.exists(), now
        return self._is_there


@dataclass(slots=True)
class Attempt:
    """What a training needs to know of the attempt it is part of."""

    resume: Path | None = None
    """File in which the state is kept; none: it is not."""
    resume_from: Sequence[Path] = ()
    """Such files of this and earlier attempts, the newest first."""
    stop: Callable[[], bool] = never
    measured: dict[str, Any] = field(default_factory=dict)
    """Filled on the way, so that an attempt that fails tells it too: where it went on, what it had to refuse."""
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _kept_at: float = field(init=False)
    _kept_step: int = field(default=0, init=False)
    _kept_in_seconds: float = field(default=0.0, init=False)
    _earlier_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._began = self._kept_at = self.clock()

    def newest(self, kind: type[S], digest: str) -> S | None:
        """The newest state that can be read; those that cannot are named in ``measured`` with the reason."""
        self.measured["resumed_at_step"] = 0
        for file in self.resume_from:
            if not file.is_file():
                continue
            try:
                state = load_state(file, kind, digest)
            except DataError as error:
                told = self.measured.get("refused_state")
                self.measured["refused_state"] = f"{told}; {error}" if told else str(error)
                continue
            self._kept_step = self.measured["resumed_at_step"] = state.step
            self._earlier_seconds = self.measured["earlier_seconds"] = state.seconds
            return state
        return None

    def border(self, step: int, epoch: int, state: Callable[[], State], *, starts_epoch: bool) -> None:
        """Called before each optimiser step.

        Args:
            step: optimiser steps done.
            epoch: the epoch that is going on, counted from 1.
            state: gives what is to be kept.
            starts_epoch: whether no step of this epoch was done.

        Raises:
            RunError: with cause ``preempted``, after the state was kept, if the item is asked to stop.
            DiskFullError: if there is no space for the state.
        """
        if self.stop():
            self._keep(step, state)
            self.measured |= {"stopped_at_step": step, "stopped_in_epoch": epoch}
            raise RunError(
                f"stopped as asked after {step:,} optimiser steps, in epoch {epoch}; the next attempt goes on there",
                "preempted",
            )
        patience = max(EPOCH_SECONDS if starts_epoch else STEP_SECONDS, TIMES_ITS_COST * self._kept_in_seconds)
        if self.clock() - self._kept_at > patience:
            self._keep(step, state)

    @property
    def earlier_seconds(self) -> float:
        """Time that earlier attempts spent on what this one goes on from."""
        return self._earlier_seconds

    def _keep(self, step: int, state: Callable[[], State]) -> None:
        if self.resume is None or step == self._kept_step:  # nothing was done since: what is on disk says it all
            return
        started, kept = self.clock(), state()
        kept.seconds = self._earlier_seconds + started - self._began
        save_state(self.resume, kept)
        self._kept_at, self._kept_step = self.clock(), step
        self._kept_in_seconds = self._kept_at - started


def save_state(file: Path, state: State) -> None:
    """Write ``state`` whole."""
    values = {part.name: getattr(state, part.name) for part in fields(state)}
    # through a file of ours: torch's own writer would hide that the disk is full
    with written_whole(file) as part, part.open("wb") as out:
        torch.save({"format": FORMAT, **values}, out)


def load_state(file: Path, kind: type[S], digest: str) -> S:
    """The state in ``file``, on the CPU, read without unpickling anything but tensors and plain values.

    Raises:
        DataError: if it is damaged, cannot be read so, or belongs to another specification or version.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch itself does not look at the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        values = torch.load(file, map_location="cpu", weights_only=True)
        if values.pop("format") != FORMAT:
            raise ValueError("it was written by another version of chembench")
        state = kind(**values)
    except (OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _refused(file, error) from error
    except (AttributeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise _refused(file, error) from error
    if state.digest != digest:
        raise DataError(f"{file} must belong to item {digest}, it belongs to {state.digest}; delete it")
    return state


def _refused(file: Path, error: Exception) -> DataError:
    first_line = str(error).strip().partition("\n")[0]
    return DataError(f"{file} must be the state of a stopped item ({first_line}); delete it")
