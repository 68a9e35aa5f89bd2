"""Rules of a space that need more than one field; every broken one is told, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chembench.data.catalog import TASKS
from chembench.errors import UnknownNameError
from chembench.models.sizes import require_size
from chembench.registry import ARCHITECTURES
from chembench.specs import FinetuneSpec, PretrainSpec
from chembench.sweep.parameters import Parameter, Scalar, check_values, parse_parameter
from chembench.sweep.space import GRID_AXES, PRETRAIN_FIELDS, Space
from chembench.sweep.study import ordered

Problem = tuple[str, str]
"""A dotted place in the file, and the sentence."""


def check_space(space: Space) -> list[Problem]:
    """Every rule that needs more than one field: (place, sentence) for each that is broken."""
    problems: list[Problem] = []
    problems += _check_axes(space)
    problems += _check_recipe(space)
    problems += _check_search(space)
    problems += _check_pretrain(space)
    problems += _check_tasks(space)
    if space.tokenizer.allow_lossy and space.mode != "paper":
        problems.append(
            ("tokenizer.allow_lossy", 'a lossy tokenizer is legal in paper mode alone; set mode = "paper" or drop it')
        )
    return problems


def _check_axes(space: Space) -> list[Problem]:
    problems = []
    for axis in GRID_AXES:
        in_grid, in_model = axis in space.grid, axis in space.model
        if in_grid == in_model:
            what = "both under [grid] and [model]; keep one" if in_grid else "nowhere; give it under [grid] or [model]"
            problems.append((f"{'grid' if in_grid else 'model'}.{axis}", f"the axis '{axis}' stands {what}"))
    values: dict[str, tuple[Any, ...]] = {axis: v for axis, v in space.grid.items() if axis in GRID_AXES}
    for axis, parameter in space.axes.items():
        if axis not in GRID_AXES:
            problems.append((f"model.{axis}", f"unknown axis '{axis}'; known: {', '.join(GRID_AXES)}"))
        elif parameter.low is not None or parameter.when:
            problems.append((f"model.{axis}", "an axis takes a value or a choice, not a range or a condition"))
        else:
            values[axis] = parameter.choice or (parameter.fixed,)
    if space.is_adaptive and space.grid:
        problems.append(
            (
                "grid",
                "a choice under [model] makes the space adaptive, which has no [grid]; "
                "write fixed values under [model], or lists under [grid]",
            )
        )
    for axis, known in (("architecture", ARCHITECTURES.require), ("size", require_size), ("molecules", _molecules)):
        table = "grid" if axis in space.grid else "model"
        problems += _each(f"{table}.{axis}", values.get(axis, ()), known)
    if 0 in space.grid.get("molecules", ()):
        problems.append(
            ("grid.molecules", "0 molecules is the from-scratch control; set controls.from_scratch = true instead")
        )
    return problems


def _molecules(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"molecules must be a whole number >= 0, got {value!r}")
    return value


def _each(place: str, values: tuple[Any, ...], check: Any) -> list[Problem]:
    problems = []
    for value in values:
        try:
            check(value)
        except Exception as error:  # noqa: BLE001 - a message is gathered, whatever the check raised
            problems.append((place, str(error)))
    return problems


def _check_recipe(space: Space) -> list[Problem]:
    problems = []
    known = [name for name in FinetuneSpec.model_fields]
    parameters: dict[str, Parameter] = {}
    for key, raw in space.finetune.items():
        place = f"finetune.{key}"
        if key not in known:
            problems.append((place, unknown_key(key, known)))
            continue
        try:
            parameters[key] = parse_parameter(raw, "finetune", key)
            check_values(parameters[key], FinetuneSpec, key)
        except ValueError as error:
            problems.append((place, str(error)))
    gridded = {axis.split(".", 1)[1] for axis in space.grid if axis.startswith("finetune.")}
    for key in gridded & set(space.finetune):
        problems.append((f"finetune.{key}", f"'{key}' stands both under [grid.finetune] and [finetune]; keep one"))
    for key, parameter in parameters.items():
        for name, wanted in parameter.when:
            values = _values_of(parameters.get(name), space, name)
            if values is None:
                problems.append(
                    (f"finetune.{key}", f"condition on '{name}', which is no fixed value or choice of the recipe")
                )
            elif wanted not in values:
                problems.append(
                    (
                        f"finetune.{key}",
                        f"condition {name} = {wanted!r} can never hold; {name} is one of {list(values)}",
                    )
                )
    for name, field in FinetuneSpec.model_fields.items():
        if field.is_required() and name not in space.finetune and name not in gridded:
            problems.append((f"finetune.{name}", f"'{name}' has no default and must be given"))
        if field.is_required() and name in parameters and parameters[name].when:
            problems.append((f"finetune.{name}", f"'{name}' has no default, so it cannot stand under a condition"))
    return problems


def _check_search(space: Space) -> list[Problem]:
    try:
        parameters = {**space.parameters, **space.axes}
        ordered({n: p for n, p in parameters.items() if all(w in parameters for w, _ in p.when)})
    except ValueError as error:
        return [("finetune", str(error))]
    ranges = sorted(name for name, p in parameters.items() if p.low is not None)
    if space.search.sampler == "grid" and ranges:
        return [("search.sampler", f"'grid' needs a choice for every searched parameter; {ranges[0]} is a range")]
    return []


def _values_of(parameter: Parameter | None, space: Space, name: str) -> tuple[Scalar, ...] | None:
    if f"finetune.{name}" in space.grid:
        return space.grid[f"finetune.{name}"]
    if parameter is None or parameter.low is not None:
        return None
    return parameter.choice or ((parameter.fixed,) if parameter.fixed is not None else None)


def _check_pretrain(space: Space) -> list[Problem]:
    problems = []
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("pretrain", {k: v for k, v in space.pretrain.items() if k not in ARCHITECTURES})
    ]
    tables += [(f"pretrain.{name}", space.pretrain[name]) for name in ARCHITECTURES if name in space.pretrain]
    for place, table in tables:
        for key, raw in table.items():
            if key not in PRETRAIN_FIELDS:
                problems.append((f"{place}.{key}", unknown_key(key, [*PRETRAIN_FIELDS, *ARCHITECTURES])))
                continue
            try:
                if isinstance(raw, dict):
                    raise ValueError(
                        "pre-training is fixed for all trials of a cell; "
                        "write a value, or make it an axis under [grid.pretrain]"
                    )
                check_values(parse_parameter(raw, place, key), PretrainSpec, key)
            except ValueError as error:
                problems.append((f"{place}.{key}", str(error)))
    needs = not all(m == 0 for m in _molecule_values(space))
    gridded = {axis.split(".", 1)[1] for axis in space.grid if axis.startswith("pretrain.")}
    if needs and not problems:
        for architecture in ARCHITECTURES:
            fields = {key for key, value in space.pretrain_fields(architecture).items() if value is not None} | gridded
            if "learning_rate" not in fields:
                return [*problems, ("pretrain.learning_rate", "'learning_rate' has no default and must be given")]
            if len(fields & {"epochs", "steps"}) != 1:
                return [*problems, ("pretrain.epochs", "exactly one of epochs and steps must be given")]
    return problems


def _molecule_values(space: Space) -> tuple[Any, ...]:
    if "molecules" in space.grid:
        return space.grid["molecules"]
    try:
        axis = space.axes.get("molecules")
    except ValueError:
        return ()
    return (axis.choice or (axis.fixed,)) if axis else ()


def _check_tasks(space: Space) -> list[Problem]:
    problems = []
    for name in space.tasks:
        if name not in space.task and name not in TASKS:
            problems.append(("tasks", unknown_key(name, [*TASKS, *space.task], "task")))
    for name in space.task:
        if name not in space.tasks:
            problems.append(
                (f"task.{name}", f"[task.{name}] is defined but not listed in tasks; add it there or drop the table")
            )
    if len(set(space.tasks)) < len(space.tasks):
        problems.append(("tasks", f"tasks must not repeat a name, got {list(space.tasks)}"))
    return problems


def unknown_key(name: str, known: list[str], kind: str = "key") -> str:
    """The sentence for a name that no table holds."""
    return str(UnknownNameError(kind, name, known))
