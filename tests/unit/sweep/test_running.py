"""What is checked before the first item, what is shown meanwhile, what wins, and what a folder may go on with."""

import pytest
from sweep_fakes import drive, engine_on, failed, finished, grid_space, opened, swept

from chembench.errors import ConfigError
from chembench.progress import describe
from chembench.sweep.progress import expected_items, seconds_left, status_of
from chembench.sweep.running import check_fits, local_node
from chembench.sweep.space import ResourceShape
from chembench.sweep.state import SweepState
from chembench.sweep.winners import winners

LAPTOP = {"CPU": 2.0}
ONE_GPU = {"CPU": 8.0, "GPU": 1.0}


def test_what_fits_on_some_node_passes():
    check_fits([ResourceShape(cpus=2), ResourceShape(cpus=0.5)], [LAPTOP])
    check_fits([ResourceShape(cpus=8, gpus=0.25), ResourceShape(cpus=2)], [LAPTOP, ONE_GPU])


def test_a_gpu_where_none_is_visible_is_refused_with_the_way_out():
    with pytest.raises(ConfigError) as caught:
        check_fits([ResourceShape(gpus=1), ResourceShape(gpus=1), ResourceShape(gpus=0.25)], [LAPTOP])
    assert caught.value.exit_code == 2
    assert list(caught.value.problems) == [
        f"space asks for {share} GPU per item, none is visible; "
        "choose a CPU space such as quickstart, or --set resources.gpus=0"
        for share in ("0.25", "1")
    ]


def test_more_cpus_than_the_node_has_are_refused():
    text = "no node can hold an item of 4 CPU and 0 GPU, the largest has 2 CPU and 0 GPU; lower \\[resources\\]"
    with pytest.raises(ConfigError, match=text):
        check_fits([ResourceShape(cpus=4)], [LAPTOP, LAPTOP])


def test_an_item_must_fit_on_one_node_not_on_all_of_them_together():
    with pytest.raises(ConfigError, match="no node can hold an item of 8 CPU and 1 GPU"):
        check_fits([ResourceShape(cpus=8, gpus=1)], [{"CPU": 16.0}, {"CPU": 4.0, "GPU": 1.0}])


def test_a_cluster_without_nodes_holds_nothing():
    with pytest.raises(ConfigError, match="the largest has 0 CPU"):
        check_fits([ResourceShape()], [])


def test_this_machine_has_a_processor_and_no_gpu_is_looked_for_unasked():
    node = local_node(with_gpu=False)
    assert node["CPU"] >= 1 and "GPU" not in node


# --------------------------------------------------------------------------------------------- status and time


def state_of(space):
    state = SweepState()
    header = {"identity": space.identity()}
    state.apply({"event": "sweep", "name": "mine", "space_digest": space.digest, "header": header})
    return state


def test_status_counts_kinds_causes_and_what_is_left(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"], controls__baselines=["constant"])
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        before = status_of(engine.state).model_dump()
        assert before["finished"] is False and before["eta_seconds"] is None and before["failures"] == {}
        assert before["counts"] == {
            "baseline": {"waiting": 1},
            "pretrain": {"waiting": 4},
            "search": {"waiting": 12},
        }
        assert before["left"] == 17
        drive(engine, lambda w: failed(w, "oom") if w.kind == "baseline" else finished(w))
        after = status_of(engine.state).model_dump()
    assert after["finished"] and after["left"] == 0 and after["eta_seconds"] is None
    assert after["failures"] == {"oom": 1} and after["first_failure"].endswith(": it broke: oom")
    assert after["counts"]["search"] == {"finished": 18} and after["counts"]["baseline"] == {"failed": 1}


def test_the_time_left_follows_the_mean_of_each_kind_and_the_workers():
    space = grid_space(tasks=["freewilson_pic50"])
    state = state_of(space)
    state.header |= {"expected": {"search": 10, "pretrain": 2}, "workers": 2}
    assert seconds_left(state) is None and expected_items(state) == 12
    for n, (seconds, kind) in enumerate([(4.0, "search"), (8.0, "search"), (30.0, "pretrain")]):
        item = FakeItem(kind, seconds)
        state.items[str(n)] = item
    assert seconds_left(state) == (8 * 6.0 + 1 * 30.0) / 2


class FakeItem:
    """An item that is done, seen from the forecast."""

    is_final, status = True, "finished"

    def __init__(self, kind, seconds):
        self.kind = kind
        self.outcome = type("Ended", (), {"measured": {"wall_seconds": seconds}})


def test_the_expected_items_are_those_of_the_plan_until_the_end_knows_better(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"])
    with opened(space, tmp_path) as ledger:
        ledger.state.header["expected"] = {"pretrain": 4, "search": 18, "rescore": 24, "confirm": 12, "baseline": 3}
        engine = engine_on(space, ledger)
        assert expected_items(engine.state) == 61
        drive(engine, lambda w: failed(w) if w.kind == "rescore" else finished(w))
        assert engine.state.finished and expected_items(engine.state) == 49, "no confirm items came"
        shown = describe(engine.state)
    assert (shown.done, shown.total, shown.is_finished) == (49, 49, True)


# ------------------------------------------------------------------------------------------------------- winners


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Test scores run against validation: a choice by the wrong one is seen."""

    def run(work):
        outcome = finished(work)
        metrics = {**outcome.metrics, "test/rmse": -outcome.metrics["objective"]}
        return outcome.model_copy(update={"metrics": metrics if work.kind == "confirm" else outcome.metrics})

    return swept(grid_space(), tmp_path_factory.mktemp("winners"), run)[0]


def means(state, task):
    found = {}
    for item in state.items.values():
        if item.kind == "confirm" and item.labels["task"] == task:
            found.setdefault(item.labels["unit"], []).append(item.outcome.metrics["objective"])
    return {unit: sum(scores) / len(scores) for unit, scores in found.items()}


def test_the_winner_of_a_task_is_the_unit_with_the_best_mean_validation(two_tasks):
    won = winners(two_tasks)
    assert sorted(won) == ["freewilson_active", "freewilson_pic50"]
    for task, uid in won.items():
        unit_means = means(two_tasks, task)
        item = two_tasks.items[uid]
        assert item.labels["unit"] == min(unit_means, key=unit_means.get)
        assert (item.labels["pretrain_seed"], item.labels["split"], item.labels["head_seed"]) == (0, 0, 0)


def test_a_unit_with_a_failed_replicate_cannot_win(tmp_path, two_tasks):
    best = {two_tasks.items[uid].labels["unit"] for uid in winners(two_tasks).values()}

    def run(work):
        spoilt = work.kind == "confirm" and work.labels["unit"] in best and work.labels["head_seed"] == 1
        return failed(work) if spoilt else finished(work)

    state, _ = swept(grid_space(), tmp_path, run)
    assert not {state.items[uid].labels["unit"] for uid in winners(state).values()} & best
    assert len(winners(state)) == 2


def test_before_the_confirm_runs_nobody_has_won():
    assert winners(SweepState()) == {}
