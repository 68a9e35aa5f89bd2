"""What a worker does with an item: it stops it on SIGTERM, and is not used again after some ends."""

import os
import signal
from pathlib import Path

import pytest
from sweep_fakes import engine_on, failed, finished, grid_space, leave_result, opened

from chembench import trial
from chembench.errors import RunError
from chembench.paths import RunPaths
from chembench.sweep.ray_runner import outcome_of
from chembench.sweep.ray_worker import carry_out


class Ended(BaseException):
    """What Ray's own handler raises in a worker."""


@pytest.fixture
def work(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"], controls__baselines=["constant"])
    with opened(space, tmp_path) as ledger:
        yield engine_on(space, ledger).ask()


@pytest.fixture
def ray_handler():
    """SIGTERM in a worker before an item begins: Ray's handler, and blocked by whoever started Ray."""

    def end(number, frame):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield end
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, before)


def item(work):
    return {"work": work.model_dump_json(), "cpus": 1, "gpus": 0}


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_hold_keeps_the_process_and_does_nothing():
    assert carry_out({"work": None, "cpus": 1, "gpus": 0}) == {"done": True}


def test_a_process_is_used_again_after_an_item_and_after_a_bug_in_one(work, monkeypatch, ray_handler):
    for run in (finished, failed):
        monkeypatch.setattr(trial, "run_item", run)
        assert carry_out(item(work)) == {"done": True}
    assert signal.getsignal(signal.SIGTERM) is ray_handler


@pytest.mark.parametrize("cause", ["oom", "nan"])
def test_a_process_is_not_used_again_after(cause, work, monkeypatch, ray_handler):
    monkeypatch.setattr(trial, "run_item", lambda work: failed(work, cause))
    with pytest.raises(RunError, match=f"it broke: {cause}") as caught:
        carry_out(item(work))
    assert caught.value.cause == cause


def test_sigterm_stops_the_item_and_retires_the_process(work, monkeypatch, ray_handler):
    def told(work):
        sigterm()
        assert RunPaths(Path(work.folder)).stop.exists()
        return failed(work, "preempted")

    monkeypatch.setattr(trial, "run_item", told)
    with pytest.raises(RunError, match="it broke: preempted") as caught:
        carry_out(item(work))
    assert caught.value.cause == "preempted"
    assert signal.getsignal(signal.SIGTERM) is ray_handler


def test_a_second_sigterm_ends_the_process(work, monkeypatch, ray_handler):
    def told_twice(work):
        sigterm()
        sigterm()
        raise AssertionError("the second signal was not heard")

    monkeypatch.setattr(trial, "run_item", told_twice)
    with pytest.raises(Ended):
        carry_out(item(work))


def test_an_item_that_finishes_all_the_same_counts_but_its_process_is_retired(work, monkeypatch, ray_handler):
    def in_time(work):
        sigterm()
        return finished(work)

    monkeypatch.setattr(trial, "run_item", in_time)
    with pytest.raises(RunError) as caught:
        carry_out(item(work))
    assert caught.value.cause == "preempted"


def test_what_the_disk_has_no_space_for_is_told_to_the_driver(work, monkeypatch, ray_handler):
    full = failed(work, "preempted").model_copy(update={"measured": {"disk_full": True}})
    monkeypatch.setattr(trial, "run_item", lambda work: full)
    assert outcome_of(work, carry_out(item(work))) == full


def test_the_driver_takes_what_is_in_the_folder_and_else_says_that_the_worker_was_lost(work):
    lost = outcome_of(work, {})
    assert (lost.status, lost.cause, lost.attempt) == ("failed", "worker-lost", 1)
    assert lost.message == f"the worker of attempt 1 ended without a result; its folder is {work.folder}"
    leave_result(work, finished(work))
    assert outcome_of(work, {"done": True}) == finished(work)
