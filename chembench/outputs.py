"""What a sweep leaves for its readers: boards and a report; what hinders them is told and costs the sweep nothing."""

from __future__ import annotations

import shlex
import shutil

from chembench.data.audit import read_audit
from chembench.errors import DiskFullError
from chembench.paths import SweepPaths, as_written, written_whole
from chembench.sweep.inputs import Say
from chembench.sweep.ledger import read_state


def leave_boards(paths: SweepPaths, warn: Say) -> None:
    """Write the boards; where one cannot be written it is said, and the sweep ends as it would have."""
    try:
        write_boards(paths)
    except (DiskFullError, OSError) as error:
        warn(
            f"warning: boards are written to {paths.leaderboards} and {paths.reports}, not all of them could be "
            f"({error}); mend that, then {sync_command(paths)}"
        )


def leave_report(paths: SweepPaths, warn: Say) -> None:
    """Write the report of a finished sweep; whatever hinders that is said, and costs the sweep nothing."""
    from chembench.report.page.write import report_sweep

    state = read_state(paths)
    if not state.finished:
        return
    try:
        report_sweep(state, paths)
    except Exception as error:  # noqa: BLE001 - all work is done and recorded; a drawing must not make it look failed
        told = f"{type(error).__name__}: {error}"
        again = shlex.join(["chembench", "report", str(as_written(paths.root))])
        warn(f"warning: the report is written to {paths.report}, it could not be ({told}); mend that, then {again}")


def sync_command(paths: SweepPaths) -> str:
    return shlex.join(["chembench", "sync", str(as_written(paths.root))])


def write_boards(paths: SweepPaths) -> None:
    """Boards and rows of the sweep as files, in its folder and under ``reports/``, with what made them."""
    from chembench.report import render

    boards = render.boards_from_state(read_state(paths), read_audit(paths))
    render.write_boards(boards, paths.leaderboards)
    render.write_boards(boards, paths.reports)
    for file in (paths.space, paths.environment):
        with written_whole(paths.reports / file.name) as part:
            shutil.copyfile(file, part)
