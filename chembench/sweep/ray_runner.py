"""One Ray Tune run hands out the next ready item, whatever its kind, to warm actors.

What was measured before it was built so is in docs/experiments/ray_tune_actors.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from chembench.errors import RunError
from chembench.paths import RunPaths, fault_of_machine
from chembench.specs import Kind, Outcome, Work
from chembench.sweep.plugin import Engine
from chembench.sweep.ray_folders import RAY, TUNE, clear_ray_folders, ray_folder
from chembench.sweep.ray_room import Nodes, Patience, Room
from chembench.sweep.ray_worker import UNWRITTEN, trainable
from chembench.sweep.results import read_outcome
from chembench.sweep.running import Desk, RunnerOptions, check_fits, desk, no_ray, no_token, not_started, ran_low
from chembench.sweep.space import ResourceShape

if TYPE_CHECKING:
    import psutil

MANY = 1_000_000
"""Trials in flight that Tune is told to allow: `Room` knows better how many fit, also when nodes join later."""

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

LOW_ON_MEMORY = "running low on memory"
"""How Ray says that it killed workers before the machine would have run out of memory."""

JOINED_SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "5"}
"""The same, where a cluster is joined that answers: a wrong token is refused once a second, with a line each time."""


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
    joined = {} if options.ray_address == "local" else JOINED_SETTINGS
    for name, value in (SETTINGS | joined).items():
        os.environ.setdefault(name, value)
    clear_ray_folders()
    with _cluster(options):
        check_fits([engine.shape(kind) for kind in get_args(Kind)], _live_nodes().values())
        with desk(engine, options, on_change) as at:
            _run_tune(_searcher(_Queue(engine, at, options)))
            if not at.is_closed:
                text = "ray tune must end when no work is left, it ended before; give the same command again to go on"
                raise RunError(text, "worker-lost")


@contextlib.contextmanager
def _cluster(options: RunnerOptions) -> Iterator[None]:
    """Ray, started here or joined; shut down afterwards, also where it did not come up."""
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # causes are ours to tell
    arguments: dict[str, Any] = {"address": options.ray_address, "log_to_driver": False, "logging_level": logging.ERROR}
    handler = signal.getsignal(signal.SIGTERM)
    with _apart(options.log), contextlib.ExitStack() as stack:
        if options.ray_address == "local":
            temp_dir, cpus = stack.enter_context(ray_folder(RAY)), len(os.sched_getaffinity(0))
            arguments |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": temp_dir}
        started: list[psutil.Process] = []
        try:
            started += _start(arguments, handler)
            yield
        finally:
            with _ended_at_once(started):
                ray.shutdown()
            _handle_sigterm(handler)  # ray.shutdown leaves the system's own


@contextlib.contextmanager
def _apart(log: Path | None) -> Iterator[None]:
    """What Ray prints of workers that died goes into a file, not between the lines of a sweep or into its output."""
    if log is None:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("a", buffering=1)
    try:
        with contextlib.redirect_stdout(file):
            yield
    finally:
        with contextlib.suppress(OSError):  # lines that a full disk did not take
            file.close()


def _start(arguments: dict[str, Any], handler: Any) -> list[psutil.Process]:
    """Start Ray here or join one; the processes that this took are given back."""
    import ray
    from ray.exceptions import AuthenticationError

    before = _children()
    try:
        with _without_sigterm():
            ray.init(**arguments)
            _handle_sigterm(handler)  # ray.init puts one of its own
        return [process for process in _children() - before if _is_rays(process)]
    except ConnectionError as error:
        raise no_ray(arguments["address"]) from error
    except AuthenticationError as error:
        raise no_token(error.message) from error
    except Exception as error:  # Ray raises nothing more exact where a process of it does not come up
        raise fault_of_machine(error) or not_started(arguments["address"], error) from error


@contextlib.contextmanager
def _without_sigterm() -> Iterator[None]:
    """Processes that are started within the block never get SIGTERM; Ray's are meant.

    Sent to the whole group, as `timeout`, systemd and Slurm do, it would end the raylet and with it the workers before
    they have saved their state. Workers take it again, see `ray_worker`. Ray's end takes SIGKILL then, see
    `_ended_at_once`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    except SystemExit as ended:  # Ray's handler was quicker than ours
        raise KeyboardInterrupt from ended
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _children() -> set[psutil.Process]:
    """Of this process; none where other processes may not be looked at, and Ray then ends slowly."""
    import psutil

    try:
        return set(psutil.Process().children())
    except psutil.Error:
        return set()


def _is_rays(process: psutil.Process) -> bool:
    """Whether its command names a file of the package; other threads start processes of their own meanwhile."""
    import psutil
    import ray

    try:
        return any(str(Path(ray.__file__).parent) in word for word in process.cmdline())
    except psutil.Error:  # it has ended
        return False


def _agents_of(process: psutil.Process) -> list[psutil.Process]:
    """What a raylet runs beside workers, and what would outlive it by half a minute; workers end themselves."""
    import psutil

    found = []
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [child] if "agent" in " ".join(child.cmdline()).lower() else []
    return found


@contextlib.contextmanager
def _ended_at_once(started: Sequence[psutil.Process]) -> Iterator[None]:
    """End Ray's processes as soon as ``ray.shutdown`` has let go of them.

    It sends each SIGTERM, which they never get, and waits a second before it takes SIGKILL, one after the other.
    """
    if not started:  # of a cluster that was joined
        yield
        return
    import psutil
    import ray
    from ray._private.worker import global_worker

    def end() -> None:
        # core_worker is gone once the driver has signed off: before that Ray would take a dead raylet for a lost one
        while (ray.is_initialized() or hasattr(global_worker, "core_worker")) and not over.wait(0.02):
            pass
        for process in [*started, *agents]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    agents = [child for process in started for child in _agents_of(process)]
    over = threading.Event()
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    try:
        yield
    finally:
        over.set()
        ending.join()


def _handle_sigterm(handler: Any) -> None:
    """Put a handler in place; only the main thread may, and Ray changes it there alone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


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
            raise ran_low(str(error)) from error


def _bundle(config: Mapping[str, Any]) -> Any:
    from ray import tune

    bundle = {"CPU": config["cpus"]} | ({"GPU": config["gpus"]} if config["gpus"] else {})
    return tune.PlacementGroupFactory([bundle])


class _Queue:
    """What Tune carries out next, and what it brings back: the engine's work, as long as there is room for it."""

    def __init__(self, engine: Engine, at: Desk, options: RunnerOptions) -> None:
        self._engine, self._at = engine, at
        self._room = Room(_live_nodes, options.max_concurrent)
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


def _live_nodes() -> Nodes:
    import ray

    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}


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
