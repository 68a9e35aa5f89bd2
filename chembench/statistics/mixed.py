"""The mixed model beside the sums of squares: factors fixed; configurations, checkpoints, tasks and splits random."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from chembench.errors import DataError
from chembench.statistics.estimates import CONFIDENCE, Value, mean
from chembench.statistics.factors import SCALE, Run, standardised

AT_ZERO = 1e-3
"""A random effect with a smaller share of all variance is at the border, where no fit converges."""
WAYS = ("lbfgs", "bfgs", "cg", "powell")
"""Of finding the largest likelihood: each ends elsewhere on a flat one, and what counts is the largest."""
NEAR = 1e-3
"""Log-likelihoods that lie nearer together are one and the same."""


class Coefficient(Value):
    """A level against the first level of its factor, in standard deviations of configurations; higher is better."""

    factor: str
    level: str
    against: str
    value: float
    low: float | None
    high: float | None
    p: float | None


class Mixed(Value):
    """A fitted mixed model."""

    formula: str
    scale: str
    coefficients: tuple[Coefficient, ...]
    """Empty if the fit did not converge."""
    joint_p: dict[str, float | None]
    """Factor -> p of all its levels together; empty if the fit did not converge."""
    variances: dict[str, float]
    """Random effect -> variance; ``rest`` is what is left."""
    converged: bool
    notes: tuple[str, ...]
    """What was left out, and what the fit complained of."""


def mixed(runs: Iterable[Run]) -> Mixed:
    """Fit standardised scores with statsmodels' MixedLM by REML.

    Head seeds are averaged. A task's main effect is taken off by the scale, so that the random effect of a task is what
    it does to the levels of each factor, in contrasts that sum to zero; splits are nested in tasks. A factor whose
    levels are the same in all tasks is as sure as there are tasks: t and F have that many degrees of freedom, less one,
    and no more than configurations leave.

    Raises:
        DataError: if runs are malformed, no factor has two levels, there are fewer than two tasks and two splits, or
            the scores leave no variance.
    """
    import pandas as pd

    kept = sorted(runs, key=lambda run: (run.task, run.configuration, run.key))
    table = pd.DataFrame(_cells(kept))
    factors = [name for name in sorted(kept[0].levels) if table[_column(name)].nunique() > 1]
    if not factors:
        raise DataError("a mixed model needs a factor with two levels, every run has the same; compare more cells")
    table = table.assign(**_contrasts(table, factors))
    random = _random(table, factors)
    if not random:
        raise DataError("a mixed model needs two tasks or two splits, got one of each; add tasks or splits")
    formula = "score ~ " + " + ".join(f"C({_column(name)})" for name in factors)
    notes: list[str] = []
    while True:
        fitted, variances, complaints = _fit(formula, table, random)
        smallest = min(random, key=lambda name: variances[name])
        if len(random) < 2 or variances[smallest] > AT_ZERO * sum(variances.values()):
            break
        notes.append(f"the variance of {smallest} is at zero: it was left out and the rest fitted again")
        random = {name: effect for name, effect in random.items() if name != smallest}
    if not fitted.converged:
        notes += [*complaints, "the fit did not converge: no coefficients are given"]
    freedom = {name: _freedom(table, factors, random, name) for name in factors} if fitted.converged else {}
    return Mixed(
        formula="score ~ " + " + ".join(factors) + "; random: " + ", ".join(random),
        scale=SCALE,
        coefficients=tuple(_coefficients(fitted, table, freedom)),
        joint_p={name: _joint(fitted, name, left) for name, left in freedom.items()},
        variances=variances,
        converged=bool(fitted.converged),
        notes=tuple(notes),
    )


def _fit(formula: str, table: Any, random: dict[str, str]) -> tuple[Any, dict[str, float], tuple[str, ...]]:
    """The fitted model, its variances, and what it complained of."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MixedLM.from_formula(formula, table, groups=np.ones(len(table)), vc_formula=random, re_formula="0")
        try:
            ended = [model.fit(reml=True, method=[way]) for way in WAYS]
        except (np.linalg.LinAlgError, ValueError) as error:
            raise DataError(
                f"the mixed model cannot be solved ({error}); leave out factors that go together, or scores that are "
                "all alike"
            ) from error
    largest = max(float(one.llf) for one in ended)
    fitted = max(ended, key=lambda one: (float(one.llf) > largest - NEAR, bool(one.converged), float(one.llf)))
    variances = {**dict(zip(model.exog_vc.names, map(float, fitted.vcomp), strict=True)), "rest": float(fitted.scale)}
    return fitted, variances, tuple(dict.fromkeys(str(entry.message).splitlines()[0] for entry in caught))


