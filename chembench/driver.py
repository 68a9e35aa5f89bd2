"""One sweep from its space to its boards: prepare, run, record, render."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from chembench.chem.pool import Pool, Processes
from chembench.errors import ConfigError, DiskFullError, InterruptedSweepError, RunError, StorageError
from chembench.header import (
    Places,
    places_from,
    places_of,
    require_no_space_lost,
    require_same_inputs,
    require_same_space,
    space_of,
    write_header,
)
from chembench.keeper import Keeper
from chembench.outputs import leave_boards, leave_report, sync_command
from chembench.paths import SweepPaths, as_written
from chembench.recorded.source import Recording
from chembench.recordings import inputs_of, needs_none, recording_of, require_same_recording
from chembench.register import register
from chembench.registry import RUNNERS
from chembench.retention import clear_parts
from chembench.specs import Kind, Outcome
from chembench.sweep import serial_runner
from chembench.sweep.auditing import audit_at_start
from chembench.sweep.inputs import Say
from chembench.sweep.ledger import Ledger, read_state
from chembench.sweep.locking import leave_nothing
from chembench.sweep.plan import make_plan
from chembench.sweep.plugin import Engine, require_same_shard
from chembench.sweep.running import RunnerOptions, check_fits, desk, local_node, require_reachable
from chembench.sweep.shard import Shard
from chembench.sweep.space import Space
from chembench.sweep.state import SweepState
from chembench.sweep.stopping import Stopping, interrupted, resume_command
from chembench.transfer import Exchange, open_exchange

if TYPE_CHECKING:
    from chembench.progress import View
    from chembench.tracking.mlflow_sync import Beside

MLFLOW_SECONDS = 30.0
"""How long MLflow is waited for at the end."""
GIVEN_ONLY = ("tracking_uri", "storage", "keep_bytes", "max_concurrent")
"""Fields of `Places` that have no default: one that is there was asked for."""


@dataclass(frozen=True, slots=True)
class Drive:
    """How one sweep is driven."""

    space: Space
    paths: SweepPaths
    places: Places
    shard: Shard | None = None
    """The part of the space that it is; none for a whole one."""
    show_progress: bool = True
    command: tuple[str, ...] = ()
    """How it was called, for the record."""
    goes_on: bool = False
    """Its places are those of the ledger, but for what was given; else they may also be defaults of the command."""
    recording: Recording | None = None
    """What it gives back, if it is a replay."""


def going_on(
    paths: SweepPaths,
    state: SweepState,
    *,
    overrides: Sequence[str] = (),
    changed: Mapping[str, Any] | None = None,
    show_progress: bool = True,
) -> Drive:
    """How to go on with a sweep, everything taken from its ledger.

    Args:
        paths: its folder.
        state: its state; it has begun.
        overrides: ``--set`` of what may be raised.
        changed: fields of `Places` that are others from now on.
        show_progress: draw progress on the terminal.

    Raises:
        ConfigError: if the ledger does not say where its inputs are, or an override cannot be read.
    """
    before, shard = places_of(state), state.header.get("shard")
    return Drive(
        space=space_of(state, overrides),
        paths=paths,
        places=places_from(**{**before.model_dump(), **(changed or {})}),
        shard=Shard.parse(shard) if shard else None,
        show_progress=show_progress,
        command=tuple(state.header["command"]),
        goes_on=True,
        recording=recording_of(paths, state),
    )


def drive(settings: Drive, first: Callable[[Engine], object] | None = None) -> None:
    """Run the sweep to its end, or go on with it.

    Args:
        settings: the sweep, and how it is driven.
        first: what is done to its engine before anything is handed out, such as `Engine.retry`.

    Raises:
        ConfigError: if the folder holds another space, another driver is at work, or resources are missing.
        DataError: if an input cannot be used.
        InterruptedSweepError: if a signal ended it; a second signal leaves what runs to the next start.
        RunError: if it cannot go on.
    """
    from chembench.progress import View

    paths = settings.paths
    state = read_state(paths) if first is None and paths.ledger.is_file() else None
    if state is not None:
        settings = _without_defaults(settings, state)
    if state is not None and _is_done(settings, state):
        with View(settings.show_progress) as view:
            _noted_again(settings, view.warn)
            leave_boards(paths, view.warn)
            if not paths.report.is_file():
                leave_report(paths, view.warn)
            if "merged" in state.header and not paths.sent.is_file():  # no driver ever sent it
                _send_rest(settings, view)
        return
    _check_machine(settings)
    try:
        with View(settings.show_progress) as view:
            stopping = Stopping(view.warn)
            with (
                stopping.on_signals(interrupted(as_written(paths.root))),
                opened(settings, view.say, _pool(settings, view)) as (engine, exchange),
                _tracked(settings, view) as beside,
            ):
                if first is not None:
                    first(engine)
                _run(settings, engine, view, _options(settings, view, stopping, exchange), beside)
    except KeyboardInterrupt as at_once:
        if not paths.ledger.is_file():
            raise  # nothing has begun
        raise interrupted(as_written(paths.root)) from at_once


def _pool(settings: Drive, view: View) -> Pool:
    """Who prepares what the sweep reads: the cluster where one is joined, else processes of this machine."""
    places = settings.places
    if places.runner != "ray" or places.ray_address == "local":
        return Processes(places.workers)
    from chembench.sweep.ray_pool import RayTasks

    return RayTasks(places.ray_address, settings.paths.ray_log, places.max_concurrent, view.warn)


def _options(settings: Drive, view: View, stopping: Stopping, exchange: Exchange | None) -> RunnerOptions:
    places = settings.places
    return RunnerOptions(
        ray_address=places.ray_address,
        max_concurrent=places.max_concurrent,
        say=view.warn,
        stopping=stopping,
        folders=(settings.paths.root, places.cache.root),
        log=settings.paths.ray_log,
        exchange=exchange,
    )


def _run(settings: Drive, engine: Engine, view: View, options: RunnerOptions, beside: Beside | None = None) -> None:
    """Carry the sweep as far as it goes, with its display, its journal and, in the end, its boards."""
    from chembench.tracking.optuna_journal import OptunaJournal

    paths, places = settings.paths, settings.places
    journal = OptunaJournal(paths, settings.space, view.warn)
    keeper = None if places.keep_bytes is None else Keeper(paths, places.cache, places.keep_bytes, view.warn)
    view.watch(engine.state)

    def on_change() -> None:
        journal.update(engine.state)
        if keeper is not None:
            keeper.after(engine.state)
        view.refresh()

    on_change()
    try:
        if not engine.done:
            RUNNERS.load(places.runner)(engine, options, on_change)
    except (InterruptedSweepError, RunError, StorageError):
        leave_boards(paths, view.warn)
        raise
    leave_boards(paths, view.warn)
    if beside is not None and engine.done:
        from chembench.tracking.mlflow_sync import catch_up

        catch_up(beside, paths.root, seconds=MLFLOW_SECONDS / 3)  # the report links to what is there
    leave_report(paths, view.warn)


def carry_out(settings: Drive, uid: str) -> Outcome:
    """Carry out one item in this process, what it stands on first; the sweep counts both.

    Raises:
        ConfigError: if another process drives the sweep, this machine lacks what the item needs, or it waits for more
            than its pre-training.
        DiskFullError: if no space is left; the item waits again.
        StorageError: if the storage fails; the item waits again.
    """
    with opened(settings, lambda line: None) as (engine, exchange):
        item = engine.state.items[uid]
        check_fits([engine.shape(item.kind)], [local_node(engine.shape(item.kind).gpus > 0)])
        if item.status == "failed":
            engine.retry(uids=[uid])
        wanted = [uid]
        while (needed := engine.state.items[wanted[-1]].spec.starts_from) is not None:
            wanted.append(needed)
        options = RunnerOptions(folders=(settings.paths.root, settings.places.cache.root), exchange=exchange)
        with desk(engine, options, lambda: None) as at:
            while not item.is_final and (work := at.ask(only=wanted)) is not None:
                serial_runner.carry_out(at, work)
        if not item.is_final:
            raise ConfigError(
                f"item {uid} cannot be carried out alone, its study has not come so far or chose otherwise; "
                f"go on with the sweep: {resume_command(as_written(settings.paths.root))}"
            )
        assert item.outcome is not None, "an item in a final state has an outcome"
        return item.outcome


@contextmanager
def opened(settings: Drive, say: Say, pool: Pool | None = None) -> Iterator[tuple[Engine, Exchange | None]]:
    """The engine of a sweep with its inputs prepared, and its storage; no other process can drive it meanwhile.

    Args:
        settings: the sweep.
        say: told one line per step.
        pool: who prepares; none: processes of this machine.

    Raises:
        ConfigError: if the folder holds another space, another driver is at work, or the storage cannot be used.
        DataError: if an input cannot be used; a sweep that had not begun leaves nothing then.
    """
    space, paths = settings.space, settings.paths
    make_plan(space)  # a space that cannot be planned is refused before it has a folder
    with Ledger(paths) as ledger, ExitStack() as stack:
        places = _places_in(settings, ledger.state)
        storage = places.storage
        with _removed_if_not_begun(ledger, settings.recording):
            _require_same_sweep(settings, ledger.state)
            if not ledger.state.name:
                require_no_space_lost(paths, space)
            register(places.cache, paths)  # before inputs are prepared, so that nobody collects them meanwhile
            clear_parts(places.cache, paths)
            exchange = stack.enter_context(open_exchange(storage, paths, places.cache)) if storage else None
            prepared = inputs_of(space, places, paths, settings.recording, say, pool)
            require_same_inputs(prepared, ledger.state)
            if exchange is not None:
                running = [(i.uid, i.attempt) for i in ledger.state.items.values() if i.status == "running"]
                exchange.begin(ledger.state.name or paths.root.name, prepared.folders, running, say)
            write_header(ledger, space, prepared, places, settings.shard, settings.command)
            if told := audit_at_start(paths, space, prepared, places.cache, places.workers):
                say(told)
        has_checkpoint = exchange.has_checkpoint if exchange else places.has_checkpoint
        if settings.recording is not None:
            has_checkpoint = needs_none
        yield Engine(space, prepared, places.cache, ledger, settings.shard, has_checkpoint), exchange


@contextmanager
def _removed_if_not_begun(ledger: Ledger, recording: Recording | None) -> Iterator[None]:
    """A sweep that cannot begin leaves no more than it found, so that another may take its name."""
    paths = ledger.paths
    files = (paths.space, paths.environment, paths.ray_log, *([paths.recorded(recording.form)] if recording else []))
    made = [file for file in files if not file.exists()]
    try:
        yield
    except BaseException:
        if not ledger.state.name:
            leave_nothing(paths, made)
        raise


def _without_defaults(settings: Drive, state: SweepState) -> Drive:
    """A finished sweep is not moved to another cache or runner because its command left them out this time."""
    if settings.goes_on or not state.finished or _require_same_sweep(settings, state):
        return settings
    given = {name: value for name in GIVEN_ONLY if (value := getattr(settings.places, name)) is not None}
    return replace(settings, places=places_of(state).model_copy(update=given))


def _noted_again(settings: Drive, warn: Say) -> None:
    """Note a finished sweep in its cache, as it may have been renamed or moved since it was driven."""
    try:
        register(settings.places.cache, settings.paths)
    except (ConfigError, DiskFullError) as error:
        warn(f"warning: {error}")


def _is_done(settings: Drive, state: SweepState) -> bool:
    """Whether nothing is left to do, and nothing to write down: the sweep was driven so before."""
    grown = _require_same_sweep(settings, state)
    is_as_before = _places_in(settings, state).model_dump(mode="json") == state.header.get("places")
    return state.finished and not grown and is_as_before


def _places_in(settings: Drive, state: SweepState) -> Places:
    """Where and how it is driven now; the storage is given once, when the sweep begins."""
    begun_with = state.header.get("places", {}).get("storage")
    return settings.places.model_copy(update={"storage": settings.places.storage or begun_with})


def _require_same_sweep(settings: Drive, state: SweepState) -> list[str]:
    """Refuse to go on in the folder of another sweep; what this one will have more of is given back."""
    if not state.header:
        return []
    require_same_shard(state, settings.shard)
    require_same_recording(settings.recording, state)
    return require_same_space(settings.space, state)


def _check_machine(settings: Drive) -> None:
    """Resources of this machine where the sweep is to run on it, else that the cluster answers; before any work."""
    places = settings.places
    if places.runner == "serial" and settings.recording is not None:
        return  # nothing is computed
    if places.runner == "serial" or places.ray_address == "local":
        shapes = [settings.space.resources.shape(kind) for kind in get_args(Kind)]
        check_fits(shapes, [local_node(any(shape.gpus for shape in shapes))])
    else:
        require_reachable(places.ray_address)


@contextmanager
def _tracked(settings: Drive, view: View) -> Iterator[Beside | None]:
    """MLflow is kept up to date by a process beside this one; it never holds the sweep up; a replay asks."""
    if settings.recording is not None and settings.places.tracking_uri is None:
        yield None
        view.end()
        view.say(f"MLflow: a replay is sent when it is asked for: {sync_command(settings.paths)}")
        return
    from chembench.tracking.mlflow_sync import start_beside

    process = start_beside(settings.paths.root, settings.places.tracking_uri)
    try:
        yield process
    except KeyboardInterrupt:  # at once; that process sends what is left by itself when this one is gone
        raise
    except BaseException:
        _send_rest(settings, view, process)
        raise
    _send_rest(settings, view, process)


def _send_rest(settings: Drive, view: View, process: Beside | None = None) -> None:
    """Send what is left, once ``process`` has ended, and tell what came of it."""
    from chembench.tracking.mlflow_sync import finish, send_rest

    root, uri = settings.paths.root, settings.places.tracking_uri
    view.end()
    view.say(f"MLflow: sending what is left, {MLFLOW_SECONDS:.0f} s at most")
    if process is None:
        report = send_rest(root, uri, seconds=MLFLOW_SECONDS)
    else:
        report = finish(process, root, seconds=MLFLOW_SECONDS)
    if report.unsent:
        view.warn(f"warning: {report.message}")
    else:
        view.say("MLflow: every run, board and model is sent")
