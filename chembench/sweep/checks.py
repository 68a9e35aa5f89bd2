"""Rules of a space that need more than one field; every broken one is told, each with its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from chembench.config import Spec
from chembench.data.catalog import TASKS
from chembench.errors import ConfigError, UnknownNameError
from chembench.models.sizes import require_size
from chembench.paths import safe_name
from chembench.registry import ARCHITECTURES
from chembench.specs import FinetuneSpec, Kind, PretrainSpec, sharing_problem
from chembench.sweep.cells import OF_WSD
from chembench.sweep.parameters import Parameter, Scalar, check_values, parse_parameter
from chembench.sweep.space import GRID_AXES, PRETRAIN_FIELDS, ConfirmTable, Space
from chembench.sweep.study import ordered

Problem = tuple[str, str]
"""A dotted place in the file, and the sentence."""

FIELDS: dict[str, tuple[type[Spec], tuple[str, ...]]] = {
    "finetune": (FinetuneSpec, tuple(FinetuneSpec.model_fields)),
    "pretrain": (PretrainSpec, PRETRAIN_FIELDS),
}
"""Table -> the specification whose fields it sets, and which of them."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A space whose fields are whole, with what could be parsed of the rest."""

    space: Space
    broken: frozenset[str]
    """Places whose mistake was told before: what stood there is neither judged nor missed."""
    recipe: dict[str, Parameter]
    axes: dict[str, Parameter]

    def is_broken(self, *places: str) -> bool:
        return any(place == told or place.startswith(f"{told}.") for place in places for told in self.broken)

    def gridded(self, table: str) -> dict[str, tuple[Scalar, ...]]:
        """Fields of ``table`` that are axes of the grid, with their values."""
        prefix = f"{table}."
        return {a.removeprefix(prefix): values for a, values in self.space.grid.items() if a.startswith(prefix)}

    def values(self, axis: str) -> tuple[Any, ...]:
        """Every value that one of the three axes can take."""
        parameter = self.axes.get(axis)
        if axis in self.space.grid or parameter is None:
            return self.space.grid.get(axis, ())
        return parameter.choice or (parameter.fixed,)


def check_space(space: Space, broken: Collection[str] = ()) -> list[Problem]:
    """Every rule that needs more than one field: (place, sentence) for each that is broken.

    Args:
        space: whole as to its types.
        broken: places whose mistake was told before; the space holds stand-ins there.
    """
    recipe, problems = _parsed(space.finetune, "finetune", FinetuneSpec)
    axes, wrong_axes = _parsed(space.model, "model", None)
    draft = _Draft(space, frozenset(broken), recipe, axes)
    problems += wrong_axes
    for check in (
        _check_name,
        _check_axes,
        _check_grid,
        _check_recipe,
        _check_search,
        _check_pretrain,
        _check_tasks,
        _check_outer,
        _check_threads,
    ):
        problems += check(draft)
    if space.tokenizer.allow_lossy and space.mode != "paper" and not draft.is_broken("mode"):
        sentence = 'a lossy tokenizer is legal in paper mode alone; set mode = "paper" or drop it'
        problems.append(("tokenizer.allow_lossy", sentence))
    return problems


def _parsed(table: Mapping[str, Any], name: str, spec: type[Spec] | None) -> tuple[dict[str, Parameter], list[Problem]]:
    parameters: dict[str, Parameter] = {}
    problems = []
    known = list(spec.model_fields if spec else GRID_AXES)
    for key, raw in table.items():
        if key not in known:
            problems.append((f"{name}.{key}", unknown_key(key, known)))
            continue
        try:
            parameter = parse_parameter(raw, name, key)
            if spec is not None:
                check_values(parameter, spec, key)
        except ValueError as error:
            problems.append((f"{name}.{key}", str(error)))
        else:
            parameters[key] = parameter
    return parameters, problems


def _check_name(draft: _Draft) -> list[Problem]:
    try:
        safe_name("space", draft.space.name)
    except ConfigError as error:
        return [("name", str(error))]
    return []


