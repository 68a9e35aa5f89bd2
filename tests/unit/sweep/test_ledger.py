"""The ledger: append-only, one writer, whole or refused."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from chembench import __version__
from chembench.config import canonical_json
from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths
from chembench.specs import BaselineSpec, Outcome
from chembench.sweep import locking
from chembench.sweep.ledger import Ledger, line_of, read_events, read_state
from chembench.sweep.locking import at_rest, is_at_rest
from chembench.sweep.state import EVENTS, ItemRecord, orphan_message

BASELINE = BaselineSpec(
    baseline="constant", task="t", task_kind="regression", targets=1, data="d", test_rows="r", sealed="s"
)
UID = BASELINE.digest
OUTCOME = Outcome(
    uid=UID,
    attempt=1,
    kind="baseline",
    status="finished",
    metrics={"objective": 0.1 + 0.2, "test/rmse": 1e-17},
    measured={"wall_seconds": 1.25},
)
FAILED = Outcome(uid=UID, attempt=1, kind="baseline", status="failed", cause="oom", message="too large")
EVERY_EVENT = (
    {"event": "sweep", "name": "one", "space_digest": "abc", "header": {"workers": 2, "note": "é\u2028\r"}},
    {"event": "item", "uid": UID, "spec": BASELINE.canonical(), "cell": None, "labels": {"task": "t"}},
    {"event": "asked", "study": "s", "ordinal": 0, "uid": UID, "params": {"learning_rate": 1e-4}},
    {"event": "started", "uid": UID, "attempt": 1},
    {"event": "lost", "uid": UID, "attempt": 1},
    {"event": "started", "uid": UID, "attempt": 1},
    {"event": "result", "uid": UID, "again": False, "outcome": FAILED.model_dump(mode="json")},
    {"event": "retried", "uid": UID},
    {"event": "started", "uid": UID, "attempt": 1},
    {"event": "result", "uid": UID, "again": False, "outcome": OUTCOME.model_dump(mode="json")},
    {"event": "chosen", "unit": "s", "task": "t", "cell": None, "cell_name": None, "recipe": None, "basis": "b"},
    {"event": "opened", "unit": "s", "task": "t", "cell_name": "c", "recipe": "r", "sealed": "x"},
    {"event": "extended", "unit": "s", "head_seeds": 5},
    {"event": "finished"},
)


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "one")


@pytest.fixture
def whole(paths):
    with Ledger(paths) as ledger:
        for event in EVERY_EVENT:
            ledger.append(event)
    return paths


def test_what_is_appended_is_read_back_equal(whole):
    with Ledger(whole) as ledger:
        assert ledger.state == read_state(whole)
        state = ledger.state
    assert state.items[UID].outcome == OUTCOME and state.items[UID].spec == BASELINE
    assert state.header["note"] == "é\u2028\r" and state.finished and state.events == len(EVERY_EVENT)
    assert state.asked["s"][0].params == {"learning_rate": 1e-4}
    events = [{k: v for k, v in event.items() if k != "at"} for _, event in read_events(whole.ledger)]
    assert canonical_json(events) == canonical_json(list(EVERY_EVENT))
    assert {event["event"] for event in events} == set(EVENTS)


def test_each_event_is_on_the_disk_before_it_counts(paths, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with Ledger(paths) as ledger:
        ledger.append(EVERY_EVENT[0])
        ledger.append(EVERY_EVENT[1])
    lines = paths.ledger.read_bytes().splitlines(keepends=True)
    assert synced == [len(lines[0]), len(lines[0]) + len(lines[1])]


@pytest.mark.parametrize("kept", [1, 30, -2, -1])
def test_a_torn_last_line_is_dropped_and_cut_off_when_the_ledger_is_opened(whole, kept):
    before = whole.ledger.read_bytes()
    lines = before.splitlines(keepends=True)
    whole.ledger.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    torn = whole.ledger.read_bytes()
    assert read_state(whole).events == len(lines) - 1
    assert whole.ledger.read_bytes() == torn, "reading changes nothing"
    with Ledger(whole) as ledger:
        assert not ledger.state.finished
        assert whole.ledger.read_bytes() == b"".join(lines[:-1])
        ledger.append({"event": "finished"})
    assert read_state(whole).finished


@pytest.mark.parametrize("read", [read_state, Ledger])
def test_a_damaged_line_in_the_middle_is_refused_with_its_number_and_nothing_changes(whole, read):
    damaged = whole.ledger.read_bytes().replace(b'"attempt": 1', b'"attempt": 2', 1)
    whole.ledger.write_bytes(damaged)
    with pytest.raises(DataError, match=r"ledger \S+ is damaged in line 4 of 14; restore the file from a copy"):
        read(whole)
    assert whole.ledger.read_bytes() == damaged


NO_EVENTS = {
    "a list": b"[]",
    "a number": b"5",
    "nothing": b"",
    "bytes": b"\xff\xfe",
    "no checksum": b"{}",
    "NaN": b'{"event": NaN, "sum": "x"}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("line", NO_EVENTS.values(), ids=NO_EVENTS.keys())
def test_whatever_stands_in_a_line_it_is_damage_in_the_middle_and_torn_at_the_end(whole, line):
    events, lines = read_state(whole).events, whole.ledger.read_bytes().splitlines(keepends=True)
    whole.ledger.write_bytes(b"".join([*lines, line + b"\n"]))
    assert read_state(whole).events == events
    with Ledger(whole) as ledger:
        assert ledger.state.events == events
    assert whole.ledger.read_bytes() == b"".join(lines)
    whole.ledger.write_bytes(b"".join([*lines[:3], line + b"\n", *lines[3:]]))
    with pytest.raises(DataError, match=r"is damaged in line 4 of 15; restore the file from a copy"):
        read_state(whole)


def test_after_a_refusal_the_lock_is_free(whole):
    good = whole.ledger.read_bytes()
    whole.ledger.write_bytes(b"nonsense\n" + good)
    with pytest.raises(DataError, match="line 1 of 15"):
        Ledger(whole)
    whole.ledger.write_bytes(good)
    Ledger(whole).close()


def test_every_line_carries_a_checksum_that_a_changed_score_breaks(whole):
    lines = whole.ledger.read_text().splitlines()
    assert all(len(json.loads(line)["sum"]) == 8 for line in lines)
    whole.ledger.write_text(whole.ledger.read_text().replace("0.30000000000000004", "0.29"))
    with pytest.raises(DataError, match="line 10 of 14"):
        read_state(whole)


def test_what_a_message_says_of_a_file_whose_name_is_no_utf8_is_read_again(whole):
    message = os.fsdecode(b"no file \xff.csv")
    outcome = OUTCOME.model_copy(update={"message": message}).model_dump(mode="python")
    with whole.ledger.open("ab") as file:
        file.write(line_of({"event": "result", "outcome": {**outcome, "message": message}, "again": False}))
    *_, (_, event) = read_events(whole.ledger)
    assert event["outcome"]["message"] == message


def test_ledgers_of_the_first_form_are_read_and_gone_on_with(whole):
    """Their checksums are of the event's canonical form, not of the bytes of the line."""
    events = [event for _, event in read_events(whole.ledger)]
    sums = [hashlib.sha256(canonical_json(event).encode()).hexdigest()[:8] for event in events]
    lines = [json.dumps({**event, "sum": sum_}) + "\n" for event, sum_ in zip(events, sums, strict=True)]
    assert "".join(lines) != whole.ledger.read_text()
    whole.ledger.write_text("".join(lines))
    with Ledger(whole) as ledger:
        ledger.append({"event": "finished"})
    assert read_state(whole).events == len(events) + 1
    whole.ledger.write_text("".join(lines).replace('"attempt": 1', '"attempt": 2', 1))
    with pytest.raises(DataError, match="is damaged in line 4"):
        read_state(whole)


