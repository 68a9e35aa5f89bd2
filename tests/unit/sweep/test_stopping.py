"""A sweep that is ended before its time keeps what runs, hands out nothing more, and says how it goes on."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from sweep_fakes import engine_on, failed, finished, grid_space, opened

from chembench.errors import DiskFullError, InterruptedSweepError, RunError
from chembench.paths import RunPaths
from chembench.sweep import serial_runner
from chembench.sweep.running import RunnerOptions, desk
from chembench.sweep.serial_runner import run_serially
from chembench.sweep.stopping import Stopping, interrupted

PATIENCE_SECONDS = 60.0
WAY_ON = InterruptedSweepError("go on")


@pytest.fixture
def engine(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"], controls__baselines=["constant"])
    with opened(space, tmp_path) as ledger:
        yield engine_on(space, ledger)


def nothing():
    pass


def until_stopped(work):
    """An item that works until it is asked to keep its state."""
    stop = RunPaths(Path(work.folder)).stop
    until = time.monotonic() + PATIENCE_SECONDS
    while not stop.exists():
        assert time.monotonic() < until, "nobody asked the item to stop"
        time.sleep(0.01)
    return failed(work, "preempted")


def signalled(number, run=until_stopped):
    """``run``, within which the process gets a signal."""

    def carry_out(work):
        os.kill(os.getpid(), number)
        return run(work)

    return carry_out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_has_the_item_keep_its_state_and_hands_out_nothing_more(engine, monkeypatch, number):
    said, handed_out = [], []
    stopping = Stopping(said.append)
    runs = iter([finished, finished, signalled(number)])

    def carry_out(work):
        handed_out.append(work.uid)
        return next(runs)(work)

    monkeypatch.setattr(serial_runner, "run_item", carry_out)
    with stopping.on_signals(WAY_ON), pytest.raises(InterruptedSweepError, match="go on"):
        run_serially(engine, RunnerOptions(stopping=stopping), nothing)
    assert said == ["stopping: 1 item saves its state (again to stop at once)"]
    assert len(handed_out) == 3
    stopped = engine.state.items[handed_out[-1]]
    assert (stopped.status, stopped.outcome.cause, stopped.attempt) == ("waiting", "preempted", 1)


def test_a_second_signal_stops_at_once(engine, monkeypatch):
    stopping = Stopping()

    def carry_out(work):
        os.kill(os.getpid(), signal.SIGINT)
        assert RunPaths(Path(work.folder)).stop.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the second signal was not heard")

    monkeypatch.setattr(serial_runner, "run_item", carry_out)
    with stopping.on_signals(WAY_ON), pytest.raises(KeyboardInterrupt):
        run_serially(engine, RunnerOptions(stopping=stopping), nothing)


def test_the_grace_ends_as_a_second_signal_does(engine, monkeypatch):
    stopping = Stopping(grace_seconds=0.1)

    def deaf(work):
        time.sleep(PATIENCE_SECONDS)
        raise AssertionError("the grace did not end")

    monkeypatch.setattr(serial_runner, "run_item", signalled(signal.SIGTERM, deaf))
    with stopping.on_signals(WAY_ON), pytest.raises(KeyboardInterrupt):
        run_serially(engine, RunnerOptions(stopping=stopping), nothing)
    assert [item.status for item in engine.state.items.values()].count("running") == 1, "left to the next start"


def test_a_signal_while_nothing_runs_ends_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopping = Stopping()
    with pytest.raises(KeyboardInterrupt), stopping.on_signals(WAY_ON):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not stopping.requested


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def look():
        with Stopping().on_signals(WAY_ON):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


IGNORED = """
import os, signal
from chembench.errors import InterruptedSweepError
from chembench.sweep.stopping import Stopping
said, seen = [], []
stopping = Stopping(said.append)
with stopping.on_signals(InterruptedSweepError("go on")), stopping.while_running(lambda: 2):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        seen.append(stopping.requested)
print(seen, said)
"""


def test_sigint_stays_ignored_in_a_background_shell_and_sigterm_works():
    code = f"trap '' INT; exec {sys.executable} -c '{IGNORED}'"
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[False, True] ['stopping: 2 items save their state (again to stop at once)']\n"


def test_a_signal_while_an_item_is_handed_out_reaches_it(engine):
    stopping = Stopping()
    start = engine._start

    def started(item):
        os.kill(os.getpid(), signal.SIGTERM)
        return start(item)

    engine._start = started
    with stopping.on_signals(WAY_ON), pytest.raises(InterruptedSweepError):
        with desk(engine, RunnerOptions(stopping=stopping), nothing) as at:
            work = at.ask()
            assert RunPaths(Path(work.folder)).stop.exists()
            assert at.ask() is None and at.is_closed
            at.tell(failed(work, "preempted"))


def test_the_error_names_the_command_that_goes_on(tmp_path):
    error = interrupted(tmp_path / "my sweep")
    assert error.exit_code == 4
    assert str(error) == (
        f"interrupted; what is finished is kept. Go on with: chembench resume '{tmp_path / 'my sweep'}'"
    )


# ------------------------------------------------------------------------------------------------------------ disk

Usage = namedtuple("Usage", "total used free")


def test_nothing_is_handed_out_where_no_space_is_left(engine, tmp_path, monkeypatch):
    free = {tmp_path: 2**40, tmp_path / "cache": 64 * 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**40, 0, free[folder]))
    with pytest.raises(DiskFullError) as caught:
        with desk(engine, RunnerOptions(folders=tuple(free)), nothing) as at:
            work = at.ask()
            free[tmp_path / "cache"] -= 2**20
            assert at.ask() is None and at.is_closed
            assert RunPaths(Path(work.folder)).stop.exists(), "what runs keeps its state while it can"
            at.tell(finished(work))
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        f"64 MiB must be free where a sweep writes, {tmp_path / 'cache'} has 63 MiB; "
        "free some, then give the same command again"
    )
    assert engine.state.items[work.uid].status == "finished"


def test_an_item_that_found_no_space_stops_the_others(engine):
    with pytest.raises(DiskFullError, match="it broke: preempted"):
        with desk(engine, RunnerOptions(), nothing) as at:
            first, second = at.ask(), at.ask()
            at.tell(failed(first, "preempted").model_copy(update={"measured": {"disk_full": True}}))
            assert RunPaths(Path(second.folder)).stop.exists()
            assert at.ask() is None
            at.tell(finished(second))


def test_a_sweep_in_which_everything_fails_ends_with_the_reason(tmp_path, monkeypatch):
    space = grid_space(tasks=["freewilson_pic50"], search__give_up_after=3)
    monkeypatch.setattr(serial_runner, "run_item", failed)
    with opened(space, tmp_path) as ledger, pytest.raises(RunError, match="it broke: bug") as caught:
        run_serially(engine := engine_on(space, ledger), RunnerOptions(), nothing)
    assert caught.value.exit_code == 1
    assert str(caught.value) == engine.given_up


def test_a_folder_that_cannot_be_written_does_not_keep_the_others_running(engine, monkeypatch):
    def no_space(path, *args, **kwargs):
        raise OSError(28, "No space left on device")

    with pytest.raises(InterruptedSweepError):
        with desk(engine, options := RunnerOptions(), nothing) as at:
            work = at.ask()
            monkeypatch.setattr(Path, "touch", no_space)
            options.stopping.request(WAY_ON)
            at.tell(finished(work))


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (0, []),
        (1, ["stopping: 1 item saves its state (again to stop at once)"]),
        (3, ["stopping: 3 items save their state (again to stop at once)"]),
    ],
)
def test_it_is_said_how_many_items_save_their_state_if_any_do(items, said):
    told = []
    stopping = Stopping(told.append)
    with stopping.on_signals(WAY_ON), stopping.while_running(lambda: items):
        stopping.request(WAY_ON)
    assert told == said


def test_a_sweep_that_was_done_anyway_ends_well(engine, monkeypatch):
    monkeypatch.setattr(serial_runner, "run_item", finished)
    options = RunnerOptions()

    def on_change():
        if engine.done:
            options.stopping.request(WAY_ON)

    run_serially(engine, options, on_change)
    assert engine.state.finished
