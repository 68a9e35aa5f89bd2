"""One Ray Tune run hands out the next ready item, whatever its kind, to warm actors.

What was measured before it was built so is in docs/experiments/ray_tune_actors.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from chembench.errors import RunError
from chembench.paths import RunPaths
from chembench.specs import Kind, Outcome, Work
from chembench.sweep.plugin import Engine
from chembench.sweep.ray_cluster import cluster, live_nodes
from chembench.sweep.ray_folders import TUNE, ray_folder
from chembench.sweep.ray_room import Patience, Room
from chembench.sweep.ray_worker import UNWRITTEN, trainable
from chembench.sweep.results import read_outcome
from chembench.sweep.running import Desk, RunnerOptions, check_fits, desk, ran_low
from chembench.sweep.space import ResourceShape

MANY = 1_000_000
"""Trials in flight that Tune is told to allow: `Room` knows better how many fit, also when nodes join later."""

LOW_ON_MEMORY = "running low on memory"
"""How Ray says that it killed workers before the machine would have run out of memory."""


def run_with_ray(engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> None:
    """Drive the sweep to its end on Ray Tune.

    Args:
        engine: the sweep.
        options: the cluster and the limits.
        on_change: called after every start and end of an item.

    Raises:
        ConfigError: if the cluster cannot be joined, or no node can hold an item of some kind.
        RunError: if Tune ended although work is left.
        ChembenchError: if the sweep is ended before its time.
    """
    with cluster(options.ray_address, options.log):
        check_fits([engine.shape(kind) for kind in get_args(Kind)], live_nodes().values())
        with desk(engine, options, on_change) as at:
            _run_tune(_searcher(_Queue(engine, at, options)))
            if not at.is_closed:
                text = "ray tune must end when no work is left, it ended before; give the same command again to go on"
                raise RunError(text, "worker-lost")


def _run_tune(searcher: Any) -> None:
    from ray import tune

    with ray_folder(TUNE) as storage:
        tuner = tune.Tuner(
            tune.with_resources(trainable(), _bundle),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=MANY,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # True would fail every item
            ),
        )
        try:
            tuner.fit()
        except RuntimeError as error:  # what Tune makes of it when Ray kills its workers
            if LOW_ON_MEMORY not in str(error):
                raise
            raise ran_low("an item", str(error)) from error


def _bundle(config: Mapping[str, Any]) -> Any:
    from ray import tune

    bundle = {"CPU": config["cpus"]} | ({"GPU": config["gpus"]} if config["gpus"] else {})
    return tune.PlacementGroupFactory([bundle])


class _Queue:
    """What Tune carries out next, and what it brings back: the engine's work, as long as there is room for it."""

    def __init__(self, engine: Engine, at: Desk, options: RunnerOptions) -> None:
        self._engine, self._at = engine, at
        self._room = Room(live_nodes, options.max_concurrent)
        self._patience = Patience(options.node_seconds, options.say)
        self._open: dict[str, Work | None] = {}
        self._homeless: ResourceShape | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is handed out any more, and everything has come back."""
        return self._at.is_closed and not self._open

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """The settings of Tune's next trial: an item, or a hold while others work; none: not now."""
        work = self._at.ask(self._fits)
        if work is not None:
            return self._hand_out(trial_id, work)
        if self._at.is_closed:
            return None
        working = [self._engine.shape_of(work) for work in self._open.values() if work is not None]
        if any(map(self._room.can_hold, working)):
            return self._hand_out(trial_id, None) if self._room.fits(self._engine.shape("search")) else None
        if len(working) == len(self._open):
            missing = next(iter(working), self._homeless)
            assert missing is not None, "nothing runs, so something is ready, and it does not fit"
            self._patience.wait(missing)
        return None

    def _fits(self, shape: ResourceShape) -> bool:
        self._homeless = None if self._room.can_hold(shape) else shape
        return self._room.fits(shape)

    def _hand_out(self, trial_id: str, work: Work | None) -> dict[str, Any]:
        shape = self._engine.shape("search") if work is None else self._engine.shape_of(work)
        self._room.take(trial_id, shape)
        self._open[trial_id] = work
        self._patience.end()
        return {"work": work and work.model_dump_json(), "cpus": shape.cpus, "gpus": shape.gpus}

    def take_back(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial of Tune's has ended, however it did."""
        work = self._open.pop(trial_id)
        self._room.give_back(trial_id)
        if work is not None and self._at.take_in(work):
            self._at.tell(outcome_of(work, result))


def _searcher(queue: _Queue) -> Any:
    from ray.tune.search import Searcher

    class Queued(Searcher):
        """Tune asks it for trials and tells it of their end."""

        def suggest(self, trial_id: str) -> Any:
            config = queue.next(trial_id)
            return str(Searcher.FINISHED) if config is None and queue.is_over else config

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            queue.take_back(trial_id, result or {})

        def __reduce__(self) -> tuple[Any, ...]:  # Tuner() pickles the searcher; nothing ever reads it back
            return dict, ()

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the state."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the state."""

    return Queued()


def outcome_of(work: Work, result: Mapping[str, Any]) -> Outcome:
    """What the worker left behind or told: its result, or the fact that it was lost before there was one."""
    if UNWRITTEN in result:
        return Outcome.model_validate_json(result[UNWRITTEN])
    outcome = read_outcome(RunPaths(Path(work.folder)).result)
    if outcome is not None:
        return outcome
    return Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status="failed",
        cause="worker-lost",
        message=f"the worker of attempt {work.attempt} ended without a result; its folder is {work.folder}",
    )
