"""From a name or a file to a checked space; every mistake is told at once, with its line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chembench.data.catalog import TASKS
from chembench.errors import ConfigError, UnknownNameError
from chembench.paths import spaces_dir
from chembench.sweep.checks import Problem, check_space
from chembench.sweep.mistakes import Source, is_within, mended_space, told, validated
from chembench.sweep.overrides import apply_overrides
from chembench.sweep.parameters import list_outside_grid
from chembench.sweep.space import Space


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """A shipped space, as `chembench spaces` lists it."""

    name: str
    description: str
    path: str


def shipped_spaces() -> list[SpaceInfo]:
    """Every space that comes with chembench, by name; nothing heavy is imported."""
    found = []
    for path in sorted(spaces_dir().glob("*.toml")):
        data = tomllib.loads(path.read_text())
        found.append(SpaceInfo(path.stem, str(data.get("description", "")), str(path)))
    return found


def space_file(name_or_path: str) -> Path:
    """The file behind ``--space``: a path that exists, or a shipped name.

    Raises:
        ConfigError: if it is neither.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise ConfigError(f"space file {name_or_path} does not exist; see `chembench spaces` for the shipped ones")
        return path
    shipped = {info.name: info.path for info in shipped_spaces()}
    if name_or_path not in shipped:
        raise UnknownNameError("space", name_or_path, shipped)
    return Path(shipped[name_or_path])


def read_space(name_or_path: str, overrides: Sequence[str] = ()) -> Space:
    """The space called ``name_or_path``, with ``--set`` overrides applied, checked whole.

    Args:
        name_or_path: a shipped name or a TOML file.
        overrides: ``key=value`` with a dotted key and a TOML value (a bare word is a string).

    Raises:
        ConfigError: with one sentence per mistake, each with its file, place and line, or with its ``--set``.
    """
    path = space_file(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not valid TOML: {error}") from error
    keys = apply_overrides(data, overrides)
    return space_from(data, Source(path, text, keys))


def space_from(data: dict[str, Any], source: Source | None = None) -> Space:
    """A checked space from TOML-like data.

    Args:
        data: the tables of a space file.
        source: where they are from, for the error messages and for relative paths.

    Raises:
        ConfigError: with one sentence per mistake.
    """
    source = source or Source()
    data = {"name": source.stem, **data}
    data["grid"] = _flat_grid(data.get("grid", {}))
    data["task"] = _whole_tasks(data.get("task", {}))
    problems = _misplaced_lists(data)
    space, broken = None, {place for place, _ in problems}
    try:
        space = judged = validated(data)
    except ValidationError as error:
        problems += told(error, data, broken)
        judged, mended = mended_space(data, error)
        broken |= mended
    problems += [problem for problem in check_space(judged, broken) if not is_within(problem[0], broken)]
    if problems or space is None:
        raise ConfigError([f"{source.of(place)}: {sentence}" for place, sentence in problems])
    base = (source.path.parent if source.path else Path()) / Path(space.base).expanduser()
    return _with_names_written_out(space.model_copy(update={"base": str(base.resolve())}))


def _with_names_written_out(space: Space) -> Space:
    """A JSON file of descriptor names is read once, here: what a sweep stands on is the names, not the file."""
    if not space.labels.descriptors.endswith(".json"):
        return space
    from chembench.chem.descriptors import descriptor_names

    names = descriptor_names(str(Path(space.base) / Path(space.labels.descriptors).expanduser()))
    labels = space.labels.model_copy(update={"descriptors": ",".join(names)})
    return space.model_copy(update={"labels": labels})


def _flat_grid(grid: Any) -> Any:
    if not isinstance(grid, dict):
        return grid
    flat: dict[str, Any] = {}
    for key, value in grid.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": values for inner, values in value.items()}
        else:
            flat[key] = value
    return flat


def _whole_tasks(tables: Any) -> Any:
    """[task.NAME] of a built-in name changes single fields of it; any other name defines a task."""
    if not isinstance(tables, dict):
        return tables
    whole = {}
    for name, table in tables.items():
        known = TASKS[name].model_dump(exclude_none=True) if name in TASKS else {}
        whole[name] = {**known, **table, "name": name} if isinstance(table, dict) else table
    return whole


def _misplaced_lists(data: dict[str, Any]) -> list[Problem]:
    """Lists where a list could only have meant cells, and axes of the grid that are none."""
    problems = []
    for table in ("finetune", "pretrain", "model"):
        for key, value in (data.get(table) or {}).items() if isinstance(data.get(table), dict) else ():
            if isinstance(value, list):
                problems.append((f"{table}.{key}", list_outside_grid(value, table, key)))
    for key, value in data["grid"].items() if isinstance(data["grid"], dict) else ():
        if not isinstance(value, list) or not value:
            way_out = f"write [{value!r}]" if not isinstance(value, list | dict) else "give at least one value"
            problems.append((f"grid.{key}", f"an axis of [grid] is a list of values, got {value!r}; {way_out}"))
        elif len({repr(v) for v in value}) < len(value):
            problems.append((f"grid.{key}", f"an axis must not repeat a value, got {value!r}; drop one"))
    return problems
