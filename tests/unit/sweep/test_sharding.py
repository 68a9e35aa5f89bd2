"""A sweep in parts: every item belongs to one of them, and together they are the whole."""

from collections import Counter
from types import SimpleNamespace

import pytest
from sweep_fakes import (
    adaptive_space,
    engine_on,
    essence,
    grid_space,
    opened,
    paths_in,
    prepared_for,
    swept,
)

from chembench.errors import ConfigError
from chembench.paths import CachePaths
from chembench.sweep.contents import baseline_events, units_of
from chembench.sweep.plan import make_plan, share_of
from chembench.sweep.reading import read_space
from chembench.sweep.resolve import Resolver
from chembench.sweep.shard import Shard

WIDE = {"grid__molecules": [10, 20, 30, 40], "confirm__pretrain_seeds": 2, "confirm__head_seeds": 3}


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard(1, 1)), ("1/4", Shard(1, 4)), ("12/12", Shard(12, 12))])
def test_a_shard_is_read_as_it_is_written(text, shard):
    assert Shard.parse(text) == shard and str(shard) == text


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1 / 4", "1/4 ", "²/4", "1/9999999", 1]
)
def test_what_is_no_shard_is_told(text):
    with pytest.raises(
        ConfigError, match=r"a shard is written as i/n with 1 <= i <= n, got '.*'; of four machines: 1/4"
    ):
        Shard.parse(text)


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("space", [grid_space(**WIDE), adaptive_space()], ids=["grid", "adaptive"])
def test_every_unit_and_baseline_belongs_to_exactly_one_shard(tmp_path, space, of):
    resolver = Resolver(space, prepared_for(space), CachePaths(tmp_path))
    nothing = SimpleNamespace(items={})

    def parts(shard):
        baselines = [event["uid"] for event in baseline_events(resolver, nothing, shard)]
        return [unit.name for unit in units_of(space, resolver, shard)] + baselines

    shards = [parts(Shard(index, of)) for index in range(1, of + 1)]
    assert Counter(name for shard in shards for name in shard) == Counter(parts(None))
    assert shards == [parts(Shard(index, of)) for index in range(1, of + 1)]


def test_units_keep_their_order_within_a_shard(tmp_path):
    space = grid_space(**WIDE)
    resolver = Resolver(space, prepared_for(space), CachePaths(tmp_path))
    whole = [unit.name for unit in units_of(space, resolver)]
    for index in range(1, 4):
        own = [unit.name for unit in units_of(space, resolver, Shard(index, 3))]
        assert own == [name for name in whole if name in own] and own


def test_shards_of_a_grid_are_of_even_size_and_no_pre_training_is_done_twice(tmp_path):
    space = grid_space(**WIDE, grid__finetune={"patience": ["none", 2]}, finetune__patience=None)
    cells, trained = [], Counter()
    for index in range(1, 4):
        state, works = swept(space, tmp_path / str(index), shard=Shard(index, 3))
        assert state.finished
        cells.append({item.cell.name.partition("+")[0] for item in state.items.values() if item.kind == "search"})
        trained.update(work.uid for work in works if work.kind == "pretrain")
    assert sorted(map(len, cells)) == [3, 3, 4], "ten: two architectures, each at four scales and from scratch"
    assert set(trained.values()) == {1} and len(trained) == make_plan(space).items["pretrain"]


@pytest.mark.parametrize("of", [2, 5])
@pytest.mark.parametrize("make", [grid_space, adaptive_space])
def test_the_shards_of_a_sweep_hold_together_what_the_whole_holds(tmp_path, make, of):
    space = make(search__sampler="tpe", search__pruner="median", search__trials=5)
    whole = essence(swept(space, tmp_path / "whole")[0])
    together = {"items": {}, "asked": {}, "chosen": {}, "openings": {}}
    for index in range(1, of + 1):
        state, _ = swept(space, tmp_path / str(index), in_flight=index, seed=index, shard=Shard(index, of))
        part = essence(state)
        for key, found in together.items():
            shared = set(found) & set(part[key])
            assert all(state.items[uid].kind == "pretrain" for uid in shared) if key == "items" else not shared
            assert {name: found[name] for name in shared} == {name: part[key][name] for name in shared}
            found |= part[key]
    assert together == {key: whole[key] for key in together}


def test_the_plan_of_a_shard_counts_what_it_does(tmp_path):
    space = grid_space(**WIDE)
    planned, total = [], Counter()
    for index in range(1, 4):
        cells, items = share_of(space, Shard(index, 3))
        state, _ = swept(space, tmp_path / str(index), shard=Shard(index, 3))
        ran = Counter(item.kind for item in state.items.values())
        assert {kind: ran[kind] for kind in items if kind != "baseline"} == {
            kind: count for kind, count in items.items() if kind != "baseline"
        }
        assert set(cells) == {item.cell.name for item in state.items.values() if item.kind == "search"}
        planned += cells
        total += Counter(items)
    whole = make_plan(space)
    assert sorted(planned) == sorted(cell.name for cell in (*whole.cells, *whole.control_cells))
    assert 0 <= total["baseline"] - whole.items["baseline"] < 3
    assert {kind: total[kind] for kind in total if kind != "baseline"} == {
        kind: count for kind, count in whole.items.items() if kind != "baseline"
    }


def test_more_shards_than_cells_leave_some_without_any():
    space = grid_space(tasks=["freewilson_pic50"])
    shares = [share_of(space, Shard(index, 20)) for index in range(1, 21)]
    assert Counter(len(cells) for cells, _ in shares) == {1: 6, 0: 14}
    assert sum(items["search"] for _, items in shares) == make_plan(space).items["search"]


def test_an_adaptive_space_is_divided_by_tasks():
    space = read_space("full_adaptive")
    shares = [share_of(space, Shard(index, 4)) for index in range(1, 5)]
    assert [cells for cells, _ in shares] == [[]] * 4
    assert sorted(items["search"] // space.search.trials for _, items in shares) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("began", "goes_on", "told"),
    [
        (Shard(1, 2), None, r"is shard 1/2, it cannot go on as a whole sweep"),
        (None, Shard(1, 2), r"is no shard, it cannot go on as shard 1/2"),
        (
            Shard(1, 2),
            Shard(2, 2),
            r"is shard 1/2, it cannot go on as shard 2/2; give --shard as it began, or chembench",
        ),
    ],
)
def test_a_sweep_goes_on_as_the_shard_it_began_as(tmp_path, began, goes_on, told):
    space = grid_space()
    with opened(space, tmp_path, shard=began):
        pass
    written = paths_in(tmp_path).ledger.read_bytes()
    with opened(space, tmp_path) as ledger, pytest.raises(ConfigError, match=told):
        engine_on(space, ledger, goes_on)
    assert paths_in(tmp_path).ledger.read_bytes() == written
