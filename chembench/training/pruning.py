"""Whether a trial had better stop: Optuna's pruners, asked about a table of earlier trials.

The decision is a pure function of the rung table and the trial's objectives so far: an in-memory study is built by
replaying the earlier trials epoch by epoch in the order of their ordinals, and the pruner, which may keep notes in that
study, is asked after every epoch as it was when they ran. Epochs count from 1. Optuna is imported when a pruner is
named.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chembench.config import round_float
from chembench.errors import ConfigError
from chembench.registry import PRUNERS
from chembench.specs import Rungs

if TYPE_CHECKING:
    import optuna


def build_pruner(name: str, options: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name.

    Raises:
        UnknownNameError: if no pruner is called so.
        ConfigError: if it does not take these options.
    """
    build = PRUNERS.load(name)
    try:
        pruner: optuna.pruners.BasePruner = build(**options)
    except (TypeError, ValueError) as error:
        known = ", ".join(inspect.signature(build).parameters) or "none"
        raise ConfigError(
            f"pruner '{name}' cannot be made of {dict(options)}: {str(error).rstrip('.')}; its options are: {known}"
        ) from error
    return pruner


class Judge:
    """Says after each epoch of one trial whether it should stop."""

    def __init__(self, rungs: Rungs) -> None:
        self._epoch = 0
        idle = PRUNERS.require(rungs.pruner) == "none"
        self._trial = None if idle else _replayed(rungs).ask()

    def says_stop(self, objective: float) -> bool:
        """Whether to stop, given the objective after one more epoch (lower is better)."""
        self._epoch += 1
        # rounded as the table's objectives are, so that equal trials are judged as equal
        return self._trial is not None and _asked(self._trial, self._epoch, round_float(objective))


def should_prune(rungs: Rungs, objectives: Sequence[float]) -> bool:
    """Whether a trial with these objectives, one per epoch, would have been stopped by now."""
    judge = Judge(rungs)
    return any([judge.says_stop(objective) for objective in objectives])


def _replayed(rungs: Rungs) -> optuna.Study:
    import optuna
    from optuna.trial import TrialState

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=rungs.study,
            pruner=build_pruner(rungs.pruner, rungs.options),
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        for earlier in sorted(rungs.earlier, key=lambda trial: trial.ordinal):
            trial = study.ask()
            for epoch, objective in enumerate(earlier.objectives, start=1):
                _asked(trial, epoch, objective)
            if earlier.status == "finished" and earlier.objectives:
                study.tell(trial, earlier.objectives[-1])
            else:
                study.tell(trial, state=TrialState.PRUNED if earlier.status == "pruned" else TrialState.FAIL)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study


def _asked(trial: optuna.Trial, epoch: int, objective: float) -> bool:
    if not math.isfinite(objective):
        return False
    trial.report(objective, epoch)
    return trial.should_prune()
