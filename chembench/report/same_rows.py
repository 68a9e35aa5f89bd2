"""Scores stand on one board only if they come from the same division of the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from chembench.errors import DataError
from chembench.report.rows import ResultRow


def require_same_rows(rows: Iterable[ResultRow]) -> None:
    """Refuse to compare scores on different molecules.

    Args:
        rows: of one board; search trials and rows that tell no digest are not looked at.

    Raises:
        DataError: naming the first two runs of one task, split and outer test set that were trained on different rows.
    """
    first: dict[tuple[str | None, int | None, int | None], ResultRow] = {}
    for row in rows:
        if row.kind not in ("confirm", "baseline") or row.data is None:
            continue
        other = first.setdefault((row.task, row.split, row.outer), row)
        if other.data != row.data:
            place = f"split {row.split}" + (f", outer test set {row.outer}" if row.outer else "")
            raise DataError(
                f"lines of one board are fitted to the same rows, on {row.task} ({place}) {other.method} has "
                f"{other.data} ({other.uid}) and {row.method} has {row.data} ({row.uid}); leave the rows of one out"
            )
