"""Outer folds: the same items under every runner, sealed for each search, and as many as the plan says."""

import json
from collections import Counter

import pytest
from sweep_fakes import (
    GRID,
    adaptive_space,
    changed,
    engine_on,
    essence,
    finished,
    grid_space,
    header_of,
    of_kind,
    opened,
    prepared_for,
    swept,
)

from chembench.errors import ConfigError, DataError
from chembench.header import require_same_inputs, require_same_space
from chembench.report.badges import REUSED
from chembench.report.board import Design
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.rows import rows_as_csv, rows_from_state
from chembench.sweep.plan import make_plan, share_of
from chembench.sweep.progress import status_of
from chembench.sweep.reading import space_from
from chembench.sweep.shard import Shard
from chembench.sweep.units import replicate_of
from chembench.sweep.winners import winners

SMALL = {
    "tasks": ["freewilson_pic50"],
    "grid__architecture": ["roberta"],
    "grid__molecules": [20],
    "confirm__outer_folds": 3,
}


def folds(**changes):
    """One cell and its control on one task with three outer folds."""
    return grid_space(**(SMALL | changes))


REUSE, NESTED = folds(), folds(confirm__outer_search="nested")


def scored(work):
    """An outcome with test scores, as boards want them."""
    outcome = finished(work)
    if work.kind not in ("confirm", "baseline"):
        return outcome
    metrics = outcome.metrics | {"test/rmse": outcome.objectives[0], "valid/rmse": outcome.objectives[0]}
    return outcome.model_copy(update={"metrics": metrics})


def outers(works):
    return sorted({work.spec.outer for work in works})


# ------------------------------------------------------------------------------------------------------- one test set


def test_without_folds_nothing_of_a_space_or_an_item_changes(tmp_path):
    plain = grid_space()
    assert not any("outer" in key for key in json.loads(json.dumps(plain.identity()))["confirm"])
    assert plain.confirm.outers == plain.confirm.searched == (0,)
    state, works = swept(plain, tmp_path)
    assert outers(of_kind(works, "search", "confirm", "baseline")) == [0]
    assert not any("outer" in item.labels for item in state.items.values())
    assert {type(opening["sealed"]) for opening in state.opened} == {str}
    assert status_of(state).outer == ""


# --------------------------------------------------------------------------------------------------------- the recipe


def test_a_reused_recipe_is_searched_on_the_named_split_and_confirmed_on_every_fold(tmp_path):
    state, works = swept(REUSE, tmp_path)
    assert outers(of_kind(works, "search", "rescore")) == [0]
    for unit, items in state.confirms.items():
        assert Counter(replicate_of(item).outer for item in items) == {1: 2, 2: 2, 3: 2}
        (recipe,) = {item.spec.finetune.digest for item in items}
        assert recipe == state.openings[unit][0][1] and len(state.openings[unit]) == 1
    assert {tuple(opening["sealed"]) for opening in state.opened} == {
        tuple(f"sealed-freewilson_pic50-outer{outer}" for outer in (1, 2, 3))
    }


def test_a_nested_search_has_a_study_a_choice_and_an_opening_in_each_fold(tmp_path):
    state, works = swept(NESTED, tmp_path)
    assert len(state.asked) == len(state.choices) == len(state.openings) == 2 * 3
    assert outers(of_kind(works, "search", "rescore", "confirm")) == [1, 2, 3]
    for unit, items in state.confirms.items():
        outer = int(unit.rpartition("/outer-")[2])
        assert {replicate_of(item).outer for item in items} == {outer} and len(items) == 2
        assert {item.spec.outer for item in state.rescores[unit]} == {outer}
    assert {opening["unit"]: opening["sealed"] for opening in state.opened} == {
        unit: f"sealed-freewilson_pic50-outer{unit[-1]}" for unit in state.choices
    }
    recipes = {state.openings[unit][0][1] for unit in state.choices}
    assert len(recipes) > 2, "each fold asks for other points"


