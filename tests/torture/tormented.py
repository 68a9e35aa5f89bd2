"""A sweep in a process of its own, killed as planned and started again with the same command until it is finished."""

import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from flow_sweeps import command_line, environment

from torture.kills import DRIVER, NODE, WORKER, Kill

INJECTED = Path(__file__).resolve().parent / "injected"
MARK = "CHEMBENCH_TORTURE_MARK"
"""Stands in the environment of everything that was started for one sweep, also of what lost its parents."""
PATIENCE_SECONDS = 600.0
"""A driver that neither ends nor writes a line to its ledger for so long is stuck."""


class Stuck(Exception):
    """A driver neither ended nor went on, or ended although nobody killed it."""


@dataclass
class Tormented:
    """One sweep under torture; made by `torment`."""

    folder: Path
    """Where the command is given; the sweep lies in ``sweeps/<name>`` below it."""
    cache: Path
    name: str
    arguments: Sequence[str]
    variables: dict[str, str]
    nodes: subprocess.Popen | None = None
    """``torture.nodes``, where the sweep runs on several nodes."""
    starts: int = 0
    done: list[str] = field(default_factory=list)
    """Kinds of the kills that were carried out."""
    missed: list[str] = field(default_factory=list)
    """Kinds of the kills whose moment never came."""
    driver: subprocess.Popen | None = None

    @property
    def root(self) -> Path:
        return self.folder / "sweeps" / self.name

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def is_running(self) -> bool:
        return self.driver is not None and self.driver.poll() is None

    @property
    def is_over(self) -> bool:
        """Whether a driver came to its own end; one that was killed did not."""
        return self.driver is not None and self.driver.poll() not in (None, -signal.SIGKILL)

    def told(self) -> str:
        """What the last driver said."""
        return (self.folder / f"told-{self.starts}.txt").read_text(errors="replace")

    def results(self) -> int:
        return self.ledger.read_bytes().count(b'"event": "result"') if self.ledger.is_file() else 0

    def start(self) -> None:
        """Give the command."""
        self.starts += 1
        command = command_line("sweep", "--name", self.name, *self.arguments)
        with (self.folder / f"told-{self.starts}.txt").open("wb") as told:
            self.driver = subprocess.Popen(
                command, cwd=self.folder, env=environment(self.cache, **self.variables), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=told, stderr=told,
            )  # fmt: skip

    def suffer(self, kills: Sequence[Kill]) -> None:
        """Carry the sweep through ``kills``; it may still run, or be finished, afterwards.

        A kill that waits for a call is given up when the next one is due.

        Raises:
            Stuck: if a driver hangs, or ends with an error.
        """
        for kill, until in zip(kills, [*(later.after for later in kills[1:]), math.inf], strict=True):
            if not self.is_running and not self.is_over:
                self.start()
            if self.wait(lambda at=kill.after: self.results() >= at) and self._carried_out(kill, until):
                self.done.append(kill.kind)
            else:
                self.missed.append(kill.kind)
            self._require_no_error()

    def finish(self) -> None:
        """Let the sweep come to its end, undisturbed from now on, and send what MLflow was too slow to take."""
        if not self.is_running and not self.is_over:
            self.start()
        self.wait(lambda: False)
        self._require_no_error()
        if "not sent" in self.told():
            command = [sys.executable, "-m", "chembench.tracking.mlflow_sync", "--sweep", str(self.root)]
            subprocess.run(command, env=environment(self.cache), stdout=subprocess.DEVNULL, check=True)

    def wait(self, condition) -> bool:
        """Whether ``condition`` came true before the driver ended.

        Raises:
            Stuck: if for a long time neither happens nor anything is written to the ledger.
        """
        size, since = -1, time.monotonic()
        while True:
            has_ended = not self.is_running
            if condition():
                return True
            if has_ended:
                return False
            now = self.ledger.stat().st_size if self.ledger.is_file() else 0
            if now != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                raise Stuck(f"start {self.starts}: no event for {PATIENCE_SECONDS:.0f} s\n{self.told()}")
            time.sleep(0.05)

    def _require_no_error(self) -> None:
        if self.is_over and self.driver.returncode != 0:
            raise Stuck(f"start {self.starts}: nobody killed it, it ended with {self.driver.returncode}\n{self.told()}")

    # ---------------------------------------------------------------------------------------------------- kills

    def _carried_out(self, kill: Kill, until: float) -> bool:
        if kill.plan is not None:
            return self._armed(kill, until)
        time.sleep(kill.delay_seconds)
        if kill.kind == DRIVER:
            self.driver.kill()
            return self.driver.wait() == -signal.SIGKILL
        if kill.kind == WORKER:
            return self.wait(self._kill_busy_worker)
        assert kill.kind == NODE and self.nodes is not None
        self.nodes.stdin.write("kill\n")
        self.nodes.stdin.flush()
        return self.nodes.stdout.readline() == "killed\n"

    def _armed(self, kill: Kill, until: float) -> bool:
        number = len(self.done) + len(self.missed) + 1
        plan, done = self.folder / "plan.json", self.folder / f"done-{number}.json"
        victim = self.driver.pid if kill.kills_driver else None
        part = plan.with_suffix(".part")
        part.write_text(json.dumps({**kill.plan, "id": number, "victim": victim}))
        part.replace(plan)
        self.wait(lambda: done.is_file() or self.results() > until)
        plan.unlink(missing_ok=True)
        if not done.is_file():
            return False
        if kill.kills_driver or kill.plan["role"] == "driver":
            self.driver.wait()
        return True

    def _kill_busy_worker(self) -> bool:
        for process in marked(self.variables[MARK]):
            with contextlib.suppress(psutil.Error):
                if _is_busy(process):
                    process.kill()
                    return True
        return False