def _check_threads(draft: _Draft) -> list[Problem]:
    """Items run side by side until the processors that the process may use are taken: more threads would fight."""
    resources, problems = draft.space.resources, []
    kinds = [kind for kind in get_args(Kind) if getattr(resources, kind) is not None]
    shapes = {f"resources.{kind}": resources.shape(kind) for kind in kinds}
    wanted = {"resources": (resources.threads, resources.cpus)}
    wanted |= {place: (shape.threads, shape.cpus) for place, shape in shapes.items()}
    for place, (threads, cpus) in wanted.items():
        if threads > max(1.0, cpus) and not draft.is_broken(f"{place}.threads", f"{place}.cpus"):
            sentence = f"an item may have as many threads as cpus, got {threads} on {cpus:g}; raise cpus"
            problems.append((f"{place}.threads", sentence))
    return problems


def _check_axes(draft: _Draft) -> list[Problem]:
    space, problems = draft.space, []
    for axis in GRID_AXES:
        in_grid, in_model = axis in space.grid, axis in space.model
        if in_grid and in_model:
            problems.append((f"grid.{axis}", f"the axis '{axis}' stands both under [grid] and [model]; keep one"))
        elif not in_grid and not in_model and not draft.is_broken(f"grid.{axis}", f"model.{axis}"):
            table = "model" if space.model and not space.grid else "grid"
            sentence = f"the axis '{axis}' stands nowhere; give a list under [grid], or a value or choice under [model]"
            problems.append((f"{table}.{axis}", sentence))
    for axis, parameter in draft.axes.items():
        if parameter.low is not None or parameter.when:
            problems.append((f"model.{axis}", "an axis takes a value or a choice, not a range or a condition"))
    if space.grid and any(parameter.is_searched for parameter in draft.axes.values()):
        sentence = (
            "a choice under [model] makes the space adaptive, which has no [grid]; "
            "write fixed values under [model], or lists under [grid]"
        )
        problems.append(("grid", sentence))
    checks: dict[str, Callable[[Any], Any]] = {
        "architecture": ARCHITECTURES.require,
        "size": require_size,
        "molecules": _molecules,
    }
    for axis, check in checks.items():
        place = f"{'grid' if axis in space.grid else 'model'}.{axis}"
        is_range = place.startswith("model") and axis in draft.axes and draft.axes[axis].low is not None
        problems += [] if is_range else _each(place, draft.values(axis), check)
    if 0 in space.grid.get("molecules", ()):
        sentence = "0 molecules is the from-scratch control; set controls.from_scratch = true instead"
        problems.append(("grid.molecules", sentence))
    return problems


def _molecules(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"molecules must be a whole number >= 0, got {value!r}")
    return value


def _each(place: str, values: tuple[Any, ...], check: Callable[[Any], Any]) -> list[Problem]:
    """One problem for each value that ``check`` refuses, the kind of value first."""
    problems = []
    for value in values:
        if check is not _molecules and not isinstance(value, str):
            problems.append((place, f"'{place.split('.')[1]}' takes names, got {value!r}; write it in quotes"))
            continue
        try:
            check(value)
        except (ValueError, ConfigError) as error:
            problems.append((place, str(error)))
    return problems


def _check_grid(draft: _Draft) -> list[Problem]:
    """Further axes: each a field of [finetune] or [pretrain], standing at one place only."""
    problems = []
    for axis, values in draft.space.grid.items():
        table, _, key = axis.partition(".")
        spec, known = FIELDS.get(table, (None, ()))
        if axis in GRID_AXES:
            continue
        if spec is None or key not in known:
            axes = [*GRID_AXES, *(f"{name}.{field}" for name, (_, fields) in FIELDS.items() for field in fields)]
            problems.append((f"grid.{axis}", unknown_key(axis, axes, "axis")))
            continue
        for value in values:
            try:
                check_values(parse_parameter(value, table, key), spec, key)
            except ValueError as error:
                problems.append((f"grid.{axis}", str(error)))
        elsewhere = [f"{table}.{key}"] if key in getattr(draft.space, table) else []
        if table == "pretrain":
            own = {name: draft.space.pretrain.get(name) for name in ARCHITECTURES}
            elsewhere += [f"pretrain.{name}.{key}" for name, t in own.items() if isinstance(t, dict) and key in t]
        for place in elsewhere:
            where = place.rpartition(".")[0]
            problems.append((place, f"'{key}' stands both under [grid.{table}] and [{where}]; keep one"))
    return problems


