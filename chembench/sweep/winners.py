"""Which fitted model stands for a task: the best mean validation objective over complete confirm replicates."""

from __future__ import annotations

from collections.abc import Sequence

from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.units import first_of, line_of


def winners(state: SweepState) -> dict[str, str]:
    """Task -> uid of the kept model of its winner; test scores play no part.

    A line with a missing replicate is left out, and so are runs of a recipe that stands no longer.
    """
    best: dict[str, tuple[float, str]] = {}
    for _, items in sorted(confirmed(state).items()):
        scores = [item.outcome.metrics["objective"] for item in items if item.outcome and item.status == "finished"]
        kept = next((item.uid for item in items if first_of("confirm", item)), None)
        if len(scores) < len(items) or kept is None or not is_begun(state, items):
            continue
        task = str(items[0].labels["task"])
        best[task] = min(best.get(task, (float("inf"), "")), (sum(scores) / len(scores), kept))
    return {task: uid for task, (_, uid) in sorted(best.items())}


def confirmed(state: SweepState) -> dict[str, list[ItemRecord]]:
    """Line -> its confirm runs, of the recipe that stands in each of its units."""
    lines: dict[str, list[ItemRecord]] = {}
    for item in state.items.values():
        if item.kind == "confirm" and not item.superseded:
            lines.setdefault(line_of(item), []).append(item)
    return lines


def is_begun(state: SweepState, items: Sequence[ItemRecord]) -> bool:
    """Whether every unit of a line has confirm runs: where searches are nested, there is one for each outer fold."""
    table = state.header.get("confirm", {})
    nested = table.get("outer_folds", 0) if table.get("outer_search") == "nested" else 0
    expected: int = max(1, nested * table.get("outer_repeats", 1))
    return len({item.labels["unit"] for item in items}) >= expected
