"""Which failed items are retried, and which of them go together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chembench.errors import CAUSES, Cause, ConfigError, UnknownNameError
from chembench.sweep.state import ItemRecord, SweepState


def root_of(items: Mapping[str, ItemRecord], item: ItemRecord) -> ItemRecord:
    """The pre-training whose failure failed ``item``, perhaps through others that continue it; else ``item``."""
    while (above := item.failed_with) is not None and above in items:
        item = items[above]
    return item


def with_what_failed_together(failed: Sequence[ItemRecord], chosen: Collection[str]) -> list[ItemRecord]:
    """The chosen ones of failed items, with those whose failure failed them and those that failed because they did."""
    known = {item.uid: item for item in failed}
    roots = {root_of(known, known[uid]).uid for uid in chosen}
    return [item for item in failed if root_of(known, item).uid in roots]


def require_failed(state: SweepState, uids: Collection[str], cause: Cause | None = None) -> None:
    """Refuse to retry what has not failed, or not of ``cause``.

    Raises:
        ConfigError: naming the first of ``uids`` that it holds for, or the cause that there is not.
    """
    if cause is not None and cause not in CAUSES:
        raise UnknownNameError("cause", cause, CAUSES)
    for uid in uids:
        item = state.items.get(uid)
        if item is None or item.status != "failed":
            status = "no item of this sweep" if item is None else item.status
            raise ConfigError(f"only a failed item can be retried, {uid} is {status}; see chembench status")
        own = item.outcome and item.outcome.cause
        if cause not in (None, own):
            raise ConfigError(f"item {uid} failed of {own}, not of {cause}; name the one or leave the other out")
