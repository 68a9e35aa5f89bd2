"""A sweep divided over machines that know nothing of each other, and united again."""

import pytest
from flow_sweeps import NO_MLFLOW, assert_same, run, small_sweep

from chembench import open_sweep


@pytest.fixture(scope="module")
def parts(small, tmp_path_factory):
    """The folder in which both shards of the small sweep were driven."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in ("1/2", "2/2"):
        given = ["--name", "small", "--shard", shard, *small_sweep("serial"), *NO_MLFLOW]
        done = run(["sweep", *given], folder, small.cache)
        assert done.returncode == 0, done.stderr
    return folder


def test_shards_are_sweeps_of_their_own_that_merge_into_the_whole(parts, small):
    one, two = (open_sweep(f"small.shard-{index}-of-2", out=parts / "sweeps") for index in (1, 2))
    cells = [set(sweep.state().header["cells"]) for sweep in (one, two)]
    assert cells[0] and cells[1] and not cells[0] & cells[1]
    merged = run(["merge", one.name, two.name, "--name", "small"], parts, small.cache)
    assert merged.returncode == 0, merged.stderr
    assert merged.stdout.endswith("what is left of it, and its boards: chembench resume sweeps/small\n")
    whole = open_sweep("small", out=parts / "sweeps")
    done = run(["resume", "sweeps/small", "--quiet"], parts, small.cache)
    assert done.returncode == 0, done.stderr
    assert_same(whole, small.view)
    again = run(["merge", one.name, "--name", "small"], parts, small.cache)
    assert again.returncode == 2 and "small" in again.stderr


def test_a_shard_does_not_go_on_as_the_whole_or_as_another(parts, small):
    name = "small.shard-1-of-2"
    before = (parts / "sweeps" / name / "ledger.jsonl").read_bytes()
    done = run(["sweep", "--name", name, *small_sweep("serial"), *NO_MLFLOW], parts, small.cache)
    assert done.returncode == 2, done.stderr
    assert "is shard 1/2, it cannot go on as a whole sweep; give --shard as it began" in done.stderr
    assert (parts / "sweeps" / name / "ledger.jsonl").read_bytes() == before
