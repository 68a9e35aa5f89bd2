"""One sweep from its space to its boards: prepare, run, record, render."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from chembench.errors import ConfigError, DataError, Interrupted, RunError
from chembench.paths import CachePaths, SweepPaths, write_json, written_whole
from chembench.registry import RUNNERS
from chembench.specs import Kind
from chembench.sweep.inputs import Prepared, Say, prepare
from chembench.sweep.ledger import Ledger, SweepState, read_state
from chembench.sweep.plan import Plan, make_plan
from chembench.sweep.plugin import Engine
from chembench.sweep.running import RunnerOptions, check_fits, local_node, require_reachable
from chembench.sweep.space import Space
from chembench.sweep.stopping import Stopping, interrupted

if TYPE_CHECKING:
    from chembench.progress import View
    from chembench.tracking.mlflow_sync import Beside

MLFLOW_SECONDS = 30.0
"""How long MLflow is waited for at the end."""

PACKAGES = (
    "chembench-sweeps",
    "torch",
    "transformers",
    "peft",
    "rdkit",
    "deepchem",
    "scikit-learn",
    "optuna",
    "ray",
    "mlflow",
    "numpy",
)


@dataclass(frozen=True, slots=True)
class Drive:
    """How one sweep is driven."""

    space: Space
    paths: SweepPaths
    cache: CachePaths
    data_dir: Path
    runner: str
    ray_address: str
    max_concurrent: int | None
    tracking_uri: str | None
    show_progress: bool
    command: tuple[str, ...]


def drive(settings: Drive) -> None:
    """Run the sweep to its end, or go on with it.

    Raises:
        ConfigError: if the folder holds another space, another driver is at work, or resources are missing.
        DataError: if an input cannot be used.
        Interrupted: if a signal ended it; a second signal leaves what runs to the next start.
        RunError: if it cannot go on.
    """
    paths = settings.paths
    if paths.ledger.is_file() and _is_done(settings, read_state(paths)):
        write_boards(paths)
        return
    _check_machine(settings)
    from chembench.progress import View

    try:
        with View(settings.show_progress) as view:
            stopping = Stopping(view.warn)
            with (
                stopping.on_signals(interrupted(paths.root)),
                opened(settings, view.say) as engine,
                _tracked(settings, view),
            ):
                _run(settings, engine, view, stopping)
    except KeyboardInterrupt as at_once:
        if not paths.ledger.is_file():
            raise  # nothing has begun
        raise interrupted(paths.root) from at_once


def _run(settings: Drive, engine: Engine, view: View, stopping: Stopping) -> None:
    """Carry the sweep as far as it goes, with its display, its journal and, in the end, its boards."""
    from chembench.tracking.optuna_journal import OptunaJournal

    paths = settings.paths
    journal = OptunaJournal(paths, settings.space)
    view.watch(engine.state)

    def on_change() -> None:
        journal.update(engine.state)
        view.refresh()

    on_change()
    options = RunnerOptions(
        ray_address=settings.ray_address,
        max_concurrent=settings.max_concurrent,
        say=view.warn,
        stopping=stopping,
        folders=(paths.root, settings.cache.root),
    )
    try:
        RUNNERS.load(settings.runner)(engine, options, on_change)
    except (Interrupted, RunError):
        write_boards(paths)
        raise
    write_boards(paths)


@contextmanager
def opened(settings: Drive, say: Say) -> Iterator[Engine]:
    """The engine of a sweep with its inputs prepared; no other process can drive it meanwhile.

    Raises:
        ConfigError: if the folder holds another space, or another driver is at work.
        DataError: if an input cannot be used; a sweep that had not begun leaves no ledger then.
    """
    plan = make_plan(settings.space)
    with Ledger(settings.paths) as ledger:
        _require_same_space(settings.space, ledger.state)
        try:
            prepared = prepare(settings.space, settings.cache, settings.data_dir, _workers(settings), say)
        except BaseException:
            if not ledger.state.name:
                settings.paths.ledger.unlink()
            raise
        if not ledger.state.name:
            _begin(settings, plan, prepared, ledger)
        _require_same_inputs(prepared, ledger.state)
        yield Engine(settings.space, prepared, settings.cache, ledger)


def write_boards(paths: SweepPaths) -> None:
    """Boards and rows of the sweep as files, in its folder and under ``reports/``, with what made them."""
    from chembench.report import render

    boards = render.boards_from_state(read_state(paths))
    render.write_boards(boards, paths.leaderboards)
    render.write_boards(boards, paths.reports)
    for file in (paths.space, paths.environment):
        with written_whole(paths.reports / file.name) as part:
            shutil.copyfile(file, part)


def _is_done(settings: Drive, state: SweepState) -> bool:
    _require_same_space(settings.space, state)
    return state.finished


def _require_same_space(space: Space, state: SweepState) -> None:
    """Refuse to go on in the folder of another space; the difference is shown.

    Raises:
        ConfigError: naming each setting that differs.
    """
    if not state.name or state.space_digest == space.digest:
        return
    before, now = _flat(state.header["identity"]), _flat(space.identity())
    changed = [
        f"{key}: {before.get(key, '(not set)')} there, {now.get(key, '(not set)')} here"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    raise ConfigError(
        [f"sweep '{state.name}' was started with another space; give this one a --name of its own", *changed[:10]]
    )


def _require_same_inputs(prepared: Prepared, state: SweepState) -> None:
    """Refuse to go on when a file behind the space has changed since the sweep began.

    Raises:
        DataError: naming each input that differs.
    """
    before, now = state.header["inputs"], prepared.digests()
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if changed:
        raise DataError(
            f"the inputs of sweep '{state.name}' have changed since it began: {', '.join(changed)}; "
            "put the files back, or give the sweep on the new ones a --name of its own"
        )


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, dict):
        return {
            k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: data}


def _check_machine(settings: Drive) -> None:
    """Resources of this machine where the sweep is to run on it, else that the cluster answers; before any work."""
    if settings.runner == "serial" or settings.ray_address == "local":
        shapes = [settings.space.resources.shape(kind) for kind in get_args(Kind)]
        check_fits(shapes, [local_node(any(shape.gpus for shape in shapes))])
    else:
        require_reachable(settings.ray_address)


def _workers(settings: Drive) -> int:
    cores = len(os.sched_getaffinity(0))
    return cores if settings.max_concurrent is None else min(cores, settings.max_concurrent)


def _begin(settings: Drive, plan: Plan, prepared: Prepared, ledger: Ledger) -> None:
    """The first event: everything the boards and trackers need to know of the sweep."""
    import tomli_w

    space = settings.space
    with written_whole(settings.paths.space) as part:
        part.write_text(tomli_w.dumps(space.as_data()))
    environment = {**environment_now(), "command": list(settings.command)}
    write_json(settings.paths.environment, environment)
    tasks = {
        name: {
            "kind": task.kind,
            "unit": task.unit,
            "note": task.note,
            "targets": list(task.targets),
            "digest": task.digest,
            "rows": task.rows,
            "split": space.task_def(name).split,
        }
        for name, task in prepared.tasks.items()
    }
    header = {
        "mode": space.mode,
        "adaptive": space.is_adaptive,
        "tasks": tasks,
        "confirm": space.confirm.model_dump(mode="json"),
        "search_trials": space.search.trials,
        "cells": [cell.name for cell in (*plan.cells, *plan.control_cells)],
        "infeasible": list(plan.infeasible),
        "baselines": list(space.controls.baselines),
        "expected": dict(plan.items),
        "workers": _workers(settings),
        "identity": space.identity(),
        "space": space.as_data(),
        "corpus": {
            "digest": prepared.corpus.digest,
            "train": prepared.corpus.train,
            "validation": prepared.corpus.validation,
        }
        if prepared.corpus
        else None,
        "inputs": prepared.digests(),
        "tracking_uri": settings.tracking_uri,
        "command": list(settings.command),
        "versions": environment["versions"],
        "at": time.time(),
    }
    event = {"event": "sweep", "name": settings.paths.root.name, "space_digest": space.digest, "header": header}
    ledger.append(event)


def environment_now() -> dict[str, Any]:
    """Versions and machine, for the record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "commit": _commit(),
    }


