"""A sweep that runs stays below its bound, and is never deprived of what it needs."""

from pathlib import Path

import pytest
from held_sweep import HeldSweep, filled

from chembench import keeper as keeping
from chembench.holdings import size_of
from chembench.keeper import Keeper
from chembench.paths import CachePaths


@pytest.fixture
def cache(tmp_path):
    return CachePaths(tmp_path / "cache")


@pytest.fixture
def sweep(tmp_path, cache):
    sweep = HeldSweep(tmp_path / "sweeps", cache)
    yield sweep
    sweep.close()


class Watched:
    """A keeper with no pause between looks, and what it warned of."""

    def __init__(self, sweep: HeldSweep, keep_bytes: int, **options) -> None:
        self.sweep, self.warnings = sweep, []
        options = {"look_seconds": 0.0} | options
        self._keeper = Keeper(sweep.paths, sweep.cache, keep_bytes, self.warnings.append, **options)

    def look(self) -> None:
        self._keeper.after(self.sweep.state)


def test_the_bound_is_kept_as_soon_as_something_may_go(sweep, cache):
    sweep.pretrain(0, 40_000)
    small = sweep.pretrain(1, 30_000)
    waiting = sweep.search(small, "waiting")
    watched = Watched(sweep, 60_000)
    watched.look()
    assert [path.name for path in cache.pretrained("x").parent.iterdir()] == [small]
    sweep.end(waiting, "finished")
    watched.look()
    assert cache.pretrained(small).is_dir(), "below the bound nothing goes"
    large = sweep.pretrain(2, 45_000, status="running")
    watched.look()
    assert not cache.pretrained(small).exists()
    sweep.end(large, "finished")
    watched.look()
    assert watched.warnings == []


def test_states_of_running_items_count_while_they_grow(sweep, cache):
    old = sweep.pretrain(0, 20_000)
    running = sweep.pretrain(1, None, status="running")
    watched = Watched(sweep, 50_000)
    watched.look()
    assert cache.pretrained(old).is_dir()
    filled(sweep.paths.run(running, 1).resume, 40_000)
    watched.look()
    assert not cache.pretrained(old).exists()
    assert sweep.paths.run(running, 1).resume.is_file()


def test_what_is_needed_stays_and_is_told_once(sweep, cache):
    checkpoint = sweep.pretrain(0, 50_000)
    sweep.search(checkpoint, "waiting")
    watched = Watched(sweep, 20_000)
    for _ in range(3):
        watched.look()
    (warning,) = watched.warnings
    assert warning.startswith("warning: --keep 20 kB cannot be kept, ") and "checkpoints 50 kB" in warning
    assert cache.pretrained(checkpoint).is_dir()
    more = sweep.pretrain(1, 40_000)
    sweep.search(more, "waiting", rate=0.25)
    watched.look()
    assert len(watched.warnings) == 2


def test_a_checkpoint_of_another_sweep_stays(sweep, tmp_path, cache):
    shared = sweep.pretrain(0, 50_000)
    other = HeldSweep(tmp_path / "sweeps", cache, "other")
    other.pretrain(0, None)
    watched = Watched(sweep, 20_000)
    watched.look()
    assert cache.pretrained(shared).is_dir() and len(watched.warnings) == 1
    other.close()
    other.paths.root.rename(tmp_path / "deleted")
    watched._keeper._others_read = float("-inf")
    watched.look()
    assert not cache.pretrained(shared).exists()


def test_a_sweep_that_begins_to_use_a_checkpoint_is_seen_before_it_is_deleted(sweep, tmp_path, cache):
    watched = Watched(sweep, 20_000)
    filled(sweep.paths.root / "large", 21_000)
    watched.look()  # reads the others now
    shared = sweep.pretrain(0, 50_000)
    other = HeldSweep(tmp_path / "sweeps", cache, "other")
    other.pretrain(0, None)
    watched.look()
    other.close()
    assert cache.pretrained(shared).is_dir()


def test_a_sweep_that_begins_to_use_a_checkpoint_while_others_are_deleted_keeps_it(sweep, tmp_path, cache, monkeypatch):
    shared = [sweep.pretrain(seed, 50_000) for seed in (0, 1)]
    other = HeldSweep(tmp_path / "sweeps", cache, "other")
    began, delete = [], keeping.delete

    def meanwhile(path):
        began.append(path)
        left = next(seed for seed in (0, 1) if cache.pretrained(shared[seed]) != path)
        other.pretrain(left, None)
        delete(path)

    monkeypatch.setattr(keeping, "delete", meanwhile)
    Watched(sweep, 20_000).look()
    other.close()
    (gone,) = began
    assert [digest for digest in shared if cache.pretrained(digest).is_dir()] == [
        digest for digest in shared if cache.pretrained(digest) != gone
    ]


def test_a_model_goes_before_a_checkpoint_and_the_winner_stays(sweep, cache):
    checkpoint = sweep.pretrain(0, 20_000)
    winner = sweep.confirm("best", None, 0.1, model=20_000)
    loser = sweep.confirm("other", None, 0.2, model=20_000)
    Watched(sweep, 60_000).look()
    assert not sweep.paths.run(loser, 1).model.exists()
    assert sweep.paths.run(winner, 1).model.is_dir() and cache.pretrained(checkpoint).is_dir()


def test_between_two_looks_nothing_is_read(sweep, monkeypatch):
    sweep.pretrain(0, 1000)
    watched = Watched(sweep, 10**9, look_seconds=3600.0)
    watched.look()
    monkeypatch.setattr(keeping, "attempt_things", None)
    monkeypatch.setattr(keeping, "size_of", None)
    sweep.search(None, "finished")
    watched.look()


def test_an_item_that_has_ended_is_measured_once(sweep, monkeypatch):
    ended = {sweep.pretrain(0, 1000), sweep.search(None, "finished")}
    running = sweep.search(None, "running", rate=0.25)
    looked = []

    def counted(paths, uid):
        looked.append(uid)
        return attempt_things(paths, uid)

    attempt_things = keeping.attempt_things
    monkeypatch.setattr(keeping, "attempt_things", counted)
    watched = Watched(sweep, 10**9)
    watched.look()
    assert {*looked} == {*ended, running}
    looked.clear()
    watched.look()
    assert looked == [running]


def test_the_last_look_is_not_left_out(sweep, cache):
    checkpoint = sweep.pretrain(0, 50_000, status="running")
    watched = Watched(sweep, 20_000, look_seconds=3600.0)
    watched.look()
    sweep.end(checkpoint, "finished")
    watched.look()
    assert cache.pretrained(checkpoint).is_dir()
    sweep._tell(event="finished")
    watched.look()
    assert not cache.pretrained(checkpoint).exists()


def test_it_counts_what_lies_there(sweep, cache):
    sweep.pretrain(0, 1000)
    sweep.confirm("best", None, 0.1)
    sweep.search(None, "running")
    watched = Watched(sweep, 10**9)
    watched.look()
    assert watched._keeper._held == size_of(sweep.paths.root) + size_of(cache.pretrained("x").parent)


def test_what_cannot_be_deleted_is_told_and_the_sweep_goes_on(sweep, cache, monkeypatch):
    checkpoint = sweep.pretrain(0, 50_000)

    def refused(self, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        watched = Watched(sweep, 20_000)
        watched.look()
        watched.look()
    (warning,) = watched.warnings
    assert warning.startswith("warning: ") and f"{checkpoint}' must be deleted, it cannot be" in warning
