"""What `import chembench` offers: read a space, plan it, sweep it, go on with a sweep, look at one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chembench.handles import Sweep, Trial
from chembench.holdings import parse_size
from chembench.opening import is_sweep, open_sweep
from chembench.paths import CachePaths, SweepPaths, default_cache, default_data_dir, safe_name
from chembench.registry import RUNNERS
from chembench.storage import whole_url
from chembench.sweep.progress import SweepStatus
from chembench.sweep.reading import SpaceInfo, read_space, shipped_spaces, space_file
from chembench.sweep.shard import Shard
from chembench.sweep.space import Space

if TYPE_CHECKING:
    from chembench.data.audit import Audit
    from chembench.report.differences import Differences, Side
    from chembench.retention import Plan as GcPlan
    from chembench.sweep.plan import Plan
    from chembench.sweep.plugin import Engine


def spaces() -> list[SpaceInfo]:
    """The spaces that come with chembench."""
    return shipped_spaces()


def load_space(name_or_path: str, overrides: Sequence[str] = ()) -> Space:
    """A checked space; see `chembench.sweep.reading.read_space`."""
    return read_space(name_or_path, overrides)


def space_text(name_or_path: str) -> str:
    """The TOML text of a space as it is written."""
    return space_file(name_or_path).read_text()


def make_plan(space: Space) -> Plan:
    """What a sweep over ``space`` would do and cost; reads neither corpus nor task files."""
    from chembench.sweep import plan

    return plan.make_plan(space)


def run_sweep(  # noqa: PLR0913 - the options of the command, each by keyword
    space: Space,
    *,
    name: str | None = None,
    out: str | Path = "sweeps",
    runner: str = "ray",
    ray_address: str = "local",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    tracking_uri: str | None = None,
    max_concurrent: int | None = None,
    storage: str | None = None,
    keep: str | None = None,
    shard: str | None = None,
    show_progress: bool = True,
    command: Sequence[str] | None = None,
) -> Sweep:
    """Run a sweep, or go on with it; what is done is not done again.

    Args:
        space: a checked space.
        name: of the sweep; the space's name by default.
        out: folder that holds sweeps.
        runner: ``ray`` or ``serial``; both give the same results.
        ray_address: ``local``, or the address of a running cluster.
        data_dir: raw task files; ``CHEMBENCH_DATA_DIR`` by default.
        cache_dir: prepared data and checkpoints; ``CHEMBENCH_CACHE_DIR`` by default.
        tracking_uri: of MLflow; SQLite beside the sweep by default.
        max_concurrent: items in flight at most.
        storage: URL by which workers without a folder in common with this process get and give files.
        keep: what the sweep may take on disk, such as ``20GB``; everything that is made is kept by default.
        shard: ``i/n``: only this part of the space, under a name of its own; `merge` unites the parts.
        show_progress: draw progress on the terminal.
        command: how the sweep was called, for the record.

    Raises:
        ConfigError: if the sweep's folder holds another space, or resources are missing.
        DataError: if an input cannot be used.
        InterruptedSweepError: after a signal; `resume` goes on.
    """
    from chembench.driver import Drive, drive
    from chembench.header import places_from

    RUNNERS.require(runner)
    part = Shard.parse(shard) if shard is not None else None
    paths = _sweep_paths(space, name, out, part)
    settings = Drive(
        space=space,
        paths=paths,
        shard=part,
        places=places_from(
            cache_dir=_absolute(cache_dir or default_cache()),
            data_dir=_absolute(data_dir or default_data_dir()),
            runner=runner,
            ray_address=ray_address,
            max_concurrent=max_concurrent,
            tracking_uri=tracking_uri,
            storage=None if storage is None else whole_url(storage),
            keep_bytes=None if keep is None else parse_size(keep),
        ),
        show_progress=show_progress,
        command=tuple(command or (Path(sys.argv[0]).name, *sys.argv[1:])),
    )
    drive(settings)
    return Sweep(paths.root)


def resume(  # noqa: PLR0913 - the options of the command, each by keyword
    path_or_name: str | Path,
    *,
    out: str | Path = "sweeps",
    trials: int | None = None,
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    runner: str | None = None,
    ray_address: str | None = None,
    max_concurrent: int | None = None,
    tracking_uri: str | None = None,
    cache_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    storage: str | None = None,
    keep: str | None = None,
    show_progress: bool = True,
) -> Sweep:
    """Go on with a sweep, from any folder; what is not given stays as the sweep's own record says.

    Args:
        path_or_name: folder of the sweep, or its name under ``out``.
        out: folder that holds sweeps.
        trials: search trials of each study from now on; never fewer than before.
        seeds: head seeds of each confirmed recipe from now on; never fewer than before.
        overrides: further ``key=value``, of what may be raised and of shares of the machine.
        runner: ``ray`` or ``serial``.
        ray_address: ``local``, or the address of a running cluster.
        max_concurrent: items in flight at most.
        tracking_uri: of MLflow.
        cache_dir: prepared data and checkpoints; what is missing there is made again.
        data_dir: raw task files.
        storage: URL by which workers elsewhere get and give files.
        keep: what the sweep may take on disk, such as ``20GB``.
        show_progress: draw progress on the terminal.

    Raises:
        ConfigError: if there is no such sweep, or something would change that may not.
        DataError: if an input cannot be used any more, or the ledger is damaged.
        InterruptedSweepError: after a signal; the same call goes on.
    """
    from chembench.driver import drive, going_on

    raised = [("search.trials", trials), ("confirm.head_seeds", seeds)]
    changed = {
        "runner": None if runner is None else RUNNERS.require(runner),
        "ray_address": ray_address,
        "max_concurrent": max_concurrent,
        "tracking_uri": tracking_uri,
        "cache_dir": None if cache_dir is None else _absolute(cache_dir),
        "data_dir": None if data_dir is None else _absolute(data_dir),
        "storage": None if storage is None else whole_url(storage),
        "keep_bytes": None if keep is None else parse_size(keep),
    }
    sweep = open_sweep(path_or_name, out)
    settings = going_on(
        sweep.paths,
        sweep.begun(),
        overrides=[*overrides, *(f"{key}={value}" for key, value in raised if value is not None)],
        changed={name: value for name, value in changed.items() if value is not None},
        show_progress=show_progress,
    )
    drive(settings)
    return sweep


@contextmanager
def open_engine(
    space: Space,
    *,
    name: str | None = None,
    out: str | Path = "sweeps",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> Iterator[Engine]:
    """A sweep for a loop of your own, instead of `run_sweep`; the boards come out the same.

    ::

        with open_engine(space) as engine:
            while not engine.done:
                work = engine.ask()                 # none while everything left waits for what is in flight
                engine.tell(run_item(work))         # chembench.trial.run_item, here or anywhere, in any order

    Args:
        space: a checked space.
        name: of the sweep; the space's name by default.
        out: folder that holds sweeps.
        data_dir: raw task files; ``CHEMBENCH_DATA_DIR`` by default.
        cache_dir: prepared data and checkpoints; ``CHEMBENCH_CACHE_DIR`` by default.

    Raises:
        ConfigError: if the sweep's folder holds another space, or another process drives it.
        DataError: if an input cannot be used.
    """
    from chembench.driver import Drive, opened
    from chembench.header import places_from

    settings = Drive(
        space=space,
        paths=_sweep_paths(space, name, out),
        places=places_from(
            cache_dir=_absolute(cache_dir or default_cache()), data_dir=_absolute(data_dir or default_data_dir())
        ),
        show_progress=False,
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
    )
    with opened(settings, lambda line: None) as (engine, _):
        yield engine


def merge(
    sweeps: Sequence[str | Path],
    *,
    name: str,
    out: str | Path = "sweeps",
    say: Callable[[str], None] = lambda line: None,
) -> Sweep:
    """Unite sweeps of one space into a new one, such as shards that were driven on different machines.

    Args:
        sweeps: folders, or names under ``out``; they stay as they are.
        name: of the new sweep.
        out: folder that holds sweeps.
        say: told one line per step.

    Returns:
        The new sweep; `resume` carries out what is left of it.

    Raises:
        ConfigError: if the sweeps are of different spaces, or the new one exists.
        DataError: if their inputs differ, or a ledger is damaged.
    """
    from chembench.header import require_readable
    from chembench.register import register_merged
    from chembench.sweep.merge import merge_sweeps

    target = SweepPaths((Path(out) / safe_name("sweep", name)).resolve())
    found = [open_sweep(sweep, out) for sweep in sweeps]
    for sweep in found:
        require_readable(sweep.state())
    sources = [sweep.paths for sweep in found]
    merge_sweeps(sources, target, say)
    register_merged(target, sources)
    return Sweep(target.root)


def diff(
    first: str | Path,
    second: str | Path,
    *,
    sweep: str | Path | None = None,
    tasks: Sequence[str] = (),
    out: str | Path = "sweeps",
) -> Differences:
    """Two sweeps side by side, or two lines of one sweep, with what is shown of their difference.

    Args:
        first: a line of ``sweep``'s boards, or a sweep.
        second: what ``first`` is compared with. ``smallest`` and ``largest``, ``scratch`` and ``pretrained`` stand for
            every such pair of lines.
        sweep: whose lines they are; none: they are sweeps themselves.
        tasks: on these alone; by default on every task that has both.
        out: folder that holds sweeps.

    Raises:
        ConfigError: if there is no such sweep, or nothing is complete on both sides.
        UnknownNameError: if there is no such line or task.
        DataError: if a task has other molecules in the two sweeps.
    """
    from chembench.report.differences import Differences, between_lines, between_sweeps
    from chembench.sweep.space import raised

    if sweep is not None:
        return Differences(contrasts=between_lines(_side(open_sweep(sweep, out)), str(first), str(second), tasks))
    one, other = open_sweep(first, out), open_sweep(second, out)
    grown, changed = raised(one.begun().header["identity"], other.begun().header["identity"])
    contrasts = between_sweeps(_side(one), _side(other), tasks)
    return Differences(contrasts=contrasts, settings=tuple([*changed, *grown]))


def audit(  # noqa: PLR0913 - the options of the command, each by keyword
    target: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path = "sweeps",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    tokenizer: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """What is known of data before anything is trained on it; see `chembench.sweep.auditing`.

    Args:
        target: a sweep by folder or by name under ``out``, else a task by name, else a space by name or file.
        overrides: ``key=value`` for fields of a space.
        out: folder that holds sweeps.
        data_dir: raw task files; ``CHEMBENCH_DATA_DIR`` by default.
        cache_dir: of a task or a space; a sweep has its own.
        tokenizer: a ``tokenizer.json`` to try in place of the target's own.
        say: told one line per step.

    Raises:
        ConfigError: if there is no such target, or an override or the tokenizer cannot be used.
        DataError: if an input cannot be had or used.
    """
    from chembench.sweep.auditing import audit_begun, audit_named

    if any(is_sweep(root) for root in (Path(target), Path(out) / str(target))):
        sweep = open_sweep(target, out)
        return audit_begun(sweep.paths, sweep.begun(), overrides, tokenizer, say)
    cache, raw = _absolute(cache_dir or default_cache()), _absolute(data_dir or default_data_dir())
    return audit_named(str(target), overrides, CachePaths(Path(cache)), Path(raw), tokenizer, say)


def _side(sweep: Sweep) -> Side:
    from chembench.report.differences import Side
    from chembench.report.leaderboard import design_from_state

    return Side(sweep=sweep.name, design=design_from_state(sweep.begun()), rows=tuple(sweep.rows()))


def plan_gc(
    path_or_name: str | Path | None = None,
    *,
    out: str | Path = "sweeps",
    cache_dir: str | Path | None = None,
    keep: str | None = None,
) -> GcPlan:
    """What may be deleted; `chembench.retention.collect` deletes it.

    Args:
        path_or_name: folder of a sweep, or its name under ``out``; none: every sweep of the cache, and the cache.
        out: folder that holds sweeps.
        cache_dir: the cache; by default that of the sweep, or ``CHEMBENCH_CACHE_DIR``.
        keep: delete no more than is needed to stay below this, such as ``20GB``.

    Raises:
        ConfigError: if there is no such sweep, or ``keep`` is no size.
    """
    from chembench import retention
    from chembench.header import places_of

    keep_bytes = None if keep is None else parse_size(keep)
    if path_or_name is None:
        return retention.plan_gc(CachePaths(Path(cache_dir or default_cache()).resolve()), keep_bytes=keep_bytes)
    sweep = open_sweep(path_or_name, out)
    own = places_of(sweep.begun()).cache_dir if cache_dir is None else _absolute(cache_dir)
    return retention.plan_gc(CachePaths(Path(own)), [sweep.paths], keep_bytes)


def _absolute(folder: str | Path) -> str:
    return str(Path(folder).resolve())


def _sweep_paths(space: Space, name: str | None, out: str | Path, shard: Shard | None = None) -> SweepPaths:
    whole = safe_name("sweep", space.name if name is None else name)
    part = f"{whole}.shard-{shard.index}-of-{shard.of}" if shard else whole
    return SweepPaths((Path(out) / safe_name("sweep", part)).resolve())


__all__ = [
    "Space",
    "SpaceInfo",
    "Sweep",
    "SweepStatus",
    "Trial",
    "audit",
    "diff",
    "load_space",
    "make_plan",
    "merge",
    "open_engine",
    "open_sweep",
    "plan_gc",
    "resume",
    "run_sweep",
    "space_text",
    "spaces",
]