def _check_recipe(draft: _Draft) -> list[Problem]:
    problems = []
    gridded = draft.gridded("finetune")
    for key, parameter in draft.recipe.items():
        place = f"finetune.{key}"
        for name, wanted in parameter.when:
            values = _values_of(draft, name)
            if name in draft.space.finetune and name not in draft.recipe:
                continue  # its own mistake is told
            if values is None:
                sentence = f"condition on '{name}', which is no fixed value or choice of the recipe"
                problems.append((place, f"{sentence}; give it under [finetune] or drop the condition"))
            elif wanted not in values:
                sentence = f"condition {name} = {wanted!r} can never hold; {name} is one of {list(values)}"
                problems.append((place, sentence))
    for name, field in FinetuneSpec.model_fields.items():
        place = f"finetune.{name}"
        if not field.is_required():
            continue
        if name not in draft.space.finetune and name not in gridded and not draft.is_broken(place, f"grid.{place}"):
            problems.append((place, f"'{name}' has no default and must be given"))
        if name in draft.recipe and draft.recipe[name].when:
            problems.append((place, f"'{name}' has no default, so it cannot stand under a condition"))
    return problems


def _values_of(draft: _Draft, name: str) -> tuple[Scalar, ...] | None:
    """The values that a condition on ``name`` can meet; none if there is no closed set of them."""
    gridded = draft.gridded("finetune")
    if name in gridded:
        return gridded[name]
    parameter = draft.recipe.get(name)
    if parameter is None or parameter.low is not None:
        return None
    return parameter.choice or ((parameter.fixed,) if parameter.fixed is not None else None)


def _check_search(draft: _Draft) -> list[Problem]:
    parameters = {**draft.recipe, **draft.axes}
    try:
        ordered(parameters)
    except ValueError as error:
        return [("finetune", str(error))]
    ranges = sorted(name for name, p in parameters.items() if p.low is not None)
    if draft.space.search.sampler == "grid" and ranges:
        sentence = f"'grid' needs a choice for every searched parameter; {ranges[0]} is a range; write it as a choice"
        return [("search.sampler", sentence)]
    return []


def _check_pretrain(draft: _Draft) -> list[Problem]:
    space, problems = draft.space, []
    shared = {key: value for key, value in space.pretrain.items() if key not in ARCHITECTURES}
    tables: dict[str, Any] = {"pretrain": shared}
    tables |= {f"pretrain.{name}": space.pretrain[name] for name in ARCHITECTURES if name in space.pretrain}
    for place, table in tables.items():
        if not isinstance(table, dict):
            problems.append((place, f"must be a table of [pretrain] fields, got {table!r}; write [{place}]"))
            continue
        for key, raw in table.items():
            problems += _check_pretrain_field(place, key, raw)
    if problems or all(molecules == 0 for molecules in draft.values("molecules")):
        return problems
    return _check_pretrain_whole(draft)


def _check_pretrain_field(place: str, key: str, raw: Any) -> list[Problem]:
    if key not in PRETRAIN_FIELDS:
        return [(f"{place}.{key}", unknown_key(key, [*PRETRAIN_FIELDS, *ARCHITECTURES]))]
    if isinstance(raw, dict):
        sentence = "pre-training is fixed for all trials of a cell; write a value, or an axis under [grid.pretrain]"
        return [(f"{place}.{key}", sentence)]
    try:
        check_values(parse_parameter(raw, place, key), PretrainSpec, key)
    except ValueError as error:
        return [(f"{place}.{key}", str(error))]
    return []


