"""What every runner promises. A runner is a function of the engine, its options and what to call on each change."""

import itertools
from collections import Counter
from contextlib import nullcontext

import pytest

from chembench.api import load_space, open_engine
from chembench.errors import InterruptedSweepError
from chembench.registry import RUNNERS
from chembench.sweep.running import RunnerOptions

SMALL = (
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['llama']",
    "grid.size=['w16x1']",
    "grid.molecules=[64]",
    "controls.baselines=['constant']",
    "confirm.head_seeds=1",
)


class RunnerContract:
    """A subclass gives ``name``, under which the runner stands in the registry."""

    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def driven(cls, tmp_path_factory):
        """A sweep that was stopped after three results, and then driven to its end; each with what was seen."""
        folder = tmp_path_factory.mktemp(cls.name)
        seen = []
        for results in (3, None):
            with open_engine(
                load_space("full_grid_tiny", SMALL), out=folder / "sweeps", cache_dir=folder / "cache"
            ) as engine:
                changes, options = [], RunnerOptions(max_concurrent=1)

                def look(engine=engine, changes=changes, options=options, results=results):
                    changes.append(Counter(item.status for item in engine.state.items.values()))
                    if changes[-1]["finished"] == results:
                        options.stopping.request(InterruptedSweepError("enough"))

                with pytest.raises(InterruptedSweepError, match="enough") if results else nullcontext():
                    RUNNERS.load(cls.name)(engine, options, look)
                seen.append((engine.done, engine.state, changes))
        return seen

    def test_it_stops_when_told_and_leaves_nothing_open(self, driven):
        done, state, changes = driven[0]
        assert not done and not state.finished
        assert changes[-1]["finished"] == 3
        assert changes[-1]["running"] == 0

    def test_it_goes_on_to_the_end(self, driven):
        done, state, changes = driven[1]
        assert done and state.finished
        assert changes[0]["finished"] == 3
        assert {item.status for item in state.items.values()} <= {"finished", "pruned"}

    def test_no_item_is_done_twice(self, driven):
        assert {item.attempt for item in driven[1][1].items.values()} == {1}

    def test_it_tells_of_every_start_and_every_end(self, driven):
        ends = [change["finished"] + change["pruned"] for _, _, changes in driven for change in changes]
        assert {later - earlier for earlier, later in itertools.pairwise(ends)} <= {0, 1}
        assert any(change["running"] == 1 for _, _, changes in driven for change in changes)

    def test_it_keeps_to_the_number_of_items_in_flight(self, driven):
        assert max(change["running"] for _, _, changes in driven for change in changes) == 1


class TestSerial(RunnerContract):
    name = "serial"


class TestRay(RunnerContract):
    name = "ray"


def test_every_runner_is_held_to_the_contract():
    assert {contract.name for contract in RunnerContract.__subclasses__()} == set(RUNNERS)
