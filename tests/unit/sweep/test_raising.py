"""What may grow under a sweep, and what a sweep does with it."""

import shutil

import pytest
from sweep_fakes import Killed, drive, engine_on, essence, grid_space, opened, paths_in, swept

from chembench.sweep.ledger import read_events, read_state
from chembench.sweep.plan import make_plan
from chembench.sweep.progress import expected_items
from chembench.sweep.space import raised


def between(before, now):
    return raised(before.identity(), now.identity())


def test_shares_of_the_machine_words_and_the_patience_with_failures_are_no_difference():
    now = grid_space(
        resources={"cpus": 4, "gpus": 0.5, "pretrain": {"cpus": 2, "gpus": 1}},
        description="x",
        name="y",
        search__give_up_after=3,
    )
    assert between(grid_space(), now) == ([], [])
    assert now.digest == grid_space().digest and "give_up_after" not in str(now.identity())


def test_trials_and_replicates_may_grow_and_both_values_are_told():
    now = grid_space(search__trials=5, confirm__head_seeds=3, confirm__pretrain_seeds=2, confirm__splits=4)
    assert between(grid_space(), now) == (
        [
            "confirm.head_seeds: 2 there, 3 here",
            "confirm.pretrain_seeds: 1 there, 2 here",
            "confirm.splits: 1 there, 4 here",
            "search.trials: 3 there, 5 here",
        ],
        [],
    )


def test_what_shrinks_is_refused():
    now = grid_space(search__trials=2, confirm__head_seeds=1)
    told = ["confirm.head_seeds: 2 there, 1 here", "search.trials: 3 there, 2 here"]
    assert between(grid_space(), now) == ([], told)


def test_every_other_difference_is_refused_also_beside_one_that_is_not():
    now = grid_space(search__trials=9, finetune__patience=2, grid__molecules=[20], resources={"threads": 2, "cpus": 2})
    grown, refused = between(grid_space(), now)
    assert grown == ["search.trials: 3 there, 9 here"]
    assert {
        "finetune.patience: (not set) there, 2 here",
        "grid.molecules: [20, 40] there, [20] here",
        "resources.pretrain.threads: 1 there, 2 here",
    } <= set(refused)
    assert len(refused) == 2 + 5, "threads of the five kinds"
    assert between(grid_space(), grid_space(confirm__rescore_top=3))[0] == []


# ------------------------------------------------------------------------------------------------ a sweep that grows


ONE_TASK = {"tasks": ["freewilson_pic50"]}
MORE_REPLICATES = {"confirm__head_seeds": 3, "confirm__pretrain_seeds": 2, "confirm__splits": 2}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished sweep and its ledger, to be taken up in copies."""
    folder = tmp_path_factory.mktemp("small")
    state, _ = swept(grid_space(**ONE_TASK), folder)
    return state, folder


@pytest.fixture
def folder(small, tmp_path):
    shutil.copytree(small[1], tmp_path / "copy")
    return tmp_path / "copy"


def test_more_replicates_are_added_to_every_recipe_and_baseline_as_if_they_had_always_been_there(folder, tmp_path):
    wide = grid_space(**ONE_TASK, **MORE_REPLICATES)
    before = {uid for uid, item in read_state(paths_in(folder)).items.items() if item.is_final}
    state, works = swept(wide, folder, in_flight=3, seed=1)
    assert essence(state) == essence(swept(wide, tmp_path / "at once")[0])
    assert not before & {work.uid for work in works}, "what is done stays"
    assert {work.kind for work in works} == {"confirm", "pretrain", "baseline"}
    assert {len(opened) for opened in state.openings.values()} == {1}


@pytest.mark.parametrize("in_flight", [1, 4])
def test_more_trials_follow_those_already_asked_and_the_choice_is_made_anew(folder, tmp_path, in_flight):
    wide = grid_space(search__trials=5, **ONE_TASK)
    before = essence(read_state(paths_in(folder)))
    state, works = swept(wide, folder, in_flight=in_flight, seed=in_flight)
    at_once, now = essence(swept(wide, tmp_path / "at once")[0]), essence(state)
    assert now["asked"] == at_once["asked"] and {len(points) for points in now["asked"].values()} == {5}
    for study, points in before["asked"].items():
        assert {k: now["asked"][study][k] for k in range(3)} == points
    assert now["chosen"] == at_once["chosen"], "random asks do not learn, so the end is the same"
    assert {uid: now["items"][uid] for uid in at_once["items"]} == at_once["items"]
    changed = [unit for unit in now["openings"] if len(now["openings"][unit]) == 2]
    same = [unit for unit in now["openings"] if now["openings"][unit] == before["openings"][unit]]
    assert changed and same and len(changed) + len(same) == 6
    assert {work.labels["unit"] for work in works if work.kind == "confirm"} == set(changed)


def test_asks_of_a_sampler_that_learns_stay_when_its_budget_grows(tmp_path):
    of = {"search__sampler": "tpe", "search__ask_window": 1, **ONE_TASK}
    before, _ = swept(grid_space(search__trials=4, **of), tmp_path)
    after, _ = swept(grid_space(search__trials=12, **of), tmp_path)
    for study, points in before.asked.items():
        assert [after.asked[study][k] for k in range(4)] == [points[k] for k in range(4)]
    assert {len(points) for points in after.asked.values()} == {12}


@pytest.mark.parametrize("grown", [MORE_REPLICATES, {"search__trials": 5}], ids=["replicates", "trials"])
def test_a_sweep_may_grow_before_it_is_finished(tmp_path, grown):
    narrow, wide = grid_space(**ONE_TASK), grid_space(**ONE_TASK, **grown)
    events = swept(narrow, tmp_path / "whole")[0].events
    at_once = essence(swept(wide, tmp_path / "at once")[0])
    for left in range(0, events, 23):
        folder = tmp_path / str(left)
        with opened(narrow, folder, left) as ledger, pytest.raises(Killed):
            drive(engine_on(narrow, ledger), in_flight=3, seed=left)
        state, _ = swept(wide, folder, in_flight=2, seed=left)
        now = essence(state)
        assert {key: now[key] for key in ("asked", "chosen", "finished")} == {
            key: at_once[key] for key in ("asked", "chosen", "finished")
        }
        assert {uid: now["items"][uid] for uid in at_once["items"]} == at_once["items"]


def test_the_last_header_counts_and_the_sweep_ends_again(folder):
    wide = grid_space(**ONE_TASK, confirm__head_seeds=3)
    with opened(wide, folder) as ledger:
        assert not ledger.state.finished and ledger.state.space_digest == wide.digest
        engine = engine_on(wide, ledger)
        assert expected_items(engine.state) == sum(make_plan(wide).items.values())
        drive(engine)
    state = read_state(paths_in(folder))
    assert state.finished and state.header["identity"] == wide.identity()
    assert [event["event"] for _, event in read_events(paths_in(folder).ledger)].count("sweep") == 2
