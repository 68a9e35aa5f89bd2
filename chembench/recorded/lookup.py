"""The backend of a replay: what was recorded is given back in the place of carrying an item out.

Nothing is estimated: an item that the file does not hold fails, and says so. Curves meet the pruner as they did when
they were measured, epoch by epoch, so that another pruner stops a recorded trial where it would have stopped it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from chembench.errors import DataError, RunError
from chembench.recorded.archive import Archive, ItemRecord, read_archive
from chembench.recorded.source import SHORT, key_and_sum, read_recording
from chembench.recorded.table import Row, Table, read_table
from chembench.specs import Status, TrialSpec, Work
from chembench.training.pruning import Judge


@dataclass(frozen=True, slots=True)
class Found:
    """What was recorded of an item."""

    status: Status
    metrics: dict[str, float]
    objectives: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    curve: tuple[dict[str, float], ...] = ()


def look_up(work: Work) -> Found:
    """What was recorded of an item of a replay.

    Args:
        work: an item whose specification says where its result is recorded; ``inputs.recorded`` is the file.

    Raises:
        DataError: if the file is another than the item names, or holds nothing of it.
        RunError: if the item failed when it was recorded; for the same cause.
    """
    assert work.spec.recorded is not None and work.inputs.recorded is not None, "an item of a replay names its record"
    key, short = key_and_sum(work.spec.recorded)
    file = Path(work.inputs.recorded)
    opened, sha256 = _opened(file)
    if sha256[:SHORT] != short:
        raise DataError(
            f"{file} must be the file that the replay began with (SHA-256 {short}), it has {sha256[:SHORT]}; "
            "put the first one back, or replay this one under another --name"
        )
    if isinstance(opened, Table):
        row = opened.rows.get(key)
        if row is None:
            what = f"{key} (cell/task/pre-training seed/split/repeat)"
            raise DataError(_never(what, file, "add it to your table, and replay that under another --name"))
        return _from_row(row, work)
    item = opened.items.get(key)
    if item is None:
        raise DataError(
            _never(
                f"{work.kind} {key}",
                file,
                f"sweep '{opened.head.sweep}' never carried it out: replay it with its own space, sampler and seed",
            )
        )
    return _from_item(item, work)


def _opened(file: Path) -> tuple[Table | Archive, str]:
    try:
        state = file.stat()
    except OSError as error:
        raise DataError(f"the recorded file of a replay must be there, {file} is not; put it back") from error
    return _read(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, size: int, changed: int) -> tuple[Table | Archive, str]:
    """A recorded file, read once by each process.

    Args:
        file: the file.
        size: its bytes.
        changed: when it was changed last; both make a changed file another one.
    """
    recording = read_recording(file)
    return (read_table if recording.form == "csv" else read_archive)(recording), recording.sha256


def _never(what: str, file: Path, way_out: str) -> str:
    return f"a replay gives back what was recorded, {what} is not in {file.name}; {way_out}"


def _from_row(row: Row, work: Work) -> Found:
    """A search trial is told the validation, a confirm run the test too."""
    primary = "roc_auc" if row.metric == "roc_auc" else "rmse"
    metrics = {"objective": row.validation}
    if row.validation_is_score:
        metrics[f"valid/{primary}"] = 1.0 - row.validation if primary == "roc_auc" else row.validation
    else:
        metrics["valid/loss"] = row.validation
    if work.kind == "confirm":
        metrics |= {f"test/{name}": row.test for name in {primary, row.metric}}
    return Found("finished", dict(sorted(metrics.items())))


def _from_item(item: ItemRecord, work: Work) -> Found:
    if item.status == "failed":
        raise RunError(item.message or "it failed when it was recorded", item.cause or "bug")
    epochs = len(item.objectives)
    stop = _stopped_after(item, work)
    if stop is None and item.status == "pruned":
        pruner = work.rungs.pruner if work.rungs else "none"
        raise DataError(
            f"a replay gives back what was recorded, the curve of {item.uid} ends after epoch {epochs}, where it was "
            f"pruned, and pruner '{pruner}' lets it go on; replay with a pruner that stops no later, or record the "
            "sweep with search.pruner=none"
        )
    if stop is None or (item.status == "pruned" and stop == epochs):
        curve = item.curve
        return Found(item.status, item.metrics, item.objectives, item.facts, item.measured, item.message, curve)
    return _cut(item, work, stop)


def _stopped_after(item: ItemRecord, work: Work) -> int | None:
    """The epoch after which the pruner of the replay stops the recorded curve; none if it never does."""
    if work.rungs is None or work.kind != "search":
        return None
    judge = Judge(work.rungs)
    stops = (epoch for epoch, objective in enumerate(item.objectives, 1) if judge.says_stop(objective))
    return next(stops, None)


def _cut(item: ItemRecord, work: Work, epochs: int) -> Found:
    """A recorded trial, stopped earlier than it was: its best epoch so far. What it would have cost is not known."""
    assert work.rungs is not None and isinstance(work.spec, TrialSpec)
    curve = item.curve[:epochs] or tuple({"objective": value} for value in item.objectives[:epochs])
    recipe = work.spec.finetune
    by_loss = recipe.select_by == "loss" or recipe.checkpoints == "every_epoch"
    ranks = [(0.0 if by_loss else line["objective"], line.get("valid/loss", 0.0)) for line in curve]
    best = min(range(epochs), key=lambda index: (ranks[index], index))
    values = {name: value for name, value in curve[best].items() if name != "epoch"}
    return Found(
        status="pruned",
        metrics={**values, "best_epoch": float(best + 1), "epochs": float(epochs)},
        objectives=item.objectives[:epochs],
        facts=item.facts,
        message=f"stopped by pruner '{work.rungs.pruner}' after epoch {epochs}",
        curve=curve,
    )
