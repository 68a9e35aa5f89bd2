"""MLflow as a projection of the ledger: one pass (`sync`), or passes beside a driver (`start_beside`, `finish`).

Run as a process: ``python -m chembench.tracking.mlflow_sync --sweep DIR [--tracking-uri URI] [--follow]``.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from chembench.errors import ChembenchError, ConfigError
from chembench.paths import SweepPaths
from chembench.sweep.ledger import read_state
from chembench.tracking.store import SQLITE, artifact_root, quiet_mlflow
from chembench.tracking.uploader import SyncReport, Uploader

POLL_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Beside:
    """The process that follows a sweep."""

    process: subprocess.Popen[bytes]
    tracking_uri: str


def default_uri(folder: Path) -> str:
    """The SQLite database that all sweeps in ``folder`` share, as an absolute URI."""
    return f"{SQLITE}{folder.resolve() / 'mlflow.db'}"


def default_tracking_uri(sweep_root: Path) -> str:
    """The database beside a sweep's folder."""
    return default_uri(sweep_root.resolve().parent)


def ui_command(tracking_uri: str) -> list[str]:
    """The command that shows a store in the browser; MLflow's port is 5000 unless ``--port`` is added.

    Raises:
        ConfigError: if the URI is a server, which shows itself.
    """
    artifacts = artifact_root(tracking_uri, Path())
    if artifacts is None:
        raise ConfigError(f"mlflow's ui is started on a database, '{tracking_uri}' is a server; open that in a browser")
    options = ["--backend-store-uri", tracking_uri, "--default-artifact-root", artifacts.as_uri(), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "ui", *options]


def sync(sweep_root: Path, tracking_uri: str | None, *, final: bool, limit_seconds: float | None = None) -> SyncReport:
    """Bring MLflow up to date with a sweep, once; whatever MLflow does, nothing is raised.

    Args:
        sweep_root: the sweep's folder.
        tracking_uri: any URI MLflow knows; none for `default_tracking_uri`.
        final: no driver is at work; what has not ended is closed as interrupted.
        limit_seconds: no further run is begun after this time.

    Raises:
        ConfigError: if there is no sweep in the folder.
        DataError: if its ledger is damaged.
    """
    paths = SweepPaths(sweep_root.resolve())
    uri = tracking_uri or default_tracking_uri(paths.root)
    until = float("inf") if limit_seconds is None else time.monotonic() + limit_seconds
    with quiet_mlflow():
        uploader = Uploader(paths, uri)
        report = uploader.bring_up_to_date(read_state(paths), final=final, stop=lambda: time.monotonic() > until)
    return _with_way_out(report, paths.root, uri)


def follow(sweep_root: Path, tracking_uri: str | None, stop: Callable[[], bool]) -> SyncReport:
    """Keep MLflow up to date while a driver is at work; failures are tried again after growing pauses.

    Ends when ``stop`` says so, or when the ledger says finished and everything is sent.
    """
    paths = SweepPaths(sweep_root.resolve())
    uri = tracking_uri or default_tracking_uri(paths.root)
    uploader = Uploader(paths, uri)
    pause = POLL_SECONDS
    while True:
        before = time.monotonic()
        state = read_state(paths)
        reading_seconds = time.monotonic() - before
        with quiet_mlflow():
            report = uploader.bring_up_to_date(state, final=False, stop=stop)
        if stop() or (state.finished and not report.unsent):
            return _with_way_out(report, paths.root, uri)
        # A long ledger is read less often: following costs a twentieth of one core at most.
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS) if report.unsent else max(POLL_SECONDS, 20 * reading_seconds)
        _wait(pause, stop)


def start_beside(sweep_root: Path, tracking_uri: str | None) -> Beside:
    """Begin to follow a sweep in a process of its own, which ends with this one; it writes ``logs/mlflow.log``."""
    uri = tracking_uri or default_tracking_uri(sweep_root)
    command = [*_command(sweep_root, uri), "--follow", "--parent", str(os.getpid())]
    with _log(sweep_root).open("ab") as log:
        return Beside(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), uri)


def finish(beside: Beside, sweep_root: Path, *, seconds: float) -> SyncReport:
    """End the process of `start_beside` and send what is left, in another one.

    Args:
        beside: what `start_beside` gave.
        sweep_root: the sweep's folder.
        seconds: how long MLflow is waited for at most.

    Returns:
        What is unsent, and how to send it.
    """
    until = time.monotonic() + seconds
    _end(beside.process, seconds / 3)
    rest = max(1.0, until - time.monotonic())
    command = [*_command(sweep_root, beside.tracking_uri), "--final", "--limit", f"{0.8 * rest:.1f}"]
    with _log(sweep_root).open("ab") as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as sender:
            try:
                output, _ = sender.communicate(timeout=rest)
                return SyncReport(**json.loads(output.splitlines()[-1]))
            except (subprocess.TimeoutExpired, ValueError, IndexError, TypeError):
                _end(sender, 1.0)
    unsent = len(read_state(SweepPaths(sweep_root)).items)
    why = (
        f"mlflow must take everything within {seconds:.0f} s at the end of a sweep, it did not, see {_log(sweep_root)}"
    )
    return _with_way_out(SyncReport(0, unsent, why), sweep_root, beside.tracking_uri)


def _end(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    process.terminate()
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _log(sweep_root: Path) -> Path:
    log = SweepPaths(sweep_root).log / "mlflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _command(sweep_root: Path, tracking_uri: str) -> list[str]:
    told = ["--sweep", str(sweep_root.resolve()), "--tracking-uri", tracking_uri]
    return [sys.executable, "-m", "chembench.tracking.mlflow_sync", *told]


def _with_way_out(report: SyncReport, sweep_root: Path, tracking_uri: str) -> SyncReport:
    if not report.unsent:
        return report
    way_out = shlex.join(["python", *_command(sweep_root, tracking_uri)[1:]])
    return replace(report, message=f"{report.message}; {report.unsent} not sent, send them with `{way_out}`")


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(0.2)


def _driver_is_at_work(paths: SweepPaths) -> bool:
    if not paths.lock.is_file():
        return False
    with paths.lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chembench.tracking.mlflow_sync", description=__doc__)
    parser.add_argument("--sweep", type=Path, required=True, help="the sweep's folder")
    parser.add_argument("--tracking-uri", help="default: the mlflow.db beside the sweep's folder")
    parser.add_argument("--follow", action="store_true", help="go on until the sweep is finished and sent")
    parser.add_argument("--parent", type=int, help="with --follow: end when this process is gone")
    parser.add_argument("--final", action="store_true", help="the driver has ended its work")
    parser.add_argument("--limit", type=float, help="begin no further run after so many seconds")
    return parser.parse_args(argv)


def _follow_until_told(given: argparse.Namespace) -> SyncReport:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    if given.parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides

    def is_orphan() -> bool:
        return given.parent is not None and os.getppid() != given.parent

    report = follow(given.sweep, given.tracking_uri, lambda: bool(told) or is_orphan())
    if told or not is_orphan():
        return report
    return sync(given.sweep, given.tracking_uri, final=True)  # nobody else is left to close what the driver ran


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything was sent, 1 otherwise; the report is the last line of the output, as JSON."""
    given = _arguments(argv)
    try:
        if given.follow:
            report = _follow_until_told(given)
        else:
            final = given.final or not _driver_is_at_work(SweepPaths(given.sweep))
            report = sync(given.sweep, given.tracking_uri, final=final, limit_seconds=given.limit)
    except ChembenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 1 if report.unsent else 0


if __name__ == "__main__":
    sys.exit(main())
