"""What is wrong in a space file, told in our words, each mistake with its place, line or ``--set``."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chembench.sweep.checks import Problem, unknown_key
from chembench.sweep.space import Space

STAND_INS: Mapping[str, Any] = {
    "name": "space",
    "tasks": ["delaney"],
    "corpus": {"files": ["none.smi"], "validation": 1},
    "corpus.files": ["none.smi"],
    "corpus.validation": 1,
    "finetune": {},
    "search": {"trials": 1},
    "search.trials": 1,
}
"""What must be given, with a value that lets the rest of the file be judged."""
_TABLE_ERRORS = ("model_type", "model_attributes_type", "dict_type")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings of a space are from."""

    path: Path | None = None
    text: str = ""
    overridden: tuple[str, ...] = ()
    """Dotted keys that came from ``--set``."""

    @property
    def stem(self) -> str:
        return self.path.stem if self.path else "space"

    def of(self, place: str) -> str:
        """How a person finds ``place``: the file with the line, or the option that set it."""
        for key in self.overridden:
            if is_within(place, [key]) or ("." in place and is_within(key, [place])):
                return f"--set {place}"
        return f"{self.path.name if self.path else 'space'}{_line(self.text, place)}: {place}"


def is_within(place: str, others: Collection[str]) -> bool:
    """Whether ``place`` is one of the ``others`` or inside one."""
    return any(place == other or place.startswith(f"{other}.") for other in others)


def validated(data: Mapping[str, Any]) -> Space:
    """The space of ``data``, types taken strictly: ``"3"`` is no number, 2.0 no whole one.

    Raises:
        ValidationError: with every mistake.
    """
    return Space.model_validate_json(json.dumps(data, default=str), strict=True)


def told(error: ValidationError, data: Mapping[str, Any], known: Collection[str]) -> list[Problem]:
    """One problem per place, in our form; places in ``known`` were told before."""
    problems: dict[str, str] = {}
    for mistake in error.errors():
        path = _path(mistake, data)
        place = _dotted(path)
        if not is_within(place, known):
            problems.setdefault(place, _sentence(mistake, path, is_union=len(path) < len(mistake["loc"])))
    return list(problems.items())


def mended_space(data: Mapping[str, Any], error: ValidationError) -> tuple[Space, set[str]]:
    """The space with stand-ins where ``error`` points, so that the rest can be judged; never to be swept.

    Returns:
        The space, and the dotted places of the stand-ins.
    """
    mended = copy.deepcopy(dict(data))
    places = set()
    for path in dict.fromkeys(_path(mistake, data) for mistake in error.errors()):
        if path[0] == "task" and len(path) > 1:
            mended["task"][path[1]] = {"name": "task", "kind": "regression", "targets": ["y"], "file": "none.csv"}
            places.add(_dotted(path[:2]))
        else:
            places.add(_dotted(_stand_in(mended, path)))
    return validated(mended), places


def _stand_in(data: dict[str, Any], path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop the innermost table entry on ``path``, or put what must stand there."""
    holder: Any = data
    depth = 0
    while depth + 1 < len(path) and isinstance(holder.get(path[depth]), dict):
        holder, depth = holder[path[depth]], depth + 1
    place = path[: depth + 1]
    if (dotted := _dotted(place)) in STAND_INS:
        holder[path[depth]] = copy.deepcopy(STAND_INS[dotted])
    else:
        holder.pop(path[depth], None)
    return place


def _path(mistake: Any, data: Mapping[str, Any]) -> tuple[Any, ...]:
    """The place of a mistake without the names that pydantic gives to the members of a union."""
    if mistake["type"] == "missing":
        return tuple(mistake["loc"])
    node: Any = data
    path = []
    for part in mistake["loc"]:
        inside = part in node if isinstance(node, dict) else isinstance(node, list) and isinstance(part, int)
        if not inside:
            break
        node = node[part]
        path.append(part)
    return tuple(path)


def _dotted(path: tuple[Any, ...]) -> str:
    parts = map(str, path)
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_.-]+", part) and ".." not in part else f'"{part}"' for part in parts
    )


def _sentence(mistake: Any, path: tuple[Any, ...], is_union: bool) -> str:
    got = f"got {mistake['input']!r}"
    if mistake["type"] == "extra_forbidden":
        return unknown_key(str(path[-1]), _known_keys(path))
    if mistake["type"] == "missing":
        return f"'{path[-1]}' has no default and must be given"
    if is_union:
        return f"must be text, a number, true or false, {got}"
    if mistake["type"] in _TABLE_ERRORS:
        return f"must be a table, {got}; write [{_dotted(path)}]"
    message = mistake["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return message if "got" in message or mistake["type"] == "value_error" else f"{message}, {got}"


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    model: Any = Space
    for part in path[:-1]:
        field = model.model_fields.get(part)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in reversed(candidates) if hasattr(c, "model_fields")), model)
    return list(model.model_fields)


def _line(text: str, place: str) -> str:
    """`` (line N)`` where the dotted place stands in the file; its table's header if only that stands there."""
    wanted = list(_parts(place))
    table: list[str] = []
    best = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        key = re.match(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|\.)+)\s*=", line)
        if header:
            table = list(_parts(header.group(1)))
            if table == wanted[: len(table)]:
                best = f" (line {number})"
        elif key:
            here = [*table, *_parts(key.group(1))]
            if here == wanted[: len(here)]:
                return f" (line {number})"
    return best


def _parts(dotted: str) -> Iterator[str]:
    """The parts of a dotted key; quoted ones may hold dots."""
    for match in re.finditer(r'"([^"]*)"|([^.\s"]+)', dotted):
        yield match[1] if match[1] is not None else match[2]
