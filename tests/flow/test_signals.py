"""Signals end a sweep with its items' states kept, whoever they are sent to; a second one ends it at once."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, command_line, environment, options

PATIENCE_SECONDS = 240.0
LONG = (
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['llama']",
    "grid.size=['w16x1']",
    "grid.molecules=[64]",
    "controls={from_scratch=false, baselines=['constant']}",
    "pretrain.epochs=100000",
)
"""One pre-training that outlasts every test."""
STOPPING = "stopping: 1 item saves its state (again to stop at once)"

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found through /proc")


class Driver:
    """A ``chembench`` process that leads a group of its own, as a shell starts it in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "sweeps" / "long"
        self.process: subprocess.Popen[str] | None = None

    def begin(self, runner: str) -> None:
        space = ["--space", "full_grid_tiny", *options(*LONG)]
        self._start("sweep", "--name", "long", *space, "--runner", runner, *NO_MLFLOW)

    def go_on(self) -> None:
        self._start("resume", str(self.root))

    def _start(self, *arguments: str) -> None:
        temporary = tempfile.gettempdir()  # pytest's own folder is too long for Ray's sockets
        self.process = subprocess.Popen(
            command_line(*arguments), cwd=self.folder, env=environment(self.folder / "cache", TMPDIR=temporary),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_for_training(self, attempt: int) -> None:
        """Until an attempt at the pre-training has done epochs of its own."""
        self.wait_until(lambda: attempt == 1 or attempt - 1 in self.outcomes())
        before = self.measured(attempt - 1).get("stopped_in_epoch", 0) if attempt > 1 else 0
        self.wait_until(lambda: any(epoch > before + 1 for epoch in self.epochs(attempt)))

    def wait_until(self, holds) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < until, f"it does not hold after {PATIENCE_SECONDS:.0f} s"
            time.sleep(0.05)

    def end(self) -> str:
        """What it said, once it has ended with 4 and nothing it started is left."""
        _, told = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 4, told
        assert f"Go on with: chembench resume {self.root}" in told or "resume sweeps/long" in told
        assert children_of(self.process.pid) == []
        return told

    # ------------------------------------------------------------------------------------------ what it left behind

    def events(self) -> list[dict]:
        return [json.loads(line) for line in (self.root / "ledger.jsonl").read_text().splitlines()]

    def pretraining(self) -> str:
        return next(e["uid"] for e in self.events() if e["event"] == "item" and e["spec"]["kind"] == "pretrain")

    def outcomes(self) -> dict[int, dict]:
        """Attempt at the pre-training -> what came out of it."""
        uid = self.pretraining()
        found = [e["outcome"] for e in self.events() if e["event"] == "result" and e["uid"] == uid]
        return {outcome["attempt"]: outcome for outcome in found}

    def measured(self, attempt: int) -> dict:
        return self.outcomes()[attempt]["measured"]

    def epochs(self, attempt: int) -> list[int]:
        if not (self.root / "ledger.jsonl").is_file():
            return []
        folders = [self.root / "trials" / e["uid"] for e in self.events() if e["event"] == "started"]
        lines = [p.read_text().splitlines() for f in folders if (p := f / str(attempt) / "curves.jsonl").is_file()]
        return [json.loads(line)["epoch"] for part in lines for line in part[-1:] if line.endswith("}")]


@pytest.fixture
def driver(tmp_path):
    """Killed at the end, with all that it started, if the test did not see it end."""
    driver = Driver(tmp_path)
    yield driver
    if driver.process.poll() is None:
        for pid in (driver.process.pid, *(pid for pid, _ in children_of(driver.process.pid))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        driver.process.communicate()


def status_of(pid: int) -> tuple[str, int] | None:
    """Title and parent of a process; none if it is gone."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
        return None if state == "Z" else (title, int(parent))
    except OSError:
        return None


def children_of(ancestor: int) -> list[tuple[int, str]]:
    """Pid and title of everything below a process."""
    known = {int(p.name): s for p in Path("/proc").iterdir() if p.name.isdecimal() and (s := status_of(int(p.name)))}
    below, found = [ancestor], []
    while below:
        parent = below.pop()
        mine = [pid for pid, (_, of) in known.items() if of == parent]
        below += mine
        found += [(pid, known[pid][0]) for pid in mine]
    return found


def worker_of(driver: Driver) -> int:
    """The process that carries out the item; others of its kind hold still."""
    workers = [pid for pid, title in children_of(driver.process.pid) if title.startswith("ray::")]
    return max(workers, key=cpu_ticks)


def cpu_ticks(pid: int) -> int:
    try:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    except OSError:
        return 0


def test_the_serial_runner_keeps_the_state_at_the_first_signal_and_ends_at_once_at_the_second(driver):
    driver.begin("serial")
    driver.wait_for_training(1)
    os.kill(driver.process.pid, signal.SIGTERM)
    assert STOPPING in driver.end()
    (first,) = driver.outcomes().values()
    assert (first["status"], first["cause"]) == ("failed", "preempted")
    assert first["measured"]["stopped_at_step"] > 0

    driver.go_on()
    driver.wait_for_training(2)
    os.kill(driver.process.pid, signal.SIGTERM)
    os.kill(driver.process.pid, signal.SIGINT)
    driver.end()
    assert list(driver.outcomes()) == [1], "the second attempt was not waited for"


def test_ray_keeps_the_state_also_when_the_signal_goes_to_the_whole_group_or_to_a_worker(driver):
    driver.begin("ray")
    driver.wait_for_training(1)
    os.killpg(driver.process.pid, signal.SIGINT)  # Ctrl-C
    assert STOPPING in driver.end()

    driver.go_on()
    driver.wait_for_training(2)
    os.killpg(driver.process.pid, signal.SIGTERM)  # timeout, systemd, Slurm
    assert STOPPING in driver.end()

    driver.go_on()
    driver.wait_for_training(3)
    os.kill(worker_of(driver), signal.SIGTERM)
    driver.wait_for_training(4)
    os.killpg(driver.process.pid, signal.SIGINT)
    os.killpg(driver.process.pid, signal.SIGTERM)  # another one: two of a kind that come at once are one
    driver.end()

    told = driver.outcomes()
    assert {n: (outcome["status"], outcome["cause"]) for n, outcome in told.items()} == dict.fromkeys(
        (1, 2, 3), ("failed", "preempted")
    )
    for attempt in (2, 3):
        assert driver.measured(attempt)["resumed_at_step"] == driver.measured(attempt - 1)["stopped_at_step"] > 0
