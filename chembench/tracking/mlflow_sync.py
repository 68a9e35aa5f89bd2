"""MLflow as a projection of the ledger: one pass (`sync`), or passes beside a driver (`start_beside`, `finish`).

Run as a process: ``python -m chembench.tracking.mlflow_sync --sweep DIR [--tracking-uri URI] [--follow]``. A driver
has it follow, and asks it over its standard input to send the rest: another process would import MLflow once more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
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
from chembench.sweep.locking import is_at_rest
from chembench.sweep.state import SweepState
from chembench.tracking.places import SQLITE, artifact_root
from chembench.tracking.sent import SentFile
from chembench.tracking.store import quiet_mlflow
from chembench.tracking.uploader import SyncReport, Uploader
from chembench.tracking.wanted import Wanted

POLL_SECONDS = 2.0
NOW = "now"
"""Written to the process beside a driver: send what there is and tell; a number of seconds: send the rest and end."""
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


def tracking_uri_of(state: SweepState, paths: SweepPaths) -> str:
    """Where a sweep was told to be tracked, otherwise `default_tracking_uri`."""
    return str(state.header.get("places", {}).get("tracking_uri") or default_tracking_uri(paths.root))


def sync(sweep_root: Path, tracking_uri: str | None, *, final: bool) -> SyncReport:
    """Bring MLflow up to date with a sweep; the store is asked for every run, whatever was noted of it.

    Whatever MLflow does, nothing is raised. As long as something can be sent, what failed is tried again.

    Args:
        sweep_root: the sweep's folder.
        tracking_uri: any URI MLflow knows; none for where the sweep was told to be tracked.
        final: no driver is at work; what has not ended is closed as interrupted.

    Raises:
        ConfigError: if there is no sweep in the folder.
        DataError: if its ledger is damaged.
    """
    paths = SweepPaths(sweep_root.resolve())
    uri = tracking_uri or tracking_uri_of(read_state(paths), paths)
    uploader, sent = Uploader(paths, uri, verify=True), 0
    while True:
        report = _passed(uploader, read_state(paths), final=final, stop=lambda: False)
        sent += report.sent
        if not (report.unsent and report.sent):
            return _with_way_out(replace(report, sent=sent), paths, uri)


def close(sweep_root: Path, tracking_uri: str, limit_seconds: float) -> SyncReport:
    """The last pass after a driver has ended; no run is begun after ``limit_seconds``."""
    paths, until = SweepPaths(sweep_root.resolve()), time.monotonic() + limit_seconds
    uploader = Uploader(paths, tracking_uri)
    return _passed(uploader, read_state(paths), final=True, stop=lambda: time.monotonic() > until)


def follow(
    sweep_root: Path,
    tracking_uri: str | None,
    stop: Callable[[], bool],
    *,
    beyond_the_end: bool = False,
    hurry: Callable[[], bool] = lambda: False,
) -> SyncReport:
    """Keep MLflow up to date while a driver is at work; failures are tried again after growing pauses.

    Ends when ``stop`` says so, or, unless it goes on ``beyond_the_end``, when the ledger says finished and everything
    is sent. When ``hurry`` says so the next pass comes at once, and what it came to is told.
    """
    paths = SweepPaths(sweep_root.resolve())
    uri = tracking_uri or default_tracking_uri(paths.root)
    uploader = Uploader(paths, uri)
    pause = POLL_SECONDS
    is_awaited = False
    while True:
        before = time.process_time()
        state = read_state(paths)
        report = _passed(uploader, state, final=False, stop=stop)
        if is_awaited:
            _tell(report)
        if stop() or (state.finished and not report.unsent and not beyond_the_end):
            return report
        # A long ledger is read less often: following costs a twentieth of one core at most.
        wanted = 2 * pause if report.unsent else 20 * (time.process_time() - before)
        pause = min(LONGEST_PAUSE_SECONDS, max(POLL_SECONDS, wanted))
        is_awaited = _waited(pause, stop, hurry)


def _passed(uploader: Uploader, state: SweepState, *, final: bool, stop: Callable[[], bool]) -> SyncReport:
    with quiet_mlflow():
        return uploader.bring_up_to_date(state, final=final, stop=stop)


def start_beside(sweep_root: Path, tracking_uri: str | None) -> Beside:
    """Begin to follow a sweep in a process of its own, which ends with this one; it writes ``logs/mlflow.log``."""
    uri = tracking_uri or default_tracking_uri(sweep_root)
    command = [*_command(sweep_root, uri), "--follow", "--parent", str(os.getpid())]
    with _log(sweep_root).open("ab") as log:
        return Beside(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log), uri)


def catch_up(beside: Beside, sweep_root: Path, *, seconds: float) -> None:
    """Wait until the process of `start_beside` has sent what there is, so that a report can link to it.

    Not longer than ``seconds``; whatever hinders it is told when the sweep ends.
    """
    assert beside.process.stdin is not None, "start_beside opens it"
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # it has ended, or its log is gone
        log = _log(sweep_root)
        told = log.stat().st_size
        beside.process.stdin.write(f"{NOW}\n".encode())
        beside.process.stdin.flush()
        while time.monotonic() < until and beside.process.poll() is None:
            with log.open("rb") as lines:
                lines.seek(told)
                whole = [line for line in lines.read().splitlines(keepends=True) if line.endswith(b"\n")]
            if any(line.startswith(b"{") for line in whole):
                return
            time.sleep(0.05)


def finish(beside: Beside, sweep_root: Path, *, seconds: float) -> SyncReport:
    """Have the process of `start_beside` send what is left; another one, if that one hangs or is gone.

    Args:
        beside: what `start_beside` gave.
        sweep_root: the sweep's folder.
        seconds: how long MLflow is waited for at most.

    Returns:
        What is unsent, and how to send it.
    """
    until = time.monotonic() + 0.95 * seconds  # the rest is for counting what is unsent
    report = _closed_beside(beside.process, sweep_root, seconds / 2)
    if report is None or (report.unsent and report.sent and time.monotonic() < until - 1):
        return _rest_sent(sweep_root, beside.tracking_uri, until, seconds)
    return _with_way_out(report, SweepPaths(sweep_root.resolve()), beside.tracking_uri)


def send_rest(sweep_root: Path, tracking_uri: str | None, *, seconds: float) -> SyncReport:
    """Send what is left of a sweep that no driver works on, in a process of its own.

    Args:
        sweep_root: the sweep's folder.
        tracking_uri: any URI MLflow knows; none for the database beside the sweep.
        seconds: how long MLflow is waited for at most.

    Returns:
        What is unsent, and how to send it.
    """
    uri = tracking_uri or default_tracking_uri(sweep_root)
    return _rest_sent(sweep_root, uri, time.monotonic() + 0.95 * seconds, seconds)


def _rest_sent(sweep_root: Path, tracking_uri: str, until: float, seconds: float) -> SyncReport:
    report = _closed(sweep_root, tracking_uri, max(0.0, until - time.monotonic()))
    paths = SweepPaths(sweep_root.resolve())
    if report is None:
        log = _log(sweep_root)
        why = f"mlflow must take everything within {seconds:.0f} s at the end of a sweep, it did not, see {log}"
        wanted = Wanted(paths, read_state(paths), SentFile(paths.sent, tracking_uri), final=True)
        report = SyncReport(0, wanted.unsent(), why)
    return _with_way_out(report, paths, tracking_uri)


def _closed(sweep_root: Path, tracking_uri: str, seconds: float) -> SyncReport | None:
    """What a process that sends the rest tells; none if it does not end in time."""
    command = [*_command(sweep_root, tracking_uri), "--closing", f"{0.8 * seconds:.1f}"]
    with (
        _log(sweep_root).open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as sender,
    ):
        try:
            output, _ = sender.communicate(timeout=seconds)
            return SyncReport(**json.loads(output.splitlines()[-1]))
        except (subprocess.TimeoutExpired, ValueError, IndexError, TypeError):
            sender.kill()
            return None


def _closed_beside(process: subprocess.Popen[bytes], sweep_root: Path, seconds: float) -> SyncReport | None:
    """What the process that followed tells of its last pass; none if it does not end in time, or made none."""
    assert process.stdin is not None, "start_beside opens it"
    try:
        with process.stdin as asked:
            asked.write(f"{0.8 * seconds:.1f}\n".encode())
    except OSError:
        pass  # it has ended
    try:
        if process.wait(seconds) not in (0, 1):
            return None
        told = json.loads(_log(sweep_root).read_bytes().splitlines()[-1])
        return SyncReport(**told) if told["closed"] else None
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    except (OSError, ValueError, IndexError, TypeError, KeyError):
        return None


def _log(sweep_root: Path) -> Path:
    log = SweepPaths(sweep_root).log / "mlflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _command(sweep_root: Path, tracking_uri: str) -> list[str]:
    told = ["--sweep", str(sweep_root.resolve()), "--tracking-uri", tracking_uri]
    return [sys.executable, "-m", "chembench.tracking.mlflow_sync", *told]


def _with_way_out(report: SyncReport, paths: SweepPaths, tracking_uri: str) -> SyncReport:
    if not report.unsent:
        return replace(report, message="")
    own = tracking_uri_of(read_state(paths), paths)
    command = ["chembench", "sync", str(paths.root), *(["--tracking-uri", tracking_uri] if tracking_uri != own else [])]
    told = f"{report.unsent} runs, boards or models are not sent, send them with `{shlex.join(command)}`"
    return replace(report, message=f"{report.message}; {told}")


def _waited(seconds: float, stop: Callable[[], bool], hurry: Callable[[], bool]) -> bool:
    """Wait that long, or less; whether ``hurry`` has ended it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        if hurry():
            return True
        time.sleep(0.05)
    return False


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chembench.tracking.mlflow_sync", description=__doc__)
    parser.add_argument("--sweep", type=Path, required=True, help="the sweep's folder")
    parser.add_argument("--tracking-uri", help="default: the mlflow.db beside the sweep's folder")
    parser.add_argument("--follow", action="store_true", help="go on until the sweep is finished and sent")
    parser.add_argument("--parent", type=int, help="with --follow: end when this process is gone")
    parser.add_argument("--closing", type=float, metavar="SECONDS", help="the driver has just ended; send the rest")
    return parser.parse_args(argv)


