"""Who holds a sweep leaves alone what is not its own, and who waits for it gets it."""

import errno
import fcntl

import pytest

from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths
from chembench.sweep import locking
from chembench.sweep.ledger import Ledger
from chembench.sweep.locking import leave_nothing

BEGUN = {"event": "sweep", "name": "one", "space_digest": "abc", "header": {}}


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "one")


def failing(*given):
    raise OSError(errno.EIO, "Input/output error")


def taken_over(paths):
    """What the ledger holds when its lock was removed and another process has driven the sweep."""
    paths.lock.unlink()
    with Ledger(paths) as second:
        second.append({"event": "finished"})
    return paths.ledger.read_bytes()


def test_a_driver_that_lost_its_lock_while_it_wrote_cuts_off_nothing_of_another(paths, monkeypatch):
    written = []

    def torn(line):
        first._file.write(line[:5])
        written.append(taken_over(paths))
        failing()

    with Ledger(paths) as first:
        first.append(BEGUN)
        monkeypatch.setattr(first, "_write", torn)
        with pytest.raises(DataError, match="cannot be: Input/output error"):
            first.append({"event": "finished"})
    assert [paths.ledger.read_bytes()] == written


def test_a_driver_that_lost_its_lock_after_a_torn_line_cuts_off_nothing_of_another(paths, monkeypatch):
    with Ledger(paths) as first:
        first.append(BEGUN)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "_write", lambda ledger, line: failing(ledger._file.write(line[:5])))
            patch.setattr(Ledger, "_cut", failing)
            with pytest.raises(DataError, match="cannot be: Input/output error"):
                first.append({"event": "finished"})
        written = taken_over(paths)
        with pytest.raises(DataError, match=r"driver\.lock was removed or replaced"):
            first.append({"event": "finished"})
    assert paths.ledger.read_bytes() == written


def test_a_start_that_waits_for_one_that_cannot_begin_makes_its_folder_again(paths, monkeypatch):
    first = Ledger(paths)

    def ends(seconds):
        if not first._file.closed:
            leave_nothing(paths, made=())
            assert not paths.root.exists()
            first.close()

    monkeypatch.setattr(locking.time, "sleep", ends)
    with Ledger(paths) as second:
        second.append(BEGUN)
        assert first._file.closed and not locking.is_at_rest(paths)
    assert paths.ledger.stat().st_size > 0


def test_a_holder_that_has_just_removed_its_lock_is_told_as_unknown(paths, monkeypatch):
    def taken_and_removed(lock, how):
        paths.lock.unlink(missing_ok=True)
        raise BlockingIOError

    monkeypatch.setattr(locking, "TAKE_SECONDS", 0.0)
    monkeypatch.setattr(fcntl, "flock", taken_and_removed)
    with pytest.raises(ConfigError, match=r"sweep one is driven by another process \(pid unknown\); wait for it"):
        Ledger(paths)
