"""A plain Python loop drives a sweep through ask, run and tell; the boards are those of the command."""

from flow_sweeps import SMALL, assert_same

from chembench.api import Sweep, load_space, open_engine
from chembench.trial import run_item


def test_a_plain_loop_makes_the_sweep_that_the_serial_runner_makes(small, tmp_path):
    space = load_space("full_grid_tiny", SMALL)
    with open_engine(space, name="small", out=tmp_path / "sweeps", cache_dir=tmp_path / "cache") as engine:
        while not engine.done:
            work = engine.ask()
            engine.tell(run_item(work))
    assert_same(Sweep(tmp_path / "sweeps" / "small"), small.view)


def test_a_stale_or_repeated_outcome_does_not_count(tmp_path):
    space = load_space("full_grid_tiny", SMALL)
    with open_engine(space, out=tmp_path / "sweeps", cache_dir=tmp_path / "cache") as engine:
        work = engine.ask()
        outcome = run_item(work)
        assert not engine.tell(outcome.model_copy(update={"attempt": 2}))
        assert not engine.tell(outcome.model_copy(update={"uid": "000000000000"}))
        assert engine.tell(outcome)
        assert not engine.tell(outcome)
        assert engine.state.items[work.uid].outcome == outcome
