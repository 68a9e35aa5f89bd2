"""What a space may say about one setting: a value, a range, or a choice, possibly under a condition."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from chembench.config import Spec, round_float

Scalar = str | bool | int | float
TWO_WAYS_OUT = (
    "a list makes cells, which only [grid] may do; "
    "write {{ choice = {value} }} for the sampler, or [grid.{table}] {key} = {value}"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of a recipe: fixed, or drawn by the sampler.

    At most one of ``fixed``, ``choice`` and ``low``/``high`` is given; none of them means the value none.
    """

    fixed: Scalar | None = None
    choice: tuple[Scalar, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: tuple[tuple[str, Scalar], ...] = ()
    is_integer: bool = False

    @property
    def is_searched(self) -> bool:
        return self.choice is not None or self.low is not None

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds for the ``values`` drawn so far."""
        return all(values.get(name) == wanted for name, wanted in self.when)


def parse_parameter(raw: Any, table: str, key: str) -> Parameter:
    """A setting as it stands in the TOML file.

    Raises:
        ValueError: with the rule, the value and the way out.
    """
    if isinstance(raw, list):
        raise ValueError(TWO_WAYS_OUT.format(value=raw, table=table, key=key))
    if raw == "none":
        return Parameter()
    if not isinstance(raw, dict):
        return Parameter(fixed=round_float(raw) if isinstance(raw, float) else raw)
    known = {"low", "high", "log", "step", "choice", "when"}
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"unknown key '{name}' in a distribution{hint}; known: {', '.join(sorted(known))}")
    when = tuple(sorted((raw.get("when") or {}).items()))
    if "choice" in raw:
        return _choice(raw, when)
    return _range(raw, when)


def _choice(raw: Mapping[str, Any], when: tuple[tuple[str, Scalar], ...]) -> Parameter:
    values = raw["choice"]
    if not isinstance(values, list) or not values:
        raise ValueError(f"choice must be a list with at least one value, got {values!r}")
    if len({repr(v) for v in values}) < len(values):
        raise ValueError(f"choice must not repeat a value, got {values!r}")
    extra = set(raw) - {"choice", "when"}
    if extra:
        raise ValueError(f"choice stands alone, without {', '.join(sorted(extra))}")
    return Parameter(choice=tuple(round_float(v) if isinstance(v, float) else v for v in values), when=when)


def _range(raw: Mapping[str, Any], when: tuple[tuple[str, Scalar], ...]) -> Parameter:
    if "low" not in raw or "high" not in raw:
        raise ValueError(f"a distribution needs low and high, or choice; got {dict(raw)!r}")
    low, high = raw["low"], raw["high"]
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if not low < high:
        raise ValueError(f"low must be below high, got low = {low}, high = {high}; swap them")
    log = raw.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    step = raw.get("step")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | float) or step <= 0):
        raise ValueError(f"step must be a number > 0, got {step!r}")
    if log and low <= 0:
        raise ValueError(f"log needs low > 0, got low = {low}")
    if log and step is not None:
        raise ValueError("log and step exclude each other; drop one")
    is_integer = isinstance(low, int) and isinstance(high, int)
    if is_integer and isinstance(step, float):
        raise ValueError(f"step must be a whole number when low and high are, got {step}")
    low, high = (low, high) if is_integer else (round_float(low), round_float(high))
    return Parameter(low=low, high=high, log=log, step=step, when=when, is_integer=is_integer)


def check_values(parameter: Parameter, spec: type[Spec], key: str) -> None:
    """Hold every value the parameter can take against the field of ``spec`` it sets.

    Raises:
        ValueError: if one is refused.
    """
    field = spec.model_fields[key]
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation(), config={"strict": False})
    fixed = () if parameter.is_searched else (parameter.fixed,)
    ends = () if parameter.low is None else (parameter.low, parameter.high)
    for value in (*fixed, *(parameter.choice or ()), *ends):
        try:
            adapter.validate_python(value, strict=not isinstance(value, int) or isinstance(value, bool))
        except ValidationError as error:
            raise ValueError(
                f"{error.errors()[0]['msg'][:1].lower()}{error.errors()[0]['msg'][1:]}, got {value!r}"
            ) from error
    if parameter.low is not None and not parameter.is_integer and "int" in str(field.annotation):
        raise ValueError(f"needs whole numbers, got low = {parameter.low}, high = {parameter.high}")


def as_toml(parameter: Parameter) -> Any:
    """The parameter in the form a space file uses."""
    if not parameter.is_searched and not parameter.when:
        return "none" if parameter.fixed is None else parameter.fixed
    out: dict[str, Any] = {}
    if parameter.choice is not None:
        out["choice"] = list(parameter.choice)
    else:
        out |= {"low": parameter.low, "high": parameter.high}
        if parameter.log:
            out["log"] = True
        if parameter.step is not None:
            out["step"] = parameter.step
    if parameter.when:
        out["when"] = dict(parameter.when)
    return out
