"""A plan as text for the terminal: cells with their exact sizes, items by kind, and what the whole would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chembench.printing import table

if TYPE_CHECKING:
    from chembench.sweep.plan import Plan, PlannedCell

CELL_COLUMNS = ("cell", "parameters", "molecules", "precision", "pre-training FLOPs")
TRUNK_COLUMN = "of a trunk"


def plan_text(plan: Plan, width: int | None = None) -> str:
    """``plan`` as paragraphs, in an adaptive space with the cells that the sampler can reach."""
    least = "at most " if plan.adaptive else ""
    count = len(plan.candidate_cells if plan.adaptive else plan.cells)
    kind = "cells in reach of the sampler" if plan.adaptive else "cells"
    tasks = f"{len(plan.tasks)} task{'s' * (len(plan.tasks) != 1)}"
    blocks = [
        f"{plan.space} ({plan.mode} mode, digest {plan.space_digest}): {count} {kind}, "
        f"{len(plan.control_cells)} from scratch, {tasks}, {least}{plan.total_items} items",
        _cells(plan.candidate_cells if plan.adaptive else plan.cells, width),
        _cells(plan.control_cells, width),
        table(
            [{"item": kind, "count": str(number)} for kind, number in plan.items.items()],
            ("item", "count"),
            width=width,
        ),
        f"estimated: {plan.pretrain_flops:.2g} FLOPs of pre-training in {plan.molecule_passes:,.0f} molecule passes, "
        f"{plan.finetune_flops:.2g} of fine-tuning, "
        f"{least}{plan.device_hours:.3g} {plan.device} device-hours, {plan.disk_gb:.2g} GB of disk",
        "\n".join(f"not feasible: {cell['cell']}: {cell['reason']}" for cell in plan.infeasible),
        "\n".join(f"note: {note}" for note in plan.notes),
    ]
    return "\n\n".join(block for block in blocks if block)


def _cells(cells: tuple[PlannedCell, ...], width: int | None) -> str:
    rows = [
        {
            "cell": cell.name,
            "parameters": f"{cell.parameters:,}",
            "molecules": f"{cell.molecules:,}" if cell.molecules else "none",
            "precision": cell.precision,
            TRUNK_COLUMN: f"{cell.shared:,.0f}" if cell.shared else "none",
            "pre-training FLOPs": f"{cell.pretrain_flops:.2g}" if cell.molecules else "none",
        }
        for cell in cells
    ]
    columns = (*CELL_COLUMNS[:3], *([TRUNK_COLUMN] if any(cell.shared for cell in cells) else ()), *CELL_COLUMNS[3:])
    return table(rows, columns, width=width) if rows else ""
