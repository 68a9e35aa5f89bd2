"""A disk without space: the ledger stays whole, the sweep can go on from where it stood."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from sweep_fakes import drive, engine_on, essence, grid_space, opened, paths_in, swept

from chembench.errors import DataError, DiskFullError
from chembench.paths import SweepPaths
from chembench.sweep.ledger import Ledger, read_events, read_state

HEADER = {"event": "sweep", "name": "one", "space_digest": "d", "header": {"text": "x" * 300}}


class Stingy:
    """The ledger's file on a device that takes ``room`` more bytes; it can refuse to be cut, too."""

    def __init__(self, file, room, number=errno.ENOSPC, can_be_cut=True):
        self._file, self.room, self._number, self.can_be_cut = file, room, number, can_be_cut

    def write(self, data):
        if self.room <= 0:
            raise OSError(self._number, os.strerror(self._number))
        taken = self._file.write(data[: self.room])
        self.room -= taken
        return taken

    def truncate(self, size):
        if not self.can_be_cut:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.truncate(size)

    def fileno(self):
        return self._file.fileno()

    def close(self):
        self._file.close()


@contextmanager
def stingy_ledger(paths, room, **how):
    with Ledger(paths) as ledger:
        ledger.append(HEADER)
        ledger._file = Stingy(ledger._file, room, **how)
        yield ledger, paths.ledger.read_bytes()


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "one")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 1, 200])
def test_an_event_without_space_leaves_whole_lines_and_did_not_happen(paths, room, number):
    with stingy_ledger(paths, room, number=number) as (ledger, before):
        with pytest.raises(DiskFullError) as caught:
            ledger.append(HEADER)
        assert paths.ledger.read_bytes() == before and ledger.state.events == 1
        ledger._file.room = 10_000
        ledger.append({"event": "finished"})
    assert [event["event"] for _, event in read_events(paths.ledger)] == ["sweep", "finished"]
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        f"every event of a sweep must be written down, no space is left for {paths.ledger}; "
        f"free some space, or chembench gc; then chembench resume {paths.root}"
    )


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.ENOSPC, DiskFullError, "free some space, or chembench gc; then give the same command again"),
        (errno.EIO, DataError, "cannot be: Input/output error; make it writable, then give the same command again"),
    ],
)
def test_a_sweep_without_its_first_event_is_begun_again_by_the_same_command(paths, number, kind, told):
    with Ledger(paths) as ledger:
        ledger._file = Stingy(ledger._file, 100, number=number)
        with pytest.raises(kind, match=rf"{told}$"):
            ledger.append(HEADER)


def test_a_torn_line_that_cannot_be_cut_off_is_dropped_by_the_next_start(paths):
    with stingy_ledger(paths, 100, can_be_cut=False) as (ledger, before):
        with pytest.raises(DiskFullError, match="no space is left"):
            ledger.append(HEADER)
        assert len(paths.ledger.read_bytes()) == len(before) + 100
        ledger._file.room = 10_000
        with pytest.raises(DataError, match="cannot be: Input/output error; make it writable, then chembench resume"):
            ledger.append(HEADER)
        assert len(paths.ledger.read_bytes()) == len(before) + 100, "nothing is written behind a torn line"
    assert read_state(paths).events == 1
    with Ledger(paths) as ledger:
        assert paths.ledger.read_bytes() == before
        ledger.append({"event": "finished"})
    assert read_state(paths).finished


def test_a_torn_line_is_cut_off_before_the_next_event_of_the_same_driver(paths):
    with stingy_ledger(paths, 100, can_be_cut=False) as (ledger, before):
        with pytest.raises(DiskFullError):
            ledger.append(HEADER)
        ledger._file.room, ledger._file.can_be_cut = 10_000, True
        ledger.append({"event": "finished"})
    assert paths.ledger.read_bytes().startswith(before) and read_state(paths).finished


def test_an_event_that_the_device_did_not_keep_did_not_happen(paths, monkeypatch):
    with Ledger(paths) as ledger:
        ledger.append(HEADER)
        before = paths.ledger.read_bytes()

        def no_space(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            with pytest.raises(DiskFullError):
                ledger.append(HEADER)
        assert paths.ledger.read_bytes() == before and ledger.state.events == 1


def test_a_limit_on_the_size_of_files_is_told_and_the_ledger_stays_whole(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from chembench.errors import DataError
from chembench.paths import SweepPaths
from chembench.sweep.ledger import Ledger
event = {"event": "sweep", "name": "one", "space_digest": "d", "header": {"text": "x" * 300}}
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
with Ledger(SweepPaths(Path(sys.argv[1]))) as ledger:
    try:
        while True:
            ledger.append(event)
    except DataError as error:
        print(ledger.state.events, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one")], capture_output=True, text=True, check=True
    )
    events, _, told = done.stdout.partition(" ")
    assert "cannot be: File too large; make it writable, then chembench resume" in told
    assert read_state(SweepPaths(tmp_path / "one")).events == int(events) >= 1
    assert (tmp_path / "one" / "ledger.jsonl").read_bytes().endswith(b"\n")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system can be mounted by root alone")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_sweep_on_a_full_file_system_goes_on_once_there_is_space(tmp_path, small_disk):
    space = grid_space(tasks=["freewilson_pic50"])
    folder = small_disk / "work"
    ballast = small_disk / "ballast"
    with opened(space, folder):
        pass
    ballast.write_bytes(b"x" * (256 * 1024 - 40 * 1024))
    with opened(space, folder) as ledger, pytest.raises(DiskFullError, match="no space is left for"):
        drive(engine_on(space, ledger))
    begun = read_state(paths_in(folder))
    assert begun.events > 3 and not begun.finished
    assert paths_in(folder).ledger.read_bytes().endswith(b"\n"), "the torn line is cut off"
    ballast.unlink()
    state, works = swept(space, folder)
    assert not {item.uid for item in begun.items.values() if item.is_final} & {work.uid for work in works}
    assert essence(state) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_a_sweep_cannot_be_taken_up_while_there_is_no_space_for_its_lock(small_disk):
    paths = SweepPaths(small_disk / "one")
    with Ledger(paths) as ledger:
        ledger.append(HEADER)
    paths.lock.write_bytes(b"")
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "ballast").write_bytes(b"x" * free)
    with pytest.raises(DiskFullError, match=r"no space is left for .*; free some space, or chembench gc"):
        Ledger(paths)
    (small_disk / "ballast").unlink()
    Ledger(paths).close()
