"""What was spent to get a line of a board: every item counts, not the winner alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from chembench.report.rows import ResultRow
from chembench.statistics.estimates import Value


class Spent(Value):
    """Epochs and device-hours of one method on one task; a final attempt counts, earlier ones do not."""

    items: int
    epochs: float | None = None
    """Fine-tuning epochs of search, rescore and confirm items, pruned ones included; a failed item tells none."""
    device_hours: float | None = None
    pretrain_device_hours: float | None = None
    """Of the checkpoints these items started from, and of the smaller scales that those continue; shared with every
    other task that uses them."""

    @property
    def total_device_hours(self) -> float | None:
        """Fine-tuning and pre-training together; none where either was not measured."""
        return total((self.device_hours, self.pretrain_device_hours))


def spent_on(
    method: str, rows: Sequence[ResultRow], task_rows: Iterable[ResultRow], pretrainings: Mapping[str, ResultRow]
) -> Spent:
    """Sums over the items of a method on a task: its own, and all of the study that found its recipe.

    Args:
        method: cell or baseline.
        rows: its confirm or baseline rows.
        task_rows: all rows of the task.
        pretrainings: pre-training rows by uid.
    """
    studies = {row.study for row in rows if row.study is not None}
    items = [row for row in task_rows if row.method == method or row.study in studies]
    checkpoints = with_trunks((row.pretrain_uid for row in items), pretrainings)
    return Spent(
        items=len(items),
        epochs=total(row.epochs for row in items),
        device_hours=total(row.device_hours for row in items),
        pretrain_device_hours=total(pretrainings[uid].device_hours for uid in checkpoints),
    )


def with_trunks(uids: Iterable[str | None], pretrainings: Mapping[str, ResultRow]) -> list[str]:
    """Some pre-trainings and every one that they continue, as far as there are rows of them."""
    found: set[str] = set()
    for uid in uids:
        while uid is not None and uid in pretrainings and uid not in found:
            found.add(uid)
            uid = pretrainings[uid].continues
    return sorted(found)


def total(values: Iterable[float | None]) -> float | None:
    """Sum of the values that are known; none if none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
