"""What the first line of a sweep's ledger says: what it is, what it reads, where and how it is driven.

A later start that changes one of these writes the line again; the last one counts.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import PositiveInt, ValidationError

from chembench import __version__
from chembench.config import Spec, mistakes_in
from chembench.errors import ConfigError, DataError
from chembench.paths import CachePaths, SweepPaths, write_json, written_whole
from chembench.sweep.inputs import Prepared
from chembench.sweep.ledger import Ledger
from chembench.sweep.mistakes import Source
from chembench.sweep.overrides import apply_overrides
from chembench.sweep.plan import make_plan, share_of
from chembench.sweep.reading import space_from
from chembench.sweep.shard import Shard
from chembench.sweep.space import RAISABLE, Space, raised
from chembench.sweep.state import SweepState, unreadable

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
SHOWN = 12
"""Differences that are told one by one."""
OF_THE_FIRST_START = ("command", "at")
"""Entries that a later start leaves as they are."""


class Places(Spec):
    """Where a sweep reads and writes, and how it is run: what going on with it needs, and no result hangs on."""

    cache_dir: str
    """Prepared data and checkpoints; absolute."""
    data_dir: str
    """Raw task files; absolute."""
    runner: str = "ray"
    ray_address: str = "local"
    max_concurrent: PositiveInt | None = None
    """Items at a time; none: what the machine has."""
    tracking_uri: str | None = None
    """MLflow's; none: a SQLite file beside the sweep."""
    storage: str | None = None
    """Where workers without a folder in common with the driver find and leave everything; none: they have one."""
    keep_bytes: PositiveInt | None = None
    """What the sweep and its checkpoints may take on the disk; none: there is no bound."""

    @property
    def cache(self) -> CachePaths:
        return CachePaths(Path(self.cache_dir))

    @property
    def workers(self) -> int:
        """Processes on this machine."""
        cores = len(os.sched_getaffinity(0))
        return cores if self.max_concurrent is None else min(cores, self.max_concurrent)

    def has_checkpoint(self, digest: str) -> bool:
        """Whether the pre-trained model of that digest lies in the cache."""
        return self.cache.pretrained(digest).is_dir()


def places_from(**given: Any) -> Places:
    """Where a sweep reads and writes, and how it is run, as a person said.

    Raises:
        ConfigError: if something cannot be so.
    """
    try:
        return Places(**given)
    except ValidationError as error:
        raise ConfigError(f"a sweep cannot be driven so: {mistakes_in(error)}; correct it") from error


def places_of(state: SweepState) -> Places:
    """Where and how a sweep was driven last.

    Raises:
        ConfigError: if its ledger does not say.
        DataError: if it says what this version cannot read.
    """
    if "places" not in state.header:
        raise ConfigError(
            f"sweep '{state.name}' must say where its cache and data folders are, its ledger was begun by a version "
            "that did not write it down; give its `chembench sweep` command again, once"
        )
    try:
        return Places.model_validate(state.header["places"])
    except ValidationError as error:
        what = f"the places of sweep '{state.name}' must be as this version writes them, {mistakes_in(error)}"
        raise unreadable(state.header, what) from error


def require_readable(state: SweepState) -> None:
    """Leave a sweep alone whose header says what this version does not know.

    Raises:
        DataError: naming the version that wrote it, if that is a later one.
    """
    if "places" in state.header:
        places_of(state)
    if "space" in state.header:
        space_of(state)


def space_of(state: SweepState, overrides: Sequence[str] = ()) -> Space:
    """The space of a sweep as its ledger holds it, with ``--set`` overrides applied.

    Raises:
        ConfigError: with one sentence per mistake of the overrides.
        DataError: if the ledger's is none that this version can read.
    """
    data = json.loads(json.dumps(state.header["space"]))
    try:
        kept = space_from(data)
    except ConfigError as error:
        problems = "; ".join(error.problems).rstrip(".")
        what = f"the space of sweep '{state.name}' must be one that this version knows, {problems}"
        raise unreadable(state.header, what) from error
    if not overrides:
        return kept
    return space_from(data, Source(overridden=apply_overrides(data, overrides)))


