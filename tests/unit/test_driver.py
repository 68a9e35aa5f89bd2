"""How a driver goes on with what a ledger says, and what it refuses before it writes anything."""

import dataclasses
import errno
import os
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import tomli_w
from sweep_fakes import engine_on, failed, grid_space, opened, paths_in

from chembench import driver, outputs
from chembench.driver import Drive, carry_out, drive, going_on
from chembench.errors import ConfigError, DiskFullError
from chembench.header import Places, space_of, write_header
from chembench.paths import CachePaths, SweepPaths, as_written
from chembench.register import register, registered
from chembench.sweep import serial_runner
from chembench.sweep.ledger import Ledger, read_state
from chembench.sweep.reading import read_space
from chembench.sweep.shard import Shard
from chembench.tracking import mlflow_sync
from chembench.tracking.uploader import SyncReport

PLACES = Places(cache_dir="/cache", data_dir="/raw", runner="serial", max_concurrent=1, storage="file:///between")
NOTHING_PREPARED = SimpleNamespace(digests=dict, tasks={}, corpus=None, replayed=None)


@pytest.fixture
def begun(tmp_path) -> SweepPaths:
    """The folder of a shard that was begun and is finished."""
    paths = SweepPaths(tmp_path / "sweeps" / "part")
    space = read_space("full_grid_tiny", ["search.trials=3"])
    with Ledger(paths) as ledger:
        write_header(ledger, space, NOTHING_PREPARED, PLACES, Shard(2, 3), ("chembench", "sweep"))
        ledger.append({"event": "finished"})
    return paths


def test_everything_is_taken_from_the_ledger(begun):
    settings = going_on(begun, read_state(begun))
    assert settings.space.digest == read_space("full_grid_tiny", ["search.trials=3"]).digest
    assert (settings.places, settings.shard) == (PLACES, Shard(2, 3))
    assert settings.command == ("chembench", "sweep") and settings.show_progress


def test_what_is_given_stands_instead(begun):
    changed = {"cache_dir": "/other", "max_concurrent": 4}
    settings = going_on(begun, read_state(begun), overrides=["confirm.head_seeds=9"], changed=changed)
    assert settings.places == PLACES.model_copy(update=changed)
    assert settings.space.confirm.head_seeds == 9 and settings.space.search.trials == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shard": None}, r"is shard 2/3, it cannot go on as a whole sweep; give --shard as it began"),
        ({"shard": Shard(1, 3)}, r"is shard 2/3, it cannot go on as shard 1/3"),
        ({"overrides": ["seed=9"]}, r"was started with another space.*\nseed: 0 there, 9 here$"),
    ],
)
def test_another_sweep_is_refused_although_this_one_is_finished(begun, settings, told):
    before = begun.ledger.read_bytes()
    going = going_on(begun, read_state(begun), overrides=settings.pop("overrides", ()))
    with pytest.raises(ConfigError, match=told):
        drive(dataclasses.replace(going, **settings))
    assert begun.ledger.read_bytes() == before
    assert sorted(path.name for path in begun.root.iterdir()) == [
        "driver.lock", "environment.json", "ledger.jsonl", "space.toml",
    ]  # fmt: skip


def test_a_finished_sweep_that_was_renamed_is_noted_where_it_lies_when_it_is_resumed(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "write_boards", lambda paths: None)
    cache = CachePaths(tmp_path / "cache")
    with Ledger(begun) as ledger:
        places = PLACES.model_copy(update={"cache_dir": str(cache.root)})
        write_header(ledger, space_of(ledger.state), NOTHING_PREPARED, places, Shard(2, 3), ())
        ledger.append({"event": "finished"})
    register(cache, begun)
    renamed = SweepPaths(begun.root.rename(begun.root.with_name("renamed")))
    drive(dataclasses.replace(going_on(renamed, read_state(renamed)), show_progress=False))
    assert {use.name: use.is_gone for use in registered(cache)} == {"part": True, "renamed": False}


@pytest.mark.parametrize(
    ("merged", "was_sent", "times"), [(["merged"], False, 1), (["merged"], True, 0), ([], False, 0)]
)
def test_a_merged_sweep_that_is_done_is_sent_to_mlflow_when_it_is_resumed(
    begun, tmp_path, monkeypatch, merged, was_sent, times
):
    calls = []

    def send(root, uri, seconds):
        calls.append((root, uri))
        return SyncReport(1, 2, "2 runs are not sent")

    monkeypatch.setattr(outputs, "write_boards", lambda paths: None)
    monkeypatch.setattr(driver, "register", lambda cache, paths: None)
    monkeypatch.setattr(mlflow_sync, "send_rest", send)
    with Ledger(begun) as ledger:
        header = {**ledger.state.header, **{key: [] for key in merged}}
        ledger.append({"event": "sweep", "name": "part", "space_digest": ledger.state.space_digest, "header": header})
        ledger.append({"event": "finished"})
    if was_sent:
        begun.sent.touch()
    drive(going_on(begun, read_state(begun), show_progress=False))
    assert calls == [(begun.root, None)] * times


def refused(*given):
    raise DiskFullError("no space left")


