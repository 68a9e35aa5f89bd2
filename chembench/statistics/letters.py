"""Compact letter display: two methods share a letter if, and only if, nothing separates them."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def letters(names: Sequence[str], separated: Collection[tuple[str, str]]) -> dict[str, str]:
    """Letters of each method, `a` for the best.

    Args:
        names: best first.
        separated: pairs that were shown to differ, in either order.

    Reference:
        Piepho, J. Comput. Graph. Stat. 2004, 13, 456. doi:10.1198/1061860043515 (insert and absorb)
    """
    place = {name: index for index, name in enumerate(names)}
    groups: list[frozenset[int]] = [frozenset(place.values())]
    for first, second in sorted(tuple(sorted((place[a], place[b]))) for a, b in separated):
        split: list[frozenset[int]] = []
        for group in groups:
            split += [group - {first}, group - {second}] if {first, second} <= group else [group]
        groups = [g for i, g in enumerate(split) if g and not _is_absorbed(g, i, split)]
    groups.sort(key=lambda group: sorted(group))
    return {name: "".join(_letter(k) for k, g in enumerate(groups) if place[name] in g) for name in names}


def _is_absorbed(group: frozenset[int], index: int, groups: Sequence[frozenset[int]]) -> bool:
    """Whether another group holds it; of equal ones the first is kept."""
    return any(group < other or (group == other and at < index) for at, other in enumerate(groups) if at != index)


def _letter(index: int) -> str:
    """From a to z, then A to Z, then the number in brackets."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[index] if index < len(alphabet) else f"({index + 1})"
