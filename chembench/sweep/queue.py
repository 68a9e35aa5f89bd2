"""Which items wait, in the order in which they are handed out, and which run."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping

from chembench.specs import Kind
from chembench.sweep.state import ItemRecord

FIRST: tuple[Kind, ...] = ("confirm", "rescore", "search", "pretrain", "baseline")
"""Ready items are handed out in this order, so that cells are completed one after the other."""

_Key = tuple[bool, int, int, int]


class Queue:
    """Items that are left: those started before come first, then by kind, then by the order of their units."""

    def __init__(self, places: Mapping[str, int]) -> None:
        """An empty queue.

        Args:
            places: unit -> its place among the units.
        """
        self._places = places
        self._numbers: dict[str, int] = {}
        self._keys: dict[str, _Key] = {}
        self._waiting: list[tuple[_Key, ItemRecord]] = []
        self._running: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def __iter__(self) -> Iterator[ItemRecord]:
        """The items that wait, the first to be handed out first."""
        return (item for _, item in self._waiting)

    def put(self, item: ItemRecord) -> None:
        """Take up where ``item`` stands now."""
        self._running.discard(item.uid)
        key = self._keys.pop(item.uid, None)
        if key is not None:
            del self._waiting[bisect.bisect_left(self._waiting, key, key=lambda entry: entry[0])]
        if item.status == "running":
            self._running.add(item.uid)
        elif item.is_left:
            key = self._keys[item.uid] = self._key(item)
            bisect.insort(self._waiting, (key, item), key=lambda entry: entry[0])

    def _key(self, item: ItemRecord) -> _Key:
        number = self._numbers.setdefault(item.uid, len(self._numbers))
        place = self._places.get(str(item.labels.get("unit")), 0)
        return (item.attempt == 0, FIRST.index(item.kind), place, number)