@pytest.mark.parametrize("name", ["asked_uids", "dreamt", "__init__", None])
def test_an_event_that_this_version_does_not_know_is_refused(whole, name):
    with whole.ledger.open("ab") as file:
        file.write(line_of({"event": name}))
    with pytest.raises(DataError, match=r"line 15: events are sweep, item, .*, got .*; restore the ledger from a copy"):
        read_state(whole)


LATER = {"versions": {"chembench-sweeps": "999.1.0"}}
EARLIER = {"versions": {"chembench-sweeps": "0.0.1"}}


@pytest.mark.parametrize(
    ("header", "way_out"),
    [
        (LATER, rf": chembench 999\.1\.0 wrote the sweep, this is {__version__}; go on with 999\.1\.0 or a later one"),
        (EARLIER, r"; restore the ledger from a copy, nothing was changed"),
        ({}, r"; restore the ledger from a copy, nothing was changed"),
    ],
)
@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"event": "dreamt"}, r"got 'dreamt'"),
        ({**EVERY_EVENT[1], "uid": "f", "spec": {**BASELINE.canonical(), "mood": 1}}, r"baseline\.mood: is not known"),
        (
            {**EVERY_EVENT[6], "outcome": {**FAILED.model_dump(mode="json"), "cause": "tired", "mood": 1}},
            r"cause: input should be .*, got 'tired', mood: is not known",
        ),
    ],
)
def test_what_is_unknown_is_damage_unless_a_later_version_wrote_it(whole, header, way_out, event, told):
    with Ledger(whole) as ledger:
        ledger.append({**EVERY_EVENT[0], "header": header})
    with whole.ledger.open("ab") as file:
        file.write(line_of(event))
    with pytest.raises(DataError, match=rf"line 16: .*{told}{way_out}") as caught:
        read_state(whole)
    assert "\n" not in str(caught.value)