@pytest.mark.parametrize("space", [REUSE, NESTED], ids=["reuse", "nested"])
def test_every_method_is_scored_on_the_same_folds(tmp_path, space):
    state, works = swept(space, tmp_path)
    seen = {}
    for work in of_kind(works, "confirm", "baseline"):
        name = work.cell.name if work.cell else work.spec.baseline
        seen.setdefault(name, set()).add((work.spec.outer, work.spec.data, work.spec.test_rows, work.spec.sealed))
    assert len(seen) == 4
    (shared,) = {frozenset(places) for places in seen.values()}
    assert len(shared) == 3
    assert {row.outer for row in rows_from_state(state) if row.kind == "baseline"} == {1, 2, 3}


# -------------------------------------------------------------------------------------------------------------- sealed


@pytest.mark.parametrize("space", [REUSE, NESTED], ids=["reuse", "nested"])
def test_no_search_is_told_of_sealed_labels_and_a_nested_one_reads_its_own_fold_alone(tmp_path, space):
    _, works = swept(space, tmp_path)
    for work in of_kind(works, "search", "rescore"):
        assert work.spec.sealed is None and work.inputs.sealed is None
        assert "vault" not in work.model_dump_json() and "sealed-" not in work.model_dump_json()
        if space is NESTED:
            assert work.labels["unit"].endswith(f"/outer-{work.spec.outer}")
            assert f"-outer{work.spec.outer}/" in work.inputs.split
    for work in of_kind(works, "confirm"):
        assert work.inputs.sealed == f"/vault/freewilson_pic50-outer{work.spec.outer}"
        assert work.spec.test_rows == f"rows-freewilson_pic50-outer{work.spec.outer}"


def test_what_a_fold_found_decides_nothing_in_another(tmp_path):
    def other_scores(work):
        outcome = scored(work)
        if work.spec.kind == "pretrain" or work.spec.outer != 1:
            return outcome
        return outcome.model_copy(
            update={"metrics": {**outcome.metrics, "objective": 1 - outcome.metrics["objective"]}}
        )

    one, _ = swept(NESTED, tmp_path / "1", scored)
    other, _ = swept(NESTED, tmp_path / "2", other_scores)
    before, after = essence(one), essence(other)
    for unit in before["chosen"]:
        is_first = unit.endswith("/outer-1")
        assert is_first or (before["asked"][unit], before["chosen"][unit]) == (
            after["asked"][unit],
            after["chosen"][unit],
        )
    assert before["chosen"] != after["chosen"]


# ------------------------------------------------------------------------------------------------- plans, shards, order


@pytest.mark.parametrize(
    "space",
    [REUSE, NESTED, folds(confirm__outer_repeats=2, confirm__splits=2), folds(controls__from_scratch=False)],
    ids=["reuse", "nested", "repeats and splits", "no control"],
)
def test_the_plan_counts_what_is_carried_out(tmp_path, space):
    _, works = swept(space, tmp_path)
    assert dict(make_plan(space).items) == dict(Counter(work.kind for work in works))


def test_the_plan_tells_the_folds_and_where_the_recipe_comes_from():
    assert "3 outer folds x 1 by scaffold, recipe reused: chosen once on the named split" in "\n".join(
        make_plan(REUSE).notes
    )
    assert "3 outer folds x 1 by scaffold, each searched in its training part alone" in make_plan(NESTED).notes


@pytest.mark.parametrize("space", [REUSE, NESTED], ids=["reuse", "nested"])
def test_two_shards_make_the_whole(tmp_path, space):
    whole, _ = swept(space, tmp_path / "whole")
    parts = [Shard(1, 2), Shard(2, 2)]
    states = [swept(space, tmp_path / str(part.index), shard=part)[0] for part in parts]
    found = [uid for state in states for uid, item in state.items.items() if item.kind != "pretrain"]
    assert sorted(found) == sorted(uid for uid, item in whole.items.items() if item.kind != "pretrain")
    assert sum(share_of(space, part)[1]["search"] for part in parts) == make_plan(space).items["search"]