def refused_by_ray(space, places, paths, *given):
    paths.ray_log.parent.mkdir()
    paths.ray_log.write_text("(raylet) a worker died")
    raise DiskFullError("no space left")


@pytest.mark.parametrize(
    ("where", "refused"), [("inputs_of", refused), ("inputs_of", refused_by_ray), ("write_header", refused)]
)
def test_a_sweep_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch, where, refused):
    paths, space = SweepPaths(tmp_path / "sweeps" / "one"), read_space("full_grid_tiny")
    places = PLACES.model_copy(update={"cache_dir": str(tmp_path / "cache"), "storage": None})
    monkeypatch.setattr(driver, "inputs_of", lambda *given: NOTHING_PREPARED)
    monkeypatch.setattr(driver, where, refused)
    with pytest.raises(DiskFullError), driver.opened(Drive(space, paths, places), print):
        pass
    assert list(paths.root.parent.iterdir()) == []
    (tmp_path / "sweeps" / "one").mkdir()
    (tmp_path / "sweeps" / "one" / "notes").write_text("mine")
    with pytest.raises(DiskFullError), driver.opened(Drive(space, paths, places), print):
        pass
    assert [path.name for path in paths.root.iterdir()] == ["notes"]


@pytest.mark.parametrize("name", ["space.toml", "environment.json"])
def test_a_sweep_that_cannot_begin_leaves_what_it_found(tmp_path, monkeypatch, name):
    paths, space = SweepPaths(tmp_path / "sweeps" / "one"), read_space("full_grid_tiny")
    paths.root.mkdir(parents=True)
    (paths.root / name).write_text(tomli_w.dumps(space.as_data()))
    before = (paths.root / name).read_bytes()
    places = PLACES.model_copy(update={"cache_dir": str(tmp_path / "cache"), "storage": None})
    monkeypatch.setattr(driver, "inputs_of", refused)
    with pytest.raises(DiskFullError), driver.opened(Drive(space, paths, places), print):
        pass
    assert {path.name: path.read_bytes() for path in paths.root.iterdir()} == {name: before}


def test_a_space_that_somebody_keeps_in_the_folder_is_neither_replaced_nor_removed(tmp_path, monkeypatch):
    paths = SweepPaths(tmp_path / "sweeps" / "one")
    paths.root.mkdir(parents=True)
    paths.space.write_text("# mine\n" + tomli_w.dumps(read_space("full_grid_tiny").as_data()))
    before = paths.space.read_bytes()
    told = r"another file is there already: \S+/one/space\.toml; move it elsewhere, or give the sweep another --name"
    monkeypatch.setattr(driver, "register", refused)
    with pytest.raises(ConfigError, match=told):
        with driver.opened(Drive(read_space(str(paths.space)), paths, PLACES), print):
            pass
    assert {path.name: path.read_bytes() for path in paths.root.iterdir()} == {"space.toml": before}


def test_a_disk_too_full_for_the_lock_leaves_no_folder(tmp_path, monkeypatch):
    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFullError, match="no space is left"):
        Ledger(SweepPaths(tmp_path / "one"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["inputs_of", "write_header"])
def test_a_sweep_that_has_begun_keeps_everything_when_a_start_is_refused(begun, tmp_path, monkeypatch, where):
    before = {path.name: path.read_bytes() for path in begun.root.iterdir()}
    monkeypatch.setattr(driver, "inputs_of", lambda *given: NOTHING_PREPARED)
    monkeypatch.setattr(driver, "register", lambda cache, paths: None)
    monkeypatch.setattr(driver, "open_exchange", lambda *given: nullcontext(None))
    monkeypatch.setattr(driver, where, refused)
    with pytest.raises(DiskFullError), driver.opened(going_on(begun, read_state(begun)), print):
        pass
    assert {path.name: path.read_bytes() for path in begun.root.iterdir()} == before


@pytest.mark.parametrize(("free", "ran"), [(2**40, 1), (2**20, 0)])
def test_one_item_that_finds_no_space_is_tried_once_and_waits_again(tmp_path, monkeypatch, free, ran):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        engine, works = engine_on(space, ledger), []
        monkeypatch.setattr(driver, "opened", lambda *given: nullcontext((engine, None)))
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))

        def full(work):
            assert not works, "it is tried for ever"
            works.append(work)
            no_space = {"cause": "preempted", "measured": {"disk_full": True}, "message": "no space left on a device"}
            return failed(work).model_copy(update=no_space)

        monkeypatch.setattr(serial_runner, "run_item", full)
        uid = next(uid for uid, item in engine.state.items.items() if item.kind == "baseline")
        with pytest.raises(DiskFullError, match="no space left on a device" if ran else "64 MiB must be free"):
            carry_out(Drive(space, paths_in(tmp_path), PLACES), uid)
        assert len(works) == ran and engine.state.items[uid].status == "waiting"


def test_a_folder_is_written_as_a_person_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(as_written(tmp_path / "sweeps" / "one")) == "sweeps/one"
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert as_written(tmp_path / "sweeps" / "one") == tmp_path / "sweeps" / "one"
