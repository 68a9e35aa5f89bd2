"""The state of a sweep: what the events of its ledger add up to, and what it knows of each item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from chembench import __version__
from chembench.config import digest_of, mistakes_in, release_of
from chembench.errors import DataError
from chembench.specs import Cell, FinetuneSpec, ItemSpec, Kind, Outcome

EVENTS = (
    "sweep",
    "item",
    "asked",
    "started",
    "lost",
    "result",
    "retried",
    "chosen",
    "opened",
    "extended",
    "finished",
)
"""Every event a ledger may hold."""
ItemStatus = Literal["waiting", "running", "finished", "pruned", "failed"]
_SPEC: TypeAdapter[Any] = TypeAdapter(ItemSpec)


def orphan_message(pretrained: str, kind: Kind = "search") -> str:
    """How the message of an item begins that failed because the pre-training it starts from did."""
    if kind == "pretrain":
        return f"the pre-training {pretrained} that it continues failed: "
    return f"its pre-training {pretrained} failed: "


@dataclass(slots=True)
class ItemRecord:
    """What the ledger knows of one item."""

    uid: str
    spec: Any
    cell: Cell | None
    labels: dict[str, Any]
    attempt: int = 0
    """Attempts started."""
    losses: int = 0
    """Attempts whose worker was lost, so that the item was handed out again."""
    memory_fraction: float | None = None
    """Share of a GPU that the last attempt was limited to; none: no limit."""
    outcome: Outcome | None = None
    """Of the last attempt that ended; none again when the item is retried."""
    status: ItemStatus = "waiting"
    superseded: bool = False
    """A confirm run of a recipe that stands no longer: if it waits, it is not run."""

    @property
    def kind(self) -> Kind:
        kind: Kind = self.spec.kind
        return kind

    @property
    def is_final(self) -> bool:
        return self.status in ("finished", "pruned", "failed")

    @property
    def failed_with(self) -> str | None:
        """The pre-training whose failure alone failed it: it was never carried out itself."""
        needed: str | None = self.spec.starts_from
        if self.status != "failed" or self.outcome is None or needed is None:
            return None
        return needed if self.outcome.message.startswith(orphan_message(needed, self.kind)) else None

    @property
    def is_left(self) -> bool:
        """Whether something must still be done about it."""
        return self.status == "running" or (self.status == "waiting" and not self.superseded)


@dataclass(frozen=True, slots=True)
class Asked:
    """One point a study asked for."""

    study: str
    ordinal: int
    uid: str
    params: dict[str, Any]


@dataclass(slots=True)
class SweepState:
    """The fold of all events."""

    name: str = ""
    space_digest: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    items: dict[str, ItemRecord] = field(default_factory=dict)
    asked: dict[str, dict[int, Asked]] = field(default_factory=dict)
    opened: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    events: int = 0
    asked_twice: int = 0
    """Points whose item had been asked for before, and were answered from the ledger."""
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Unit -> its last choice, which always tells its basis."""
    openings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Unit -> (cell, recipe) for which its test has been opened, in that order."""
    extensions: dict[str, int] = field(default_factory=dict)
    """Unit -> head seeds that its confirmation was raised to after its test had been opened."""
    _asked_uids: set[str] = field(default_factory=set)
    confirms: dict[str, list[ItemRecord]] = field(default_factory=dict)
    """Unit -> its confirm items, of whatever recipe."""
    rescores: dict[str, list[ItemRecord]] = field(default_factory=dict)
    """Unit -> its rescore items."""
    _standing: dict[str, tuple[Cell | None, FinetuneSpec | None]] = field(default_factory=dict)
    """Unit -> the recipe of its last choice."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Fold one event in.

        Raises:
            DataError: if this version does not know the event, or it does not fit those before it; named is the version
                that wrote the sweep, where that is a later one.
        """
        name = event.get("event")
        if name not in EVENTS:
            raise unreadable(self.header, f"events are {', '.join(EVENTS)}, got {name!r}")
        try:
            getattr(self, f"_{name}")(event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = mistakes_in(error) if isinstance(error, ValidationError) else f"{type(error).__name__} {error}"
            raise unreadable(self.header, f"event '{name}' does not fit those before it: {why}") from error
        self.events += 1

    def basis(self, unit: str, rescored: Mapping[str, float]) -> str:
        """What a choice of ``unit`` is made from now: its trials that have ended, and means of rescored recipes.

        Args:
            unit: the unit, which is called like its study.
            rescored: ordinal of a recipe -> mean objective over the new seeds.
        """
        told = []
        for ordinal, point in sorted(self.asked.get(unit, {}).items()):
            item = self.items[point.uid]
            if item.is_final and item.outcome is not None:
                told.append([ordinal, point.uid, item.outcome.status, item.outcome.metrics.get("objective")])
        return digest_of([told, rescored])

    def _sweep(self, event: Mapping[str, Any]) -> None:
        self.header = dict(event["header"])
        self.name, self.space_digest = event["name"], event["space_digest"]
        self.finished = False

    def _item(self, event: Mapping[str, Any]) -> None:
        self.finished = False
        if event["uid"] in self.items:
            return
        spec = _SPEC.validate_python(event["spec"])
        cell = Cell.model_validate(event["cell"]) if event["cell"] else None
        item = self.items[event["uid"]] = ItemRecord(event["uid"], spec, cell, dict(event["labels"]))
        unit = str(item.labels.get("unit"))
        if item.kind == "rescore":
            self.rescores.setdefault(unit, []).append(item)
        if item.kind == "confirm":
            self.confirms.setdefault(unit, []).append(item)
            self._supersede(unit, item)

    def _asked(self, event: Mapping[str, Any]) -> None:
        point = Asked(event["study"], event["ordinal"], event["uid"], dict(event["params"]))
        self.asked_twice += point.uid in self._asked_uids
        self._asked_uids.add(point.uid)
        self.asked.setdefault(point.study, {})[point.ordinal] = point
        self.finished = False

    def _started(self, event: Mapping[str, Any]) -> None:
        item = self.items[event["uid"]]
        item.attempt, item.status = event["attempt"], "running"
        item.memory_fraction = event.get("memory_fraction")

    def _lost(self, event: Mapping[str, Any]) -> None:
        self.items[event["uid"]].status = "waiting"

    def _result(self, event: Mapping[str, Any]) -> None:
        outcome = Outcome.model_validate(event["outcome"])
        item = self.items[outcome.uid]
        item.outcome = outcome
        item.losses += bool(event["again"]) and outcome.cause == "worker-lost"
        item.status = "waiting" if event["again"] else outcome.status

    def _retried(self, event: Mapping[str, Any]) -> None:
        item = self.items[event["uid"]]
        if item.status != "failed":
            raise ValueError(f"{item.uid} is {item.status}, not failed")
        item.status, item.outcome, item.losses = "waiting", None, 0
        self.finished = False

    def _chosen(self, event: Mapping[str, Any]) -> None:
        unit = event["unit"]
        choice = {key: value for key, value in event.items() if key != "event"}
        if "basis" not in choice:  # written by an earlier version: what the choice was made from stands right before it
            choice["basis"] = self.basis(unit, event.get("rescored", {}))
        self.choices[unit] = choice
        cell = Cell.model_validate(choice["cell"]) if choice["recipe"] else None
        recipe = FinetuneSpec.model_validate(choice["recipe"]) if choice["recipe"] else None
        self._standing[unit] = (cell, recipe)
        for item in self.confirms.get(unit, ()):
            self._supersede(unit, item)
        self.finished = False

    def _supersede(self, unit: str, item: ItemRecord) -> None:
        own = (item.cell, item.spec.finetune)
        item.superseded = self._standing.get(unit, own) != own

    def _opened(self, event: Mapping[str, Any]) -> None:
        self.opened.append({key: value for key, value in event.items() if key != "event"})
        self.openings.setdefault(event["unit"], []).append((event["cell_name"], event["recipe"]))

    def _extended(self, event: Mapping[str, Any]) -> None:
        unit, seeds = event["unit"], event["head_seeds"]
        self.extensions[unit] = max(seeds, self.extensions.get(unit, 0))
        self.finished = False

    def _finished(self, event: Mapping[str, Any]) -> None:
        self.finished = True


def unreadable(header: Mapping[str, Any], what: str) -> DataError:
    """The error for something in a ledger that does not fit: written by a later version, or damaged.

    Args:
        header: the ledger's.
        what: the rule, and what stands there.
    """
    wrote = str(header.get("versions", {}).get("chembench-sweeps", ""))
    if release_of(wrote) > release_of(__version__):
        return DataError(
            f"{what}: chembench {wrote} wrote the sweep, this is {__version__}; "
            f"go on with {wrote} or a later one, nothing was changed"
        )
    return DataError(f"{what}; restore the ledger from a copy, nothing was changed")
