"""Verbs that carry items out: what they hand on, and what they say at the end."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from chembench import api, cli
from chembench.rerun import Rerun
from chembench.specs import Outcome
from chembench.sweep.progress import Failure


class Done:
    """What a sweep leaves behind, as far as the command line looks at it."""

    exit_code = 3
    name = "quickstart"

    def __init__(self, *failures: Failure) -> None:
        self.root = Path.cwd() / "sweeps" / "quickstart"
        self._failures = list(failures)
        self.retried: list[tuple] = []

    def failures(self):
        return self._failures

    def begun(self):
        return SimpleNamespace(header={})

    def failed(self, cause=None):
        return [failure for failure in self._failures if cause in (None, failure.cause)]

    def retry(self, cause, uids, *, show_progress):
        self.retried.append((cause, uids, show_progress))
        return self


OOM = Failure("oom", "no memory is left", 3, "abc", "there/error.txt (chembench/trial.py:9)", followers=1)
NAN = Failure("nan", "the loss is not finite", 1, "def", "", followers=0)


def end_of(sweep: Done) -> list[str]:
    """The lines that stand at the end of every verb that carries items out."""
    return [f"boards: {sweep.root}/leaderboards", f"MLflow: chembench ui {sweep.root}"]


def test_failures_are_told_once_with_the_place_and_the_way_out(capsys, monkeypatch):
    done = Done(OOM, NAN)
    monkeypatch.setattr(api, "resume", lambda *_, **__: done)
    assert cli.run(["resume", "quickstart", "--quiet"]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "failed: 5 items, 2 different causes",
        "the first, in 3 items, and 1 item that stood on it: oom: no memory is left",
        "  item abc, traceback in there/error.txt (chembench/trial.py:9)",
        "retry what failed: chembench retry sweeps/quickstart --failed",
        *end_of(done),
    ]


def test_resume_hands_on_what_is_given_and_nothing_else(capsys, monkeypatch):
    given = {}
    done = Done()
    monkeypatch.setattr(api, "resume", lambda name, **options: (given.update(options, name=name), done)[1])
    assert (
        cli.run(["resume", "quickstart", "--trials", "6", "--seeds", "5", "--quiet", "--set", "resources.cpus=2"]) == 3
    )
    assert {name: value for name, value in given.items() if value is not None} == {
        "name": "quickstart",
        "out": Path("sweeps"),
        "trials": 6,
        "seeds": 5,
        "overrides": ("resources.cpus=2",),
        "show_progress": False,
    }
    assert set(given) > {"runner", "ray_address", "max_concurrent", "tracking_uri", "cache_dir", "data_dir", "keep"}
    assert capsys.readouterr().out.splitlines() == end_of(done)


@pytest.mark.parametrize(
    ("arguments", "retried"),
    [
        (["--failed"], (None, ())),
        (["--cause", "oom"], ("oom", ())),
        (["--uid", "ab", "--uid", "de"], (None, ("ab", "de"))),
    ],
)
def test_retry_names_what_is_retried(arguments, retried, monkeypatch):
    done = Done(OOM, NAN)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: done)
    assert cli.run(["retry", "quickstart", *arguments, "--quiet"]) == 3
    assert done.retried == [(*retried, False)]


@pytest.mark.parametrize(("arguments", "of"), [(["--failed"], ""), (["--cause", "data"], " of data")])
def test_retry_says_that_nothing_has_failed(arguments, of, capsys, monkeypatch):
    done = Done(*([NAN] if of else []))
    monkeypatch.setattr(api, "open_sweep", lambda name, out: done)
    assert cli.run(["retry", "quickstart", *arguments]) == 0
    assert capsys.readouterr().out == f"nothing to retry: no item of sweep 'quickstart' has failed{of}\n"
    assert done.retried == []


@pytest.mark.parametrize(("verdict", "code"), [("equal", 0), ("within noise", 0), ("different", 1), (None, 0)])
def test_rerun_ends_with_1_when_something_else_comes_out(verdict, code, capsys, monkeypatch):
    asked = []
    outcome = Outcome(uid="abc", attempt=1, kind="search", status="finished", metrics={"objective": 0.5})
    found = Rerun("abc", Path.cwd() / "again", outcome, verdict, "noise is so", None)
    trial = SimpleNamespace(rerun=lambda check: (asked.append(check), found)[1])
    monkeypatch.setattr(api, "open_sweep", lambda name, out: SimpleNamespace(trial=lambda uid: trial))
    check = [] if verdict is None else ["--check"]
    assert cli.run(["rerun", "s", "ab", *check]) == code
    told = [] if verdict is None else [f"{verdict}: noise is so"]
    assert capsys.readouterr().out.splitlines() == ["item abc, once more in again: finished", *told]
    assert cli.run(["rerun", "s", "ab", *check, "-f", "json"]) == code
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict
    assert asked == [bool(check)] * 2


def test_rerun_tells_why_an_item_failed_and_where(capsys, monkeypatch, tmp_path):
    outcome = Outcome(uid="abc", attempt=1, kind="search", status="failed", cause="nan", message="the loss is NaN")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "error.txt").write_text('  File "/x/chembench/trial.py", line 7, in f')
    found = Rerun("abc", tmp_path / "again", outcome)
    trial = SimpleNamespace(rerun=lambda check: found)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: SimpleNamespace(trial=lambda uid: trial))
    assert cli.run(["rerun", "s", "ab"]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "item abc, once more in again: failed",
        "nan: the loss is NaN",
        f"traceback in {tmp_path}/again/error.txt (chembench/trial.py:7)",
    ]


def test_a_sweep_hands_its_options_on_and_ends_with_the_sweeps_own_status(capsys, monkeypatch, tmp_path):
    given = {}
    done = Done()
    monkeypatch.setattr(api, "run_sweep", lambda space, **options: (given.update(options, space=space), done)[1])
    arguments = [
        "sweep", "--space", "quickstart", "--set", "search.trials=2", "--name", "mine", "--out", "there",
        "--runner", "serial", "--max-concurrent", "1", "--cache-dir", "c", "--data-dir", "d",
        "--tracking-uri", "sqlite:///x.db", "--storage", "s3://b", "--keep", "20GB", "--shard", "1/2", "--quiet",
    ]  # fmt: skip
    assert cli.run(arguments) == 3
    assert given.pop("space").search.trials == 2
    assert given == {
        "name": "mine",
        "out": Path("there"),
        "runner": "serial",
        "ray_address": "local",
        "data_dir": Path("d"),
        "cache_dir": Path("c"),
        "tracking_uri": "sqlite:///x.db",
        "max_concurrent": 1,
        "storage": "s3://b",
        "keep": "20GB",
        "shard": "1/2",
        "show_progress": False,
        "command": ["chembench", *arguments],
    }
    assert capsys.readouterr().out.splitlines() == end_of(done)
