"""The same command again: nothing is done twice, another space is refused, and what was interrupted goes on."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, assert_same, command_line, environment, options, run, small_sweep

from chembench import cli
from chembench.api import open_sweep
from chembench.sweep import serial_runner

AGAIN = """
import sys
from chembench.cli import run
status = run(sys.argv[1:])
print("imported:", *sorted({name.split(".")[0] for name in sys.modules}))
sys.exit(status)
"""


def test_a_finished_sweep_is_shown_again_and_nothing_runs(small):
    ledger = small.view.paths.ledger.read_bytes()
    trials = sorted(small.view.paths.trials.rglob("*"))
    command = [*small.command[:-1], "ray"]
    assert small.command[-2:] == ["--runner", "serial"]
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, *command],
        cwd=small.root.parents[1], env=environment(small.cache), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown, _, imported = done.stdout.rpartition("imported:")
    assert not {"ray", "torch", "optuna", "mlflow", "transformers"} & set(imported.split())
    assert shown == small.out
    assert small.view.paths.ledger.read_bytes() == ledger
    assert sorted(small.view.paths.trials.rglob("*")) == trials


def test_another_space_under_the_same_name_is_refused_with_the_difference(small, monkeypatch, capsys):
    ledger = small.view.paths.ledger.read_bytes()
    monkeypatch.chdir(small.root.parents[1])
    assert cli.run([*small.command, *options("search.trials=3", "seed=1")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("sweep 'small' was started with another space, and nothing but search.trials, ")
    assert told[0].endswith(" under its name; begin another one with `chembench sweep` and a --name of its own")
    assert told[1:] == ["seed: 0 there, 1 here", "search.trials: 2 there, 3 here"]
    assert small.view.paths.ledger.read_bytes() == ledger


def test_shares_of_the_machine_are_no_other_space(small, monkeypatch, capsys):
    monkeypatch.chdir(small.root.parents[1])
    assert cli.run([*small.command, *options("resources.cpus=2"), "--quiet"]) == 0
    assert "boards: " in capsys.readouterr().out


def test_ctrl_c_in_an_item_ends_with_4_and_the_same_command_goes_on(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    command = ["sweep", "--name", "small", *small_sweep("serial"), *NO_MLFLOW]
    left = iter([serial_runner.run_item] * 7)

    def interrupted(work):
        for carry_out in left:
            return carry_out(work)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(serial_runner, "run_item", interrupted)
        assert cli.run(command) == 4
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == ("interrupted; what is finished is kept. Go on with: chembench resume sweeps/small")
    begun = open_sweep("small")
    assert begun.exit_code == 4
    assert sum(item.is_final for item in begun.state().items.values()) == 7
    kept = {path: path.read_bytes() for path in begun.paths.trials.rglob("result.json")}
    assert cli.run(command) == 0
    assert_same(open_sweep("small"), small.view)
    assert {path: path.read_bytes() for path in kept} == kept


class Driver:
    """A ``chembench sweep`` process with everything that it starts, told apart by a mark in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        self.ledger = folder / "sweeps" / "small" / "ledger.jsonl"

    def start(self, runner: str) -> subprocess.Popen:
        temporary = tempfile.gettempdir()  # pytest's own folder is too long for Ray's sockets
        variables = environment(self.folder / "cache", TMPDIR=temporary, CHEMBENCH_TEST_MARK=self.mark)
        command = command_line("sweep", "--name", "small", *small_sweep(runner), *NO_MLFLOW)
        return subprocess.Popen(
            command, cwd=self.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def results(self) -> int:
        lines = self.ledger.read_text().splitlines() if self.ledger.is_file() else []
        return sum('"event": "result"' in line for line in lines)

    def wait_for(self, results: int, process: subprocess.Popen) -> None:
        until = time.monotonic() + 240
        while self.results() < results:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, f"{self.results()} results after 240 s"
            time.sleep(0.05)

    def processes(self) -> list[str]:
        """Command lines of what is left of all that was started here."""
        found = []
        for place in Path("/proc").iterdir():
            try:
                if place.name.isdecimal() and self.mark.encode() in (place / "environ").read_bytes():
                    found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it ended meanwhile, or belongs to somebody else
                continue
        return found

    def left_after(self, seconds: float) -> list[str]:
        until = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.1)
        return left


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found through /proc, which only Linux has")
def test_a_signal_to_the_driver_on_ray_ends_with_4_and_it_goes_on_under_any_runner(small, tmp_path):
    driver = Driver(tmp_path)
    process = driver.start("ray")
    driver.wait_for(3, process)
    os.kill(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=90)
    assert process.returncode == 4, told
    assert "Go on with: chembench resume sweeps/small" in told
    assert driver.left_after(20) == []
    assert driver.results() < 25
    done = run(["sweep", "--name", "small", *small_sweep("serial"), *NO_MLFLOW], tmp_path, tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert_same(open_sweep(tmp_path / "sweeps" / "small"), small.view)


def test_the_record_of_a_sweep_says_how_it_was_called(small):
    environment = json.loads(small.view.paths.environment.read_text())
    assert environment["command"] == ["chembench", *small.command]
    assert small.view.paths.space.is_file()
