"""The base of every specification: frozen, checked, and named by a digest."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

DIGEST_LENGTH = 12


@lru_cache(maxsize=65_536)
def _to_6_digits(value: float) -> float:
    return float(f"{value:.6g}")


def round_float(value: float) -> float:
    """``value`` to 6 significant digits, so that a digest does not hang on the last bit of a logarithm."""
    return _to_6_digits(value) if value else value  # 0.0 and -0.0 are equal, and two values


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round_float(value)
    if isinstance(value, tuple):
        return tuple(_rounded(v) for v in value)
    return value


def _canonical(value: Any, dumped: Any) -> Any:
    """``dumped``, the JSON of ``value``, with every specification inside it in its canonical form."""
    if isinstance(value, Spec):
        return value.canonical()
    if isinstance(value, tuple):
        return [_canonical(inner, json_value) for inner, json_value in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), dumped.items(), strict=True)
        return {key: _canonical(inner, json_value) for inner, (key, json_value) in pairs}
    return dumped


def canonical_json(value: Any) -> str:
    """``value`` as JSON in the one form that digests are made of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Within the block nobody looks for cycles of garbage, a third of the time where many objects are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def digest_of(value: Any) -> str:
    """12 hex digits that name a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


def stable_seed(*parts: object) -> int:
    """A 31-bit seed derived from ``parts``: the same on every machine, independent between streams."""
    return int(hashlib.sha256(canonical_json([str(p) for p in parts]).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def mistakes_in(error: ValidationError) -> str:
    """What does not fit a specification, in one line: each field with what is wrong."""
    told = []
    for mistake in error.errors():
        text = mistake["msg"].removeprefix("Value error, ")
        is_unknown = mistake["type"] == "extra_forbidden"
        what = "is not known" if is_unknown else f"{text[:1].lower()}{text[1:]}, got {mistake['input']!r}"
        told.append(f"{'.'.join(map(str, mistake['loc']))}: {what}")
    return ", ".join(told)


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version such as ``1.20.3+cpu``, to compare two by; none in what is no version."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


_PLAIN = {str, int, float, bool, type(None)}


def _is_kept(kind: Any) -> bool:
    """Whether values of this type are left as they are: those without a float, and those that see to it themselves."""
    return kind in {str, int, bool, dict, type(None)} or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _held(annotation: Any) -> set[Any]:
    """The types that a field of this annotation can hold, of a literal those of its values."""
    origin = get_origin(annotation)
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if origin is Annotated:
        return _held(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(_held, get_args(annotation)))
    return {origin or annotation}


class Spec(BaseModel):
    """A frozen value that says what to do; floats are rounded to 6 significant digits on creation.

    Floats inside tables are left as they are: those of an outcome hold moments and scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    born_later: ClassVar[Mapping[str, Any]] = {}
    """Fields added after the first release, with the value that leaves old digests as they were."""
    _rounds: ClassVar[tuple[str, ...]] = ()
    """Fields that can hold a float or a tuple; a long ledger holds a million others."""
    _nests: ClassVar[tuple[str, ...]] = ()
    """Fields that can hold more than one value."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        held = {name: _held(field.annotation) for name, field in cls.model_fields.items()}
        cls._rounds = tuple(name for name, types in held.items() if not all(map(_is_kept, types)))
        cls._nests = tuple(name for name, types in held.items() if types - _PLAIN)

    @model_validator(mode="after")
    def _round(self) -> Self:
        # once a specification, not once a field: a long ledger holds a million fields
        fields = self.__dict__
        for name in self._rounds:
            fields[name] = _rounded(fields[name])
        return self

    def canonical(self) -> dict[str, Any]:
        """The fields as JSON values, without those that stand at the value they were born with."""
        data = self.model_dump(mode="json")
        for name in self._nests:
            data[name] = _canonical(getattr(self, name), data[name])
        for name, value in self.born_later.items():
            if name in data and getattr(self, name) == value:
                del data[name]
        return data

    @property
    def digest(self) -> str:
        """Name of this specification: 12 hex digits, the same on every machine and in every later version."""
        return digest_of(self.canonical())
