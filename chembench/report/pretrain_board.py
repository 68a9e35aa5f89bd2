"""The pre-training board: validation loss on the validation molecules that all scales share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from chembench.report.lines import states_in_words
from chembench.report.rows import ResultRow
from chembench.report.spent import total, with_trunks
from chembench.statistics.estimates import Estimate, Value, estimate

METRIC = "valid_loss"


class PretrainEntry(Value):
    """One architecture, size and scale; all its pre-training seeds finished."""

    method: str
    architecture: str | None
    size: str | None
    molecules: int | None
    settings: dict[str, str | bool | int | float] = {}
    loss: Estimate
    """Validation loss on standardised labels, mean over pre-training seeds."""
    parameters: int | None = None
    epochs: float | None = None
    """Of each pre-training."""
    molecules_seen: int | None = None
    """Molecules that one pre-training was shown itself."""
    continues: str | None = None
    """The smaller scale that it continues."""
    molecules_shared: int | None = None
    """Molecules of its trunk, which the smaller scales were shown."""
    pretrain_flops: float | None = None
    """Estimated operations of one pre-training, those of its trunk counted in."""
    device_hours: float | None = None
    """Of all pre-training seeds together."""
    trunk_device_hours: float | None = None
    """Of the smaller scales that these continue, their decays counted in."""


class PretrainIncomplete(Value):
    """A pre-training that has no validation loss for every seed, and why."""

    method: str
    done: int
    expected: int
    reason: str


class PretrainBoard(Value):
    """Every model that the sweep pre-trained, lowest validation loss first."""

    schema_version: Literal[1] = 1
    sweep: str
    space_digest: str
    entries: tuple[PretrainEntry, ...]
    incomplete: tuple[PretrainIncomplete, ...]

    @property
    def name(self) -> str:
        return "pretraining"


def pretrain_board(rows: Iterable[ResultRow], sweep: str, space_digest: str = "") -> PretrainBoard:
    """The board of all pre-training rows, in any order."""
    groups: dict[tuple[object, ...], list[ResultRow]] = {}
    rows = list(rows)
    known = {row.uid: row for row in rows if row.kind == "pretrain"}
    for row in sorted(rows, key=lambda row: row.uid):
        if row.kind == "pretrain":
            key = (row.architecture, row.size, row.molecules, tuple(sorted(row.settings.items())), row.data)
            groups.setdefault(key, []).append(row)
    whole = [group for group in groups.values() if all(_is_whole(row) for row in group)]
    partial = [group for group in groups.values() if not all(_is_whole(row) for row in group)]
    entries = [_entry(group, known) for group in whole]
    return PretrainBoard(
        sweep=sweep,
        space_digest=space_digest,
        entries=tuple(sorted(entries, key=lambda entry: (entry.loss.mean, entry.method))),
        incomplete=tuple(sorted(map(_incomplete, partial), key=lambda line: line.method)),
    )


def pretrain_name(row: ResultRow) -> str:
    """What the line of a pre-training is called."""
    base = f"{row.architecture}-{row.size}-{row.molecules}" if row.size else row.method
    return "+".join([base, *(f"{key.split('.')[-1]}={value}" for key, value in sorted(row.settings.items()))])


def _is_whole(row: ResultRow) -> bool:
    return row.status == "finished" and METRIC in row.metrics


def _entry(group: Sequence[ResultRow], known: Mapping[str, ResultRow]) -> PretrainEntry:
    first = group[0]
    below = with_trunks((row.continues for row in group), known)
    return PretrainEntry(
        method=pretrain_name(first),
        architecture=first.architecture,
        size=first.size,
        molecules=first.molecules,
        settings=first.settings,
        loss=estimate(sorted(row.metrics[METRIC] for row in group)),
        parameters=first.parameters,
        epochs=first.epochs,
        molecules_seen=first.molecules_seen,
        continues=pretrain_name(known[first.continues]) if first.continues and first.continues in known else None,
        molecules_shared=first.molecules_shared,
        pretrain_flops=first.pretrain_flops,
        device_hours=total(row.device_hours for row in group),
        trunk_device_hours=total(known[uid].device_hours for uid in below),
    )


def _incomplete(group: Sequence[ResultRow]) -> PretrainIncomplete:
    return PretrainIncomplete(
        method=pretrain_name(group[0]),
        done=sum(_is_whole(row) for row in group),
        expected=len(group),
        reason=states_in_words(group),
    )
