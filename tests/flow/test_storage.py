"""Driver and workers that have no folder in common: everything crosses through a URL, and nothing else changes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, SMALL, assert_same, environment, options, ray_cluster, run, small_sweep, sweep

from chembench.api import load_space, open_engine
from chembench.chem.pool import HERE
from chembench.paths import CachePaths, SweepPaths, read_json
from chembench.sweep.inputs import prepare
from chembench.sweep.ray_runner import outcome_of
from chembench.transfer import attempt_key, carry_out_away, open_exchange
from chembench.trial import run_item

INPUTS = {"corpora", "tokenizers", "shards", "labels", "tasks", "splits", "sealed"}


def kinds(cache: Path) -> set[str]:
    """What lies in a cache, by kind."""
    return {folder.name for folder in cache.iterdir() if any(folder.glob("[!.]*"))}


def through(folder: Path, runner: str, *more: str) -> list[str]:
    """A small sweep whose driver has a cache of its own, with a folder between it and the workers."""
    own = ["--cache-dir", str(folder / "driver"), "--storage", f"file://{folder}/between", *NO_MLFLOW]
    return [*small_sweep(runner), *own, *more]


def assert_crossed(swept, folder: Path, small) -> None:
    assert swept.status == 0, swept.err
    assert_same(swept.view, small.view)
    assert kinds(folder / "driver") >= INPUTS
    settings = [read_json(file) for file in swept.view.paths.trials.glob("*/*/model/settings.json")]
    probed = {found["reads"]["pretrained"] for found in settings if "reads" in found}
    kept = {path.name for path in (folder / "driver" / "pretrained").glob("*")}
    assert kept == probed, "workers make checkpoints in their own cache, heads of probes bring theirs along"
    assert kinds(swept.cache) >= {"pretrained", "shards", "splits", "sealed", "tokenizers", "labels"}
    assert not kinds(swept.cache) & {"corpora", "tasks", "work", "index", "sweeps"}
    paths = swept.view.paths
    for item in swept.view.state().items.values():
        spec = read_json(paths.run(item.uid, item.attempt).spec)
        assert spec["folder"].startswith(str(swept.cache / "work")), "carried out in the worker's folders"
        assert not Path(spec["folder"]).exists()
    assert not [path for path in paths.root.rglob(".*")]


def test_a_serial_sweep_through_a_url_equals_one_without(small, tmp_path):
    done = sweep(tmp_path, tmp_path / "worker", "small", through(tmp_path, "serial"))
    assert_crossed(done, tmp_path, small)


def test_two_workers_on_ray_that_see_no_folder_of_the_driver_give_the_same_sweep(small, tmp_path):
    cache = tmp_path / "worker"
    with ray_cluster(CHEMBENCH_CACHE_DIR=str(cache)) as (address, key):
        done = sweep(tmp_path, cache, "small", through(tmp_path, "ray", "--ray-address", address), **key)
    assert_crossed(done, tmp_path, small)


def test_the_winner_predicts_at_the_driver(small, tmp_path):
    done = sweep(tmp_path, tmp_path / "worker", "small", through(tmp_path, "serial"))
    assert done.status == 0, done.err
    (tmp_path / "some.smi").write_text("CCO\nc1ccccc1O\n")
    asked = ["predict", "small", "--task", "freewilson_pic50", "--input", "some.smi"]
    (tmp_path / "worker").rename(tmp_path / "on another machine")
    here = run(asked, tmp_path, tmp_path / "not the sweep's cache")
    assert here.returncode == 0, here.stderr
    (small.root.parents[1] / "some.smi").write_text("CCO\nc1ccccc1O\n")
    assert here.stdout == run(asked, small.root.parents[1], small.cache).stdout


WORKER = """
import sys
from pathlib import Path
from chembench.paths import CachePaths
from chembench.specs import Work
from chembench.training import attempt
from chembench.transfer import carry_out_away
from chembench.trial import run_item
attempt.EPOCH_SECONDS = attempt.TIMES_ITS_COST = 0.0  # a state after each epoch
carry_out_away(Work.model_validate_json(sys.stdin.read()), run_item, CachePaths(Path(sys.argv[1])), beat_seconds=0.02)
"""


def test_a_pre_training_goes_on_elsewhere_from_the_state_that_a_killed_worker_had_sent(tmp_path):
    long = options(*SMALL, "pretrain.epochs=40", "controls.from_scratch=false", "controls.baselines=[]")
    space = load_space("full_grid_tiny", long[1::2])
    whole, resumed = (pretrained(space, tmp_path / name, kill=name == "killed") for name in ("whole", "killed"))
    assert whole.measured["resumed_at_step"] == 0
    assert resumed.attempt == 2 and resumed.measured["resumed_at_step"] > 0
    assert (resumed.metrics, resumed.facts) == (whole.metrics, whole.facts)


def pretrained(space, folder: Path, kill: bool):
    """The outcome of the first pre-training of ``space``; with ``kill`` its first worker is killed on the way."""
    cache, paths = CachePaths(folder / "driver"), SweepPaths(folder / "sweeps" / "one")
    with open_engine(space, name="one", out=folder / "sweeps", cache_dir=cache.root) as engine:
        exchange = open_exchange(str(folder / "between"), paths, cache)
        exchange.begin("one", prepare(space, cache, folder, HERE, lambda line: None).folders, [], lambda line: None)
        work = exchange.hand_out(engine.ask())
        assert work.kind == "pretrain"
        if kill:
            kill_on_the_way(work, exchange.storage, folder / "first machine")
            assert not exchange.take_in(work.uid, work.attempt)
            engine.tell(outcome_of(work, {}))
            work = exchange.hand_out(engine.ask())
        outcome = carry_out_away(work, run_item, CachePaths(folder / "second machine"))
        assert exchange.take_in(work.uid, work.attempt)
        assert engine.tell(outcome)
        assert not exchange.storage.has(attempt_key("one", work.uid, 1, "resume"))
    return outcome


def kill_on_the_way(work, storage, cache: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(cache)], env=environment(cache), stdin=subprocess.PIPE, text=True
    )
    process.stdin.write(work.model_dump_json())
    process.stdin.close()
    until = time.monotonic() + 240
    while not storage.has(attempt_key("one", work.uid, work.attempt, "resume")):
        assert process.poll() is None, "it ended before it had sent a state"
        assert time.monotonic() < until, "no state was sent in 240 s"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not storage.has(f"pretrained/{work.uid}"), "it was killed too late"


@pytest.mark.parametrize(
    "url, told",
    [
        ("nope://bucket/x", "storage 'nope://bucket/x' must be a URL that fsspec knows"),
        ("sftp://me:secret@host/x", "this one holds a password; leave it out"),
        ("file/inside", "a storage must be a URL such as s3://bucket/folder or an absolute path such as"),
        ("file:///dev/null/inside", "cannot be written and read"),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_before_the_first_item(tmp_path, url, told):
    (tmp_path / "file").write_text("")
    done = sweep(tmp_path, tmp_path / "worker", "small", [*small_sweep("serial"), "--storage", url, *NO_MLFLOW])
    assert done.status == 2
    assert told in done.err and "secret" not in done.err
    assert not (done.root / "ledger.jsonl").exists() and not (done.root / "trials").exists()
