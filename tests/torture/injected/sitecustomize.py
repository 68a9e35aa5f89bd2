"""Ends a process in the middle of a write; every Python whose PYTHONPATH names this folder imports it first.

Production code knows nothing of it. ``TORTURE_FOLDER`` names a folder. While ``plan.json`` lies in it, calls are
compared with the plan, and at the n-th that fits the process takes it away and sends SIGKILL: one plan, one kill::

    {"id": 7, "role": "driver", "call": "fsync", "path": "*/ledger.jsonl", "moment": "torn", "nth": 2, "victim": null}

role    driver, worker (of Ray) or mlflow (the sender)
call    fsync, rename (of files and folders, by their new name) or open
moment  before or after the call; torn: before it, with the last line of the file cut in half
victim  a process id; null for the process itself
"""

import fnmatch
import json
import os
import signal
import sys

FOLDER = os.environ.get("TORTURE_FOLDER")
ROLES = {"chembench.cli": "driver", "chembench.tracking.mlflow_sync": "mlflow"}
WATCHED = (".jsonl", ".json", ".pt")
"""Endings of the files whose opening can be waited for; the plan is not looked for at any other."""

fsync, rename, replace = os.fsync, os.rename, os.replace
seen: dict[int, int] = {}
"""Plan -> calls of this process that fitted it."""


def role() -> str:
    if any(word.endswith("default_worker.py") for word in sys.orig_argv):
        return "worker"
    return next((ROLES[word] for word in sys.orig_argv if word in ROLES), "other")


def fits(call: str, moment: str, path: str) -> dict | None:
    """The plan, if this is the call it waits for; it is taken away then."""
    try:
        with open(f"{FOLDER}/plan.json") as file:  # noqa: PTH123 - pathlib is not imported in each process for this
            plan = json.load(file)
    except (OSError, ValueError):
        return None
    wanted = (plan["role"], plan["call"], plan["moment"] == "after")
    if wanted != (ROLE, call, moment == "after") or not fnmatch.fnmatch(path, plan["path"]):
        return None
    seen[plan["id"]] = seen.get(plan["id"], 0) + 1
    if seen[plan["id"]] < plan["nth"]:
        return None
    try:
        rename(f"{FOLDER}/plan.json", f"{FOLDER}/done-{plan['id']}.json")
    except FileNotFoundError:  # another process was first
        return None
    return plan


def kill_if_due(call: str, moment: str, path: str) -> None:
    plan = fits(call, moment, path)
    if plan is None:
        return
    if plan["moment"] == "torn":
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read()
        os.truncate(path, (data.rfind(b"\n", 0, -1) + 1 + len(data)) // 2)
    os.kill(plan["victim"] or os.getpid(), signal.SIGKILL)


def fsync_or_die(fd) -> None:
    path = os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}")  # noqa: PTH115
    kill_if_due("fsync", "before", path)
    fsync(fd)
    kill_if_due("fsync", "after", path)


def or_die(move):
    def moved(src, dst, **options) -> None:
        kill_if_due("rename", "before", os.fspath(dst))
        move(src, dst, **options)
        kill_if_due("rename", "after", os.fspath(dst))

    return moved


def on_event(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(WATCHED):
        if arguments[0] != f"{FOLDER}/plan.json":
            kill_if_due("open", "before", arguments[0])


ROLE = role()
if FOLDER and ROLE != "other":
    os.fsync, os.rename, os.replace = fsync_or_die, or_die(rename), or_die(replace)
    sys.addaudithook(on_event)
