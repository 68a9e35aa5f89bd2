"""Colours, markers and line styles, told apart without colours too."""

from __future__ import annotations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, but for the yellow, which white paper swallows."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
DASHES: tuple[tuple[float, tuple[float, ...] | None], ...] = (
    (0, None),
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
GREY = "#666666"
LIGHT = "#DDDDDD"


def colour(look: int) -> str:
    return COLOURS[look % len(COLOURS)]


def marker(look: int) -> str:
    return MARKERS[look % len(MARKERS)]


def dash(look: int) -> tuple[float, tuple[float, ...] | None]:
    return DASHES[look % len(DASHES)]
