"""A folder of boards that cannot be written is told, and changes nothing about how a sweep ends."""

from types import SimpleNamespace

import pytest
from kept_sweeps import SPACE, begun, carried_out
from sweep_fakes import drive, engine_on, paths_in

from chembench import driver
from chembench.driver import Drive
from chembench.errors import InterruptedSweepError
from chembench.header import Places, places_of
from chembench.paths import write_json
from chembench.sweep.running import RunnerOptions

TOLD = "warning: boards are written to {0.leaderboards} and {0.reports}, not all of them could be ("


@pytest.fixture
def swept(tmp_path):
    """The folder of a finished sweep, and its engine; no folder can be made beside those of sweeps."""
    (tmp_path / "reports").write_text("in the way")
    with begun(tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        drive(engine, carried_out)
        ledger.paths.space.write_text("")
        write_json(ledger.paths.environment, {})
        yield ledger.paths, engine


@pytest.mark.parametrize("raised", [None, InterruptedSweepError("enough")])
def test_a_sweep_ends_as_it_would_have(swept, monkeypatch, raised):
    paths, engine = swept

    def ended(*_):
        if raised:
            raise raised

    warned = []
    monkeypatch.setattr(driver.RUNNERS, "load", lambda name: ended)
    view = SimpleNamespace(warn=warned.append, watch=lambda state: None, refresh=lambda: None)
    settings = Drive(space=SPACE, paths=paths, places=Places(cache_dir="/c", data_dir="/d"))
    try:
        driver._run(settings, SimpleNamespace(state=engine.state, done=False), view, RunnerOptions())
    except InterruptedSweepError as error:
        assert error is raised
    else:
        assert raised is None
    line, *more = warned
    assert line.startswith(TOLD.format(paths)) and line.endswith(f"mend that, then chembench sync {paths.root}")
    assert (paths.leaderboards / "rows.csv").is_file()
    assert [text.startswith(f"warning: the report is written to {paths.report}") for text in more] == [True][
        : not raised
    ]
    assert paths.report.is_file() == (not raised)


def test_a_finished_sweep_that_is_resumed_ends_well(swept, tmp_path, capsys):
    paths, engine = swept
    places = places_of(engine.state)
    header = {**engine.state.header, "places": places.model_dump(mode="json")}
    engine._write({"event": "sweep", "name": "one", "space_digest": SPACE.digest, "header": header})
    engine._finish()
    driver.drive(Drive(space=SPACE, paths=paths, places=places, show_progress=False))
    assert engine.state.finished
    assert capsys.readouterr().err.startswith(TOLD.format(paths_in(tmp_path)))
