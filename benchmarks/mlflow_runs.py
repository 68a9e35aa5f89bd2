"""How MLflow copes with a sweep of thousands of runs: how long they take to send, and then to list and to search.

A sweep is driven by the engine itself, with a run function that makes an outcome and five epochs of curves at once.
Its runs are sent to a SQLite file as `chembench sync` sends them. Then MLflow's pages are served on 127.0.0.1, and
asked over HTTP for what they show: the first hundred runs, a saved search, the curves of ten runs. With ``--keep`` the
folder stays, for a look with `chembench ui`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from resume import instant, space_of
from tables import machine, publish, table

from chembench.api import open_engine
from chembench.appended import append_line
from chembench.paths import RunPaths, SweepPaths
from chembench.specs import Outcome, Work
from chembench.tracking.mlflow_sync import default_tracking_uri, sync, ui_command

EPOCHS = 5
PAGE = 100
WAIT_SECONDS = 180.0
SEARCH = "tags.`chembench.kind` = 'search' and tags.`chembench.architecture` = 'llama'"


def with_curves(work: Work) -> Outcome:
    """An outcome at once, with the curves that a worker leaves."""
    outcome = instant(work)
    objective = outcome.metrics["objective"]
    for epoch in range(EPOCHS):
        loss = objective + (EPOCHS - epoch) / 10
        entry = {"epoch": epoch, "at": 1.7e9 + epoch, "train/loss": loss, "valid/loss": loss, "objective": loss}
        append_line(RunPaths(Path(work.folder)).curves, entry)
    return outcome


def make(folder: Path, runs: int) -> SweepPaths:
    """A sweep with so many items that have ended."""
    with open_engine(space_of(runs), name="many", out=folder, cache_dir=folder / "cache") as engine:
        ended = 0
        while ended < runs and (work := engine.ask()) is not None:
            engine.tell(with_curves(work))
            ended += 1
    return SweepPaths(folder / "many")


@contextmanager
def served(uri: str) -> Iterator[str]:
    """The address of MLflow's pages, which end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*ui_command(uri), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base = f"http://127.0.0.1:{port}"
        _await(f"{base}/health")
        yield base
    finally:
        process.terminate()
        process.wait(timeout=60)


def _await(url: str) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


def asked(base: str, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of MLflow's REST interface."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{base}/ajax-api/2.0/mlflow/{call}", data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """What came out, and the seconds of each call, ascending."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = call()
        spent.append(time.perf_counter() - started)
    return found, sorted(spent)


def looked_at(base: str, repeats: int) -> list[tuple[str, int, list[float]]]:
    """What the pages ask for: in words, how many runs came back, and the seconds."""
    experiment = asked(base, "experiments/get-by-name?experiment_name=many/regression")["experiment"]["experiment_id"]
    plain = {"experiment_ids": [experiment], "max_results": PAGE, "order_by": ["attributes.start_time DESC"]}
    best = {**plain, "order_by": ["metrics.`best/objective` ASC"]}
    rows = []
    for text, body in (
        (f"the first {PAGE} runs, newest first", plain),
        (f"the best {PAGE} by a metric", best),
        ("a saved search, ordered by a metric", {**best, "filter": SEARCH}),
    ):
        found, spent = timed(lambda body=body: asked(base, "runs/search", body), repeats)  # type: ignore[misc]
        rows.append((text, len(found["runs"]), spent))
    ids = [run["info"]["run_id"] for run in found["runs"][:10]]
    names = "&".join(f"run_id={run}" for run in ids)
    call = f"metrics/get-history-bulk?{names}&metric_key=valid/loss"
    found, spent = timed(lambda: asked(base, call), repeats)
    rows.append((f"curves of ten runs, {len(found['metrics'])} points", len(ids), spent))
    return rows


def measure(runs: int, repeats: int, folder: Path) -> str:
    """The table, as Markdown."""
    paths = make(folder, runs)
    started = time.perf_counter()
    report = sync(paths.root, None, final=True)
    sending = time.perf_counter() - started
    if report.unsent:
        raise click.ClickException(report.message)
    database = folder / "mlflow.db"
    with served(default_tracking_uri(paths.root)) as base:
        rows = looked_at(base, repeats)
    shown = [(text, count, f"{spent[len(spent) // 2]:.2f}", f"{spent[-1]:.2f}") for text, count, spent in rows]
    facts = (
        f"{report.sent:,} runs with {EPOCHS} epochs each were sent to SQLite in {sending:.0f} s "
        f"({1000 * sending / report.sent:.0f} ms a run, {database.stat().st_size / 1e6:.0f} MB). What the pages ask "
        f"for, over HTTP, of {repeats} calls:\n"
    )
    head = ("what", "runs", "median s", "most s")
    return f"{facts}\n{table(head, shown)}\n{machine(paths.environment, ('mlflow',))}"


@click.command(help=__doc__)
@click.option("--runs", default=2000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Make it here, and leave it.")
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(runs: int, repeats: int, keep: Path | None, write: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        text = measure(runs, repeats, keep or Path(folder))
    publish("Thousands of runs in MLflow", f"python benchmarks/mlflow_runs.py --runs {runs}", text, write=write)


if __name__ == "__main__":
    main()
