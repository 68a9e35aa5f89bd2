import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest

import chembench
from chembench import api, cli, doctor, upkeep
from chembench.errors import ConfigError, DataError
from chembench.paths import spaces_dir
from chembench.rerun import Rerun
from chembench.specs import Outcome
from chembench.sweep import merge
from chembench.sweep.progress import Failure

HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "rdkit", "deepchem", "pandas", "peft", "sklearn", "rich"}

OPTIONS = {
    "spaces": {"-f", "--format"},
    "plan": {"--space", "--set", "-f", "--format"},
    "sweep": {
        "--space", "--set", "--name", "--out", "--runner", "--ray-address", "--data-dir", "--cache-dir",
        "--tracking-uri", "--max-concurrent", "--storage", "--keep", "--shard", "--quiet",
    },
    "resume": {
        "--out", "--trials", "--seeds", "--set", "--runner", "--ray-address", "--data-dir", "--cache-dir",
        "--tracking-uri", "--max-concurrent", "--storage", "--keep", "--quiet",
    },
    "retry": {"--failed", "--cause", "--uid", "--out", "--quiet"},
    "rerun": {"--check", "--out", "-f", "--format"},
    "status": {"--out", "-f", "--format"},
    "leaderboard": {"--out", "-f", "--format"},
    "show": {"--out", "-f", "--format"},
    "predict": {"--task", "--model", "--input", "--smiles-column", "--output", "--out"},
    "ui": {"--out", "--tracking-uri", "--port"},
    "doctor": {"--out", "--data-dir", "--cache-dir", "--fix", "-f", "--format"},
    "gc": {"--out", "--cache-dir", "--keep", "--dry-run", "-f", "--format"},
    "sync": {"--out", "--tracking-uri"},
    "merge": {"--name", "--out"},
}  # fmt: skip
"""Every verb and option there is: adding one is a decision."""


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHEMBENCH_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["spaces"], ["spaces", "quickstart"], ["swep"]])
def test_light_commands_import_nothing_heavy(arguments):
    code = f"import sys; from chembench.cli import run; run({arguments!r}); print(); print(*sys.modules)"
    loaded = set(python(code).splitlines()[-1].split())
    assert "chembench.cli" in loaded
    assert not HEAVY & loaded


