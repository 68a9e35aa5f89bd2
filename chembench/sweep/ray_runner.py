"""One Ray Tune run hands out the next ready item, whatever its kind, to warm actors.

What was measured before it was built so is in docs/experiments/ray_tune_actors.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from chembench.errors import RunError
from chembench.specs import Kind, Outcome, Work
from chembench.sweep.plugin import Engine, read_outcome
from chembench.sweep.running import Desk, RunnerOptions, ask_to_stop, check_fits, desk, no_ray
from chembench.sweep.space import ResourceShape

HOLD_SECONDS = 0.5
"""An idle actor would be ended by Tune and its warm caches lost; a hold item keeps it busy for this long."""

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own would drop running items
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the experiment state is never restored from
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in a worker
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read by Ray and Tune when they are imported."""


def run_with_ray(engine: Engine, options: RunnerOptions, on_change: Callable[[], None]) -> None:
    """Drive the sweep to its end on Ray Tune.

    Args:
        engine: the sweep.
        options: the cluster and the limits.
        on_change: called after every start and end of an item.

    Raises:
        ConfigError: if no node can hold an item of some kind.
        RunError: if Tune ended although work is left.
        ChembenchError: if the sweep is ended before its time.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with _cluster(options) as nodes:
        check_fits([engine.shape(kind) for kind in get_args(Kind)], nodes)
        with desk(engine, options, on_change) as at:
            _run_tune(engine, at, options, nodes)
            if not at.is_closed:
                text = "ray tune must end when no work is left, it ended before; give the same command again to go on"
                raise RunError(text, "worker-lost")


@contextlib.contextmanager
def _cluster(options: RunnerOptions) -> Iterator[list[Mapping[str, float]]]:
    """Ray, started here or joined, and the resources of its nodes; shut down afterwards."""
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # causes are ours to tell
    temp_dir = None
    arguments: dict[str, Any] = {"address": options.ray_address, "log_to_driver": False, "logging_level": logging.ERROR}
    if options.ray_address == "local":
        temp_dir = tempfile.mkdtemp(prefix="chembench_ray_")  # short: a socket's path has at most 107 characters
        cpus = len(os.sched_getaffinity(0))
        arguments |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": temp_dir}
    with contextlib.redirect_stdout(sys.stderr):  # the raylet's messages about dead workers go to stdout
        try:
            with _own_sigterm():
                ray.init(**arguments)
        except ConnectionError as error:
            raise no_ray(options.ray_address) from error
        try:
            nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
            yield [node["Resources"] for node in nodes if node["Alive"]]
        finally:
            ray.shutdown()
            if temp_dir is not None:
                shutil.rmtree(temp_dir, ignore_errors=True)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """The handler of SIGTERM is after the block what it was before: ray.init puts one that ends the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:  # Ray's handler was quicker
        raise KeyboardInterrupt from ended
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _run_tune(engine: Engine, at: Desk, options: RunnerOptions, nodes: list[Mapping[str, float]]) -> None:
    from ray import tune

    room = Room(nodes, options.max_concurrent)
    storage = tempfile.mkdtemp(prefix="chembench_tune_")
    try:
        tuner = tune.Tuner(
            tune.with_resources(_trainable(), _bundle),
            tune_config=tune.TuneConfig(
                search_alg=_searcher(engine, at, room),
                num_samples=-1,
                max_concurrent_trials=room.slots,
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
        tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)


class Room:
    """The free share of the cluster, kept by ourselves: Tune holds one pending trial and would block smaller ones."""

    def __init__(self, nodes: list[Mapping[str, float]], max_concurrent: int | None) -> None:
        self.cpus = sum(node.get("CPU", 0.0) for node in nodes)
        self.gpus = sum(node.get("GPU", 0.0) for node in nodes)
        self.slots = max_concurrent or max(1, int(self.cpus))
        self._taken: dict[str, ResourceShape] = {}

    def fits(self, shape: ResourceShape) -> bool:
        """Whether an item of this shape has room now."""
        cpus = self.cpus - sum(taken.cpus for taken in self._taken.values())
        gpus = self.gpus - sum(taken.gpus for taken in self._taken.values())
        return len(self._taken) < self.slots and shape.cpus <= cpus + 1e-9 and shape.gpus <= gpus + 1e-9

    def take(self, trial_id: str, shape: ResourceShape) -> None:
        self._taken[trial_id] = shape

    def give_back(self, trial_id: str) -> None:
        self._taken.pop(trial_id, None)


def _bundle(config: Mapping[str, Any]) -> Any:
    from ray import tune

    bundle = {"CPU": config["cpus"]} | ({"GPU": config["gpus"]} if config["gpus"] else {})
    return tune.PlacementGroupFactory([bundle])


def _trainable() -> Any:
    """The class trainable: one process, many items; imported late, as Ray is."""
    from ray import tune

    class Worker(tune.Trainable):
        """Carries out items one after the other; caches of `run_item` stay warm between them."""

        def setup(self, config: dict[str, Any]) -> None:
            self.item = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.item = new_config
            return True

        def step(self) -> dict[str, Any]:
            return carry_out(self.item)

    return Worker


def carry_out(item: Mapping[str, Any]) -> dict[str, Any]:
    """Run one item in a worker.

    Raises:
        RunError: after the result is written, if the process must not be used again (out of memory, NaN, SIGTERM).
    """
    import time

    if item["work"] is None:
        time.sleep(HOLD_SECONDS)
        return {"done": True}
    from chembench.trial import run_item

    work = Work.model_validate_json(item["work"])
    with _stopped_by_sigterm(Path(work.folder)) as told:
        outcome = run_item(work)
    if outcome.cause in ("oom", "nan") or told:
        raise RunError(outcome.message, outcome.cause or "preempted")
    return {"done": True}


@contextlib.contextmanager
def _stopped_by_sigterm(folder: Path) -> Iterator[list[int]]:
    """Within the block the first SIGTERM has the attempt keep its state; a second one ends the process, as without it.

    Yields:
        The signals that came.
    """
    told: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        told.append(number)
        signal.signal(signal.SIGTERM, before)
        ask_to_stop(folder)

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _searcher(engine: Engine, at: Desk, room: Room) -> Any:
    from ray.tune.search import Searcher

    class Queue(Searcher):
        """Tune asks it for trials; it asks the engine for work, and tells the engine what came out."""

        def __init__(self) -> None:
            super().__init__()
            self._open: dict[str, Work | None] = {}

        def suggest(self, trial_id: str) -> Any:
            works = [work for work in self._open.values() if work is not None]
            work = at.ask(room.fits)
            if work is not None:
                shape = engine.shape(work.kind)
                room.take(trial_id, shape)
                self._open[trial_id] = work
                return {"work": work.model_dump_json(), "cpus": shape.cpus, "gpus": shape.gpus}
            if not self._open and at.is_closed:
                return str(Searcher.FINISHED)
            shape = engine.shape("search")
            if works and not at.is_closed and room.fits(shape):
                room.take(trial_id, shape)
                self._open[trial_id] = None
                return {"work": None, "cpus": shape.cpus, "gpus": shape.gpus}
            return None

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            work = self._open.pop(trial_id)
            room.give_back(trial_id)
            if work is not None:
                at.tell(outcome_of(work))

        def __reduce__(self) -> tuple[Any, ...]:  # Tuner() pickles the searcher; nothing ever reads it back
            return dict, ()

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the state."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the state."""

    return Queue()


def outcome_of(work: Work) -> Outcome:
    """What the worker left behind: its result, or the fact that it was lost before writing one."""
    from chembench.paths import RunPaths

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
