"""Which fitted model stands for a task: the best mean validation objective over complete confirm replicates."""

from __future__ import annotations

from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.units import first_of


def winners(state: SweepState) -> dict[str, str]:
    """Task -> uid of the kept model of its winner; test scores play no part.

    A unit with a missing replicate is left out, and so are runs of a recipe that stands no longer.
    """
    by_unit: dict[str, list[ItemRecord]] = {}
    for item in state.items.values():
        if item.kind == "confirm" and not item.superseded:
            by_unit.setdefault(str(item.labels["unit"]), []).append(item)
    best: dict[str, tuple[float, str]] = {}
    for _, items in sorted(by_unit.items()):
        scores = [item.outcome.metrics["objective"] for item in items if item.outcome and item.status == "finished"]
        kept = next((item.uid for item in items if first_of("confirm", item)), None)
        if len(scores) < len(items) or kept is None:
            continue
        task = str(items[0].labels["task"])
        best[task] = min(best.get(task, (float("inf"), "")), (sum(scores) / len(scores), kept))
    return {task: uid for task, (_, uid) in sorted(best.items())}
