"""Killed at any moment and started again with the same command, a sweep ends as if nothing had happened.

Three moments, by SIGKILL; ``make torture KILLS=100`` draws many more of every kind.
"""

import re
import shutil
from pathlib import Path

import pytest
from flow_sweeps import Copy, small_sweep
from torture import kills
from torture.tormented import torment
from torture.verdict import differences, done_twice, journal_faults, ledger_faults, violations

from chembench.api import open_sweep

pytestmark = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are found through /proc")

TORN_LEDGER, *_ = kills.WRITES["driver in a ledger write"]


def test_a_sweep_whose_worker_driver_and_ledger_write_were_killed_equals_an_undisturbed_one(small, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(small.cache, cache, ignore=shutil.ignore_patterns("pretrained"))
    with torment(tmp_path, cache, "small", small_sweep("ray")) as sweep:
        sweep.suffer(
            [
                kills.Kill(kills.WORKER_MID_ITEM, after=2, plan=kills.MID_ITEM),
                kills.Kill(kills.DRIVER_MID_ITEM, after=6, plan=kills.MID_ITEM, kills_driver=True),
            ]
        )
        sweep.arguments = small_sweep("serial")  # another runner goes on as well, and starts faster
        sweep.suffer([kills.Kill("driver in a ledger write", after=12, plan=TORN_LEDGER)])
        sweep.finish()
    assert sweep.missed == [] and sweep.starts == 3
    assert violations(open_sweep(sweep.root), small.view, cache) == []


def faults(copy: Copy, small) -> list[str]:
    paths = copy.sweep.paths
    return [
        *differences(copy.sweep, small.view),
        *ledger_faults(paths),
        *done_twice(paths),
        *journal_faults(copy.sweep),
    ]


def first(copy: Copy, name: str) -> dict:
    return next(event for event in copy.events() if event["event"] == name)


def another_score(event: dict) -> dict:
    if event["event"] == "result" and event["outcome"]["kind"] == "rescore":
        event["outcome"]["metrics"]["objective"] += 1e-9
    return event


SPOILED = {
    r"ledger event 'asked' is there 2 times for": lambda copy: copy.append(first(copy, "asked")),
    r"final result is there 2 times for": lambda copy: copy.append(first(copy, "result")),
    r"had a final result, and attempt 2 was started after that": lambda copy: copy.append(
        {**first(copy, "started"), "attempt": 2}
    ),
    r"attempt 1 .* was given up as lost, its result was whole before that": lambda copy: copy.append(
        {**first(copy, "started"), "event": "lost", "at": 9e9}
    ),
    r"item .* differs in \['metrics'\]": lambda copy: copy.rewrite(another_score),
    r"Optuna's journal and the ledger differ in the points": lambda copy: copy.sweep.paths.journal.write_bytes(
        b"".join(copy.sweep.paths.journal.read_bytes().splitlines(keepends=True)[:-1])
    ),
}


@pytest.mark.parametrize("told", SPOILED)
def test_the_verdict_sees_what_is_doubled_changed_or_missing(told, small, tmp_path):
    copy = Copy(small, tmp_path)
    assert faults(copy, small) == []
    SPOILED[told](copy)
    assert any(re.search(told, fault) for fault in faults(copy, small)), faults(copy, small)