def test_nested_searches_are_the_same_in_any_order_and_after_a_stop(tmp_path):
    one, _ = swept(NESTED, tmp_path / "1")
    other, _ = swept(NESTED, tmp_path / "2", in_flight=5, seed=3)
    with opened(NESTED, tmp_path / "3") as ledger:
        engine = engine_on(NESTED, ledger)
        for _ in range(12):
            engine.tell(finished(engine.ask()))
    third, _ = swept(NESTED, tmp_path / "3")
    assert essence(one) == essence(other) == essence(third)


# -------------------------------------------------------------------------------------------------------- more repeats


@pytest.mark.parametrize("mode", ["reuse", "nested"])
def test_more_repeats_leave_what_is_done_and_are_told(tmp_path, mode):
    before_space, space = (folds(confirm__outer_search=mode, confirm__outer_repeats=count) for count in (1, 2))
    before, done = swept(before_space, tmp_path / "grown")
    told = require_same_space(space, before)
    assert told == ["confirm.outer_repeats: 1 there, 2 here"]
    require_same_inputs(prepared_for(space), before)
    state, works = swept(space, tmp_path / "grown")
    assert {work.spec.outer for work in works} == {4, 5, 6}
    assert not {work.uid for work in works} & {work.uid for work in done}
    assert essence(state)["items"] == essence(swept(space, tmp_path / "at once")[0])["items"]
    assert all(len(openings) == 1 for openings in state.openings.values())


@pytest.mark.parametrize(
    "change", [{"outer_folds": 4}, {"outer_folds": 0}, {"outer_groups": "random"}, {"outer_search": "nested"}]
)
def test_other_folds_are_another_sweep(tmp_path, change):
    state, _ = swept(REUSE, tmp_path)
    (name,) = change
    with pytest.raises(
        ConfigError, match=rf"(?s)started with another space, and nothing but .*confirm.outer_repeats.*{name}"
    ):
        require_same_space(folds(**{f"confirm__{key}": value for key, value in change.items()}), state)


# --------------------------------------------------------------------------------------------------------------- boards


def board_of(state):
    (board,) = leaderboards(rows_from_state(state), design_from_state(state)).values()
    return board.sections[0]


def test_a_line_is_complete_with_every_fold_and_a_reused_recipe_is_badged(tmp_path):
    state, _ = swept(REUSE, tmp_path, scored)
    section = board_of(state)
    cells = {entry.method: entry for entry in section.entries if entry.group != "baseline"}
    assert len(cells) == 2 and not section.incomplete
    for entry in cells.values():
        assert (entry.expected, entry.score.n, entry.badges) == (6, 6, (REUSED,))
        assert entry.varies == "head seed x outer test set" and entry.recipe is not None
    assert not any(entry.badges for entry in section.entries if entry.group == "baseline")
    assert design_from_state(state).outers == 3


def test_lines_that_were_fitted_to_different_rows_are_not_compared(tmp_path):
    state, _ = swept(REUSE, tmp_path, scored)
    rows = rows_from_state(state)
    for position, row in enumerate(rows):
        if row.kind == "baseline" and row.outer == 2:
            rows[position] = row.model_copy(update={"data": "others"})
            break
    text = r"fitted to the same rows, on freewilson_pic50 \(split 0, outer test set 2\) .*; leave the rows of one out"
    with pytest.raises(DataError, match=text):
        leaderboards(rows, design_from_state(state))


def test_a_nested_line_says_how_many_recipes_it_has(tmp_path):
    state, _ = swept(NESTED, tmp_path, scored)
    entries = [entry for entry in board_of(state).entries if entry.group != "baseline"]
    assert [entry.badges for entry in entries] == [(), ()]
    told = {
        entry.method: len(
            {items[0].spec.finetune.digest for unit, items in state.confirms.items() if unit.startswith(entry.method)}
        )
        for entry in entries
    }
    for entry in entries:
        assert entry.recipe is None and entry.recipe_text == f"{told[entry.method]} recipes in different outer folds"


def test_a_line_without_one_fold_is_incomplete(tmp_path):
    state, _ = swept(
        NESTED, tmp_path, lambda work: finished(work) if getattr(work.spec, "outer", 0) == 2 else scored(work)
    )
    assert {(line.done, line.expected) for line in board_of(state).incomplete} >= {(4, 6)}


