"""The mixed model beside the sums of squares: factors fixed; configurations, checkpoints, tasks and splits random."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from chembench.errors import DataError
from chembench.statistics.estimates import Value, mean
from chembench.statistics.factors import SCALE, Run, standardised

AT_ZERO = 1e-3
"""A random effect with a smaller share of all variance is at the border, where no fit converges."""


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
    joint_p: dict[str, float | None]
    """Factor -> p of all its levels together (Wald)."""
    variances: dict[str, float]
    """Random effect -> variance; ``rest`` is what is left."""
    converged: bool
    notes: tuple[str, ...]
    """What the fit complained of; a model that did not converge is not to be relied on."""


def mixed(runs: Iterable[Run]) -> Mixed:
    """Fit standardised scores with statsmodels' MixedLM by REML.

    Head seeds are averaged. A task's main effect is taken off by the scale, so that the random effect of a task is what
    it does to the levels of each factor; splits are nested in tasks.

    Raises:
        DataError: if runs are malformed, no factor has two levels, or there are fewer than two tasks and two splits.
    """
    import pandas as pd

    kept = sorted(runs, key=lambda run: (run.task, run.configuration, run.key))
    table = pd.DataFrame(_cells(kept))
    factors = [name for name in sorted(kept[0].levels) if table[_column(name)].nunique() > 1]
    if not factors:
        raise DataError("a mixed model needs a factor with two levels, every run has the same; compare more cells")
    random = _random(table, factors)
    if not random:
        raise DataError("a mixed model needs two tasks or two splits, got one of each; add tasks or splits")
    formula = "score ~ " + " + ".join(f"C({_column(name)})" for name in factors)
    notes: list[str] = []
    while True:
        fitted, variances, complaints = _fit(formula, table, random)
        smallest = min(random, key=lambda name: variances[name])
        if fitted.converged or len(random) < 2 or variances[smallest] > AT_ZERO * sum(variances.values()):
            break
        notes.append(f"the variance of {smallest} is at zero: it was left out and the rest fitted again")
        random = {name: effect for name, effect in random.items() if name != smallest}
    if not fitted.converged:
        notes += [*complaints, "the fit did not converge: do not rely on it"]
    return Mixed(
        formula="score ~ " + " + ".join(factors) + "; random: " + ", ".join(random),
        scale=SCALE,
        coefficients=tuple(_coefficients(fitted, table, factors)),
        joint_p={name: _joint(fitted, name) for name in factors},
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
            fitted = model.fit(reml=True)
        except np.linalg.LinAlgError as error:
            raise DataError(
                f"the mixed model cannot be solved ({error}); leave out factors that go together"
            ) from error
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
    found["configuration"] = "0 + C(configuration)"
    if table["checkpoint"].nunique() > table["configuration"].nunique():
        found["checkpoint"] = "0 + C(checkpoint)"
    if splits > tasks:
        found["split"] = "0 + C(split)"
    if tasks > 1:
        found |= {f"{name} x task": f"0 + C({_column(name)}):C(task)" for name in factors}
    return found


def _coefficients(fitted: Any, table: Any, factors: Sequence[str]) -> Iterable[Coefficient]:
    intervals = fitted.conf_int()
    for name in factors:
        levels = sorted(table[_column(name)].unique())
        for level in levels[1:]:
            label = f"C({_column(name)})[T.{level}]"
            low, high = (float(edge) for edge in intervals.loc[label])
            p = float(fitted.pvalues[label])
            yield Coefficient(
                factor=name,
                level=level,
                against=levels[0],
                value=float(fitted.params[label]),
                low=low if np.isfinite(low) else None,
                high=high if np.isfinite(high) else None,
                p=p if np.isfinite(p) else None,
            )


def _joint(fitted: Any, name: str) -> float | None:
    labels = [label for label in fitted.fe_params.index if label.startswith(f"C({_column(name)})[")]
    picked = np.zeros((len(labels), len(fitted.params)))
    for row, label in enumerate(labels):
        picked[row, list(fitted.params.index).index(label)] = 1
    p = float(np.squeeze(fitted.wald_test(picked, scalar=True).pvalue))
    return p if np.isfinite(p) else None
