"""Going on with a sweep from its folder alone: the same results, more trials and seeds, and what is refused."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, SMALL, Copy, assert_same, boards, environment, options, run, sweep

from chembench import api, cli
from chembench.paths import CachePaths
from chembench.sweep import serial_runner


@pytest.fixture
def copy(small, tmp_path, monkeypatch) -> Copy:
    """The small sweep in a folder of its own; the current one is another, and no cache is named."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("CHEMBENCH_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # a default cache would lie there
    return Copy(small, tmp_path / "there")


def test_a_sweep_goes_on_from_any_folder_with_what_its_record_says(copy, small, tmp_path, capsys):
    copy.cut(40)
    assert copy.sweep.exit_code == 4
    assert cli.run(["resume", str(copy.sweep.root)]) == 0
    told = capsys.readouterr()
    assert "regression board of " in told.out and "boards: " in told.out
    assert_same(copy.sweep, small.view)
    assert not (tmp_path / "home").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


AGAIN = """
import sys
from chembench.cli import run
status = run(sys.argv[1:])
print("imported:", *sorted({name.split(".")[0] for name in sys.modules}))
sys.exit(status)
"""


def test_a_finished_sweep_is_shown_again_and_nothing_runs(small, tmp_path):
    ledger = small.view.paths.ledger.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, "resume", str(small.root)],
        cwd=tmp_path, env=environment(tmp_path / "no cache"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown, _, imported = done.stdout.rpartition("imported:")
    assert shown == small.out
    assert not {"ray", "torch", "optuna", "mlflow", "transformers"} & set(imported.split())
    assert small.view.paths.ledger.read_bytes() == ledger


def test_more_trials_and_seeds_leave_what_is_done_as_it_is(copy, capsys):
    before = copy.files("result.json")
    assert cli.run(["resume", str(copy.sweep.root), "--trials", "3", "--seeds", "2", "--quiet"]) == 0
    state = copy.sweep.state()
    assert {study: len(points) for study, points in state.asked.items()} == dict.fromkeys(state.asked, 3)
    seeds = {item.labels["head_seed"] for item in state.items.values() if item.kind == "confirm"}
    assert seeds == {0, 1}
    assert {path: path.read_bytes() for path in before} == before
    assert len(copy.files("result.json")) > len(before)
    assert {item.attempt for item in state.items.values() if item.is_final} == {1}
    saved = tomllib.loads(copy.sweep.paths.space.read_text())
    assert (saved["search"]["trials"], saved["confirm"]["head_seeds"]) == (3, 2)
    lines = [line for name, lines in boards(copy.sweep).items() if name != "pretraining" for line in lines]
    assert {line["replicates"] for line in lines if line["method"] != "constant"} == {2}
    events = copy.events()
    capsys.readouterr()
    assert cli.run(["resume", str(copy.sweep.root), "--quiet"]) == 0
    assert copy.events() == events


def test_the_first_command_with_more_trials_goes_on_too(copy, small, monkeypatch):
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(small.cache))
    out = ["--out", str(copy.sweep.root.parent)]
    assert cli.run([*small.command, *out, *NO_MLFLOW, *options("search.trials=3"), "--quiet"]) == 0
    assert all(len(points) == 3 for points in copy.sweep.state().asked.values())


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (["--trials", "1"], ["search.trials: 2 there, 1 here"]),
        (["--set", "seed=1", "--seeds", "2"], ["seed: 0 there, 1 here", "confirm.head_seeds: 1 there, 2 here"]),
    ],
)
def test_what_would_be_another_sweep_is_refused_with_the_difference(copy, given, lines, capsys):
    before = copy.files()
    assert cli.run(["resume", str(copy.sweep.root), *given]) == 2
    first, *told = capsys.readouterr().err.splitlines()
    assert first.startswith("sweep 'small' was started with another space, and nothing but search.trials")
    assert told == lines
    assert copy.files() == before


def test_another_cache_is_filled_and_remembered(copy, small, tmp_path):
    copy.cut(40)
    assert cli.run(["resume", str(copy.sweep.root), "--cache-dir", "../other", "--quiet"]) == 0
    assert_same(copy.sweep, small.view)
    assert copy.sweep.state().header["places"]["cache_dir"] == str(tmp_path / "other")
    assert api.open_sweep(copy.sweep.root).trials(kind="pretrain")[0].checkpoint.is_relative_to(tmp_path / "other")


def test_a_cache_that_is_gone_is_built_again(copy, small, tmp_path, monkeypatch):
    """Also the checkpoint of a finished pre-training, for the trials that still need it and for them alone."""
    cache = CachePaths(tmp_path / "cache")
    copy.cut(copy.before("confirm", pretrained=True))
    assert cli.run(["resume", str(copy.sweep.root), "--cache-dir", str(cache.root), "--quiet"]) == 0
    assert_same(copy.sweep, small.view)
    (pretrain,) = copy.sweep.trials(kind="pretrain")
    assert pretrain.attempt == 2 and pretrain.checkpoint.is_dir()
    assert pretrain.outcome.measured["reused"] is False


