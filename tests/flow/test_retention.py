"""Disk space: a bound that is kept while a sweep runs, `gc`, and a disk that is full; no result depends on them."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from flow_sweeps import (
    NO_MLFLOW,
    assert_same,
    boards,
    command_line,
    environment,
    options,
    results,
    run,
    small_sweep,
    sweep,
)

from chembench.api import open_sweep
from chembench.errors import ConfigError
from chembench.paths import CachePaths, builder_of
from chembench.specs import PretrainSpec
from chembench.sweep.running import RESERVE_MIB
from chembench.sweep.winners import winners

TWO_SCALES = (
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['roberta']",
    "grid.size=['w16x1']",
    "grid.molecules=[64, 128]",
    "controls.from_scratch=false",
    "controls.baselines=['constant']",
)
"""Two checkpoints and one task, so that one of them is no winner's."""


def two_scales(seeds: int) -> list[str]:
    return ["--space", "full_grid_tiny", *options(*TWO_SCALES, f"confirm.head_seeds={seeds}"), "--runner", "serial"]


def contents(view):
    """Every file of a sweep but the lock, which whoever holds it signs."""
    return {path: path.read_bytes() for path in view.root.rglob("*") if path.is_file() and path != view.paths.lock}


def test_a_bound_and_gc_take_nothing_that_is_needed_and_what_is_missing_is_made_again(tmp_path):
    whole = sweep(tmp_path, tmp_path / "own", "whole", [*two_scales(2), *NO_MLFLOW])
    done = sweep(tmp_path, tmp_path / "cache", "two", [*two_scales(1), *NO_MLFLOW, "--keep", "1kB"])
    assert (whole.status, done.status) == (0, 0), done.err
    assert re.search(r"warning: --keep 1 kB cannot be kept, [0-9]+ kB are needed \(", done.err)
    view, cache = done.view, CachePaths(done.cache)
    (winner,) = winners(view.state()).values()
    needed = view.state().items[winner].spec.pretrained
    assert checkpoints(cache) == {needed}
    assert [path.parents[1].name for path in view.paths.trials.glob("*/*/model")] == [winner]
    loser = next(uid for uid, item in view.state().items.items() if item.kind == "confirm" and uid != winner)
    with pytest.raises(ConfigError, match=r"has no model; the first confirm replicate of a recipe keeps one, which gc"):
        view.predictor(uid=loser)
    records = contents(view)
    collected = run(["gc", "two"], tmp_path, done.cache)
    assert collected.returncode == 0 and "deleted 0 things, 0 B; " in collected.stdout
    assert contents(view) == records
    again = run(["resume", "two", "--seeds", "2", "--keep", "1TB"], tmp_path, done.cache)
    assert again.returncode == 0, again.stderr
    assert results(view) == results(whole.view) and boards(view) == boards(whole.view)
    made = {uid: item.attempt for uid, item in view.state().items.items() if isinstance(item.spec, PretrainSpec)}
    assert made == {uid: 1 if uid == needed else 2 for uid in made} and checkpoints(cache) == set(made)


def checkpoints(cache: CachePaths) -> set[str]:
    return {path.name for path in cache.pretrained("x").parent.glob("[!.]*")}


def test_gc_says_what_goes_and_why_and_a_dry_run_deletes_nothing(small, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(small.cache, cache)
    for record in (cache / "sweeps").iterdir():
        record.unlink()  # of sweeps that use the cache it was copied from
    before = sorted(cache.rglob("*"))
    shown = run(["gc", "--dry-run", "-f", "json"], tmp_path, cache)
    assert shown.returncode == 0, shown.stderr
    lines = json.loads(shown.stdout)
    assert {line["what"] for line in lines} >= {"input", "checkpoint"}
    assert {(line[""], line["why"]) for line in lines} == {("goes", "no registered sweep uses it")}
    assert sorted(cache.rglob("*")) == before
    done = run(["gc"], tmp_path, cache)
    assert done.stdout.splitlines()[-1].startswith(f"deleted {len(lines)} things, ")
    assert not checkpoints(CachePaths(cache)) and not list((cache / "shards").iterdir())


# -------------------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def disk(tmp_path):
    """A file system of its own that a test can fill."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own takes the right to mount one: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave_mib: float = 0.0) -> Path:
    """A file that takes all space but ``leave_mib``."""
    ballast = place / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while (free := shutil.disk_usage(place).free - leave_mib * 2**20) > 0:
                os.posix_fallocate(file.fileno(), file.tell(), min(int(free) or 1, 2**20))
                file.seek(0, os.SEEK_END)
        except OSError:
            assert shutil.disk_usage(place).free < 2**16
    return ballast


def unfinished(place: Path) -> list[Path]:
    return [path for path in place.rglob(".*") if builder_of(path)]


@pytest.mark.parametrize("runner, results_before", [("serial", 0), ("serial", 4), ("ray", 8)])
def test_a_disk_that_fills_up_ends_the_sweep_with_4_and_it_goes_on_as_if_nothing_had_been(
    small, disk, runner, results_before
):
    variables = environment(disk / "cache", TMPDIR=tempfile.gettempdir())  # another one is too long for Ray's sockets
    process = subprocess.Popen(
        command_line("sweep", "--name", "small", *small_sweep(runner), *NO_MLFLOW),
        cwd=disk, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ledger = disk / "sweeps" / "small" / "ledger.jsonl"
    until = time.monotonic() + 240
    while ended(ledger) < results_before or not ledger.is_file():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    ballast = fill(disk)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 4, told
    assert "no space" in told or f"{RESERVE_MIB} MiB must be free" in told
    assert unfinished(disk) == []
    assert all(json.loads(path.read_text()) for path in disk.rglob("result.json")), "none is torn"
    assert not ledger.is_file() or ledger.read_bytes().endswith(b"\n"), "its last line is torn"
    assert ledger.is_file() or not results_before
    ballast.unlink()
    again = run(["sweep", "--name", "small", *small_sweep("serial"), *NO_MLFLOW], disk, disk / "cache")
    assert again.returncode == 0, again.stderr
    assert_same(open_sweep(disk / "sweeps" / "small"), small.view)


def ended(ledger: Path) -> int:
    return ledger.read_text().count('"event": "result"') if ledger.is_file() else 0


def test_nothing_is_handed_out_where_less_than_the_reserve_is_free(small, disk):
    shutil.copytree(small.cache, disk / "cache", ignore=shutil.ignore_patterns("pretrained", "sweeps"))
    ballast = fill(disk, leave_mib=RESERVE_MIB - 8)
    arguments = ["sweep", "--name", "small", *small_sweep("serial"), *NO_MLFLOW]
    done = run(arguments, disk, disk / "cache")
    assert done.returncode == 4
    assert f"{RESERVE_MIB} MiB must be free where a sweep writes, {disk}" in done.stderr
    assert not (disk / "sweeps" / "small" / "trials").exists()
    ballast.unlink()
    assert run(arguments, disk, disk / "cache").returncode == 0
    assert_same(open_sweep(disk / "sweeps" / "small"), small.view)
