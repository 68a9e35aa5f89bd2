"""Who holds a sweep leaves alone what is not its own, and who waits for it gets it."""

import errno

import pytest

from chembench.errors import DataError
from chembench.paths import SweepPaths
from chembench.sweep.ledger import Ledger

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