def test_an_event_that_does_not_fit_is_refused_with_its_line(whole):
    with whole.ledger.open("ab") as file:
        file.write(line_of({"event": "started", "uid": "f" * 12, "attempt": 1}))
    with pytest.raises(
        DataError, match=r"line 15: event 'started' does not fit those before it: KeyError 'ffffffffffff'"
    ):
        read_state(whole)


def test_an_item_registered_again_keeps_its_result(whole):
    with Ledger(whole) as ledger:
        ledger.append(EVERY_EVENT[1])
        assert ledger.state.items[UID].outcome == OUTCOME


def test_only_a_failed_item_can_wait_again_and_what_it_lost_is_forgotten(whole):
    with Ledger(whole) as ledger, pytest.raises(DataError, match=rf"'retried' does not fit .* {UID} is finished, not"):
        ledger.append({"event": "retried", "uid": UID})
    other = BASELINE.model_copy(update={"seed": 1})
    lost = FAILED.model_copy(update={"uid": other.digest, "cause": "worker-lost"})
    with Ledger(SweepPaths(whole.root.parent / "two")) as ledger:
        ledger.append({"event": "item", "uid": lost.uid, "spec": other.canonical(), "cell": None, "labels": {}})
        for again in (True, False):
            ledger.append({"event": "started", "uid": lost.uid, "attempt": 1})
            event = {"event": "result", "uid": lost.uid, "again": again, "outcome": lost.model_dump(mode="json")}
            ledger.append(event)
        ledger.append({"event": "finished"})
        item = ledger.state.items[lost.uid]
        assert (item.status, item.losses) == ("failed", 1)
        ledger.append({"event": "retried", "uid": lost.uid})
        assert (item.status, item.losses, item.outcome, item.attempt) == ("waiting", 0, None, 1)
        assert item.is_left and not ledger.state.finished


def test_a_sweep_that_was_begun_again_has_the_last_header_and_all_its_items(whole):
    with Ledger(whole) as ledger:
        ledger.append({"event": "sweep", "name": "one", "space_digest": "wider", "header": {"workers": 3}})
        assert not ledger.state.finished
    state = read_state(whole)
    assert (state.space_digest, state.header) == ("wider", {"workers": 3})
    assert state.items[UID].outcome == OUTCOME and state.asked["s"] and state.choices


def test_an_item_whose_pre_training_failed_is_told_from_one_that_failed_by_itself():
    spec = SimpleNamespace(starts_from="p" * 12, kind="search")
    alone = ItemRecord("u", spec, None, {}, 1, outcome=FAILED, status="failed")
    assert alone.failed_with is None
    message = orphan_message(spec.starts_from) + "too large"
    with_it = ItemRecord(
        "u", spec, None, {}, 1, outcome=FAILED.model_copy(update={"message": message}), status="failed"
    )
    assert with_it.failed_with == spec.starts_from
    with_it.status = "waiting"
    assert with_it.failed_with is None


def test_a_second_driver_is_refused_with_the_pid_of_the_first(whole):
    with Ledger(whole):
        with pytest.raises(ConfigError, match=rf"driven by another process \(pid {os.getpid()}\); wait for it"):
            Ledger(whole)
        assert read_state(whole).finished, "looking at a driven sweep needs no lock"
    Ledger(whole).close()


def test_a_second_driver_in_another_process_is_refused_too(whole):
    code = f"from chembench.sweep.ledger import *; Ledger(SweepPaths(Path({str(whole.root)!r})))"
    with Ledger(whole):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and f"(pid {os.getpid()})" in result.stderr


def test_a_driver_whose_lock_was_removed_writes_nothing_any_more(whole):
    with Ledger(whole) as first:
        whole.lock.unlink()
        with Ledger(whole) as second:
            second.append({"event": "finished"})
            written = whole.ledger.read_bytes()
            told = r"driver.lock was removed or replaced while this one did; leave that file alone, .* chembench resume"
            with pytest.raises(DataError, match=told):
                first.append({"event": "retried", "uid": UID})
            assert whole.ledger.read_bytes() == written
            second.append({"event": "finished"})
    assert read_state(whole).events == len(EVERY_EVENT) + 2


