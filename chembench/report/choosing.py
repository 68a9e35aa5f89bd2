"""Which recipes a board singles out for more replicates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from chembench.errors import ConfigError, UnknownNameError
from chembench.report.board import Leaderboard
from chembench.report.rows import ResultRow


def best_units(
    rows: Iterable[ResultRow], boards: Sequence[Leaderboard], top: int, tasks: Collection[str] = ()
) -> list[str]:
    """The units behind the lines with the best mean test scores of each task; baselines have none.

    Args:
        rows: of the sweep.
        boards: made of them.
        top: lines of each task.
        tasks: of these alone; none: of all.

    Raises:
        ConfigError: if a task has no complete line that is not a baseline.
        UnknownNameError: if there is no such task.
    """
    sections = {section.task: section for board in boards for section in board.sections}
    for task in tasks:
        if task not in sections:
            raise UnknownNameError("task", task, sections)
    studies: dict[tuple[str | None, str], dict[str, None]] = {}  # of nested searches one for each outer fold
    for row in rows:
        if row.kind == "confirm" and not row.superseded and row.study is not None:
            studies.setdefault((row.task, row.method), {})[row.study] = None
    found: list[str] = []
    for task in tasks or sections:
        lines = [entry.method for entry in sections[task].entries if entry.group != "baseline"]
        if not lines:
            raise ConfigError(
                f"only complete lines of a board can be confirmed on more seeds, task '{task}' has none yet; "
                "go on with the sweep"
            )
        found += [study for method in lines[:top] for study in studies[task, method]]
    return found
