"""The process beside a driver: it follows, ends when told, and outlives neither the sweep nor the driver."""

import subprocess
import sys
import time

from tracked_sweep import RUNNING, curve

from chembench.tracking.mlflow_sync import catch_up, finish, start_beside


def seen_within(seconds, condition):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.2)
    return False


def status_of(runs, spec):
    run = runs().get("tiny/regression", {}).get(spec.digest)
    return run and run.info.status


def test_it_sends_while_the_driver_works_and_the_rest_at_the_end(sweep, database, runs):
    beside = start_beside(sweep.paths.root, None)
    try:
        assert seen_within(60, lambda: status_of(runs, RUNNING) == "RUNNING")
        sweep.epochs(RUNNING, curve(0.4))
        sweep.end(RUNNING, metrics={"objective": 0.4})
        sweep.finish()
        before = time.monotonic()
        report = finish(beside, sweep.paths.root, seconds=60)
        assert (report.unsent, report.message) == (0, "")
        assert time.monotonic() - before < 60
        assert beside.process.poll() is not None
    finally:
        beside.process.kill()
        beside.process.wait()
    assert status_of(runs, RUNNING) == "FINISHED"
    assert {run.info.status for run in runs()["tiny/pretrain"].values()} == {"FINISHED"}
    assert (sweep.paths.log / "mlflow.log").is_file()


def test_it_catches_up_when_asked_and_goes_on(sweep, database, runs):
    beside = start_beside(sweep.paths.root, None)
    try:
        sweep.end(RUNNING, metrics={"objective": 0.4})
        catch_up(beside, sweep.paths.root, seconds=60)
        assert status_of(runs, RUNNING) == "FINISHED"
        before = time.monotonic()
        catch_up(beside, sweep.paths.root, seconds=60)
        assert time.monotonic() - before < 30 and beside.process.poll() is None
        sweep.finish()
        assert finish(beside, sweep.paths.root, seconds=60).unsent == 0
    finally:
        beside.process.kill()
        beside.process.wait()


def test_nobody_waits_for_a_server_that_is_down_or_a_process_that_is_gone(sweep):
    beside = start_beside(sweep.paths.root, "http://127.0.0.1:9")
    for _ in range(2):
        before = time.monotonic()
        catch_up(beside, sweep.paths.root, seconds=100)
        assert time.monotonic() - before < 90
        beside.process.kill()
        beside.process.wait()


def test_a_server_that_is_down_delays_the_end_by_no_more_than_allowed(sweep):
    beside = start_beside(sweep.paths.root, "http://127.0.0.1:9")
    before = time.monotonic()
    report = finish(beside, sweep.paths.root, seconds=30)
    assert time.monotonic() - before < 31
    assert report.unsent == 10  # seven items, and the sweep itself in three experiments
    command = f"chembench sync {sweep.paths.root} --tracking-uri http://127.0.0.1:9"
    assert report.message.endswith(f"10 runs, boards or models are not sent, send them with `{command}`")
    assert beside.process.poll() is not None


def test_when_the_driver_dies_no_run_stays_running(sweep, database, runs):
    driver = "\n".join(
        (
            "import os, pathlib, sys, time",
            "from chembench.tracking.mlflow_sync import start_beside",
            "start_beside(pathlib.Path(sys.argv[1]), None)",
            "time.sleep(0.5)",
            "os._exit(1)",
        )
    )
    subprocess.run([sys.executable, "-c", driver, str(sweep.paths.root)], check=False)
    assert seen_within(60, lambda: status_of(runs, RUNNING) == "KILLED")
    assert seen_within(60, lambda: runs()["tiny/regression"]["sweep:tiny/regression"].info.status == "KILLED")
