import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chembench import progress
from chembench.progress import Shown, View, describe
from chembench.sweep.state import SweepState


def state_of(done, running=0, left=0, seconds=10.0):
    """A sweep of constant predictors, some of them done."""
    state = SweepState()
    header = {"expected": {"baseline": done + running + left}, "workers": 1}
    state.apply({"event": "sweep", "name": "s", "space_digest": "0", "header": header})
    for number in range(done + running + left):
        spec = {"kind": "baseline", "baseline": "constant", "task": "logS", "task_kind": "regression", "targets": 1,
                "data": "d", "test_rows": "t", "sealed": "s", "seed": number}  # fmt: skip
        uid = f"{number:012d}"
        state.apply({"event": "item", "uid": uid, "spec": spec, "cell": None, "labels": {"task": "logS"}})
        if number < done + running:
            state.apply({"event": "started", "uid": uid, "attempt": 1})
        if number < done:
            outcome = {"uid": uid, "attempt": 1, "kind": "baseline", "status": "finished",
                       "measured": {"wall_seconds": seconds}}  # fmt: skip
            state.apply({"event": "result", "uid": uid, "again": False, "outcome": outcome})
    return state


def test_what_runs_and_what_is_left_is_said():
    shown = describe(state_of(2, running=1, left=3))
    assert (shown.running, shown.done, shown.total) == ("baseline constant logS", 2, 6)
    assert shown.seconds_left == 40.0
    assert shown.line == "2/6 items, about 40 s left: baseline constant logS"


def test_before_the_first_result_the_time_left_is_unknown():
    assert describe(state_of(0, running=1, left=1)).line == "0/2 items, time left unknown: baseline constant logS"


def test_a_finished_sweep_is_done():
    state = state_of(2)
    state.apply({"event": "finished"})
    assert describe(state).line == "2/2 items, done"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (95, "2 min"), (5000, "83 min"), (9000, "2.5 h")]
)
def test_the_time_left_is_said_in_a_fitting_unit(seconds, words):
    assert Shown("x", 1, 2, seconds, False, time.monotonic()).left == f"about {words} left"


def test_the_time_left_goes_down_while_nothing_ends():
    assert Shown("x", 1, 2, 60.0, False, time.monotonic() - 45).left == "about 15 s left"


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


def test_without_a_terminal_a_line_is_printed_by_the_clock(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.1)
    with View(shown=True) as view:
        view.watch(state_of(1, running=1))
        time.sleep(0.55)  # nothing ends meanwhile
    lines = lines_of(capsys)
    assert 3 <= len(lines) <= 7
    assert all(re.fullmatch(r"1/2 items, about \d+ s left: baseline constant logS", line) for line in lines)


def test_many_changes_print_no_line_each(capsys):
    with View(shown=True) as view:
        view.watch(state_of(1, running=1))
        for _ in range(50):
            view.refresh()
    assert len(lines_of(capsys)) == 1


def test_the_end_is_printed_once(capsys):
    state = state_of(2)
    with View(shown=True) as view:
        view.watch(state)
        state.apply({"event": "finished"})
        view.refresh()
        view.refresh()
        view.end()
    assert lines_of(capsys) == ["2/2 items, about 1 s left: nothing runs", "2/2 items, done"]


def test_what_was_reached_is_printed_when_the_sweep_is_broken_off(capsys):
    state = state_of(1, running=1, left=1)
    with View(shown=True) as view:
        view.watch(state)
        state.apply({"event": "lost", "uid": "000000000001", "attempt": 1})
        view.refresh()
        view.end()
    assert lines_of(capsys)[-1] == "1/3 items, about 20 s left: nothing runs"


def test_nothing_is_shown_when_told_so_but_a_warning(capsys):
    with View(shown=False) as view:
        view.say("corpus: 5 rows read")
        view.watch(state_of(1, running=1))
        view.warn("warning: 3 not sent, [way out]")
        view.say("more")
    told = capsys.readouterr()
    assert told.err == "warning: 3 not sent, [way out]\n"
    assert told.out == ""


BAR = """
import time
from test_progress import state_of
from chembench.progress import View
state = state_of(1, running=1, left=1)
with View(shown=True) as view:
    view.say("task: logS")
    view.watch(state)
    time.sleep(0.3)
    view.say("a line above")
"""


def test_on_a_terminal_there_is_a_bar_that_keeps_to_its_line():
    """Seen through a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", BAR], stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines[0] == "task: logS" and "a line above" in lines
    assert re.search(r"1/3 .*about 20 s left +baseline constant logS$", lines[-1])
    assert all(len(line) <= 80 for line in lines)
