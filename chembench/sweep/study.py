"""What a study asks for next, as a pure function.

An ask depends on (sweep seed, study, ordinal k, results of the ordinals before the block of k) and on nothing else:
not on the clock, the runner or its concurrency. ``ask_window = w`` makes blocks [iw, (i+1)w); an ask in block i sees
the ordinals below iw. Hence the serial runner, Ray at any concurrency and a resumed sweep ask for the same trials.

The budget counts too: it sets the start-up trials and the population. Where `trials` is raised later, what was asked
stays as it is, and what follows is asked with the new budget.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chembench.config import round_float, stable_seed
from chembench.registry import SAMPLERS
from chembench.specs import Status
from chembench.sweep.parameters import Parameter, Scalar


@dataclass(frozen=True, slots=True)
class Told:
    """One earlier trial of the study, in a final state."""

    ordinal: int
    params: Mapping[str, Scalar]
    status: Status
    objectives: tuple[float, ...]
    """After each epoch, lower is better."""
    objective: float | None
    """The trial's own value; none unless it finished."""


@dataclass(frozen=True, slots=True)
class Study:
    """What a study is: its name, its parameters, its sampler."""

    name: str
    parameters: Mapping[str, Parameter]
    sampler: str
    trials: int
    window: int
    seed: int

    def block_start(self, ordinal: int) -> int:
        """First ordinal of the block of ``ordinal``; an ask sees the results below it."""
        return ordinal // self.window * self.window

    @property
    def startup_trials(self) -> int:
        return max(1, min(4, self.trials // 3))

    @property
    def population(self) -> int:
        """Trials of one generation of ``nsgaii``: a sixth of the budget, so that several generations follow."""
        return max(4, min(50, self.trials // 6))


def ask(study: Study, ordinal: int, earlier: Sequence[Told]) -> dict[str, Scalar]:
    """The values of ordinal k, of the searched parameters that are active.

    Args:
        study: the study.
        ordinal: k, from 0.
        earlier: trials of the study; those at or above the block of k are ignored.
    """
    seen = sorted((t for t in earlier if t.ordinal < study.block_start(ordinal)), key=lambda t: t.ordinal)
    if study.sampler == "grid":
        return grid_point(study, ordinal)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna_study = optuna.create_study(
            study_name=study.name, sampler=_sampler(study, ordinal), direction="minimize"
        )
        distributions = {name: distribution(p) for name, p in study.parameters.items() if p.is_searched}
        generations = _generations(study, seen)
        for told in seen:
            optuna_study.add_trial(_frozen(told, distributions, generations[told.ordinal]))
        trial = optuna_study.ask()
        return _draw(study.parameters, trial)


def _draw(parameters: Mapping[str, Parameter], trial: Any) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {n: p.fixed for n, p in parameters.items() if not p.is_searched and p.fixed is not None}
    drawn: dict[str, Scalar] = {}
    for name, parameter in ordered(parameters):
        if parameter.is_searched and parameter.is_active(values):
            value = _suggest(trial, name, parameter)
            drawn[name] = values[name] = round_float(value) if isinstance(value, float) else value
    return drawn


def _suggest(trial: Any, name: str, parameter: Parameter) -> Scalar:
    if parameter.choice is not None:
        value: Scalar = trial.suggest_categorical(name, parameter.choice)
    elif parameter.is_integer:
        value = trial.suggest_int(name, parameter.low, parameter.high, step=int(parameter.step or 1), log=parameter.log)
    else:
        value = trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    return value


def ordered(parameters: Mapping[str, Parameter]) -> list[tuple[str, Parameter]]:
    """Parameters by name, each behind those that its condition needs.

    Raises:
        ValueError: if the conditions form a ring.
    """
    done: dict[str, Parameter] = {}
    waiting = dict(sorted(parameters.items()))
    while waiting:
        ready = [n for n, p in waiting.items() if all(w not in waiting for w, _ in p.when)]
        if not ready:
            raise ValueError(f"conditions of {', '.join(waiting)} form a ring; break it")
        for name in ready:
            done[name] = waiting.pop(name)
    return list(done.items())


def _sampler(study: Study, ordinal: int) -> Any:
    make = SAMPLERS.load(study.sampler)
    seed = stable_seed(study.seed, "ask", study.name, ordinal)
    options: dict[str, dict[str, Any]] = {
        "tpe": {"n_startup_trials": study.startup_trials},
        "gp": {"n_startup_trials": study.startup_trials, "warn_independent_sampling": False},
        "nsgaii": {"population_size": study.population},
    }
    return make(seed=seed, **options.get(study.sampler, {}))


def _generations(study: Study, seen: Sequence[Told]) -> dict[int, int]:
    """Generation of each trial for ``nsgaii``, which keeps it in its storage; without it every ask would be random.

    A trial is of the newest generation that its ask saw, or of the next one if that was full.
    """
    generations: dict[int, int] = {}
    for told in seen:
        visible = [t for t in seen if t.ordinal < study.block_start(told.ordinal) and t.status == "finished"]
        newest = max((generations[t.ordinal] for t in visible), default=0)
        is_full = sum(generations[t.ordinal] == newest for t in visible) >= study.population
        generations[told.ordinal] = newest + is_full
    return generations


def distribution(parameter: Parameter) -> Any:
    """The Optuna distribution of a searched parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice)
    assert parameter.low is not None and parameter.high is not None
    if parameter.is_integer:
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)


def _frozen(told: Told, distributions: Mapping[str, Any], generation: int) -> Any:
    from optuna.trial import TrialState, create_trial

    state = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[told.status]
    value = told.objective if told.status == "finished" else None
    if told.status == "pruned" and told.objectives:
        value = told.objectives[-1]
    return create_trial(
        state=state,
        params=dict(told.params),
        distributions={name: distributions[name] for name in told.params},
        value=value,
        intermediate_values=dict(enumerate(told.objectives)),
        system_attrs={"NSGAIISampler:generation": generation},
    )


def grid_point(study: Study, ordinal: int) -> dict[str, Scalar]:
    """The sampler ``grid``: the k-th combination of all choices, in an order shuffled by the study's seed.

    Raises:
        ValueError: if a parameter is a range, which has no last combination.
    """
    points: list[dict[str, Scalar]] = [{}]
    fixed = {n: p.fixed for n, p in study.parameters.items() if not p.is_searched and p.fixed is not None}
    for name, parameter in ordered(study.parameters):
        if not parameter.is_searched:
            continue
        if parameter.choice is None:
            raise ValueError(f"sampler 'grid' needs a choice for every searched parameter, '{name}' is a range")
        points = [
            {**point, name: value} if parameter.is_active({**fixed, **point}) else point
            for point, value in itertools.product(points, parameter.choice)
        ]
    unique = {tuple(sorted(point.items())): point for point in points}
    order = sorted(unique, key=lambda key: stable_seed(study.seed, "grid", study.name, key))
    return unique[order[ordinal % len(order)]]
