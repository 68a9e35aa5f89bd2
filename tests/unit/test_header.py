"""What a sweep holds against its ledger before it goes on, and what it writes down for the next time."""

import tomllib
from types import SimpleNamespace

import pytest

from chembench.errors import ConfigError, DataError
from chembench.header import (
    SHOWN,
    Places,
    places_of,
    require_same_inputs,
    require_same_space,
    space_of,
    write_header,
)
from chembench.paths import SweepPaths, read_json
from chembench.sweep.ledger import Ledger, read_state
from chembench.sweep.reading import read_space
from chembench.sweep.shard import Shard
from chembench.sweep.state import SweepState

DIGESTS = {"tokenizer": "t", "task delaney": "a", "labels": "l"}
PLACES = Places(cache_dir="/cache", data_dir="/raw", max_concurrent=1)


def prepared(**changed):
    return SimpleNamespace(digests=lambda: {**DIGESTS, **changed}, tasks={}, corpus=None, replayed=None)


def space(*overrides):
    return read_space("full_grid_tiny", overrides)


def begun(*overrides):
    header = {"inputs": DIGESTS, "identity": space(*overrides).identity(), "space": space(*overrides).as_data()}
    return SweepState(name="s", space_digest=space(*overrides).digest, header=header)


def test_a_sweep_goes_on_with_the_files_it_began_with_and_with_more():
    require_same_inputs(prepared(), begun())
    require_same_inputs(prepared(**{"split 1 of delaney": "new"}), begun())


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_changed_under_a_sweep_is_refused_by_name(gone):
    now = prepared(**{"task delaney": "b", "labels": "m"})
    if gone:
        now = SimpleNamespace(digests=lambda: {"tokenizer": "t"}, replayed=None)
    with pytest.raises(DataError, match=r"inputs of sweep 's' have changed since it began: labels, task delaney; put"):
        require_same_inputs(now, begun())


def test_the_same_space_goes_on_and_more_of_it_is_told():
    assert require_same_space(space(), begun()) == []
    assert require_same_space(space("resources.cpus=2", "name=other"), begun()) == []
    grown = require_same_space(space("search.trials=4", "confirm.splits=2"), begun())
    assert grown == ["confirm.splits: 1 there, 2 here", "search.trials: 2 there, 4 here"]


def problems_of(*overrides):
    with pytest.raises(ConfigError) as caught:
        require_same_space(space(*overrides), begun())
    return caught.value.problems


def test_another_space_is_refused_with_every_difference():
    title, *lines = problems_of("seed=1", "search.trials=4")
    assert title.startswith(
        "sweep 's' was started with another space, and nothing but search.trials, confirm.head_seeds"
    )
    assert title.endswith(
        "can be raised under its name; begin another one with `chembench sweep` and a --name of its own"
    )
    assert lines == ["seed: 0 there, 1 here", "search.trials: 2 there, 4 here"]


def test_what_may_be_raised_is_not_lowered():
    assert problems_of("search.trials=1")[1:] == ("search.trials: 2 there, 1 here",)


def test_of_many_differences_it_is_said_how_many_more_there_are():
    other = read_space("quickstart")
    with pytest.raises(ConfigError) as caught:
        require_same_space(other, begun())
    title, *lines = caught.value.problems
    assert title and len(lines) == SHOWN + 1
    assert int(lines[-1].split()[1]) > 0 and lines[-1].endswith(" more")


def test_a_space_is_rebuilt_from_the_header():
    again = space_of(begun("confirm.head_seeds=3"))
    assert again.digest == space("confirm.head_seeds=3").digest
    assert again.as_data() == space("confirm.head_seeds=3").as_data()
    state = begun()
    assert space_of(state, ["search.trials=7", "resources.cpus=2"]).search.trials == 7
    assert space_of(state).search.trials == 2
    with pytest.raises(ConfigError, match=r"--set search\.trails: "):
        space_of(state, ["search.trails=7"])


def test_a_ledger_that_does_not_say_its_places_asks_for_the_first_command():
    with pytest.raises(ConfigError, match=r"sweep 's' must say where its cache and data folders are.* give its `chem"):
        places_of(begun())


@pytest.fixture
def write(tmp_path):
    """Writes a header as a start of the sweep would; gives how many ``sweep`` events that made, and the state."""
    paths = SweepPaths(tmp_path / "sweeps" / "mine")

    def start(*overrides, places=PLACES, command=("chembench", "sweep"), shard=None, inputs=None):
        with Ledger(paths) as ledger:
            before = ledger.state.events
            write_header(ledger, space(*overrides), prepared(**(inputs or {})), places, shard, command)
            return ledger.state.events - before, ledger.state

    start.paths = paths
    return start


def test_the_header_holds_what_going_on_needs(write):
    written, _ = write(shard=Shard(1, 4))
    state = read_state(write.paths)
    assert written == 1 and state.name == "mine"
    assert places_of(state) == PLACES and places_of(state).workers == 1
    assert state.header["shard"] == "1/4"
    assert space_of(state).digest == state.space_digest == space().digest
    assert read_json(write.paths.environment)["command"] == ["chembench", "sweep"]


def test_a_second_start_writes_the_header_only_if_it_says_something_else(write):
    _, first = write()
    assert write(command=("chembench", "resume", "mine"))[0] == 0
    written, state = write("search.trials=4", command=("chembench", "resume", "mine"), inputs={"split 1 of x": "n"})
    assert written == 1
    assert state.header["search_trials"] == 4 and state.header["inputs"]["split 1 of x"] == "n"
    assert [state.header[key] for key in ("command", "at")] == [first.header[key] for key in ("command", "at")]
    assert tomllib.loads(write.paths.space.read_text())["search"]["trials"] == 4
    moved = Places(cache_dir="/elsewhere", data_dir="/raw")
    assert write("search.trials=4", places=moved, inputs={"split 1 of x": "n"})[0] == 1
    assert places_of(read_state(write.paths)) == moved
    assert read_json(write.paths.environment)["command"] == ["chembench", "sweep"]


def test_a_part_of_a_sweep_names_its_cells_and_expects_its_items(write):
    parts = []
    for index in (1, 2, 3):
        parts.append(write(shard=Shard(index, 3))[1].header)
        write.paths.ledger.unlink()
    _, whole = write()
    assert sorted(name for part in parts for name in part["cells"]) == sorted(whole.header["cells"])
    for kind in ("search", "confirm"):
        assert sum(part["expected"][kind] for part in parts) == whole.header["expected"][kind]


def test_what_others_wrote_into_the_header_stays(write):
    _, state = write()
    with Ledger(write.paths) as ledger:
        header = {**state.header, "remeasured": 3}
        ledger.append({"event": "sweep", "name": "mine", "space_digest": state.space_digest, "header": header})
    assert write()[0] == 0
    assert write("search.trials=4")[1].header["remeasured"] == 3
