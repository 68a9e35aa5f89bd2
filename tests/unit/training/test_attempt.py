import os
import pickle
import warnings
import zipfile

import pytest
import torch

from chembench.errors import DataError, DiskFullError, RunError
from chembench.training import attempt as module
from chembench.training.attempt import Attempt, StopFile, load_state, save_state
from chembench.training.pretrain import PretrainState


def state(digest="abc", step=3):
    return PretrainState(
        digest=digest,
        step=step,
        loss_sum=1.5,
        labels=4,
        rng=[torch.get_rng_state()],
        model={"a": torch.ones(2000)},
        optimiser={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        curve=[{"epoch": 1.0}],
        kept=[],
        halvings=0,
        token_budget=4096,
    )


class Trap:
    """Writes a file if anyone unpickles it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


# ---- states ----


def test_a_state_comes_back(tmp_path):
    save_state(tmp_path / "resume.pt", state())
    found = load_state(tmp_path / "resume.pt", PretrainState, "abc")
    assert (found.step, found.loss_sum, found.labels, found.curve) == (3, 1.5, 4, [{"epoch": 1.0}])
    assert torch.equal(found.model["a"], torch.ones(2000)) and torch.equal(found.rng[0], state().rng[0])
    assert found.optimiser["param_groups"] == [{"lr": 0.1, "params": [0]}]


def test_nothing_in_a_state_is_unpickled(tmp_path):
    for name, write in {
        "torch": lambda file: torch.save({"digest": Trap(tmp_path / "sprung")}, file),
        "plain": lambda file: file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung"))),
    }.items():
        write(tmp_path / name)
        with pytest.raises(DataError, match=r"must be the state of a stopped item .*; delete it"):
            load_state(tmp_path / name, PretrainState, "abc")
    assert not (tmp_path / "sprung").exists()


def test_a_broken_or_foreign_state_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    torch.save({"digest": "abc", "format": 1}, tmp_path / "partial")
    torch.save([1], tmp_path / "list")
    torch.save({"digest": "abc"}, tmp_path / "nameless")
    save_state(tmp_path / "whole", state())
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    for name in ("empty", "partial", "list", "nameless", "cut"):
        with pytest.raises(DataError, match="must be the state of a stopped item"):
            load_state(tmp_path / name, PretrainState, "abc")
    save_state(tmp_path / "other", state("def"))
    with pytest.raises(DataError, match="must belong to item abc, it belongs to def; delete it"):
        load_state(tmp_path / "other", PretrainState, "abc")


def test_the_state_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 0)
    save_state(tmp_path / "old", state())
    monkeypatch.undo()
    with pytest.raises(DataError, match="written by another version of chembench"):
        load_state(tmp_path / "old", PretrainState, "abc")


def test_one_flipped_bit_in_a_weight_is_seen(tmp_path):
    file = tmp_path / "resume.pt"
    save_state(file, state())
    with zipfile.ZipFile(file) as archive:
        place = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(file.read_bytes())
    at = content.find(bytes(torch.ones(100).numpy().tobytes())) + 200
    assert place.file_size >= 8000 and at > 200
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"must be the state of a stopped item \(.*is damaged\)"):
        load_state(file, PretrainState, "abc")


# ---- which state is gone on from ----


def test_the_newest_state_that_can_be_read_is_taken_and_the_others_are_told(tmp_path):
    files = [tmp_path / f"{number}.pt" for number in (4, 3, 2, 1)]
    files[1].write_bytes(b"torn")
    for file, step in ((files[2], 20), (files[3], 10)):
        save_state(file, state(step=step))
    attempt = Attempt(resume_from=files)
    assert attempt.newest(PretrainState, "abc").step == 20
    assert attempt.measured["resumed_at_step"] == 20
    assert attempt.measured["refused_state"].startswith(f"{files[1]} must be the state of a stopped item (")


def test_where_no_state_can_be_read_the_item_starts_from_the_beginning(tmp_path):
    files = [tmp_path / "2.pt", tmp_path / "1.pt"]
    files[0].write_bytes(b"torn")
    save_state(files[1], state("def"))
    attempt = Attempt(resume_from=files)
    assert attempt.newest(PretrainState, "abc") is None
    assert attempt.measured["resumed_at_step"] == 0
    assert "2.pt must be the state" in attempt.measured["refused_state"]
    assert "1.pt must belong to item abc" in attempt.measured["refused_state"]


# ---- when a state is kept ----


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def at(attempt, step, starts_epoch=False):
    attempt.border(step, 1, lambda: state(step=step), starts_epoch=starts_epoch)


def kept_step(file):
    return load_state(file, PretrainState, "abc").step if file.exists() else None


def test_a_short_training_writes_no_state(tmp_path, clock):
    attempt = Attempt(tmp_path / "resume.pt", clock=clock)
    for step in range(60):
        clock.now += 0.9
        at(attempt, step, starts_epoch=step % 5 == 0)
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_kept_at_epoch_starts_after_a_minute_and_anywhere_after_five(tmp_path, clock):
    attempt = Attempt(tmp_path / "resume.pt", clock=clock)
    clock.now += 61
    at(attempt, 7)
    assert kept_step(attempt.resume) is None
    at(attempt, 8, starts_epoch=True)
    assert kept_step(attempt.resume) == 8
    clock.now += 59
    at(attempt, 9, starts_epoch=True)
    assert kept_step(attempt.resume) == 8
    clock.now += 250
    at(attempt, 10)
    assert kept_step(attempt.resume) == 10
    assert load_state(attempt.resume, PretrainState, "abc").seconds == 370.0


def test_a_state_that_takes_long_to_write_is_written_more_rarely(tmp_path, clock):
    attempt = Attempt(tmp_path / "resume.pt", clock=clock)

    def slow(step):
        clock.now += 10
        return state(step=step)

    for seconds, step, expected in ((61, 1, 1), (199, 2, 1), (2, 3, 3)):
        clock.now += seconds
        attempt.border(step, 1, lambda step=step: slow(step), starts_epoch=True)
        assert kept_step(attempt.resume) == expected


def test_time_is_counted_over_all_attempts(tmp_path, clock):
    first = Attempt(tmp_path / "1.pt", stop=lambda: True, clock=clock)
    clock.now += 30
    with pytest.raises(RunError):
        at(first, 5)
    second = Attempt(tmp_path / "2.pt", [tmp_path / "1.pt"], stop=lambda: True, clock=clock)
    assert second.newest(PretrainState, "abc").seconds == second.earlier_seconds == 30.0
    assert second.measured["earlier_seconds"] == 30.0
    clock.now += 12
    with pytest.raises(RunError):
        at(second, 9)
    assert load_state(tmp_path / "2.pt", PretrainState, "abc").seconds == 42.0


# ---- stopping ----


def test_an_attempt_that_is_asked_to_stop_keeps_its_state_and_says_where(tmp_path):
    attempt = Attempt(tmp_path / "resume.pt", stop=lambda: True)
    with pytest.raises(
        RunError, match="stopped as asked after 1,234 optimiser steps, in epoch 1; the next attempt goes on there"
    ) as told:
        at(attempt, 1234)
    assert told.value.cause == "preempted"
    assert attempt.measured == {"stopped_at_step": 1234, "stopped_in_epoch": 1}
    assert kept_step(attempt.resume) == 1234


def test_a_stop_before_anything_was_done_writes_nothing(tmp_path):
    save_state(tmp_path / "1.pt", state(step=20))
    for earlier, step in (([], 0), ([tmp_path / "1.pt"], 20)):
        attempt = Attempt(tmp_path / "2.pt", earlier, stop=lambda: True)
        attempt.newest(PretrainState, "abc")
        with pytest.raises(RunError, match="stopped as asked"):
            at(attempt, step)
        assert not attempt.resume.exists()


def test_a_state_that_finds_no_space_leaves_the_older_one(tmp_path, monkeypatch):
    attempt = Attempt(tmp_path / "resume.pt", stop=lambda: True)
    save_state(attempt.resume, state(step=1))

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFullError, match=f"no space left on the device that holds {tmp_path};"):
        at(attempt, 2)
    assert kept_step(attempt.resume) == 1
    assert list(tmp_path.iterdir()) == [attempt.resume]


class FullFile:
    """A file on a full disk."""

    def write(self, content):
        raise OSError(28, "No space left on device")

    def flush(self):
        """As torch asks for."""

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return None


def test_torchs_own_writer_tells_a_full_disk_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module.Path, "open", lambda path, mode: FullFile())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DiskFullError, match="no space left on the device"):
            save_state(tmp_path / "resume.pt", state())
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_the_stop_file_is_looked_for_once_a_second_and_then_believed(tmp_path):
    now = [0.0]
    stop = StopFile(tmp_path / "stop", clock=lambda: now[0])
    assert not stop()
    (tmp_path / "stop").touch()
    now[0] = 0.99
    assert not stop()
    now[0] = 1.0
    assert stop()
    (tmp_path / "stop").unlink()
    now[0] = 5.0
    assert stop()