def _column(factor: str) -> str:
    """A name that a formula can hold."""
    return "f_" + "".join(letter if letter.isalnum() else "_" for letter in factor)


def _cells(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Means over head seeds."""
    cells: dict[tuple[Any, ...], list[float]] = {}
    first: dict[tuple[Any, ...], Run] = {}
    for run, score in zip(runs, standardised(runs), strict=True):
        place = (run.task, run.configuration, run.key[0], (run.key[3], run.key[1]))
        cells.setdefault(place, []).append(score)
        first.setdefault(place, run)
    return [
        {
            "score": mean(values),
            "task": place[0],
            "configuration": "/".join(level for _, level in place[1]),
            "checkpoint": f"{place[1]}-{place[2]}",
            "split": f"{place[0]}-{place[3]}",
            **{_column(name): level for name, level in first[place].levels.items()},
        }
        for place, values in cells.items()
    ]


def _random(table: Any, factors: Sequence[str]) -> dict[str, str]:
    """Random effects that have levels enough to be seen."""
    found = {}
    tasks, splits = table["task"].nunique(), table["split"].nunique()
    if tasks < 2 and splits < 2:
        return {}
    if _left(table, factors) > 0:  # else a configuration is its level
        found["configuration"] = "0 + C(configuration)"
    if table["checkpoint"].nunique() > table["configuration"].nunique():
        found["checkpoint"] = "0 + C(checkpoint)"
    if splits > tasks:
        found["split"] = "0 + C(split)"
    if tasks > 1:
        for name in factors:
            own = [column for column in table.columns if column.startswith(f"c_{_column(name)}_")]
            found[f"{name} x task"] = "0 + " + " + ".join(f"{column}:C(task)" for column in own)
    return found


def _contrasts(table: Any, factors: Sequence[str]) -> dict[str, Any]:
    """Orthonormal columns of each factor's levels that sum to zero over them."""
    found = {}
    for name in factors:
        levels = sorted(table[_column(name)].unique())
        basis, _ = np.linalg.qr(np.eye(len(levels))[:, :-1] - 1 / len(levels))
        for place in range(len(levels) - 1):
            of = {level: float(basis[row, place]) for row, level in enumerate(levels)}
            found[f"c_{_column(name)}_{place}"] = table[_column(name)].map(of)
    return found


def _freedom(table: Any, factors: Sequence[str], random: dict[str, str], name: str) -> float:
    """Degrees of freedom of a factor's levels: of tasks where those change what it does, and of configurations."""
    configurations = table["configuration"].nunique()
    kinds = _left(table, factors) or table["checkpoint"].nunique() - configurations or math.inf
    tasks = table["task"].nunique() - 1 if f"{name} x task" in random else math.inf
    least = min(tasks, kinds)
    return float(max(1, least if math.isfinite(least) else len(table) - configurations))


def _left(table: Any, factors: Sequence[str]) -> int:
    """Degrees of freedom of configurations that the factors leave."""
    return int(table["configuration"].nunique() - 1 - sum(table[_column(one)].nunique() - 1 for one in factors))


def _coefficients(fitted: Any, table: Any, freedom: Mapping[str, float]) -> Iterable[Coefficient]:
    from scipy.stats import t

    for name, left in freedom.items():
        levels = sorted(table[_column(name)].unique())
        for level in levels[1:]:
            label = f"C({_column(name)})[T.{level}]"
            value, error = float(fitted.params[label]), float(fitted.bse[label])
            half, p = error * float(t.ppf(0.5 + CONFIDENCE / 2, left)), 2 * float(t.sf(abs(value) / error, left))
            is_known = bool(np.isfinite(half) and np.isfinite(p))
            yield Coefficient(
                factor=name,
                level=level,
                against=levels[0],
                value=value,
                low=value - half if is_known else None,
                high=value + half if is_known else None,
                p=p if is_known else None,
            )


def _joint(fitted: Any, name: str, freedom: float) -> float | None:
    from scipy.stats import f

    labels = [label for label in fitted.fe_params.index if label.startswith(f"C({_column(name)})[")]
    picked = np.zeros((len(labels), len(fitted.params)))
    for row, label in enumerate(labels):
        picked[row, list(fitted.params.index).index(label)] = 1
    squares = float(np.squeeze(fitted.wald_test(picked, scalar=True).statistic))
    p = float(f.sf(squares / len(labels), len(labels), freedom))
    return p if np.isfinite(p) else None
