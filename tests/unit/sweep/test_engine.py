"""The engine's promises, on sweeps whose items cost nothing."""

import time
from collections import Counter
from pathlib import Path

import pytest
from sweep_fakes import (
    ADAPTIVE_MODEL,
    GRID,
    adaptive_space,
    changed,
    drive,
    engine_on,
    essence,
    finished,
    grid_space,
    of_kind,
    opened,
    prepared_for,
    swept,
)

from chembench.errors import ConfigError
from chembench.paths import CachePaths
from chembench.specs import Cell, FinetuneSpec, Outcome
from chembench.sweep.plan import make_plan
from chembench.sweep.resolve import Replicate, Resolver
from chembench.sweep.space import ResourceShape

CELL = Cell(architecture="roberta", size="w32x1", molecules=20)


@pytest.fixture(scope="module")
def grid_sweep(tmp_path_factory):
    space = grid_space(confirm__pretrain_seeds=2, confirm__splits=2)
    return space, *swept(space, tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def adaptive_sweep(tmp_path_factory):
    space = adaptive_space(search__trials=6)
    return space, *swept(space, tmp_path_factory.mktemp("adaptive"))


def of_units(state):
    return {name: [points[k] for k in sorted(points)] for name, points in state.asked.items()}


def test_a_sweep_runs_the_items_that_its_plan_counted(grid_sweep):
    space, state, _ = grid_sweep
    assert state.finished and all(item.status == "finished" for item in state.items.values())
    assert Counter(item.kind for item in state.items.values()) == make_plan(space).items


def test_every_cell_gets_the_same_budget_controls_included(grid_sweep):
    space, state, _ = grid_sweep
    assert {len(points) for points in state.asked.values()} == {space.search.trials}
    controls = [name for name in state.asked if "scratch" in name]
    assert len(controls) == 2 * len(space.tasks) and len(state.asked) == 6 * len(space.tasks)


def test_a_pre_training_is_done_once_however_many_trials_want_it(grid_sweep):
    _, state, works = grid_sweep
    pretrainings = Counter(work.uid for work in of_kind(works, "pretrain"))
    wanted = {item.spec.pretrained for item in state.items.values() if item.kind in ("search", "rescore", "confirm")}
    assert set(pretrainings) == wanted - {None} and set(pretrainings.values()) == {1}
    assert len(pretrainings) == 4 * 2, "four cells with molecules, two pre-training seeds"


def test_a_trial_is_handed_out_after_its_pre_training_has_finished(grid_sweep):
    _, _, works = grid_sweep
    seen = set()
    for work in works:
        if work.kind in ("search", "rescore", "confirm") and work.spec.pretrained:
            assert work.spec.pretrained in seen
            assert work.inputs.checkpoint.endswith(work.spec.pretrained)
        seen.add(work.uid)


def test_only_confirm_and_baseline_items_know_the_sealed_labels(grid_sweep):
    _, _, works = grid_sweep
    for work in of_kind(works, "search", "rescore", "pretrain"):
        assert "sealed-" not in work.model_dump_json() and "/vault" not in work.model_dump_json()
    for work in of_kind(works, "confirm", "baseline"):
        assert work.spec.sealed == f"sealed-{work.spec.task}" and work.inputs.sealed == f"/vault/{work.spec.task}"


def test_the_test_is_opened_before_the_first_confirm_item_exists(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        order = []
        write = ledger.append
        ledger.append = lambda event: (order.append(event), write(event))
        drive(engine_on(space, ledger))
    open_units = set()
    for event in order:
        if event["event"] == "opened":
            assert event["recipe"] and event["sealed"] == f"sealed-{event['task']}"
            open_units.add(event["unit"])
        if event["event"] == "item" and event["spec"]["kind"] == "confirm":
            assert event["labels"]["unit"] in open_units
    assert len(open_units) == 6 * len(space.tasks)


def test_the_recipe_is_the_best_mean_over_new_seeds_alone(grid_sweep):
    space, state, _ = grid_sweep
    differs = 0
    for unit, choice in state.choices.items():
        means, search = {}, {}
        for item in state.items.values():
            if item.kind == "rescore" and item.labels["unit"] == unit:
                means.setdefault(item.spec.finetune.digest, []).append(item.outcome.metrics["objective"])
            if item.kind == "search" and item.labels["unit"] == unit:
                search[item.spec.finetune.digest] = item.outcome.metrics["objective"]
        assert len(means) == space.confirm.rescore_top
        assert {len(scores) for scores in means.values()} == {space.confirm.rescore_seeds}
        best = min(means, key=lambda recipe: sum(means[recipe]) / len(means[recipe]))
        assert FinetuneSpec.model_validate(choice["recipe"]).digest == best
        assert set(means) == set(sorted(search, key=search.get)[: space.confirm.rescore_top])
        differs += best != min(search, key=search.get)
    assert differs, "in some unit the new seeds must overrule the search"


def test_rescore_and_confirm_seeds_are_not_the_seeds_of_the_search(grid_sweep):
    _, state, _ = grid_sweep
    seeds = {}
    for item in state.items.values():
        if item.kind in ("search", "rescore", "confirm"):
            seeds.setdefault(item.kind, set()).add(item.spec.head_seed)
    assert len(seeds["search"]) == 1 and len(seeds["rescore"]) == 2 and len(seeds["confirm"]) == 2
    assert len(set.union(*seeds.values())) == 5


def test_confirm_replicates_are_crossed_and_the_same_for_every_cell(grid_sweep):
    _, state, _ = grid_sweep
    places = {}
    for item in state.items.values():
        if item.kind == "confirm":
            at = tuple(item.labels[key] for key in ("pretrain_seed", "split", "head_seed"))
            places.setdefault(item.labels["unit"], []).append(at)
    crossed = [(p, s, h) for p in range(2) for s in range(2) for h in range(2)]
    assert {tuple(sorted(at)) for at in places.values()} == {tuple(crossed)}


def test_exactly_one_confirm_replicate_keeps_its_model(grid_sweep):
    _, _, works = grid_sweep
    kept = Counter(work.labels["unit"] for work in works if work.save_model)
    assert set(kept.values()) == {1} and len(kept) == 12
    assert all(work.kind == "confirm" for work in works if work.save_model)


def test_search_trials_use_split_zero_and_baselines_every_split(grid_sweep):
    _, state, _ = grid_sweep
    splits = {}
    for item in state.items.values():
        if item.kind != "pretrain":
            splits.setdefault(item.kind, set()).add(item.spec.split)
    assert splits == {"search": {0}, "rescore": {0}, "confirm": {0, 1}, "baseline": {0, 1}}


def test_cells_come_in_an_order_that_follows_the_seed_and_nothing_else(tmp_path):
    def order(seed, folder):
        space = grid_space(seed=seed, grid__molecules=[10, 20, 30])
        with opened(space, tmp_path / folder) as ledger:
            return [unit.name for unit in engine_on(space, ledger).units]

    first = order(0, "a")
    assert first == order(0, "b") and sorted(first) == sorted(order(1, "c"))
    assert first != order(1, "d") and first != sorted(first)


def test_an_adaptive_space_pre_trains_only_what_its_points_ask_for(adaptive_sweep):
    space, state, works = adaptive_sweep
    asked = {state.items[p.uid].spec.pretrained for points in state.asked.values() for p in points.values()} - {None}
    trained = [work.uid for work in of_kind(works, "pretrain")]
    assert sorted(trained) == sorted(asked)
    assert 0 < len(trained) < len(make_plan(space).candidate_cells)
    assert any(item.cell and item.cell.is_control for item in state.items.values()), "0 molecules is a choice"


def test_an_adaptive_space_has_one_study_budget_and_choice_per_task(adaptive_sweep):
    space, state, _ = adaptive_sweep
    assert set(state.asked) == set(space.tasks) == set(state.choices)
    assert {len(points) for points in state.asked.values()} == {6}
    for choice in state.choices.values():
        axes = state.asked[choice["unit"]][choice["ordinal"]].params
        assert {key: choice["cell"][key] for key in axes if key in choice["cell"]} == {
            key: axes[key] for key in ("architecture", "molecules")
        }


def test_a_rung_table_holds_the_trials_of_earlier_windows_only(tmp_path):
    space = grid_space(search__pruner="median", search__trials=6, search__ask_window=2)
    _, works = swept(space, tmp_path, in_flight=4, seed=3)
    for work in of_kind(works, "search"):
        ordinal = work.labels["ordinal"]
        assert work.rungs.pruner == "median" and work.rungs.study == work.labels["study"]
        assert [t.ordinal for t in work.rungs.earlier] == list(range(ordinal // 2 * 2))
    assert all(work.rungs is None for work in works if work.kind != "search")


def test_without_a_pruner_no_rung_table_travels(grid_sweep):
    assert all(work.rungs is None for work in grid_sweep[2])


def test_pruned_trials_are_no_candidates(tmp_path):
    space = grid_space(search__pruner="median", search__trials=6)
    state, _ = swept(space, tmp_path)
    pruned = {item.uid for item in state.items.values() if item.status == "pruned"}
    assert pruned
    for unit, choice in state.choices.items():
        assert state.asked[unit][choice["ordinal"]].uid not in pruned


def test_only_what_fits_is_handed_out(tmp_path):
    space = grid_space(resources={"baseline": {"cpus": 2, "threads": 1}})
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert engine.ask(lambda shape: False) is None
        assert engine.ask(lambda shape: shape == ResourceShape(cpus=2, threads=1)).kind == "baseline"
        assert engine.ask(lambda shape: shape.cpus == 1).kind != "baseline"


def test_an_item_on_a_gpu_is_told_so(tmp_path):
    space = grid_space(resources={"pretrain": {"gpus": 1}})
    state, works = swept(space, tmp_path)
    assert {work.device for work in of_kind(works, "pretrain")} == {"cuda"}
    assert {work.device for work in works if work.kind != "pretrain"} == {"cpu"}
    plain = {item.uid for item in swept(grid_space(), tmp_path / "plain")[0].items.values()}
    assert set(state.items) == plain, "a share of the machine is no part of a uid"


def test_a_setting_of_the_cell_decides_which_conditional_parameters_are_searched(tmp_path):
    recipe = changed(GRID, finetune__method=None)["finetune"]
    space = grid_space(finetune=recipe, grid__finetune={"method": ["full", "linear_probe"]})
    state, _ = swept(space, tmp_path)
    for study, points in state.asked.items():
        for point in points.values():
            assert ("dropout" in point.params) == ("method=full" in study) and "method" not in point.params
            method = state.items[point.uid].spec.finetune.method
            assert f"method={method}" in study


def test_none_in_the_grid_is_the_value_none(tmp_path):
    space = grid_space(grid__finetune={"patience": ["none", 2]}, tasks=["freewilson_pic50"])
    state, _ = swept(space, tmp_path)
    patience = {
        item.cell.name[-4:]: item.spec.finetune.patience for item in state.items.values() if item.kind == "search"
    }
    assert patience == {"none": None, "ce=2": 2}


def test_controls_do_not_multiply_with_axes_of_pre_training(tmp_path):
    space = grid_space(pretrain__epochs=None, grid__pretrain={"epochs": [1, 2]}, tasks=["freewilson_pic50"])
    state, works = swept(space, tmp_path)
    assert len([name for name in state.asked if "scratch" in name]) == 2
    assert len(state.asked) == 2 * 2 * 2 + 2 and len(of_kind(works, "pretrain")) == 8
    assert Counter(item.kind for item in state.items.values()) == make_plan(space).items


def test_a_cell_that_the_sampler_could_draw_but_nobody_can_build_is_told_before_anything_runs(tmp_path):
    space = adaptive_space(model=changed(ADAPTIVE_MODEL, size={"choice": ["w32x1", "w33x1"]}))
    with opened(space, tmp_path) as ledger:
        with pytest.raises(
            ConfigError, match=r"may draw every cell of space 'space', 4 cannot be built(.|\n)*llama-w33x1"
        ):
            engine_on(space, ledger)
        assert not ledger.state.items


def test_inactive_parameters_stand_at_their_defaults_in_the_recipe():
    space = grid_space()
    resolver = Resolver(space, prepared_for(space), CachePaths(Path("/cache")))
    assert resolver.recipe(CELL, {"method": "linear_probe", "learning_rate": 0.001}) == FinetuneSpec(
        method="linear_probe", learning_rate=0.001, max_epochs=3
    )
    assert resolver.recipe(CELL, {"method": "full", "learning_rate": 0.001, "dropout": 0.25}).dropout == 0.25


def test_floats_beyond_six_digits_do_not_change_a_uid():
    space = grid_space()
    resolver = Resolver(space, prepared_for(space), CachePaths(Path("/cache")))
    one, two = (
        resolver.trial("search", CELL, space.tasks[0], FinetuneSpec(learning_rate=rate), Replicate()).digest
        for rate in (0.00123456, 0.001234560001)
    )
    assert one == two


def test_an_outcome_is_the_same_after_the_ledger(grid_sweep):
    _, state, works = grid_sweep
    told = {work.uid: finished(work) for work in works}
    assert all(item.outcome == Outcome.model_validate(told[item.uid].model_dump()) for item in state.items.values())
    assert essence(state)["finished"]


def test_a_thousand_finished_trials_are_taken_up_in_no_time(tmp_path):
    rates = [round(1e-4 * k, 6) for k in range(1, 21)]
    recipe = {"method": "full", "learning_rate": {"choice": rates}}
    molecules = [10 * k for k in range(1, 12)]
    space = grid_space(finetune=recipe, grid__molecules=molecules, search={"sampler": "grid", "trials": 20})
    trials = len(swept(space, tmp_path)[1])
    started = time.process_time()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
    seconds = time.process_time() - started
    assert engine.done and trials > 1000
    assert seconds < 2.0, "0.2 s were measured"
