"""Badges: what must be told with a score, each with the mark that stands behind the method and the note below it."""

from __future__ import annotations

from collections.abc import Iterable

RECIPE_CHANGED = "recipe changed after opening"
EXTENDED = "confirmed on more seeds after its test had been seen"
REUSED = "recipe reused across outer folds"
LEAK = "test molecules stand in training"
REPLAYED = "replayed"

NOTES: dict[str, tuple[str, str]] = {
    RECIPE_CHANGED: (
        "†",
        "the test had been opened for another recipe of this method before trials were added or retried, which may "
        "have been decided in sight of it; only runs of the recipe that stands are counted",
    ),
    EXTENDED: (
        "‡",
        "its test scores singled it out for more head seeds than the others have; all its seeds are counted, those "
        "that were seen before too",
    ),
    REUSED: (
        "§",
        "its recipe was chosen once, by a search that trained and validated on molecules which are test in the outer "
        "folds; weights were fitted to each training part alone, but the choice of the recipe has seen the tests",
    ),
    LEAK: (
        "¶",
        "rows of the test hold molecules that training or validation rows hold, too (by InChIKey), so that test scores "
        "flatter; chembench audit names the first",
    ),
    REPLAYED: (
        "‖",
        "its scores were recorded elsewhere and given back by a replay; this sweep measured none of them",
    ),
}
"""Badge -> its mark, and what a reader must know."""


def marks(badges: Iterable[str]) -> str:
    """The marks of some badges, in the order of the table."""
    told = set(badges)
    return "".join(mark for badge, (mark, _) in NOTES.items() if badge in told)


def explained(badges: Iterable[str]) -> list[str]:
    """One note for each different badge, in the order of the table."""
    told = set(badges)
    return [f"{mark} {badge}: {note}" for badge, (mark, note) in NOTES.items() if badge in told]