def _follow_until_told(given: argparse.Namespace) -> SyncReport:
    told: list[int] = []
    asked: list[str] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    if given.parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides

    def is_orphan() -> bool:
        return given.parent is not None and os.getppid() != given.parent

    def listen() -> None:
        """Take in what the driver has written; of one that is gone nothing comes."""
        if given.parent is not None and select.select([sys.stdin], [], [], 0)[0]:
            asked.extend(os.read(sys.stdin.fileno(), 64).decode().split())

    def to_close() -> list[float]:
        listen()
        return [float(word) for word in asked if word != NOW]

    def hurry() -> bool:
        if is_wanted := NOW in asked:
            asked.remove(NOW)
        return is_wanted

    def stop() -> bool:
        return bool(told) or bool(to_close()) or is_orphan()

    report = follow(given.sweep, given.tracking_uri, stop, beyond_the_end=given.parent is not None, hurry=hurry)
    if (seconds := to_close()) and not told:
        closed = close(given.sweep, given.tracking_uri or default_tracking_uri(given.sweep), seconds[0])
        return replace(closed, closed=True)
    if told or not is_orphan():
        return report
    return sync(given.sweep, given.tracking_uri, final=True)  # nobody else is left to close what the driver ran


def _carried_out(given: argparse.Namespace) -> SyncReport:
    if given.follow:
        return _follow_until_told(given)
    paths = SweepPaths(given.sweep)
    if given.closing is not None:
        return close(paths.root, given.tracking_uri or default_tracking_uri(paths.root), given.closing)
    return sync(paths.root, given.tracking_uri, final=is_at_rest(paths))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything was sent, 1 otherwise; the report is the last line of the output, as JSON."""
    try:
        report = _carried_out(_arguments(argv))
    except ChembenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    _tell(report)
    return 1 if report.unsent else 0


def _tell(report: SyncReport) -> None:
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
