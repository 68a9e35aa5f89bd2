"""Ray, started on this machine or joined, and ended again: what the runner and the preparation have in common."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.paths import fault_of_machine
from chembench.sweep.ray_folders import RAY, clear_ray_folders, ray_folder
from chembench.sweep.ray_room import Nodes
from chembench.sweep.running import no_ray, no_token, not_started

if TYPE_CHECKING:
    import psutil

TRIES = 4
"""How often a task may be lost with its worker or node: one that every worker dies of is told, not tried for ever."""
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own would drop running items
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the experiment state is never restored from
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in a worker
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": str(TRIES - 1),  # Ray's own tries have no end
}
"""Read by Ray and Tune when they are imported."""

JOINED_SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "5"}
"""The same, where a cluster is joined that answers: a wrong token is refused once a second, with a line each time."""


@contextlib.contextmanager
def cluster(address: str, log: Path | None) -> Iterator[None]:
    """Ray, started here or joined; shut down afterwards, also where it did not come up.

    Args:
        address: ``local`` starts it; ``auto`` or ``host:port`` joins the cluster that this machine is a node of.
        log: file for what Ray prints; none: standard error.

    Raises:
        ConfigError: if the cluster cannot be joined.
        RunError: if Ray does not come up.
    """
    joined = {} if address == "local" else JOINED_SETTINGS
    for name, value in (SETTINGS | joined).items():
        os.environ.setdefault(name, value)
    clear_ray_folders()
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # causes are ours to tell
    arguments: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    handler = signal.getsignal(signal.SIGTERM)
    with _apart(log), contextlib.ExitStack() as stack:
        if address == "local":
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


def live_nodes() -> Nodes:
    """The nodes that are alive, with what each has; Ray must be up."""
    import ray

    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
