"""From a name or a file to a checked space; every mistake is told at once, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chembench.data.catalog import TASKS
from chembench.errors import ConfigError, UnknownNameError
from chembench.paths import safe_name, spaces_dir
from chembench.sweep.checks import Problem, check_space, unknown_key
from chembench.sweep.parameters import TWO_WAYS_OUT
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
        ConfigError: with one sentence per mistake, each with its file, place and line.
    """
    path = space_file(name_or_path)
    text = path.read_text()
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name}: not valid TOML: {error}") from error
    for override in overrides:
        _override(data, override)
    return space_from(data, source=path, text=text)


def space_from(data: dict[str, Any], source: Path | None = None, text: str = "") -> Space:
    """A checked space from TOML-like data; ``source`` and ``text`` serve the error messages."""
    data = dict(data)
    data["grid"] = _flat_grid(data.get("grid", {}))
    data["task"] = _whole_tasks(data.get("task", {}))
    problems: list[Problem] = _bare_lists(data)
    space = None
    try:
        space = Space.model_validate({**data, "name": data.get("name", source.stem if source else "space")})
        safe_name("space", space.name)
    except ValidationError as error:
        problems += [_told(e) for e in error.errors() if not _shadowed(e, problems)]
    except ConfigError as error:
        problems.append(("name", str(error)))
    if space is not None:
        known = {place for place, _ in problems}
        problems += [p for p in check_space(space) if p[0] not in known]
    if problems or space is None:
        name = source.name if source else "space"
        raise ConfigError([f"{name}{_line(text, place)}: {place}: {sentence}" for place, sentence in problems])
    if source is not None:
        space._base = str(source.resolve().parent)
    return space


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


def _bare_lists(data: dict[str, Any]) -> list[Problem]:
    """Lists where a list could only have meant cells."""
    problems = []
    for table in ("finetune", "pretrain", "model"):
        for key, value in (data.get(table) or {}).items() if isinstance(data.get(table), dict) else ():
            if isinstance(value, list):
                problems.append((f"{table}.{key}", TWO_WAYS_OUT.format(value=value, table=table, key=key)))
    for key, value in data["grid"].items() if isinstance(data["grid"], dict) else ():
        if not isinstance(value, list) or not value:
            problems.append((f"grid.{key}", f"an axis of [grid] is a list of values, got {value!r}; write [{value!r}]"))
        elif len({repr(v) for v in value}) < len(value):
            problems.append((f"grid.{key}", f"an axis must not repeat a value, got {value!r}"))
    return problems


def _shadowed(error: Any, problems: list[Problem]) -> bool:
    place = ".".join(str(part) for part in error["loc"])
    return any(place == told or place.startswith(told + ".") for told, _ in problems)


def _told(error: Any) -> Problem:
    """One pydantic error as a place and a sentence in our form."""
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return place, unknown_key(str(error["loc"][-1]), _known_keys(error["loc"]))
    if error["type"] == "missing":
        return place, f"'{error['loc'][-1]}' has no default and must be given"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return place, message if "got" in message or error[
        "type"
    ] == "value_error" else f"{message}, got {error['input']!r}"


def _known_keys(place: tuple[Any, ...]) -> list[str]:
    model: Any = Space
    for part in place[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in reversed(candidates) if hasattr(c, "model_fields")), model)
    return list(model.model_fields)


def _override(data: dict[str, Any], override: str) -> None:
    key, separator, raw = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set needs KEY=VALUE, such as grid.molecules=[1000,4000]; got {override!r}")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        if not re.fullmatch(r"[A-Za-z0-9_./:-]+", raw):
            raise ConfigError(f"--set {key}: the value must be TOML or a bare word, got {raw!r}") from None
        value = raw
    *tables, last = key.strip().split(".")
    place = data
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{table}' is no table")
    place[last] = value


def _line(text: str, place: str) -> str:
    """`` (line N)`` where the dotted place stands in the file, if it does."""
    table: list[str] = []
    wanted = place.split(".")
    best = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = [part.strip() for part in header.group(1).split(".")]
            if table == wanted[: len(table)]:
                best = f" (line {number})"
            continue
        key = re.match(r"\s*([A-Za-z0-9_.\"-]+)\s*=", line)
        if key:
            here = [*table, *key.group(1).replace('"', "").split(".")]
            if here == wanted[: len(here)]:
                return f" (line {number})"
    return best
