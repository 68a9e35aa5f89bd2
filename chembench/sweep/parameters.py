"""What a space may say about one setting: a value, a range, or a choice, possibly under a condition."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

from chembench.config import Spec, round_float

Scalar = str | bool | int | float


def list_outside_grid(value: Any, table: str, key: str) -> str:
    """The sentence for a list where only a value or a distribution may stand, with the ways out that fit the table."""
    rule = f"a list makes cells, which only [grid] may do, got {value!r}"
    table = table.split(".")[0]
    if table == "pretrain":
        return f"{rule}; write one value, or [grid.pretrain] {key} = {value}"
    axes = "[grid]" if table == "model" else f"[grid.{table}]"
    return f"{rule}; write {{ choice = {value} }} for the sampler, or {axes} {key} = {value}"


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
        raise ValueError(list_outside_grid(raw, table, key))
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
    when = _condition(raw.get("when", {}))
    if "choice" in raw:
        return _choice(raw, when)
    return _range(raw, when)


def _condition(raw: Any) -> tuple[tuple[str, Scalar], ...]:
    if not isinstance(raw, dict) or not all(isinstance(value, Scalar) for value in raw.values()):
        raise ValueError(f'when must be a table of single values such as {{ method = "lora" }}, got {raw!r}')
    return tuple(sorted(raw.items()))


def _choice(raw: Mapping[str, Any], when: tuple[tuple[str, Scalar], ...]) -> Parameter:
    values = raw["choice"]
    if not isinstance(values, list) or not values:
        raise ValueError(f"choice must be a list with at least one value, got {values!r}")
    odd = [value for value in values if not isinstance(value, Scalar)]
    if odd:
        raise ValueError(f"choice must hold single values, got {odd[0]!r}; tables and lists cannot be drawn")
    values = [round_float(value) if isinstance(value, float) else value for value in values]
    if len(set(values)) < len(values):
        raise ValueError(f"choice must not repeat a value, got {values!r}")
    extra = set(raw) - {"choice", "when"}
    if extra:
        raise ValueError(f"choice stands alone, without {', '.join(sorted(extra))}")
    return Parameter(choice=tuple(values), when=when)


def _range(raw: Mapping[str, Any], when: tuple[tuple[str, Scalar], ...]) -> Parameter:
    if "low" not in raw or "high" not in raw:
        raise ValueError(f"a distribution needs low and high, or choice; got {dict(raw)!r}")
    low, high = raw["low"], raw["high"]
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    is_integer = isinstance(low, int) and isinstance(high, int)
    low, high = (low, high) if is_integer else (round_float(low), round_float(high))
    if not low < high:
        raise ValueError(f"low must be below high, got low = {low}, high = {high}; swap them")
    log = raw.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    if log and low <= 0:
        raise ValueError(f"log needs low > 0, got low = {low}")
    step = _step(raw, log, is_integer)
    return Parameter(low=low, high=high, log=log, step=step, when=when, is_integer=is_integer)


def _step(raw: Mapping[str, Any], log: bool, is_integer: bool) -> float | None:
    """The step, if there is one and every point of its ladder is exact in the 6 digits that specifications keep."""
    if "step" not in raw:
        return None
    step = raw["step"]
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        raise ValueError(f"step must be a number > 0, got {step!r}")
    if log:
        raise ValueError("log and step exclude each other; drop one")
    if is_integer and not isinstance(step, int):
        raise ValueError(f"step must be a whole number when low and high are, got {step}")
    low, high, width = (Decimal(str(raw[key])) for key in ("low", "high", "step"))
    if (high - low) % width:
        raise ValueError(f"step must divide high - low = {high - low}, got step = {step}; move high or change step")
    finest = min(int(number.normalize().as_tuple().exponent) for number in (low, width))
    if not is_integer and max(abs(low), abs(high)).adjusted() - finest + 1 > 6:
        raise ValueError(f"low, high and step must fit into 6 digits together, got {low}, {high}, {step}; round them")
    return step


def check_values(parameter: Parameter, spec: type[Spec], key: str) -> None:
    """Hold every value the parameter can take against the field of ``spec`` it sets.

    Raises:
        ValueError: if one is refused.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(
        spec.model_fields[key].rebuild_annotation(), config={"strict": True, "allow_inf_nan": False}
    )
    ends = () if parameter.low is None else (parameter.low, parameter.high)
    fixed = () if parameter.is_searched else (parameter.fixed,)
    for value in (*fixed, *(parameter.choice or ()), *ends):
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"{message[:1].lower()}{message[1:]}, got {value!r}") from error
    low, high = parameter.low, parameter.high
    if parameter.is_integer and low is not None and high is not None and _takes_decimals(adapter, low):
        raise ValueError(
            f"whole numbers as ends draw whole numbers only, got low = {low}, high = {high}; "
            f"write low = {float(low)}, high = {float(high)}"
        )


def _takes_decimals(adapter: TypeAdapter[Any], value: float) -> bool:
    try:
        adapter.validate_python(float(value))
    except ValidationError:
        return False
    return True


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