def test_what_somebody_else_wrote_into_a_ledger_is_not_cut_off(whole):
    with Ledger(whole) as ledger:
        with whole.ledger.open("ab") as file:
            file.write(line_of({"event": "finished", "at": 1.0}))
        written = whole.ledger.read_bytes()
        told = r"ledger.jsonl was changed by \+\d+ bytes while this one did; .* make sure that no other one is at work"
        with pytest.raises(DataError, match=told):
            ledger.append({"event": "finished"})
    assert whole.ledger.read_bytes() == written


def test_a_lock_that_is_removed_while_it_is_asked_for_is_not_the_lock(whole, monkeypatch):
    removed = []

    def removing(lock, how):
        flock(lock, how)
        if not removed:
            removed.append(whole.lock.unlink())

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", removing)
    with Ledger(whole), pytest.raises(ConfigError, match="is driven by another process"):
        Ledger(whole)


def test_a_driver_on_another_machine_is_told_with_its_name(whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "gpu-07")
        first = Ledger(whole)
    with first, pytest.raises(ConfigError, match=rf"driven by another process \(pid {os.getpid()} on gpu-07\); wait"):
        Ledger(whole)


def test_a_sweep_at_rest_is_not_driven_meanwhile_and_nothing_is_written_to_it(whole):
    before = {path: path.read_bytes() for path in whole.root.iterdir()}
    with at_rest(whole), pytest.raises(ConfigError, match="is driven by another process"):
        Ledger(whole)
    assert {path: path.read_bytes() for path in whole.root.iterdir()} == before
    with Ledger(whole), pytest.raises(ConfigError, match=rf"driven by another process \(pid {os.getpid()}\)"):
        with at_rest(whole):
            pass
    whole.lock.unlink()
    with at_rest(whole):
        assert not whole.lock.exists()


@pytest.mark.parametrize("name", ["driver.lock", "ledger.jsonl"])
def test_a_sweep_that_cannot_be_written_is_told_and_stays_free(whole, name, monkeypatch):
    as_ever = Path.open

    def read_only(self, mode="r", *arguments, **options):
        if self.name == name and "a" in mode:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        return as_ever(self, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        with pytest.raises(DataError, match=rf"{name} cannot be: Read-only file system; make it writable, then chemb"):
            Ledger(whole)
    Ledger(whole).close()


def test_a_driver_waits_for_those_who_only_look_whether_one_is_at_work(whole, monkeypatch):
    with whole.lock.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert is_at_rest(whole), "two who look do not take each other for a driver"
        monkeypatch.setattr(locking.time, "sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with Ledger(whole):
            assert not is_at_rest(whole)


def test_whoever_keeps_a_sweep_at_rest_is_named(whole, monkeypatch):
    monkeypatch.setattr(locking, "TAKE_SECONDS", 0.0)
    whole.lock.write_text(f"99999999 on {platform.node()}")
    with at_rest(whole), pytest.raises(ConfigError, match=rf"\(pid {os.getpid()}\); wait for it"):
        Ledger(whole)


def test_a_lock_that_may_only_be_read_keeps_a_driver_away_all_the_same(whole, monkeypatch):
    monkeypatch.setattr(locking, "TAKE_SECONDS", 0.0)
    written = whole.lock.read_bytes()

    def read_only(self, mode="r", **how):
        if self == whole.lock and mode == "r+":
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(self, mode, **how)

    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        with at_rest(whole), pytest.raises(ConfigError, match="is driven by another process"):
            Ledger(whole)
    assert whole.lock.read_bytes() == written


def test_a_full_disk_keeps_nobody_from_tidying_up(whole, monkeypatch):
    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with at_rest(whole):
        assert not is_at_rest(whole)


def test_a_folder_without_a_sweep_says_how_to_start_one(tmp_path):
    with pytest.raises(ConfigError, match=r"no sweep in \S+; start one with `chembench sweep`"):
        read_state(SweepPaths(tmp_path / "nothing"))


def test_nan_never_enters_the_ledger(paths):
    with Ledger(paths) as ledger, pytest.raises(ValueError, match="not JSON compliant"):
        ledger.append({"event": "sweep", "name": "x", "space_digest": "", "header": {"score": float("nan")}})
    assert paths.ledger.read_bytes() == b""


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"needs a folder that can be written, got .*; choose another with --out"):
        Ledger(SweepPaths(tmp_path / "file" / "sweep"))
