"""``--set KEY=VALUE``: single settings of a space, changed from the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from chembench.errors import ConfigError

_BARE_WORD = re.compile(r"[A-Za-z0-9_./:~-]+")


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> tuple[str, ...]:
    """Write each override into ``data``.

    Args:
        data: the tables of a space file; changed in place.
        overrides: ``key=value`` with a dotted key and a TOML value (a bare word is a string).

    Returns:
        The dotted keys that were set.

    Raises:
        ConfigError: with one sentence per override that cannot be read.
    """
    keys, problems = [], []
    for override in overrides:
        try:
            keys.append(_apply(data, override))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return tuple(keys)


def _apply(data: dict[str, Any], override: str) -> str:
    key, separator, raw = (part.strip() for part in override.partition("="))
    *tables, last = (part.strip() for part in key.split("."))
    if not separator or not all((*tables, last)):
        raise ValueError(f"--set needs KEY=VALUE, such as grid.molecules=[1000,4000]; got {override!r}")
    value = _value(key, raw)
    place = data
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ValueError(f"--set {key}: '{table}' is a value, not a table; set {key.rpartition('.')[0]} itself")
    place[last] = value
    return key


def _value(key: str, raw: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    if set(parsed) == {"value"}:
        return parsed["value"]
    if not _BARE_WORD.fullmatch(raw):
        raise ValueError(f"--set {key}: the value must be TOML or a bare word, got {raw!r}; put text in quotes")
    return raw
