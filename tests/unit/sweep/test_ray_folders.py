"""What Ray leaves in the temporary folder goes when nobody uses it any more, and not before."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from chembench.sweep import ray_folders
from chembench.sweep.ray_folders import LOCK, RAY, TUNE, clear_ray_folders, ray_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by_a_killed_process(kind: str) -> Path:
    code = (
        "import os, sys, tempfile; from chembench.sweep.ray_folders import ray_folder; tempfile.tempdir = sys.argv[1]\n"
        f"with ray_folder({kind!r}) as folder: print(folder, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, tempfile.gettempdir()]
    folder = Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
    (folder / "session").mkdir()
    return folder


def test_a_folder_is_removed_when_its_block_ends_whatever_it_ends_with(temporary):
    with pytest.raises(ConnectionError), ray_folder(RAY) as folder:
        (Path(folder) / "session").mkdir()
        raise ConnectionError
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", [RAY, TUNE])
def test_a_folder_of_a_killed_process_goes_at_the_next_start(kind):
    folder = left_by_a_killed_process(kind)
    assert (folder / LOCK).is_file()
    clear_ray_folders()
    assert not folder.exists()


def test_a_folder_of_a_sweep_at_work_and_what_is_not_ours_stay(temporary, monkeypatch):
    left, foreign = left_by_a_killed_process(RAY), temporary / "ray_session"
    foreign.mkdir()
    with ray_folder(RAY) as one, ray_folder(TUNE) as two:
        clear_ray_folders()
        assert Path(one).is_dir() and Path(two).is_dir() and foreign.is_dir() and not left.exists()
    left = left_by_a_killed_process(RAY)
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    clear_ray_folders()
    assert left.is_dir()


def test_a_folder_that_a_living_ray_uses_stays_although_its_driver_is_dead():
    folder = left_by_a_killed_process(RAY)
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", f"--temp_dir={folder}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as raylet:
        raylet.stdout.readline()
        clear_ray_folders()
        assert folder.is_dir()
        raylet.stdin.close()
    clear_ray_folders()
    assert not folder.exists()


def test_a_folder_that_its_process_removes_meanwhile_is_passed_over(temporary, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [temporary / pattern.replace("*", "gone")])
    clear_ray_folders()
    assert list(temporary.iterdir()) == []


def test_a_folder_of_an_earlier_version_goes_after_a_day_and_one_that_is_being_made_stays(temporary):
    old, new = temporary / f"{RAY}old", temporary / f"{RAY}new"
    for folder, age in ((old, 1.1 * ray_folders.UNLOCKED_SECONDS), (new, 0.0)):
        folder.mkdir()
        os.utime(folder, (time.time() - age, time.time() - age))
    clear_ray_folders()
    assert not old.exists() and new.is_dir()


@pytest.mark.parametrize("kind", [RAY, TUNE])
def test_a_folder_of_an_earlier_version_stays_while_something_deep_in_it_changes(temporary, kind):
    folder, long_ago = temporary / f"{kind}old", time.time() - 1.1 * ray_folders.UNLOCKED_SECONDS
    state = folder / "experiment" / "state.json"
    state.parent.mkdir(parents=True)
    state.touch()
    for path in (state.parent, folder):
        os.utime(path, (long_ago, long_ago))
    clear_ray_folders()
    assert state.is_file()
    os.utime(state, (long_ago, long_ago))
    clear_ray_folders()
    assert not folder.exists()
