"""Everything chembench raises on purpose.

::

    ChembenchError              exit code 1
    ├── ConfigError             2: what the user wrote cannot be carried out
    │   └── UnknownNameError    2: a name that no table holds
    ├── DataError               1: a file is missing, malformed or too small
    ├── RunError                1: an item failed; carries a cause code
    ├── InterruptedSweepError   4: somebody ended the sweep; what is finished is kept, and it can go on
    ├── DiskFullError           4: no space is left; what is finished is kept, and the sweep can go on
    └── StorageError            4: the storage of a sweep fails; what is finished is kept, and the sweep can go on

Each text gives the rule, the value and the way out, in one sentence, lower case.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

Cause = Literal["oom", "nan", "preempted", "worker-lost", "data", "bug"]
"""Why an item failed, as a code that ``retry --cause`` and the boards use."""

CAUSES: tuple[Cause, ...] = get_args(Cause)


class ChembenchError(Exception):
    """Base of every error a user can cause or meet."""

    exit_code = 1


class ConfigError(ChembenchError):
    """A space, an option or a specification is wrong.

    Args:
        problems: one sentence, or several that were found in one file.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UnknownNameError(ConfigError):
    """A name that no table holds; the nearest known one is suggested."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        super().__init__(f"unknown {kind} '{name}'. {hint}Known: {', '.join(self.known)}.")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        """It crosses process borders."""
        return type(self), (self.kind, self.name, self.known)


class DataError(ChembenchError):
    """A corpus, task or split cannot be used as it is."""


class RunError(ChembenchError):
    """An item could not be finished; ``cause`` says why in one word."""

    def __init__(self, message: str, cause: Cause = "bug") -> None:
        self.cause: Cause = cause
        super().__init__(message)


class InterruptedSweepError(ChembenchError):
    """A sweep was ended by a signal; what is finished is kept, and it can go on."""

    exit_code = 4


class DiskFullError(ChembenchError):
    """A file could not be written because no space is left; nothing was left half-written."""

    exit_code = 4


class StorageError(ChembenchError):
    """What lies behind ``--storage`` could not be read or written; nothing was left half-written."""

    exit_code = 4
