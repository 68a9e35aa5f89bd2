"""What a store really holds of a sweep, whatever was noted: read when the notes cannot be trusted, and by `doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chembench.tracking import spool
from chembench.tracking.places import local_path
from chembench.tracking.sent import Seen
from chembench.tracking.store import Found, Store
from chembench.tracking.wanted import Wanted


@dataclass(slots=True)
class Inventory:
    """The runs of one sweep in one store."""

    known: dict[tuple[str, str], Seen] = field(default_factory=dict)
    """Parent and uid -> the run that counts, as `SentFile` keeps them."""
    twice: list[Found] = field(default_factory=list)
    """Further runs of a uid: a request that was thought lost was carried out late."""
    dead: list[Found] = field(default_factory=list)
    """Runs that show as running, of an earlier sweep whose folder this one has taken over."""
    astray: list[str] = field(default_factory=list)
    """Folders of files that do not lie beside the database: it was moved, and MLflow goes on writing there."""


def take_inventory(store: Store, wanted: Wanted) -> Inventory:
    """Ask the store for every run of the sweep; nothing is changed.

    Raises:
        TrackingError: if MLflow fails.
    """
    inventory = Inventory()
    for group in spool.SCORES:
        there = store.known_experiment(wanted.experiment(group))
        if there is not None:
            experiment, files_at = there
            runs = store.runs(experiment, sweep_id=spool.sweep_id(wanted.paths))
            _add(inventory, store, wanted, group, runs)
            inventory.dead += _dead(store, wanted, experiment, {run.seen.run_id for run in runs})
            place, expected = local_path(files_at), store.files_of(wanted.experiment(group))
            if runs and place and expected and place != expected:
                inventory.astray.append(str(place))
    return inventory


def _add(inventory: Inventory, store: Store, wanted: Wanted, group: spool.Group, runs: list[Found]) -> None:
    noted = wanted.sent.run_ids()
    kept: dict[str, Found] = {}
    for run in sorted(runs, key=lambda run: run.seen.run_id not in noted):  # others link to the one that is noted
        if run.uid in kept:
            inventory.twice.append(run)
        else:
            kept[run.uid] = run
    parent_uid = spool.parent_uid(wanted.state.name, group)
    parent = kept.pop(parent_uid, None)
    if parent is not None:
        records = {record.uid: record for record in [*wanted.items, *wanted.parents] if record.group == group}
        inventory.known["", parent_uid] = _checked(store, parent, records.get(parent_uid))
        for uid, run in kept.items():
            inventory.known[parent.seen.run_id, uid] = _checked(store, run, records.get(uid))


def _checked(store: Store, run: Found, record: spool.RunRecord | None) -> Seen:
    """The run as it counts: without digest if its files are gone, without model if that is gone."""
    folder, seen = local_path(run.artifacts), run.seen
    if folder and record and record.is_over and not all((folder / name).is_file() for name in _names(record)):
        seen = seen.with_(digest="")
    return seen.with_(model="") if seen.model and not store.has_model(seen.model) else seen


def _names(record: spool.RunRecord) -> Iterable[str]:
    yield from (path.name for path in record.artifacts)
    yield from (f"leaderboards/{path.name}" for path in record.boards)


def _dead(store: Store, wanted: Wanted, experiment: str, own: set[str]) -> list[Found]:
    earlier = store.runs(experiment, folder=spool.folder_name(wanted.paths), kind="sweep")
    gone = [run.seen.run_id for run in earlier if run.seen.run_id not in own]
    return [run for parent in gone for run in store.running_below(experiment, parent)]