def _processor() -> str:
    """The processor's model name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """Commit of the checkout that runs, with ``+changes`` if it is not clean; ``not a checkout`` for a wheel."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "not a checkout"
    try:
        head, dirty = (
            subprocess.run(["git", "-C", str(here), *call], capture_output=True, text=True, check=True).stdout.strip()
            for call in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", "chembench"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "git could not tell"
    return f"{head}+changes" if dirty else head


@contextmanager
def _tracked(settings: Drive, view: View) -> Iterator[None]:
    """MLflow is kept up to date by a process beside this one; it never holds the sweep up."""
    from chembench.tracking.mlflow_sync import start_beside

    process = start_beside(settings.paths.root, settings.tracking_uri)
    try:
        yield
    except KeyboardInterrupt:  # at once; that process sends what is left by itself when this one is gone
        raise
    except BaseException:
        _send_rest(process, settings, view)
        raise
    _send_rest(process, settings, view)


def _send_rest(process: Beside, settings: Drive, view: View) -> None:
    from chembench.tracking.mlflow_sync import finish

    view.end()
    view.say(f"MLflow: sending what is left, {MLFLOW_SECONDS:.0f} s at most")
    report = finish(process, settings.paths.root, seconds=MLFLOW_SECONDS)
    if report.unsent:
        view.warn(f"warning: {report.message}")
    else:
        view.say("MLflow: every run, board and model is sent")
