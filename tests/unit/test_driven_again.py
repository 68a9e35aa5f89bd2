"""A finished sweep that is to be driven otherwise from now on: it is written down, and nothing is carried out."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from kept_sweeps import SPACE, begun, carried_out
from sweep_fakes import drive, engine_on, paths_in, prepared_for

import chembench
from chembench import driver
from chembench.errors import ConfigError
from chembench.header import places_of
from chembench.sweep.ledger import read_state

TRACKED = []


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The folder of a finished sweep; nothing may be carried out, nobody is asked for a machine."""
    monkeypatch.setattr(driver, "inputs_of", lambda *_: prepared_for(SPACE))
    monkeypatch.setattr(driver, "_tracked", lambda settings, view: TRACKED.append(settings) or nullcontext())
    monkeypatch.setattr(driver.RUNNERS, "load", lambda name: pytest.fail("a runner was started"))
    TRACKED.clear()
    with begun(tmp_path) as ledger:
        drive(engine_on(SPACE, ledger), carried_out)
    paths = paths_in(tmp_path)
    places = places_of(read_state(paths)).model_copy(update={"runner": "serial"})
    driver.drive(driver.Drive(space=SPACE, paths=paths, places=places, show_progress=False))
    return paths


@pytest.mark.parametrize(
    "changed",
    [
        {"tracking_uri": "http://127.0.0.1:9"},
        {"max_concurrent": 1},
        {"ray_address": "auto"},
        {"keep": "20GB"},
        {"cache_dir": "other"},
        {"data_dir": "other"},
        {"storage": "storage"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_is_given_is_written_down_also_where_nothing_is_left(finished, tmp_path, changed):
    before = places_of(read_state(finished)).model_dump()
    changed = {
        name: str(tmp_path / value) if value in ("other", "storage") else value for name, value in changed.items()
    }
    chembench.resume(finished.root, show_progress=False, **changed)
    state = read_state(finished)
    now = places_of(state).model_dump()
    assert state.finished and len(TRACKED) == 2, "at the end of the sweep, and now"
    assert [name for name in now if now[name] != before[name]] == [
        name.replace("keep", "keep_bytes") for name in changed
    ]
    events = state.events
    chembench.resume(finished.root, show_progress=False, **changed)
    chembench.resume(finished.root, show_progress=False)
    assert read_state(finished).events == events and len(TRACKED) == 2


def test_what_cannot_be_used_is_refused_and_not_written_down(finished, tmp_path):
    (tmp_path / "file").write_text("in the way")
    before = finished.ledger.read_bytes()
    for changed in ({"cache_dir": tmp_path / "file" / "cache"}, {"storage": "nonsense://there"}):
        with pytest.raises(ConfigError):
            chembench.resume(finished.root, show_progress=False, **changed)
    assert finished.ledger.read_bytes() == before


def test_the_same_command_with_other_defaults_moves_nothing(finished, tmp_path):
    """Such as without the environment variable of the cache, or without --runner."""
    before = finished.ledger.read_bytes()
    places = places_of(read_state(finished)).model_copy(
        update={"cache_dir": str(tmp_path / "other"), "data_dir": str(tmp_path / "other"), "runner": "serial"}
    )
    settings = driver.Drive(space=SPACE, paths=finished, places=places, show_progress=False)
    driver.drive(settings)
    assert finished.ledger.read_bytes() == before and not (tmp_path / "other").exists()
    driver.drive(replace(settings, places=places.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})))
    assert places_of(read_state(finished)).tracking_uri == "http://127.0.0.1:9"
    assert places_of(read_state(finished)).runner == "ray" and not (tmp_path / "other").exists()


def test_boards_are_written_where_the_cache_cannot_be(finished, tmp_path, monkeypatch, capsys):
    def refused(cache, paths):
        raise ConfigError("a sweep notes itself in its cache, it cannot be written")

    monkeypatch.setattr(driver, "register", refused)
    for file in finished.leaderboards.iterdir():
        file.unlink()
    chembench.resume(finished.root, show_progress=False)
    assert list(finished.leaderboards.iterdir())
    assert "warning: a sweep notes itself in its cache" in capsys.readouterr().err
