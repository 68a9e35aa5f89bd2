"""Numbers and names as they stand in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

NAMED = 8
"""Names that a sentence tells before it counts the rest."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of many the first ones."""
    kept = list(names)
    if len(kept) > NAMED:
        return f"{', '.join(kept[:NAMED])} and {len(kept) - NAMED} more"
    return " and ".join([", ".join(kept[:-1]), kept[-1]] if len(kept) > 1 else kept)
