"""In what MLflow differs from the ledger; nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chembench.paths import SweepPaths
from chembench.sweep.state import SweepState
from chembench.tracking.border import TrackingError
from chembench.tracking.inventory import Inventory, take_inventory
from chembench.tracking.places import sqlite_file
from chembench.tracking.sent import SentFile
from chembench.tracking.store import open_store, quiet_mlflow
from chembench.tracking.wanted import Wanted

SEND = "sent, closed and sorted out by `chembench sync`"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a store, or noted of it, that is not as the ledger says."""

    found: str
    way_out: str = SEND
    is_mendable: bool = True
    """Sending the sweep anew puts it right."""


def differences(paths: SweepPaths, state: SweepState, tracking_uri: str) -> list[Difference]:
    """Everything that sending the sweep would change, and what it could not; no driver is at work."""
    wanted = Wanted(paths, state, SentFile(paths.sent, tracking_uri), final=True)
    noted = list(_noted(wanted))
    if not wanted.items:
        return noted
    database = sqlite_file(tracking_uri)
    if database is not None and not database.is_file():
        return [*noted, Difference(f"there is no database {database} yet, {len(wanted.items)} runs are not sent")]
    try:
        with quiet_mlflow():
            inventory = take_inventory(open_store(tracking_uri, paths.root.parent), wanted)
    except TrackingError as error:
        return [*noted, Difference(str(error), "not looked at: make the server reachable, or name another", False)]
    return [*noted, *_stored(wanted, inventory)]


def _noted(wanted: Wanted) -> Iterator[Difference]:
    sent = wanted.sent
    if sent.damaged:
        lines = f"{len(sent.damaged)} lines of {wanted.paths.sent.name}, first {sent.damaged[0]}"
        yield Difference(f"{lines}, cannot be read", "the store is asked for every run, and what it holds noted anew")
    if sent.is_empty and sent.others:
        other = min(sent.others)
        yield Difference(f"what was sent is noted for another store, {other}", "this store is asked, and noted anew")


def _stored(wanted: Wanted, inventory: Inventory) -> Iterator[Difference]:
    real = Wanted(wanted.paths, wanted.state, wanted.sent.holding(inventory.known), final=True)
    runs = [*real.items, *real.parents]
    missing = [record for record in runs if real.find(record) is None]
    wrong = [record for record in runs if (seen := real.find(record)) and not real.is_sent(record, seen)]
    if missing:
        yield Difference(f"{len(missing)} runs are missing in MLflow, first {missing[0].uid}")
    if wrong:
        yield Difference(f"{len(wrong)} runs in MLflow are not as the ledger says, first {wrong[0].uid}")
    if unserved := [record for _, record, _ in real.models() if (seen := real.find(record)) and not seen.model]:
        yield Difference(f"{len(unserved)} fitted models are missing in MLflow, first of {unserved[0].uid}")
    if inventory.twice:
        how = "the run that was noted stays, the other goes to MLflow's bin"
        yield Difference(f"{len(inventory.twice)} runs are there twice, first {inventory.twice[0].uid}", how)
    if inventory.dead:
        how = "closed as killed"
        yield Difference(f"{len(inventory.dead)} runs of an earlier sweep in this folder show as running", how)
    if inventory.astray:
        text = f"MLflow keeps files in {inventory.astray[0]}, which is not beside its database; was it moved?"
        yield Difference(text, "not mended: move the database file away, then `chembench sync` fills a new one", False)
