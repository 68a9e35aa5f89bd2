"""The command itself: its verbs and options, usage, errors, bugs and interrupts."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import click
import pytest

import chembench
from chembench import api, cli
from chembench.errors import ConfigError, DataError
from chembench.paths import spaces_dir

HEAVY = {
    "numpy",
    "torch",
    "transformers",
    "ray",
    "optuna",
    "mlflow",
    "rdkit",
    "deepchem",
    "pandas",
    "peft",
    "sklearn",
    "rich",
}

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
    "confirm": {"--top", "--seeds", "--task", "--out", "--quiet"},
    "retry": {"--failed", "--cause", "--uid", "--out", "--quiet"},
    "rerun": {"--check", "--out", "-f", "--format"},
    "status": {"--out", "-f", "--format"},
    "leaderboard": {"--out", "-f", "--format"},
    "report": {"--out", "--output", "--open", "--without-runs"},
    "diff": {"--sweep", "--task", "--out", "-f", "--format"},
    "audit": {
        "--set", "--tokenizer", "--strict", "--output", "--out", "--data-dir", "--cache-dir", "-f", "--format",
    },
    "show": {"--out", "-f", "--format"},
    "predict": {"--task", "--model", "--input", "--smiles-column", "--output", "--out"},
    "ui": {"--out", "--tracking-uri", "--port"},
    "doctor": {"--out", "--data-dir", "--cache-dir", "--fix", "-f", "--format"},
    "gc": {"--out", "--cache-dir", "--keep", "--dry-run", "-f", "--format"},
    "sync": {"--out", "--tracking-uri"},
    "merge": {"--name", "--out"},
    "reproduce-paper": {"--rows", "--sweep", "--data-dir", "--out", "-f", "--format"},
    "replay": {
        "--space", "--set", "--name", "--out", "--runner", "--ray-address", "--cache-dir", "--tracking-uri",
        "--max-concurrent", "--quiet",
    },
}  # fmt: skip
"""Every verb and option there is: adding one is a decision."""


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


def written_commands() -> list[list[str]]:
    """Every ``chembench`` command that stands in a block of the README or of a page under docs."""
    root = spaces_dir().parent
    blocks = (
        block
        for page in (root / "README.md", *sorted((root / "docs").rglob("*.md")))
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    )
    lines = (line for block in blocks for line in block.splitlines() if line.startswith("chembench "))
    return [shlex.split(line.removesuffix(" &"), comments=True)[1:] for line in lines]


@pytest.mark.parametrize("arguments", written_commands(), ids=" ".join)
def test_every_command_that_is_written_down_can_be_read(arguments, tmp_path):
    (tmp_path / "molecules.csv").touch()
    verb, *rest = arguments
    cli.cli.commands[verb].make_context(verb, rest)


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
        ["confirm", "nowhere", "--top", "1", "--seeds", "2"], ["diff", "nowhere", "neither"],
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_a_place_that_cannot_be_used_is_no_bug(number, capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(OSError(number, os.strerror(number), "/there")))
    assert cli.run(["spaces"]) == 1
    told = f"chembench must be able to use '/there', it is not: {os.strerror(number)}; make that possible, or name"
    assert capsys.readouterr().err.startswith(told)


def test_a_fault_that_names_no_file_is_a_bug_but_for_a_full_disk(capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(OSError(errno.EIO, "Input/output error")))
    assert cli.run(["spaces"]) == 1
    assert capsys.readouterr().err.startswith("this is a bug in chembench: OSError: [Errno 5] Input/output error")
    monkeypatch.setattr(api, "spaces", fail_with(OSError(errno.ENOSPC, "No space left on device")))
    assert cli.run(["spaces"]) == 4
    assert capsys.readouterr().err.startswith("no space left on the device that holds .; free some")


def test_a_full_disk_is_no_bug_wherever_it_is_met(capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(OSError(errno.ENOSPC, "No space left on device", "/there")))
    assert cli.run(["spaces"]) == 4
    assert capsys.readouterr().err.startswith("no space left on the device that holds /there; free some")


def test_a_file_that_is_missing_is_a_bug(capsys, monkeypatch):
    monkeypatch.setattr(api, "spaces", fail_with(FileNotFoundError(errno.ENOENT, "No such file", "/there")))
    assert cli.run(["spaces"]) == 1
    assert capsys.readouterr().err.startswith("this is a bug in chembench: FileNotFoundError")


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