def test_a_design_without_folds_expects_the_named_split_alone():
    assert {key.outer for key in Design(sweep="one", tasks={}).replicates} == {0}
    assert {key.outer for key in Design(sweep="one", tasks={}, outers=4).replicates} == {1, 2, 3, 4}


def test_the_table_of_rows_tells_the_fold(tmp_path):
    state, _ = swept(NESTED, tmp_path)
    header, *lines = [line.split(",") for line in rows_as_csv(rows_from_state(state)).splitlines()]
    column = header.index("outer")
    assert {line[column] for line in lines} == {"", "1", "2", "3"}


def test_a_report_counts_the_folds(tmp_path):
    from types import SimpleNamespace

    from chembench.report.page.answer import _design

    state, _ = swept(folds(confirm__outer_repeats=2), tmp_path)
    assert "2 head seeds x 6 outer test sets, the same for every cell" in _design(SimpleNamespace(state=state))


def test_a_status_tells_the_folds(tmp_path):
    state, _ = swept(NESTED, tmp_path)
    assert status_of(state).outer == "3 outer folds x 1 by scaffold, each searched in its training part alone"


@pytest.mark.parametrize("space", [REUSE, NESTED], ids=["reuse", "nested"])
def test_one_model_of_a_line_is_kept_that_of_the_first_fold(tmp_path, space):
    state, works = swept(space, tmp_path)
    kept = [work for work in works if work.save_model]
    assert {work.kind for work in kept} == {"confirm"} and outers(kept) == [1]
    assert len(kept) == 2 and set(winners(state).values()) <= {work.uid for work in kept}


def test_a_nested_line_wins_when_its_last_fold_is_done_and_not_before(tmp_path):
    with opened(NESTED, tmp_path) as ledger:
        engine = engine_on(NESTED, ledger)
        while not engine.done:
            last = {i.labels["unit"]: i for i in engine.state.items.values() if i.kind == "confirm"}
            begun = {unit for unit in last if all(i.is_final for i in engine.state.confirms[unit])}
            lines = [unit.rpartition("/outer-")[0] for unit in begun]
            complete = {line for line in lines if lines.count(line) == 3}
            assert bool(winners(engine.state)) == bool(complete)
            engine.tell(finished(engine.ask()))
        assert len(winners(engine.state)) == 1


def test_more_head_seeds_of_a_nested_line_are_for_all_its_folds(tmp_path):
    from chembench.report.choosing import best_units

    state, _ = swept(NESTED, tmp_path, scored)
    boards = list(leaderboards(rows_from_state(state), design_from_state(state)).values())
    units = best_units(rows_from_state(state), boards, 1)
    assert sorted(unit[-1] for unit in units) == ["1", "2", "3"]
    assert len({unit.rpartition("/outer-")[0] for unit in units}) == 1


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"outer_folds": 1}, "outer_folds is at least 2, or 0 for the test of the named split, got 1; try 5"),
        ({"outer_repeats": 5}, "confirm.outer_repeats: says nothing without outer folds; give confirm.outer_folds = 5"),
        ({"outer_search": "nested"}, "confirm.outer_search: says nothing without outer folds"),
        ({"outer_groups": "random"}, "confirm.outer_groups: says nothing without outer folds"),
        ({"outer_folds": 2, "outer_groups": "scafold"}, "outer_groups"),
    ],
)
def test_folds_that_cannot_be_are_told(change, text):
    with pytest.raises(ConfigError, match=text):
        space_from(changed(GRID, **{f"confirm__{key}": value for key, value in change.items()}))


def test_an_adaptive_space_is_not_searched_in_each_fold():
    with pytest.raises(
        ConfigError, match="adaptive space may choose another cell in each outer fold; use outer_search"
    ):
        adaptive_space(confirm__outer_folds=2, confirm__outer_search="nested")
    assert adaptive_space(confirm__outer_folds=2).confirm.outers == (1, 2)


def test_a_header_holds_the_folds():
    assert header_of(NESTED)["confirm"]["outer_search"] == "nested"
    names = set(prepared_for(NESTED).digests())
    assert {"split 0 of outer 3 of freewilson_pic50", "test of outer 3 of freewilson_pic50"} <= names