def require_same_space(space: Space, state: SweepState) -> list[str]:
    """Refuse to go on in the folder of another space; the difference is shown.

    Returns:
        What the sweep has less of than the space, and will have from now on; each with both values.

    Raises:
        ConfigError: naming each setting that differs, if one does that may not be raised.
    """
    if not state.name or state.space_digest == space.digest:
        return []
    grown, refused = raised(state.header["identity"], space.identity())
    if not refused:
        return grown
    different = [*refused, *grown]
    more = [f"and {len(different) - SHOWN} more"] if len(different) > SHOWN else []
    raise ConfigError(
        [
            f"sweep '{state.name}' was started with another space, and nothing but {', '.join(RAISABLE)} can be raised "
            "under its name; begin another one with `chembench sweep` and a --name of its own",
            *different[:SHOWN],
            *more,
        ]
    )


def require_no_space_lost(paths: SweepPaths, space: Space) -> None:
    """Refuse to begin a sweep where its ``space.toml`` would replace a file that somebody wrote.

    Raises:
        ConfigError: naming that file.
    """
    if paths.space.exists() and paths.space.read_bytes() != _as_toml(space).encode():
        raise ConfigError(
            f"a sweep writes its space to space.toml in its folder, another file is there already: {paths.space}; "
            "move it elsewhere, or give the sweep another --name"
        )


def require_same_inputs(prepared: Prepared, state: SweepState) -> None:
    """Refuse to go on when a file behind the space has changed since the sweep began; more of them are welcome.

    Raises:
        DataError: naming each input that differs.
    """
    before, now = state.header.get("inputs", {}), prepared.digests()
    changed = [name for name in sorted(before) if before[name] != now.get(name)]
    if changed:
        raise DataError(
            f"the inputs of sweep '{state.name}' have changed since it began: {', '.join(changed)}; "
            "put the files back, or give the sweep on the new ones a --name of its own"
        )


def write_header(
    ledger: Ledger, space: Space, prepared: Prepared, places: Places, shard: Shard | None, command: tuple[str, ...]
) -> None:
    """Write the ``sweep`` event where there is none, or where the last one says something else."""
    before = ledger.state.header
    header = json.loads(json.dumps(_header(space, prepared, places, shard, command)))
    header = {**before, **header, **{name: before[name] for name in OF_THE_FIRST_START if name in before}}
    if header == before:
        return
    _write_space(ledger.paths, space)
    if not before:
        write_json(ledger.paths.environment, {**environment_now(), "command": list(command)})
    name = ledger.state.name or ledger.paths.root.name
    ledger.append({"event": "sweep", "name": name, "space_digest": space.digest, "header": header})


def _write_space(paths: SweepPaths, space: Space) -> None:
    with written_whole(paths.space) as part:
        part.write_text(_as_toml(space))


def _as_toml(space: Space) -> str:
    import tomli_w

    return tomli_w.dumps(space.as_data())


def _header(
    space: Space, prepared: Prepared, places: Places, shard: Shard | None, command: tuple[str, ...]
) -> dict[str, Any]:
    plan = make_plan(space)
    whole = ([cell.name for cell in (*plan.cells, *plan.control_cells)], plan.items)
    cells, expected = share_of(space, shard) if shard else whole
    if prepared.replayed is not None and prepared.shards is None:
        expected = {**expected, "pretrain": 0}
    return {
        **_recorded(prepared),
        "mode": space.mode,
        "adaptive": space.is_adaptive,
        "tasks": _tasks(space, prepared),
        "confirm": space.confirm.model_dump(mode="json"),
        "search_trials": space.search.trials,
        "cells": cells,
        "infeasible": list(plan.infeasible),
        "baselines": list(space.controls.baselines),
        "expected": expected,
        "workers": places.workers,
        "identity": space.identity(),
        "space": space.as_data(),
        "corpus": _corpus(prepared),
        "inputs": prepared.digests(),
        "places": places.model_dump(mode="json"),
        "shard": str(shard) if shard else None,
        "command": list(command),
        "versions": versions_now(),
        "at": time.time(),
    }


def _recorded(prepared: Prepared) -> dict[str, Any]:
    """Of a replay, what it gives back."""
    if prepared.replayed is None:
        return {}
    recording = prepared.replayed.recording
    return {"recorded": {"name": recording.name, "sha256": recording.sha256, "form": recording.form}}


def _tasks(space: Space, prepared: Prepared) -> dict[str, dict[str, Any]]:
    return {
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


def _corpus(prepared: Prepared) -> dict[str, Any] | None:
    corpus = prepared.corpus
    if corpus is None:
        return None
    return {"digest": corpus.digest, "train": corpus.train, "validation": corpus.validation}


def versions_now() -> dict[str, str]:
    """Package -> version, or that it is not installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {**versions, "chembench-sweeps": __version__}


def environment_now() -> dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "versions": versions_now(),
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