def _check_pretrain_whole(draft: _Draft) -> list[Problem]:
    gridded = draft.gridded("pretrain")
    for architecture in (name for name in draft.values("architecture") if name in ARCHITECTURES):
        fields = {k for k, value in draft.space.pretrain_fields(architecture).items() if value is not None} | {*gridded}
        told: list[Problem] = []
        if "learning_rate" not in fields and not draft.is_broken("grid.pretrain.learning_rate", "pretrain"):
            told.append(
                ("pretrain.learning_rate", f"'learning_rate' has no default and must be given ({architecture})")
            )
        lengths = sorted(fields & {"epochs", "steps"})
        if len(lengths) != 1 and not draft.is_broken("grid.pretrain.epochs", "grid.pretrain.steps", "pretrain"):
            got = " and ".join(lengths) or "none of them"
            told.append(
                ("pretrain.epochs", f"exactly one of epochs and steps must be given, got {got} ({architecture})")
            )
        if told:
            return told
        told = _check_schedule(draft, draft.space.pretrain_fields(architecture), gridded, architecture)
        if told:
            return told
    return []


def _check_schedule(
    draft: _Draft, fixed: Mapping[str, Any], gridded: Mapping[str, tuple[Scalar, ...]], architecture: str
) -> list[Problem]:
    """What does not go together in the schedules of an architecture, the first mistake of all its combinations."""
    names = ("schedule", "share_trunk", "decay_fraction", "warmup_fraction", "epochs", "steps", "keep_every_epoch")
    if draft.is_broken("pretrain", *(f"{table}.{name}" for name in names for table in ("pretrain", "grid.pretrain"))):
        return []
    born = {name: PretrainSpec.model_fields[name].default for name in names}
    axes = {name: values for name, values in gridded.items() if name in names}
    schedules = axes.get("schedule", (fixed.get("schedule", born["schedule"]),))
    idle = sorted({*fixed, *gridded} & {*OF_WSD})
    if "wsd" not in schedules and idle:
        sentence = f"'{idle[0]}' says something of the schedule wsd alone, none is ({architecture})"
        return [(f"pretrain.{idle[0]}", f'{sentence}; set schedule = "wsd" or drop it')]
    for values in itertools.product(*axes.values()):
        own = {**born, **{k: v for k, v in fixed.items() if k in names}, **dict(zip(axes, values, strict=True))}
        own = {name: None if value == "none" else value for name, value in own.items()}
        if own["schedule"] != "wsd":
            continue
        if own["warmup_fraction"] + own["decay_fraction"] > 1:
            got = f"{own['warmup_fraction']:g} + {own['decay_fraction']:g}"
            sentence = f"warmup_fraction + decay_fraction must be at most 1, got {got} ({architecture}); lower one"
            return [("pretrain.decay_fraction", sentence)]
        problem = sharing_problem("wsd", own["epochs"], own["steps"], own["keep_every_epoch"])
        if own["share_trunk"] and problem:
            return [("pretrain.share_trunk", f"{problem} ({architecture})")]
    return []


def _check_tasks(draft: _Draft) -> list[Problem]:
    space, problems = draft.space, []
    if draft.is_broken("tasks"):
        return []
    for name in space.tasks:
        if name not in space.task and name not in TASKS and not draft.is_broken("task"):
            problems.append(("tasks", unknown_key(name, [*TASKS, *space.task], "task")))
    for name in space.task:
        if name not in space.tasks:
            sentence = f"[task.{name}] is defined but not listed in tasks; add it there or drop the table"
            problems.append((f"task.{name}", sentence))
    if len(set(space.tasks)) < len(space.tasks):
        problems.append(("tasks", f"tasks must not repeat a name, got {list(space.tasks)}"))
    return problems


def _check_outer(draft: _Draft) -> list[Problem]:
    table, default = draft.space.confirm, ConfirmTable()
    if table.is_nested and any(axis.is_searched for axis in draft.axes.values()):
        sentence = (
            "'nested' compares the cells of a [grid], an adaptive space may choose another cell in each outer fold; "
            "use outer_search = 'reuse', or write the axes under [grid]"
        )
        return [("confirm.outer_search", sentence)]
    if table.outer_folds or draft.is_broken("confirm.outer_folds"):
        return []
    idle = ("outer_repeats", "outer_groups", "outer_search")
    told = "says nothing without outer folds; give confirm.outer_folds = 5, or drop it"
    return [(f"confirm.{name}", told) for name in idle if getattr(table, name) != getattr(default, name)]


def unknown_key(name: str, known: list[str], kind: str = "key") -> str:
    """The sentence for a name that no table holds."""
    return str(UnknownNameError(kind, name, known))