def _is_busy(process: psutil.Process) -> bool:
    """Whether it is a worker of Ray at work: the name of such a process says what it does."""
    title = " ".join(process.cmdline()).rstrip()
    return title.startswith("ray::") and title.endswith(".train")


def marked(mark: str) -> list[psutil.Process]:
    """Every process that was started for the sweep with this mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


@contextlib.contextmanager
def torment(
    folder: Path, cache: Path, name: str, arguments: Sequence[str], *, with_nodes: bool = False
) -> Iterator[Tormented]:
    """A sweep to be tortured in ``folder``; nothing that was started for it is left afterwards.

    Args:
        folder: an empty place.
        cache: prepared inputs are kept there.
        name: of the sweep.
        arguments: of ``chembench sweep``.
        with_nodes: run on a Ray of several nodes, of which one can be killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix="t_")  # short, for Ray's sockets
    mark = secrets.token_hex(8)
    variables = {"PYTHONPATH": _path(INJECTED), "TORTURE_FOLDER": str(folder), MARK: mark, "TMPDIR": temporary}
    nodes = None
    try:
        if with_nodes:
            variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            nodes, address = _start_nodes(folder, cache, variables)
            arguments = [*arguments, "--ray-address", address]
        yield Tormented(folder, cache, name, arguments, variables, nodes)
    finally:
        if nodes is not None:
            nodes.stdin.close()
        _end(mark)
        shutil.rmtree(temporary, ignore_errors=True)


def _start_nodes(folder: Path, cache: Path, variables: dict[str, str]) -> tuple[subprocess.Popen, str]:
    paths = {"PYTHONPATH": _path(INJECTED, INJECTED.parents[1])}
    with (folder / "nodes.txt").open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "torture.nodes"], env=environment(cache, **variables | paths),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True,
        )  # fmt: skip
    return process, next(line.split()[1] for line in process.stdout if line.startswith("address "))


def _path(*folders: Path) -> str:
    """``PYTHONPATH`` with ``folders`` before what it names already."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(mark: str) -> None:
    """Kill what is left, however it is descended, until nothing is: a process may start another while it dies."""
    until = time.monotonic() + 60
    while (left := marked(mark)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
