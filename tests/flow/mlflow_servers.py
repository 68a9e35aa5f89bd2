"""Real MLflow servers that can be killed, a PostgreSQL for one, and a proxy that stalls, fails or delays requests."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

PATIENCE = 240.0
"""Seconds that something may take on a loaded machine; it is a fault only after that."""


def within(condition, seconds=PATIENCE):
    """Whether ``condition`` becomes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""``urlopen`` would keep the proxy that the environment named when this process first called it, for another test."""


class Server:
    """``mlflow server`` on a port and a store of its own, which outlive it."""

    def __init__(self, folder, backend=None):
        self.folder, self.port, self.process = folder, free_port(), None
        folder.mkdir(parents=True)
        self.backend = backend or f"sqlite:///{folder / 'server.db'}"

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", self.backend, "--artifacts-destination", str(self.folder / "files")]
        with (self.folder / "log").open("ab") as log:
            quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **quiet}
            )
        assert within(self._answers), (self.folder / "log").read_text()
        return self

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return direct.open(f"{self.uri}/health", timeout=5).status == 200
        except OSError:
            return False

    def kill(self):
        """``kill -9`` of the server and its workers."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def postgres():
    """A PostgreSQL with an empty database; its URI. It runs as another user where we are root, whom it refuses."""
    binaries = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    binaries += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    home = next(place for place in binaries if (place / "initdb").exists())
    place, port = Path(tempfile.mkdtemp(prefix="cb_pg_")), free_port()
    as_user = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(place, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def run(name, *arguments):
        subprocess.run([*as_user, str(home / name), *arguments], cwd=place, check=True, capture_output=True)

    data, options = str(place / "data"), f"-p {port} -k {place} -h 127.0.0.1 -F"
    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "chembench")
        start = [*as_user, str(home / "pg_ctl"), "-D", data, "-w", "-t", "120", "-l", str(place / "log"), "-o", options]
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*start, "start"], cwd=place, check=True, **nothing)  # it would keep a pipe open
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "chembench", "mlflow")
        yield f"postgresql+psycopg2://chembench@127.0.0.1:{port}/mlflow"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


def missing_for_postgres():
    """Why there can be no PostgreSQL here, or none."""
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "psycopg2 is not installed"
    if shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return "PostgreSQL is not installed"
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return "PostgreSQL refuses to run as root, and there is no user 'postgres'"
    return None if shutil.which("setpriv") else "setpriv is not installed"


class Proxy:
    """Stands before a server; what happens to a request is said by ``mode``.

    ``pass``: it is handed on. ``stall``: it is read and never answered. ``fail``: it is answered with status 500.
    ``late``: a request that creates a run gets no answer and is carried out when `deliver` is called.
    """

    def __init__(self, port):
        self.mode, self.stalled, self.late = "pass", 0, []
        self._server_port, self._held = port, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        """Requests of one connection; each is sent on by a connection of its own."""
        with contextlib.suppress(OSError), client:
            while request := read_message(client):
                if self.mode == "stall":
                    self.stalled += 1
                    self._held.append(client)
                    threading.Event().wait()
                if self.mode == "fail":
                    client.sendall(b"HTTP/1.1 500 broken\r\nContent-Length: 6\r\n\r\nbroken")
                elif self.mode == "late" and b"/runs/create" in request.partition(b"\r\n")[0]:
                    self.late.append(request)
                    return
                else:
                    client.sendall(self._answer(request))

    def _answer(self, request):
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            answer = b""
            while part := server.recv(65536):
                answer += part
        return answer

    def deliver(self):
        """Carry out every request that got no answer; how many those are."""
        for request in self.late:
            assert b" 200 " in self._answer(request).partition(b"\r\n")[0]
        number, self.late = len(self.late), []
        return number

    def close(self):
        self._listener.close()


def read_message(connection):
    """One HTTP request; empty when the connection ends."""
    message = b""
    while b"\r\n\r\n" not in message:
        part = connection.recv(65536)
        if not part:
            return b""
        message += part
    head, _, body = message.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        part = connection.recv(65536)
        body, message = body + part, message + part
    return message
