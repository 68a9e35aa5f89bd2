"""CPU time of a command and of all processes that it starts; what else runs on the machine matters little to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that ended well."""

    output: str
    seconds: float
    """From its start to its end."""
    cpu_seconds: float
    """Of all its processes; one that lived for less than a look may be missed."""


def carried_out(command: Sequence[str]) -> Command:
    """Carry out a command; what it prints is returned, what it says goes to the terminal.

    Raises:
        CalledProcessError: if it did not end well.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True) as process:
        spent, over = {}, threading.Event()
        look = threading.Thread(target=_watch, args=(process.pid, spent, over))
        look.start()
        try:
            output, _ = process.communicate()
        finally:
            over.set()
            look.join()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Command(output, seconds, sum(spent.values()))


def _watch(root: int, spent: dict[tuple[int, int], float], over: threading.Event) -> None:
    """Fill in CPU seconds by process number and start; one whose parent ended stays in the family."""
    family = {root}
    while not over.wait(LOOK_SECONDS):
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            found[int(folder.name)] = (int(fields[1]), int(fields[19]), (int(fields[11]) + int(fields[12])) / TICKS)
        grown = True
        while grown:
            new = {pid for pid, (parent, _, _) in found.items() if parent in family} - family
            grown, family = bool(new), family | new
        for pid in family & found.keys():
            _, start, seconds = found[pid]
            spent[pid, start] = seconds
