"""What an engine does with results that are late, wrong or failed; the sweep ends whatever fails."""

import pytest
from sweep_fakes import adaptive_space, engine_on, essence, failed, finished, grid_space, of_kind, opened, swept

from chembench.config import stable_seed
from chembench.errors import ConfigError
from chembench.sweep.results import MAX_ATTEMPTS


def test_a_finished_trial_without_objective_is_refused_and_changes_nothing(tmp_path):
    space = grid_space(controls={"baselines": []})
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        work = next(w for w in iter(lambda: engine.ask(), None) if w.kind == "search")
        with pytest.raises(ConfigError, match=r"needs metrics\['objective'\], lower is better, got \['score'\]"):
            engine.tell(finished(work).model_copy(update={"metrics": {"score": 1.0}}))
        assert engine.state.items[work.uid].status == "running"
        assert engine.tell(finished(work))


def test_a_stale_attempt_a_second_result_and_a_stranger_are_ignored(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        first = engine.ask()
        assert engine.tell(failed(first, "worker-lost"))
        again = engine.ask()
        assert (again.uid, again.attempt) == (first.uid, 2) and again.folder != first.folder
        assert not engine.tell(finished(first)), "attempt 1 comes late"
        assert engine.tell(finished(again))
        events = ledger.state.events
        assert not engine.tell(failed(again)), "told already"
        assert not engine.tell(finished(again).model_copy(update={"uid": "0" * 12}))
        assert ledger.state.events == events and engine.state.items[first.uid].status == "finished"


def test_a_lost_worker_is_replaced_until_the_attempts_are_used_up(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"])
    bad = {}

    def run(work):
        bad.setdefault(work.kind, work.uid)
        return failed(work, "worker-lost") if work.uid == bad[work.kind] and work.kind == "confirm" else finished(work)

    state, works = swept(space, tmp_path, run)
    assert [work.attempt for work in works if work.uid == bad["confirm"]] == list(range(1, MAX_ATTEMPTS + 1))
    item = state.items[bad["confirm"]]
    assert (item.status, item.outcome.cause, state.finished) == ("failed", "worker-lost", True)


def test_a_preempted_item_is_handed_out_again_however_often_and_loses_nothing(tmp_path):
    space = grid_space(tasks=["freewilson_pic50"])
    times = 5 * MAX_ATTEMPTS

    def run(work):
        return failed(work, "preempted") if work.kind == "confirm" and work.attempt <= times else finished(work)

    state, _ = swept(space, tmp_path, run, in_flight=3, seed=0)
    confirms = [item for item in state.items.values() if item.kind == "confirm"]
    assert {(item.status, item.attempt, item.losses) for item in confirms} == {("finished", times + 1, 0)}
    assert essence(state) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_a_preemption_between_two_losses_counts_as_none(tmp_path):
    causes = ["worker-lost", "preempted", "worker-lost", "preempted"]
    space = grid_space(tasks=["freewilson_pic50"], controls__baselines=["constant"])

    def run(work):
        is_ill = work.kind == "baseline" and work.attempt <= len(causes)
        return failed(work, causes[work.attempt - 1]) if is_ill else finished(work)

    state, _ = swept(space, tmp_path, run)
    (item,) = (item for item in state.items.values() if item.kind == "baseline")
    assert (item.status, item.attempt, item.losses) == ("finished", 5, 2)


@pytest.mark.parametrize("cause", ["oom", "nan", "data", "bug"])
def test_a_failure_that_would_only_repeat_is_not_tried_again(tmp_path, cause):
    space = grid_space(tasks=["freewilson_pic50"])
    state, works = swept(space, tmp_path, lambda w: failed(w, cause) if w.kind == "baseline" else finished(w))
    assert {work.attempt for work in works} == {1} and state.finished
    assert {i.outcome.cause for i in state.items.values() if i.kind == "baseline"} == {cause}


def test_failed_search_trials_are_replaced_by_new_ordinals_up_to_the_limit(tmp_path):
    space = grid_space(search__trials=4, search__replacements=2, tasks=["freewilson_pic50"])

    def run(work):
        return failed(work) if work.kind == "search" and work.labels["ordinal"] in (0, 1, 2) else finished(work)

    state, _ = swept(space, tmp_path, run)
    for points in state.asked.values():
        assert sorted(points) == list(range(6)), "three failed, two may be replaced"
    assert {choice["ordinal"] in (3, 4, 5) for choice in state.choices.values()} == {True}
    one = grid_space(search__trials=4, search__replacements=0, tasks=["freewilson_pic50"])
    assert {len(points) for points in swept(one, tmp_path / "none", run)[0].asked.values()} == {4}


@pytest.mark.parametrize("space", [grid_space(), adaptive_space()], ids=["grid", "adaptive"])
def test_a_sweep_in_which_every_search_trial_fails_ends_with_no_recipe_and_closed_tests(tmp_path, space):
    state, works = swept(space, tmp_path, lambda w: failed(w) if w.kind == "search" else finished(w))
    assert state.finished and not state.openings and not of_kind(works, "rescore", "confirm")
    assert {choice["recipe"] for choice in state.choices.values()} == {None}
    assert {choice["reason"] for choice in state.choices.values()} == {"every search trial failed or was pruned"}
    assert len(state.choices) == len(state.asked) > 0


def test_a_unit_whose_rescores_all_fail_has_no_recipe(tmp_path):
    state, works = swept(grid_space(), tmp_path, lambda w: failed(w) if w.kind == "rescore" else finished(w))
    assert state.finished and not of_kind(works, "confirm")
    assert {choice["reason"] for choice in state.choices.values()} == {"every rescore trial failed"}


def test_a_recipe_with_a_failed_rescore_is_not_chosen(tmp_path):
    def run(work):
        return failed(work) if work.kind == "rescore" and work.labels["ordinal"] == 0 else finished(work)

    state, _ = swept(grid_space(), tmp_path, run)
    assert all("0" not in choice["rescored"] for choice in state.choices.values())
    assert state.finished and all(choice["ordinal"] != 0 for choice in state.choices.values() if choice["rescored"])


def test_a_failed_pre_training_fails_what_needs_it_and_the_sweep_ends(tmp_path):
    def run(work):
        return failed(work, "oom") if work.kind == "pretrain" and work.spec.molecules == 40 else finished(work)

    space = grid_space(search__replacements=1)
    state, works = swept(space, tmp_path, run, in_flight=4, seed=1)
    assert state.finished
    broken = {item.uid for item in state.items.values() if item.kind == "pretrain" and item.status == "failed"}
    dependents = [item for item in state.items.values() if getattr(item.spec, "pretrained", None) in broken]
    assert len(broken) == 2 and not {i.uid for i in dependents} & {work.uid for work in works}
    assert {(item.kind, item.status, item.outcome.cause) for item in dependents} == {("search", "failed", "oom")}
    assert {item.outcome.message for item in dependents} == {
        f"its pre-training {u} failed: it broke: oom" for u in broken
    }
    assert len(dependents) == 2 * 2 * (space.search.trials + 1), "each with its one replacement"
    for unit, choice in state.choices.items():
        assert (choice["recipe"] is None) == ("-40/" in unit)


def test_a_pre_training_that_fails_for_one_confirm_seed_fails_only_its_replicates(tmp_path):
    space = grid_space(confirm__pretrain_seeds=2, tasks=["freewilson_pic50"])
    second = stable_seed(space.seed, "pretrain", 1)

    def run(work):
        return failed(work) if work.kind == "pretrain" and work.spec.seed == second else finished(work)

    state, _ = swept(space, tmp_path, run)
    lost = [item for item in state.items.values() if item.kind == "confirm" and item.status == "failed"]
    assert state.finished and len(lost) == 4 * 2
    assert all(item.labels["pretrain_seed"] == 1 and not item.cell.is_control for item in lost)
