"""Sweeps for flow tests: made once by the command itself, shared by every test and every pytest process."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chembench.api import Sweep, open_sweep
from chembench.report import columns, render
from chembench.report.columns import MEASURED_COLUMNS
from chembench.sweep import ledger

SMALL = (
    "grid.architecture=['roberta']",
    "grid.size=['w16x1']",
    "grid.molecules=[64]",
    "controls.baselines=['forest_ecfp4', 'constant']",
    "confirm.head_seeds=1",
)
"""full_grid_tiny with one cell and its control: what most tests need."""


def options(*overrides: str) -> list[str]:
    """``--set`` for each of ``overrides``."""
    return [word for override in overrides for word in ("--set", override)]


def small_sweep(runner: str) -> list[str]:
    return ["--space", "full_grid_tiny", *options(*SMALL), "--runner", runner]


@dataclass(frozen=True)
class Swept:
    """A sweep, and what the process that made it said."""

    root: Path
    cache: Path
    command: list[str]
    status: int
    out: str
    err: str
    seconds: float

    @property
    def view(self) -> Sweep:
        return open_sweep(self.root)


def environment(cache: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "CHEMBENCH_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1", **more}


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "chembench.cli", *arguments]


def run(arguments: Sequence[str], folder: Path, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """One ``chembench`` command, in ``folder``."""
    return subprocess.run(
        command_line(*arguments), cwd=folder, env=environment(cache, **more), capture_output=True, text=True
    )


def sweep(folder: Path, cache: Path, name: str, arguments: Sequence[str], **more: str) -> Swept:
    """Run ``chembench sweep``; its folder is ``folder/sweeps/name``."""
    command = ["sweep", "--name", name, *arguments]
    started = time.monotonic()
    done = run(command, folder, cache, **more)
    seconds = time.monotonic() - started
    return Swept(folder / "sweeps" / name, cache, command, done.returncode, done.stdout, done.stderr, seconds)


NO_MLFLOW = ["--tracking-uri", "http://127.0.0.1:9"]
"""Nothing answers there, which no sweep minds; sending would take longer than all the rest."""


class Copy:
    """A copy of a finished sweep that can be brought back to an earlier moment; MLflow is not told of it."""

    def __init__(self, swept: Swept, folder: Path) -> None:
        self.sweep = Sweep((folder / "sweeps" / swept.root.name).resolve())
        shutil.copytree(swept.root, self.sweep.root)
        self.rewrite(_untracked)

    def events(self) -> list[dict]:
        return [event for _, event in ledger.read_events(self.sweep.paths.ledger)]

    def rewrite(self, change: Callable[[dict], dict]) -> None:
        """Put ``change(event)`` in the place of every event."""
        self._write([change(event) for event in self.events()])

    def append(self, event: dict) -> None:
        self._write([*self.events(), event])

    def cut(self, events: int, keep_folders: bool = False) -> None:
        """Keep so many events, and of the trials what they know of."""
        kept = self.events()[:events]
        self._write(kept)
        known = {(event["outcome"]["uid"], event["outcome"]["attempt"]) for event in kept if event["event"] == "result"}
        for folder in () if keep_folders else self.sweep.paths.trials.glob("*/*"):
            if (folder.parent.name, int(folder.name)) not in known:
                shutil.rmtree(folder)

    def before(self, kind: str, pretrained: bool = False) -> int:
        """How many events stand before the first start of an item of ``kind``; of one with a pre-training, if asked."""
        items = self.sweep.state().items
        started = ((n, items[e["uid"]]) for n, e in enumerate(self.events()) if e["event"] == "started")
        return next(n for n, item in started if item.kind == kind and (not pretrained or item.spec.pretrained))

    def files(self, pattern: str = "*") -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.sweep.root.rglob(pattern) if path.is_file()}

    def _write(self, events: list[dict]) -> None:
        self.sweep.paths.ledger.write_bytes(b"".join(map(ledger.line_of, events)))


def _untracked(event: dict) -> dict:
    if event["event"] == "sweep":
        event["header"]["places"]["tracking_uri"] = NO_MLFLOW[1]
    return event


@contextlib.contextmanager
def ray_cluster(**more: str) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray of two CPUs that sweeps can join: its address, and the environment that lets them in.

    Its workers have ``more`` in their environment.
    """
    code = (
        "import ray, sys; ray.init(address='local', num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1]);"
        "print('address', ray.get_runtime_context().gcs_address, flush=True); sys.stdin.read(); ray.shutdown()"
    )
    folder = tempfile.mkdtemp(prefix="cb_ray_")  # short, for the sockets in it
    key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        env=environment(Path(folder), RAY_USAGE_STATS_ENABLED="0", **key, **more),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        yield next(line.split()[1] for line in process.stdout if line.startswith("address ")), key
    finally:
        process.stdin.close()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def shared(folder: Path, name: str, make) -> dict[str, Swept]:
    """What ``make(folder)`` gives, made by the first of the pytest processes that ask for it."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = place / "made.json"
        if not record.is_file():
            made = {key: vars(swept) for key, swept in make(place).items()}
            record.write_text(json.dumps(made, default=str))
    found = json.loads(record.read_text())
    return {key: Swept(**values | {"root": Path(values["root"]), "cache": Path(values["cache"])})
            for key, values in found.items()}  # fmt: skip


def results(sweep: Sweep) -> dict[str, dict]:
    """Uid -> everything about an item that its specification determines."""
    found = {}
    for uid, item in sweep.state().items.items():
        outcome = item.outcome
        assert outcome is not None, f"{uid} has no outcome"
        predictions = sweep.paths.run(uid, item.attempt).predictions
        found[uid] = {
            "kind": item.kind,
            "cell": item.cell and item.cell.name,
            "labels": item.labels,
            "status": item.status,
            "metrics": outcome.metrics,
            "objectives": outcome.objectives,
            "facts": outcome.facts,
            "predictions": predictions.read_bytes() if predictions.is_file() else None,
        }
    return found


def asks(sweep: Sweep) -> dict[str, dict]:
    """Study -> ordinal -> (uid, parameters)."""
    return {
        study: {ordinal: (point.uid, point.params) for ordinal, point in sorted(points.items())}
        for study, points in sorted(sweep.state().asked.items())
    }


def choices(sweep: Sweep) -> dict[str, dict]:
    """Unit -> the recipe chosen, and what it was chosen by."""
    return {unit: without(choice, "at") for unit, choice in sorted(sweep.state().choices.items())}


def openings(sweep: Sweep) -> list[dict]:
    return sorted((without(opened, "at") for opened in sweep.state().opened), key=lambda opened: opened["unit"])


def boards(sweep: Sweep) -> dict[str, list[dict]]:
    """Board -> its lines in order, without what was measured and without what the sweep is called."""
    found = {}
    for board in render.boards_from_state(sweep.state()).boards:
        found[board.name] = [without(line, *MEASURED_COLUMNS) for line in columns.records(board)]
    assert found
    return found


def without(record: Mapping, *names: str) -> dict:
    return {key: value for key, value in record.items() if key not in names}


def assert_same(one: Sweep, other: Sweep) -> None:
    """Both sweeps asked, measured, chose, opened and ranked alike, to the last bit."""
    assert asks(one) == asks(other)
    first, second = results(one), results(other)
    assert sorted(first) == sorted(second)
    for uid, found in first.items():
        assert found == second[uid], uid
    assert choices(one) == choices(other)
    assert openings(one) == openings(other)
    assert boards(one) == boards(other)
