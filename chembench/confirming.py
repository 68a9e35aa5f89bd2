"""More head seeds for the recipes that a board singles out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chembench.driver import drive, going_on
from chembench.errors import ConfigError
from chembench.paths import SweepPaths
from chembench.report.choosing import best_units
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.rows import rows_from_state
from chembench.sweep.state import SweepState


def confirm(
    paths: SweepPaths, state: SweepState, wanted: tuple[int, int, Sequence[str]], *, show_progress: bool
) -> list[str]:
    """Raise the head seeds of the best recipes, and go on until the sweep is done; see `chembench.api.Sweep.confirm`.

    Args:
        paths: of the sweep.
        state: of the sweep, which has begun.
        wanted: methods of each task, head seeds of each, and the tasks (none: all).
        show_progress: draw progress on the terminal.

    Returns:
        Units that were to have so many seeds; none, and nothing is begun, if all have them.
    """
    top, seeds, tasks = wanted
    for name, value in (("top", top), ("seeds", seeds)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if "recorded" in state.header:
        raise ConfigError(
            f"more seeds need runs, sweep '{state.name}' is a replay and holds what was recorded alone; "
            "confirm the sweep that it was made from"
        )
    units, base = chosen(state, top, tasks), state.header["confirm"]["head_seeds"]
    if seeds <= base or (state.finished and all(seeds <= state.extensions.get(unit, 0) for unit in units)):
        return []
    drive(going_on(paths, state, show_progress=show_progress), lambda engine: engine.extend(units, seeds))
    return units


def chosen(state: SweepState, top: int, tasks: Collection[str] = ()) -> list[str]:
    """The units of the best lines, by the seeds that all lines have.

    Seeds that a line got by an earlier call are left out: it would not be complete while some of them are missing, and
    a command that was killed would choose others when it is given again.

    Raises:
        ConfigError: if a task has no complete line.
        UnknownNameError: if there is no such task.
    """
    seeds = state.header["confirm"]["head_seeds"]
    rows = [row for row in rows_from_state(state) if row.kind != "confirm" or (row.head_seed or 0) < seeds]
    return best_units(rows, list(leaderboards(rows, design_from_state(state)).values()), top, tasks)
