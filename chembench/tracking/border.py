"""Where MLflow and Optuna end: whatever they raise is one error here, and tracking never fails a sweep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from chembench.errors import ChembenchError

Args = ParamSpec("Args")
Result = TypeVar("Result")


class TrackingError(ChembenchError):
    """A tracker cannot be reached or refused something; never raised out of `chembench.tracking` and `upkeep`."""


def border(tracker: str) -> Callable[[Callable[Args, Result]], Callable[Args, Result]]:
    """For functions that call ``tracker``: all their failures are `TrackingError`.

    Stores, plugins and their drivers raise whatever they like, and tracking must not fail a sweep.
    """

    def decorate(call: Callable[Args, Result]) -> Callable[Args, Result]:
        @functools.wraps(call)
        def checked(*args: Args.args, **kwargs: Args.kwargs) -> Result:
            try:
                return call(*args, **kwargs)
            except TrackingError:
                raise
            except ChembenchError as error:
                raise TrackingError(str(error)) from error
            except Exception as error:
                lines = str(error).strip().splitlines()
                told = lines[0][:300] if lines else "no reason"
                kind = type(error).__name__
                raise TrackingError(f"{tracker} failed in '{call.__name__}' with {kind}: {told}") from error

        return checked

    return decorate
