"""What a disk, a second driver, a clock or a hopeless space does to a sweep: nothing goes unnoticed, or on for ever."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, SMALL, Copy, assert_same, options, results, run, small_sweep, sweep

from chembench import cli
from chembench.paths import CachePaths
from chembench.specs import PretrainSpec

ONE_CELL = options(*SMALL, "controls.from_scratch=false", "controls.baselines=[]", "search.replacements=0")
"""The cell of the small sweep alone."""


@pytest.fixture
def copy(small, tmp_path, monkeypatch) -> Copy:
    monkeypatch.chdir(tmp_path)
    return Copy(small, tmp_path)


def resumed(copy: Copy) -> int:
    return cli.run(["resume", str(copy.sweep.root), "--quiet"])


def test_a_damaged_line_in_the_middle_of_the_ledger_is_refused_with_its_number(copy, capsys):
    lines = copy.sweep.paths.ledger.read_bytes().splitlines(keepends=True)
    lines[20] = lines[20].replace(b'"event"', b'"evenT"')
    copy.sweep.paths.ledger.write_bytes(b"".join(lines))
    before = copy.files()
    for verb in ("resume", "status", "leaderboard"):
        assert cli.run([verb, str(copy.sweep.root)]) == 1
        assert f"is damaged in line 21 of {len(lines)}; " in capsys.readouterr().err
    assert copy.files() == before


def test_a_torn_last_line_and_a_damaged_journal_of_optuna_cost_nothing(copy, small):
    ledger, journal = copy.sweep.paths.ledger, copy.sweep.paths.journal
    *kept, last, finished = ledger.read_bytes().splitlines(keepends=True)
    assert json.loads(last)["event"] == "result" and json.loads(finished)["event"] == "finished"
    ledger.write_bytes(b"".join([*kept, last[: len(last) // 2]]))
    journal.write_bytes(b"\0nonsense\n" + journal.read_bytes()[:200])
    before = copy.files("result.json")
    assert resumed(copy) == 0
    assert_same(copy.sweep, small.view)
    assert copy.files("result.json") == before
    assert {item.attempt for item in copy.sweep.state().items.values()} == {1}, "the result was there"
    asked = sum(len(points) for points in copy.sweep.state().asked.values())
    assert len(trials(journal)) == asked > 0


def trials(journal: Path) -> set[tuple[str, int]]:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    found = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    points = {(trial.user_attrs["study"], trial.user_attrs["ordinal"]) for trial in found}
    assert len(points) == len(found)
    return points


HOLD = """
import sys
from pathlib import Path
from chembench.paths import SweepPaths
from chembench.sweep.ledger import Ledger
with Ledger(SweepPaths(Path(sys.argv[1]))):
    print("driving", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_and_the_first_is_named(copy, capsys):
    copy.cut(len(copy.events()) - 1, keep_folders=True)
    command = [sys.executable, "-c", HOLD, str(copy.sweep.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "driving\n"
        before = copy.files()
        assert resumed(copy) == 2
        assert f"is driven by another process (pid {first.pid}" in capsys.readouterr().err
        assert copy.files() == before
    assert first.returncode == 0


def test_weights_that_were_cut_fail_their_trial_and_the_way_out_that_is_told_leads_out(copy, small, tmp_path, capsys):
    cache = CachePaths(tmp_path / "cache")
    shutil.copytree(small.cache, cache.root)
    copy.rewrite(lambda event: moved(event, cache))
    items = copy.sweep.state().items
    reading = {uid for uid, item in items.items() if item.kind == "confirm" and item.spec.pretrained}
    at = next(n for n, e in enumerate(copy.events()) if e["event"] == "started" and e["uid"] in reading)
    uid = copy.events()[at]["uid"]
    copy.cut(at, keep_folders=True)
    shutil.rmtree(copy.sweep.paths.trials / uid)
    weights = cache.pretrained(items[uid].spec.pretrained) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    assert resumed(copy) == 3
    failed = {u: item.outcome for u, item in copy.sweep.state().items.items() if item.status == "failed"}
    assert {u: outcome.cause for u, outcome in failed.items()} == {uid: "data"}
    assert failed[uid].message.startswith(f"{weights} must be a whole safetensors file")
    assert f"; delete {weights.parent} and retry what failed" in failed[uid].message
    shutil.rmtree(weights.parent)
    assert cli.run(["retry", str(copy.sweep.root), "--failed", "--quiet"]) == 0
    assert_same(copy.sweep, small.view)


def moved(event: dict, cache: CachePaths) -> dict:
    if event["event"] == "sweep":
        event["header"]["places"]["cache_dir"] = str(cache.root)
    return event


def test_a_damaged_shard_fails_its_pre_training_and_the_way_out_that_is_told_leads_out(small, tmp_path):
    cache = CachePaths(tmp_path / "cache")
    shutil.copytree(small.cache, cache.root, ignore=shutil.ignore_patterns("pretrained"))
    spec = next(i.spec for i in small.view.state().items.values() if isinstance(i.spec, PretrainSpec))
    shard = next(path for path in sorted(cache.shard("x").parent.iterdir()) if of_training(path, spec.corpus))
    labels = bytearray((shard / "labels.npy").read_bytes())
    labels[-1] ^= 1
    (shard / "labels.npy").write_bytes(labels)
    space = ["--space", "full_grid_tiny", *ONE_CELL, "--runner", "serial", *NO_MLFLOW]
    done = sweep(tmp_path, cache.root, "shard", space)
    assert done.status == 3, done.err
    outcomes = {item.kind: item.outcome for item in done.view.state().items.values()}
    assert {outcome.cause for outcome in outcomes.values()} == {"data"}
    assert f"{shard / 'labels.npy'} must be as it was built" in outcomes["pretrain"].message
    assert outcomes["pretrain"].message.endswith("delete the folder, it will be built again")
    assert not list(cache.pretrained("x").parent.glob("*"))
    shutil.rmtree(shard)
    again = run(["retry", str(done.root), "--failed", "--quiet"], tmp_path, cache.root)
    assert again.returncode == 0, again.stderr
    mine, undisturbed = results(done.view), results(small.view)
    assert {uid: undisturbed[uid] for uid in mine} == mine


def of_training(shard: Path, corpus: str) -> bool:
    manifest = json.loads((shard / "manifest.json").read_text())
    return (manifest["corpus"], manifest["part"], manifest["start"]) == (corpus, "train", 0)


BACKWARDS = """
import itertools, time
now, steps = time.time(), itertools.count(1)
time.time = lambda: now - 60.0 * next(steps)
"""


def test_a_wall_clock_that_goes_backwards_changes_nothing(small, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BACKWARDS)
    site = str(tmp_path / "site")
    done = sweep(tmp_path, small.cache, "small", [*small_sweep("serial"), *NO_MLFLOW], PYTHONPATH=site)
    assert done.status == 0, done.err
    moments = [json.loads(line)["at"] for line in done.view.paths.ledger.read_text().splitlines()]
    assert moments == sorted(moments, reverse=True)
    assert_same(done.view, small.view)
    assert all(item.outcome.measured["wall_seconds"] >= 0 for item in done.view.state().items.values())
    assert done.view.status().finished


def test_a_space_in_which_everything_fails_ends(small, tmp_path):
    hopeless = options(*SMALL, "finetune.learning_rate=1e30", "search.replacements=100", "search.give_up_after=5")
    done = sweep(
        tmp_path, small.cache, "nan", ["--space", "full_grid_tiny", *hopeless, "--runner", "serial", *NO_MLFLOW]
    )
    assert done.status == 1, done.err
    assert "5 items failed one after the other, as many as search.give_up_after allows, first the search" in done.err
    failed = [item for item in done.view.state().items.values() if item.status == "failed"]
    assert {item.outcome.cause for item in failed} == {"nan"}
    assert len(failed) == 5