def test_signals_and_ctrl_c_say_how_to_go_on_from_here(copy, capsys, monkeypatch):
    copy.cut(40)
    monkeypatch.chdir(copy.sweep.root.parent)

    def interrupted(work):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(serial_runner, "run_item", interrupted)
        assert cli.run(["resume", "small", "--out", "."]) == 4
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == "interrupted; what is finished is kept. Go on with: chembench resume small"


OWN = """
tasks = ["mine"]
[task.mine]
file = "assay.csv"
targets = ["y"]
kind = "regression"
split = "random"
[corpus]
files = ["mine.smi"]
validation = 8
[labels]
descriptors = "paper105"
statistics_molecules = 32
[grid]
architecture = ["roberta"]
size = ["w16x1"]
molecules = [32]
[controls]
from_scratch = false
baselines = ["constant"]
[pretrain]
epochs = 1
learning_rate = 1e-3
[finetune]
learning_rate = 1e-3
max_epochs = 1
[search]
trials = 1
[confirm]
head_seeds = 1
"""


@pytest.fixture
def own(tmp_path):
    """A sweep over files that its space names relative to itself, begun in their folder."""
    home = tmp_path / "home"
    home.mkdir()
    rings = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCNCC1", "c1ccsc1", "c1ccoc1", "C1CCOCC1", "c1ccc2ccccc2c1", "C")
    molecules = [f"{'C' * size}{ring}" for size in range(1, 11) for ring in rings]
    (home / "mine.smi").write_text("\n".join(molecules) + "\n")
    (home / "assay.csv").write_text("smiles,y\n" + "".join(f"{m},{len(m)}\n" for m in molecules[:60]))
    (home / "own.toml").write_text(OWN)
    done = sweep(home, tmp_path / "cache", "own", ["--space", "own.toml", "--runner", "serial", *NO_MLFLOW])
    assert done.status == 0, done.err
    return done


def test_files_beside_a_space_are_found_from_anywhere(own, tmp_path):
    splits = options("confirm.splits=2")
    more = run(["resume", str(own.root), "--seeds", "2", *splits, "--quiet"], tmp_path, tmp_path / "unused")
    assert more.returncode == 0, more.stderr
    assert not (tmp_path / "unused").exists()
    state = own.view.state()
    confirmed = [(i.labels["split"], i.labels["head_seed"]) for i in state.items.values() if i.kind == "confirm"]
    assert sorted(confirmed) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {"split 0 of mine", "split 1 of mine"} <= set(state.header["inputs"])
    saved = ["plan", "--space", str(own.root / "space.toml"), "-f", "json"]
    assert json.loads(run(saved, tmp_path, tmp_path / "unused").stdout)["space_digest"] == state.space_digest


@pytest.mark.parametrize("name", ["mine.smi", "assay.csv"])
def test_a_file_that_is_gone_is_named_with_its_place(own, tmp_path, name):
    home = own.root.parents[1]
    (home / name).rename(home / "moved")
    done = run(["resume", str(own.root), "--seeds", "2", "--quiet"], tmp_path, tmp_path / "unused")
    assert done.returncode == 1
    assert f"no file '{name}' in {home}; correct the name or write an absolute path" in done.stderr
    assert own.view.status().finished
    (home / "moved").rename(home / name)
    assert run(["resume", str(own.root), "--seeds", "2", "--quiet"], tmp_path, tmp_path / "x").returncode == 0


def test_a_later_versions_sweep_is_left_alone(copy, capsys):
    copy.append({"event": "teleported", "uid": "x"})
    before = copy.files()
    for command in (["resume"], ["status"], ["retry", "--failed"], ["rerun", "x"]):
        verb, *rest = command
        assert cli.run([verb, str(copy.sweep.root), *rest]) == 1
        assert "got 'teleported'; restore the ledger from a copy" in capsys.readouterr().err
    assert copy.files() == before


def test_a_sweep_that_does_not_say_its_places_asks_for_its_first_command(copy, small, capsys, monkeypatch):
    def without_places(event):
        if event["event"] == "sweep":
            del event["header"]["places"]
        return event

    copy.cut(40)
    copy.rewrite(without_places)
    assert cli.run(["resume", str(copy.sweep.root)]) == 2
    assert "give its `chembench sweep` command again, once" in capsys.readouterr().err
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(small.cache))
    out = ["--out", str(copy.sweep.root.parent)]
    assert cli.run([*small.command, *out, *NO_MLFLOW, "--quiet"]) == 0
    assert cli.run(["resume", str(copy.sweep.root), "--quiet"]) == 0
    assert_same(copy.sweep, small.view)


def test_the_options_of_the_record_are_the_small_sweeps(small):
    places = small.view.state().header["places"]
    assert places["runner"] == "serial" and places["cache_dir"] == str(small.cache)
    assert set(SMALL) <= {word for word in small.view.state().header["command"]}
    assert Path(places["data_dir"]).is_absolute() and shutil.which(sys.executable)
