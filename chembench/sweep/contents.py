"""What a sweep, or a shard of it, consists of before the first result: its units and its baselines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from chembench.config import stable_seed
from chembench.errors import ConfigError
from chembench.specs import Cell
from chembench.sweep.cells import cells_in_shard, control_cells, grid_cells, settings_of, split_feasible
from chembench.sweep.parameters import Parameter
from chembench.sweep.resolve import Replicate, Resolver
from chembench.sweep.shard import Shard
from chembench.sweep.space import Space
from chembench.sweep.state import SweepState
from chembench.sweep.study import Study
from chembench.sweep.units import Event, Unit, split_name_of


def units_of(space: Space, resolver: Resolver, shard: Shard | None = None) -> list[Unit]:
    """The units in the order in which they are visited.

    Raises:
        ConfigError: if the sampler of an adaptive space may draw a cell that cannot be built.
    """
    places = _tasks(space, resolver, shard) if space.is_adaptive else _cells_and_tasks(space, resolver, shard)
    table, searched = space.search, space.confirm.searched
    return [
        Unit(
            name=name,
            task=task,
            cell=cell,
            outer=outer,
            study=Study(name, parameters, table.sampler, table.trials, table.ask_window, space.seed),
            resolver=resolver,
            order=order,
        )
        for order, ((line, task, cell, parameters), outer) in enumerate(itertools.product(places, searched))
        for name in [f"{line}/outer-{outer}" if outer else line]
    ]


_Place = tuple[str, str, Cell | None, dict[str, Parameter]]


def _tasks(space: Space, resolver: Resolver, shard: Shard | None) -> Iterator[_Place]:
    _, infeasible = split_feasible(space, grid_cells(space), resolver.prepared.vocabulary)
    if infeasible:
        raise ConfigError(
            [
                f"the sampler may draw every cell of space '{space.name}', {len(infeasible)} cannot be built; "
                "change the choices under [model]",
                *(f"{cell.name}: {why}" for cell, why in infeasible),
            ]
        )
    axes = {name: axis for name, axis in space.axes.items() if axis.is_searched}
    for task in space.tasks if shard is None else shard.part_of(space.tasks):
        yield task, task, None, {**space.parameters, **axes}


def _cells_and_tasks(space: Space, resolver: Resolver, shard: Shard | None) -> Iterator[_Place]:
    cells = [*grid_cells(space), *control_cells(space)]
    feasible, _ = split_feasible(space, cells, resolver.prepared.vocabulary)
    kept = feasible if shard is None else cells_in_shard(space, feasible, shard)
    for cell in sorted(kept, key=lambda cell: stable_seed(space.seed, "cell", cell.name)):
        own = {key: Parameter(fixed=value) for key, value in settings_of(cell, "finetune").items()}
        for task in space.tasks:  # conditions may stand on the cell's own settings
            yield f"{cell.name}/{task}", task, cell, {**space.parameters, **own}


def baseline_events(resolver: Resolver, state: SweepState, shard: Shard | None = None) -> list[Event]:
    """The events that register the baselines which the ledger does not know yet."""
    space = resolver.space
    events: list[Event] = []
    table = space.confirm
    for task, name in itertools.product(space.tasks, space.controls.baselines):
        seeds = 1 if name == "constant" else table.baseline_seeds
        for outer, split, seed in itertools.product(table.outers, range(table.splits), range(seeds)):
            spec = resolver.baseline(name, task, Replicate(split=split, head_seed=seed, outer=outer))
            if spec.digest in state.items or (shard is not None and not shard.holds(spec.digest)):
                continue
            place = {"split": split, "head_seed": seed, **({"outer": outer} if outer else {})}
            labels = {"task": task, **place, "split_name": split_name_of(space, task, outer)}
            event = {"event": "item", "uid": spec.digest, "spec": spec.canonical()}
            events.append({**event, "cell": None, "labels": labels})
    return events
