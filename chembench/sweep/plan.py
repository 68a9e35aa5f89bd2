"""What a sweep would do and cost, before anything runs; reads neither corpus nor task files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chembench.chem.descriptors import descriptor_names
from chembench.config import Spec
from chembench.errors import ChembenchError, ConfigError
from chembench.models.sizes import TOKENS_PER_MOLECULE, count_parameters, training_flops
from chembench.specs import Cell, Kind, Precision, PretrainSpec
from chembench.sweep.cells import (
    Vocabulary,
    cells_in_shard,
    control_cells,
    grid_cells,
    model_of,
    pretraining_fields,
    pretraining_name,
    scales_below,
    split_feasible,
    tokenizer_notes,
    vocabulary_of,
)
from chembench.sweep.shard import Shard
from chembench.sweep.space import Space
from chembench.training.schedule import steps_before_decay

TASK_ROWS = {
    "delaney": 1128,
    "bace_regression": 1513,
    "bace_classification": 1513,
    "lipo": 4200,
    "hiv": 41127,
    "tox21": 7831,
    "tox21_sr_p53": 6774,
    "bbbp": 2039,
    "clintox": 1484,
    "freesolv": 642,
    "sider": 1427,
    "freewilson_pic50": 1017,
    "freewilson_active": 1017,
}
"""Rows of the built-in tasks, for the forecast only."""
OWN_TASK_ROWS = 2000
"""Assumed for a task of the user's, whose file is not read here."""

FLOPS_PER_SECOND: dict[tuple[str, Precision], float] = {
    ("cpu", "fp32"): 40e9,
    ("cpu", "bf16"): 70e9,
    ("gpu", "fp32"): 30e12,
    ("gpu", "bf16"): 150e12,
}
"""Assumed useful rate of one CPU core and of one data-centre GPU."""


BORN = PretrainSpec.model_fields
"""Where the defaults of pre-training stand."""


class PlannedCell(Spec):
    """One combination and what it costs to pre-train once."""

    name: str
    architecture: str
    size: str
    molecules: int
    settings: dict[str, str | bool | int | float]
    parameters: int
    """Backbone and pre-training head, exact."""
    precision: Precision
    pretrain_flops: float
    passes: int = 0
    """Molecules that its pre-training is shown; those of a shared trunk only if it is the first to need them."""
    shared: int = 0
    """Molecules of the trunk that it continues, which the scale below is shown."""

    @property
    def cell(self) -> Cell:
        """The combination itself."""
        return Cell(architecture=self.architecture, size=self.size, molecules=self.molecules, settings=self.settings)


