"""What is asked for depends on results alone: not on how many items are in flight, their order, or a restart.

Each item is carried out once, for real; a second request for it is answered with what came out.
"""

import random

import pytest
from flow_sweeps import asks, boards, choices, openings

from chembench.api import Sweep, load_space, open_engine
from chembench.trial import run_item

SPACES = {
    "full_grid_tiny": (
        "tasks=['freewilson_pic50']",
        "task={freewilson_pic50={max_rows=128}}",
        "grid.architecture=['roberta', 'llama']",
        "grid.size=['w16x1']",
        "grid.molecules=[64]",
        "controls.baselines=[]",
        "finetune.max_epochs=3",
        "search.trials=4",
        "search.ask_window=2",
        "confirm.head_seeds=1",
    ),
    "full_adaptive_tiny": (
        "model.architecture={choice=['roberta', 'llama']}",
        "model.size='w16x1'",
        "model.molecules={choice=[0, 64]}",
        "controls.baselines=['constant']",
        "finetune.max_epochs=3",
        "confirm.head_seeds=1",
    ),
}


class Answers:
    """Carries items out, each once; a pruner's table is part of what is asked."""

    def __init__(self) -> None:
        self.known = {}

    def __call__(self, work):
        if work.uid not in self.known:
            self.known[work.uid] = (work.rungs, run_item(work))
        rungs, outcome = self.known[work.uid]
        assert rungs == work.rungs, f"{work.uid} was given another rung table"
        return outcome.model_copy(update={"attempt": work.attempt})


def drive(engine, answer, in_flight, order, until=None):
    """Keep ``in_flight`` items open, end them in a random order; stop after ``until`` of them."""
    flying, ended = [], 0
    while not engine.done and ended != until:
        while len(flying) < in_flight and (work := engine.ask()):
            flying.append(work)
        assert flying, "nothing is in flight and nothing is ready, yet the sweep is not done"
        assert engine.tell(answer(flying.pop(order.randrange(len(flying)))))
        ended += 1
    return [work.uid for work in flying]


@pytest.fixture(scope="module", params=list(SPACES))
def world(request, tmp_path_factory):
    """A space, its folder, what is known of its items, and the sweep that has one item in flight."""
    folder = tmp_path_factory.mktemp(request.param)
    space = load_space(request.param, SPACES[request.param])
    answer = Answers()
    with open_engine(space, name="one", out=folder / "sweeps", cache_dir=folder / "cache") as engine:
        drive(engine, answer, 1, random.Random(0))
    return space, folder, answer, Sweep(folder / "sweeps" / "one")


def looked_at(sweep):
    scores = {uid: (item.status, item.outcome.metrics) for uid, item in sweep.state().items.items()}
    return asks(sweep), scores, choices(sweep), openings(sweep), boards(sweep)


@pytest.mark.parametrize("in_flight", [2, 4])
def test_more_in_flight_ask_the_same(world, in_flight):
    space, folder, answer, one = world
    known = len(answer.known)
    name = f"flying{in_flight}"
    with open_engine(space, name=name, out=folder / "sweeps", cache_dir=folder / "cache") as engine:
        drive(engine, answer, in_flight, random.Random(in_flight))
    assert len(answer.known) == known
    assert looked_at(Sweep(folder / "sweeps" / name)) == looked_at(one)


@pytest.mark.parametrize("until", [1, 5, 11])
def test_a_restart_asks_the_same(world, until):
    space, folder, answer, one = world
    known = len(answer.known)
    where = {"name": f"restart{until}", "out": folder / "sweeps", "cache_dir": folder / "cache"}
    with open_engine(space, **where) as engine:
        lost = drive(engine, answer, 3, random.Random(until), until)
        assert not engine.done
    with open_engine(space, **where) as engine:
        assert all(engine.state.items[uid].status == "waiting" for uid in lost)
        drive(engine, answer, 4, random.Random(0))
    again = Sweep(folder / "sweeps" / where["name"])
    assert len(answer.known) == known
    assert looked_at(again) == looked_at(one)
    assert [again.state().items[uid].attempt for uid in lost] == [2] * len(lost)


def test_a_result_that_was_left_in_its_folder_is_taken_up(world):
    space, folder, answer, one = world
    where = {"name": "left", "out": folder / "sweeps", "cache_dir": folder / "cache"}
    with open_engine(space, **where) as engine:
        work = engine.ask()
        left = run_item(work)
    with open_engine(space, **where) as engine:
        assert engine.state.items[work.uid].status == left.status
        assert not engine.tell(left)
        drive(engine, answer, 2, random.Random(0))
    assert looked_at(Sweep(folder / "sweeps" / "left")) == looked_at(one)