def test_the_verbs_and_options_are_these():
    found = {
        name: {flag for option in command.params if isinstance(option, click.Option) for flag in option.opts}
        for name, command in cli.cli.commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_and_option_says_what_it_does(verb):
    command = cli.cli.commands[verb]
    assert command.help
    unsaid = {"--format", "--port"}
    assert not [
        p.name for p in command.params if isinstance(p, click.Option) and not p.help and p.opts[-1] not in unsaid
    ]


def test_the_version_is_told(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"chembench, version {chembench.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["swep"], "No such command 'swep'"),
        (["plan"], "Missing option '--space'"),
        (["plan", "--space", "quickstart", "-f", "yaml"], "'yaml' is not one of"),
        (["sweep", "--space", "quickstart", "--runner", "rya"], "'rya' is not one of 'ray', 'serial'"),
        (["sweep", "--space", "quickstart", "--max-concurrent", "0"], "0 is not in the range x>=1"),
        (["spaces", "a", "b"], "spaces takes one NAME, got 2"),
        (["spaces", "show"], "spaces takes one NAME, got 0"),
        (["spaces", "quickstart", "-f", "csv"], "one space is shown as table (its TOML) or json, got csv"),
        (["resume"], "Missing argument 'SWEEP'"),
        (["resume", "s", "--trials", "0"], "0 is not in the range x>=1"),
        (["retry", "s"], "retry needs --failed, --cause or --uid; chembench status SWEEP says what failed"),
        (["retry", "s", "--cause", "fire"], "'fire' is not one of 'oom', 'nan'"),
        (["rerun", "s"], "Missing argument 'UID'"),
        (["sync"], "Missing argument 'SWEEP'"),
        (["merge", "--name", "all"], "Missing argument 'SWEEP...'"),
        (["merge", "a", "b"], "Missing option '--name'"),
        (["doctor", "--fix"], "--fix mends a SWEEP, name one: chembench doctor SWEEP --fix"),
        (["gc", "--keep", "much"], "a size is a number and one of B, kB"),
        (["sweep", "--space", "quickstart", "--keep", "20"], "a size is a number and one of B, kB"),
        (["sweep", "--space", "quickstart", "--shard", "4/3"], "a shard is written as i/n with 1 <= i <= n, got '4/3'"),
        (["predict", "--input", "-"], "predict needs a SWEEP"),
        (["predict", "s", "--model", ".", "--input", "in.smi"], "--model names the model by itself"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, text, capsys, tmp_path):
    (tmp_path / "in.smi").write_text("CCO\n")
    assert cli.run(arguments if "-" not in arguments else [*arguments[:-1], "in.smi"]) == 2
    told = capsys.readouterr()
    assert text in told.err
    assert told.out == ""


def test_the_spaces_are_listed(capsys):
    assert cli.run(["spaces", "-f", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {s["name"] for s in listed} == {path.stem for path in spaces_dir().glob("*.toml")}
    assert all(s["description"] and Path(s["path"]).is_file() for s in listed)


@pytest.mark.parametrize("words", [["quickstart"], ["show", "quickstart"]])
def test_a_space_is_shown_as_it_is_written(words, capsys):
    assert cli.run(["spaces", *words]) == 0
    assert capsys.readouterr().out == (spaces_dir() / "quickstart.toml").read_text()


def test_a_space_is_shown_as_json_with_its_defaults(capsys):
    assert cli.run(["spaces", "quickstart", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "sound"
    assert "mode" not in tomllib.loads((spaces_dir() / "quickstart.toml").read_text())


def test_an_unknown_space_is_refused_with_the_nearest(capsys):
    assert cli.run(["plan", "--space", "quikstart"]) == 2
    assert "Did you mean 'quickstart'?" in capsys.readouterr().err


def test_several_mistakes_are_told_one_a_line(capsys):
    wrong = ["--set", "search.trials=0", "--set", "confirm.head_seeds=0"]
    assert cli.run(["plan", "--space", "quickstart", *wrong]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "search.trials" in lines[0] and "confirm.head_seeds" in lines[1]


@pytest.mark.parametrize("space", ["quickstart", "full_adaptive"])
def test_a_plan_is_printed(space, capsys):
    assert cli.run(["plan", "--space", space]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{space} (sound mode")
    assert "device-hours" in text


def test_a_plan_as_data_has_every_cell_with_its_parameters(capsys):
    assert cli.run(["plan", "--space", "full_grid", "-f", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["cells"]) == 18
    assert all(cell["parameters"] > 10_000_000 for cell in plan["cells"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "nowhere"], ["leaderboard", "nowhere"], ["show", "nowhere", "abc"], ["ui", "nowhere"],
        ["resume", "nowhere"], ["retry", "nowhere", "--failed"], ["rerun", "nowhere", "abc"],
        ["sync", "nowhere"], ["gc", "nowhere"],
        ["merge", "nowhere", "--name", "all"],
        ["predict", "nowhere", "--task", "t", "--input", "in.smi"],
    ],
)  # fmt: skip
def test_a_sweep_that_is_not_there_is_refused(arguments, capsys, tmp_path):
    (tmp_path / "in.smi").write_text("CCO\n")
    assert cli.run(arguments) == 2
    assert "no sweep 'nowhere'" in capsys.readouterr().err


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(("error", "code"), [(ConfigError(["first", "second"]), 2), (DataError("first\nsecond"), 1)])
def test_our_errors_are_told_as_they_are(error, code, capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(error))
    assert cli.run(["spaces"]) == code
    assert capsys.readouterr() == ("", "first\nsecond\n")


def test_a_bug_is_told_with_the_place_of_its_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(api, "spaces", fail_with(KeyError("surprise")))
    assert cli.run(["spaces"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("this is a bug in chembench: KeyError: 'surprise'; the traceback is in ")
    kept = Path(line.rpartition(" ")[2])
    assert kept.is_relative_to(tmp_path / "cache")
    assert "Traceback (most recent call last)" in kept.read_text()
    assert "chembench spaces" in kept.read_text()


def test_a_bug_is_told_also_where_nothing_can_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    monkeypatch.setattr(api, "spaces", fail_with(KeyError("surprise")))
    assert cli.run(["spaces"]) == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "the traceback follows" in told


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_tracebacks_are_printed_when_asked_for(place, capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(DataError("no data")))
    if place == "environment":
        monkeypatch.setenv("CHEMBENCH_DEBUG", "1")
    arguments = {"before": ["--debug", "spaces"], "after": ["spaces", "--debug"], "environment": ["spaces"]}[place]
    assert cli.run(arguments) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_ends_with_4_and_the_command_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr(api, "run_sweep", fail_with(KeyboardInterrupt()))
    arguments = ["sweep", "--space", "quickstart", "--set", "grid.molecules=[200, 400]"]
    assert cli.run(arguments) == 4
    told = capsys.readouterr().err.strip()
    command = told.rpartition("Go on with: ")[2]
    assert shlex.split(command) == ["chembench", *arguments]


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


class Lengths:
    target_names = ("length",)

    def predict(self, smiles):
        return np.array([[len(text)] for text in smiles], dtype=np.float32)


class View:
    tracking_uri = "sqlite:////nowhere/mlflow.db"

    def predictor(self, task=None, uid=None):
        assert task == "delaney"
        return Lengths()


@pytest.fixture
def a_sweep(monkeypatch):
    monkeypatch.setattr(api, "open_sweep", lambda name, out="sweeps": View())


@pytest.mark.usefixtures("a_sweep")
def test_predictions_go_to_the_terminal_and_unreadable_rows_are_listed(capsys, tmp_path):
    (tmp_path / "in.csv").write_text("id,smiles\n1,CCO\n2,bad1\n")
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "in.csv"]) == 0
    told = capsys.readouterr()
    assert told.out == "id,smiles,predicted_length\n1,CCO,3\n2,bad1,\n"
    assert told.err.splitlines() == [
        "1 of 2 SMILES do not parse; their predictions are empty:",
        "  row 2: 'bad1'",
    ]


@pytest.mark.usefixtures("a_sweep")
def test_predictions_are_written_to_a_file(capsys, tmp_path):
    (tmp_path / "in.smi").write_text("CCO a\n" + "x\n" * 12)
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "in.smi", "--output", "out.csv"]) == 0
    told = capsys.readouterr()
    assert (tmp_path / "out.csv").read_text().splitlines()[:3] == ["smiles,name,predicted_length", "CCO,a,3", "x,,"]
    assert told.out == ""
    assert told.err.splitlines()[-1] == "  and 2 more"


@pytest.mark.usefixtures("a_sweep")
def test_molecules_are_read_from_standard_input(capsys, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("CCO\n"))
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "CCO,,3"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe\x00", "it is not UTF-8 text")])
def test_an_input_that_cannot_be_read_is_refused(content, reason, capsys, tmp_path):
    if content is not None:
        (tmp_path / "in.csv").write_bytes(content)
    assert cli.run(["predict", "s", "--task", "t", "--input", "in.csv"]) == 2
    assert f"got 'in.csv': {reason}" in capsys.readouterr().err


@pytest.mark.usefixtures("a_sweep")
def test_a_missing_database_is_no_reason_to_make_one(capsys):
    assert cli.run(["ui", "s"]) == 2
    assert "database must exist, /nowhere/mlflow.db does not" in capsys.readouterr().err


def test_ui_becomes_mlflows_pages(monkeypatch, tmp_path):
    (tmp_path / "mlflow.db").touch()
    called = []
    monkeypatch.setattr(os, "execvp", lambda program, command: called.append((program, command)))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert cli.run(["ui", "--tracking-uri", uri, "--port", "5123"]) == 0
    ((program, command),) = called
    assert program == command[0]
    assert command[command.index("--backend-store-uri") + 1] == uri
    assert command[-2:] == ["--port", "5123"]


def test_doctor_reports_as_data_and_fails_when_a_check_does(capsys):
    code = cli.run(["doctor", "nowhere", "-f", "json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert code == 1
    assert {"python", "processors", "memory", "cache", "spaces", "data", "gpu", "ray", "sweep"} <= set(checks)
    assert checks["sweep"]["state"] == "fail"
    assert all(check["way_out"] for check in checks.values() if check["state"] != "ok")


@pytest.mark.parametrize(("problems", "code"), [((), 0), (("boards: no space", "MLflow: no answer"), 1)])
def test_sync_tells_each_step_and_what_could_not_be_made(problems, code, capsys, monkeypatch):
    called = []

    def made_anew(paths, tracking_uri, say):
        called.append((paths, tracking_uri))
        say("boards: made")
        return SimpleNamespace(problems=problems)

    monkeypatch.setattr(upkeep, "sync_sweep", made_anew)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: SimpleNamespace(paths=f"paths of {name}"))
    assert cli.run(["sync", "s", "--tracking-uri", "http://there"]) == code
    assert called == [("paths of s", "http://there")]
    assert capsys.readouterr() == ("boards: made\n", "".join(f"{problem}\n" for problem in problems))


def test_merge_makes_a_sweep_of_its_own_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    called = []
    for name in ("one", "two"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        (tmp_path / "sweeps" / name / "ledger.jsonl").touch()
    monkeypatch.setattr(
        merge, "merge_sweeps", lambda sources, target, say: called.append((sources, target, say("2 merged")))
    )
    assert cli.run(["merge", "one", "sweeps/two", "--name", "all"]) == 0
    root = tmp_path / "sweeps" / "all"
    ((sources, target, _),) = called
    assert [paths.root for paths in sources] == [tmp_path / "sweeps" / "one", tmp_path / "sweeps" / "two"]
    assert target.root == root
    told = f"merged into {root}; what is left of it, and its boards: chembench resume sweeps/all"
    assert capsys.readouterr().out.splitlines() == ["2 merged", told]
    assert cli.run(["merge", "one", "two", "--name", "../x"]) == 2


def test_doctor_mends_where_it_is_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda places: asked.append(places) or [])
    assert cli.run(["doctor", "s", "--fix", "--out", "there"]) == 0
    assert asked == [doctor.Places(sweep="s", out=Path("there"), fix=True)]


def test_ctrl_c_ends_the_process_with_4():
    code = (
        "import sys, time; from chembench import api, cli\n"
        "def slow(*_, **__): print('begun', flush=True); time.sleep(60)\n"
        "api.run_sweep = slow; cli.main(['sweep', '--space', 'quickstart'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout.readline() == "begun\n"
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 4
        assert "Go on with: chembench sweep --space quickstart" in run.stderr.read()


def test_predict_never_writes_over_its_input(tmp_path, capsys):
    molecules = tmp_path / "molecules.smi"
    molecules.write_text("CCO\n")
    code = cli.run(["predict", "any", "--input", str(molecules), "--output", str(molecules)])
    assert code == 2
    assert "--output must be another file than --input" in capsys.readouterr().err
    assert molecules.read_text() == "CCO\n"