class Plan(Spec):
    """The forecast of a sweep; in an adaptive space the counts are upper bounds and ``cells`` is empty."""

    space: str
    space_digest: str
    mode: str
    adaptive: bool
    cells: tuple[PlannedCell, ...]
    control_cells: tuple[PlannedCell, ...]
    candidate_cells: tuple[PlannedCell, ...]
    """Cells that the sampler of an adaptive space can reach."""
    infeasible: tuple[dict[str, str], ...]
    tasks: tuple[dict[str, Any], ...]
    items: dict[Kind, int]
    pretrain_flops: float
    molecule_passes: int
    """Molecules that all pre-trainings are shown, those of a shared trunk counted once."""
    finetune_flops: float
    device: str
    device_hours: float
    disk_gb: float
    notes: tuple[str, ...]

    @property
    def total_items(self) -> int:
        return sum(self.items.values())

    def as_data(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {**self.model_dump(mode="json"), "total_items": self.total_items}


def make_plan(space: Space) -> Plan:
    """The forecast for a checked space.

    Raises:
        ConfigError: if no cell of the space can be built.
    """
    _, vocabulary = vocabulary_of(space)
    outputs = len(descriptor_names(space.labels.descriptors))
    cells, infeasible = split_feasible(space, grid_cells(space), vocabulary)
    controls, bad_controls = split_feasible(space, control_cells(space), vocabulary)
    if not cells:
        raise ConfigError(
            [f"no cell of space '{space.name}' can be built", *(f"{c.name}: {why}" for c, why in infeasible)]
        )
    planned = tuple(_planned(space, cell, vocabulary, outputs) for cell in cells)
    planned_controls = tuple(_planned(space, cell, vocabulary, outputs) for cell in controls)
    items = _items(space, cells, controls, len(space.tasks))
    finetune = _finetune_flops(space, [*planned, *planned_controls], items)
    pretrain = _of_pretrainings(space, planned, items["pretrain"], lambda cell: cell.pretrain_flops)
    device = "gpu" if space.resources.gpus else "cpu"
    hours = (pretrain / _rate(space, "pretrain", planned) + finetune / _rate(space, "search", planned)) / 3600
    return Plan(
        space=space.name,
        space_digest=space.digest,
        mode=space.mode,
        adaptive=space.is_adaptive,
        cells=() if space.is_adaptive else planned,
        control_cells=planned_controls,
        candidate_cells=planned if space.is_adaptive else (),
        infeasible=tuple({"cell": cell.name, "reason": why} for cell, why in [*infeasible, *bad_controls]),
        tasks=tuple({"task": name, "kind": space.task_def(name).kind, "rows": _rows(name)} for name in space.tasks),
        items=items,
        pretrain_flops=pretrain,
        molecule_passes=round(_of_pretrainings(space, planned, items["pretrain"], lambda cell: cell.passes)),
        finetune_flops=finetune,
        device=device,
        device_hours=hours,
        disk_gb=_disk_gb(space, planned, outputs, items),
        notes=tuple(_notes(space)),
    )


def _planned(space: Space, cell: Cell, vocabulary: Vocabulary, outputs: int) -> PlannedCell:
    model = model_of(space, cell, vocabulary)
    passes, shared = _passes(space, cell) if cell.molecules else (0, 0)
    return PlannedCell(
        name=cell.name,
        architecture=cell.architecture,
        size=cell.size,
        molecules=cell.molecules,
        settings=cell.settings,
        parameters=count_parameters(model, outputs),
        precision=space.resources.precision_for(model.hidden),
        pretrain_flops=training_flops(model, outputs, passes),
        passes=passes,
        shared=shared,
    )


def _passes(space: Space, cell: Cell) -> tuple[int, int]:
    """Molecules that the pre-training of a cell is shown, and those that it takes over from the scale below."""
    fields = pretraining_fields(space, cell)
    batch_size = fields.get("batch_size", BORN["batch_size"].default)
    steps, epochs = fields.get("steps"), fields.get("epochs")
    passes = steps * batch_size if steps else round((epochs or 0) * cell.molecules)
    below = scales_below(space, cell)
    if not below:
        return passes, 0
    total = -(-below[-1].molecules // batch_size)
    shared = batch_size * steps_before_decay(total, fields.get("decay_fraction", BORN["decay_fraction"].default))
    return passes - shared, shared


def share_of(space: Space, shard: Shard) -> tuple[list[str], dict[Kind, int]]:
    """What a shard of a sweep will do: the names of its cells, and how many items of each kind.

    Baselines are divided by a hash of what they are, which is known with the data alone: their number is a mean.
    """
    _, vocabulary = vocabulary_of(space)
    cells, _ = split_feasible(space, grid_cells(space), vocabulary)
    controls, _ = split_feasible(space, control_cells(space), vocabulary)
    tasks = len(space.tasks)
    if space.is_adaptive:
        tasks = len(shard.part_of(space.tasks))
    else:
        kept = cells_in_shard(space, [*cells, *controls], shard)
        cells, controls = ([cell for cell in own if cell in kept] for own in (cells, controls))
    items = _items(space, cells, controls, tasks)
    names = [] if space.is_adaptive else [cell.name for cell in (*cells, *controls)]
    return names, {**items, "baseline": math.ceil(items["baseline"] / shard.of)}


def _items(space: Space, cells: list[Cell], controls: list[Cell], tasks: int) -> dict[Kind, int]:
    """Items of each kind.

    Args:
        space: the space.
        cells: those that are searched.
        controls: from-scratch twins that are searched.
        tasks: how many tasks are searched on; baselines are run on all.
    """
    confirm = space.confirm
    lines = tasks * (1 if space.is_adaptive else len(cells) + len(controls))
    units, outers = lines * len(confirm.searched), len(confirm.outers)
    distinct = len({pretraining_name(cell) for cell in cells if not cell.is_control})
    per_trial = max((1 + len(scales_below(space, cell)) for cell in cells), default=1)  # each scale brings those below
    demanded = min(distinct, space.search.trials * units * per_trial) if space.is_adaptive else distinct
    top = min(confirm.rescore_top, space.search.trials)
    per_task = sum(
        confirm.splits * (1 if b == "constant" else confirm.baseline_seeds) for b in space.controls.baselines
    )
    return {
        "pretrain": demanded * confirm.pretrain_seeds,
        "search": units * space.search.trials,
        "rescore": units * top * confirm.rescore_seeds if top > 1 else 0,
        "confirm": lines * outers * confirm.pretrain_seeds * confirm.splits * confirm.head_seeds,
        "baseline": len(space.tasks) * outers * per_task,
    }


def _pretrained_once(cells: tuple[PlannedCell, ...]) -> list[PlannedCell]:
    return list({pretraining_name(planned.cell): planned for planned in cells if planned.molecules}.values())


def _of_pretrainings(
    space: Space, planned: tuple[PlannedCell, ...], pretrainings: int, cost: Callable[[PlannedCell], float]
) -> float:
    """The sum over all cells once per seed; over the dearest that can be demanded in an adaptive space."""
    dearest_first = sorted(map(cost, _pretrained_once(planned)), reverse=True)
    seeds = space.confirm.pretrain_seeds
    return seeds * sum(dearest_first[: pretrainings // seeds])


def _finetune_flops(space: Space, planned: list[PlannedCell], items: dict[Kind, int]) -> float:
    """All epochs of full fine-tuning, or one forward pass where every method is frozen; early stopping lowers it."""
    _, vocabulary = vocabulary_of(space)
    epochs = max(_largest(space, "max_epochs", 50), 1.0)
    trials = items["search"] + items["rescore"] + items["confirm"]
    per_epoch = 0.0
    for cell in planned:
        model = model_of(space, Cell(architecture=cell.architecture, size=cell.size, molecules=0), vocabulary)
        per_epoch += training_flops(model, 1, sum(_rows(task) for task in space.tasks) * (0.8 + 0.1 / 3))
    mean_per_trial = per_epoch / (len(planned) * len(space.tasks))
    is_frozen = _methods(space) <= {"linear_probe", "descriptor_probe"}
    return mean_per_trial * trials * (1 / 3 if is_frozen else epochs)


def _methods(space: Space) -> set[Any]:
    if "finetune.method" in space.grid:
        return set(space.grid["finetune.method"])
    method = space.parameters.get("method")
    return {"full"} if method is None else set(method.choice or (method.fixed,))


def _largest(space: Space, field: str, default: float) -> float:
    gridded = [float(value) for value in space.grid.get(f"finetune.{field}", ())]
    if gridded:
        return max(gridded)
    parameter = space.parameters.get(field)
    if parameter is None:
        return default
    values = parameter.choice or tuple(v for v in (parameter.fixed, parameter.high) if v is not None)
    return max(float(v) for v in values)


def _rate(space: Space, kind: Kind, planned: tuple[PlannedCell, ...]) -> float:
    shape = space.resources.shape(kind)
    return FLOPS_PER_SECOND["gpu" if shape.gpus else "cpu", planned[0].precision]


def _rows(task: str) -> int:
    return TASK_ROWS.get(task, OWN_TASK_ROWS)


def _disk_gb(space: Space, planned: tuple[PlannedCell, ...], outputs: int, items: dict[Kind, int]) -> float:
    """Checkpoints, kept models (one per line), shards."""
    pretrained = sum(_checkpoint_bytes(space, c) for c in _pretrained_once(planned)) * space.confirm.pretrain_seeds
    table = space.confirm
    lines = items["confirm"] / (table.pretrain_seeds * table.splits * table.head_seeds * len(table.outers))
    kept = lines * 4.0 * sum(c.parameters for c in planned) / len(planned)
    largest = max((c.molecules for c in planned), default=0)
    shards = (largest + space.corpus.validation) * (TOKENS_PER_MOLECULE + 8 + 4 * outputs)
    return (pretrained + kept + shards) / 1e9


def _checkpoint_bytes(space: Space, planned: PlannedCell) -> float:
    """Weights, and where a trunk is shared weights and two moments of the state before the decay."""
    return planned.parameters * (16.0 if pretraining_fields(space, planned.cell).get("share_trunk") else 4.0)


def _notes(space: Space) -> list[str]:
    from chembench.data.sources import resolve

    notes = tokenizer_notes(space)
    base = Path(space.base)
    for name in space.corpus.files:
        if "://" not in name:
            try:
                resolve([name], base)
            except ChembenchError as error:
                notes.append(f"corpus: {error}")
    own = [name for name in space.tasks if name not in TASK_ROWS]
    if own:
        notes.append(f"rows of {', '.join(own)} are taken as {OWN_TASK_ROWS:,}")
    if space.confirm.outer_folds:
        notes.append(space.confirm.outer_text)
    if space.is_adaptive:
        notes.append("adaptive: counts and costs are upper bounds; the sampler chooses the cells")
    notes.append(
        "device-hours assume full fine-tuning for all epochs at "
        + ", ".join(
            f"{rate / 1e9:,.0f} GFLOP/s ({device} {precision})"
            for (device, precision), rate in FLOPS_PER_SECOND.items()
        )
    )
    return notes
