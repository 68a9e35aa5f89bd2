"""Failures one after the other end the work before the time is spent; what failed alike is told once."""

import pytest
from sweep_fakes import drive, engine_on, failed, finished, grid_space, opened, paths_in, swept

from chembench.paths import RunPaths
from chembench.specs import Outcome
from chembench.sweep.progress import Failure, failures_of, place_of, status_of

ONE_TASK = {"tasks": ["freewilson_pic50"]}
TRACEBACK = """Traceback (most recent call last):
  File "/home/me/chembench/.venv/lib/python3.11/site-packages/chembench/trial.py", line 78, in run_item
    result = CARRY_OUT[work.kind](work, paths)
  File "/home/me/chembench/chembench/training/finetune.py", line 214, in _step
    loss.backward()
  File "/home/me/chembench/.venv/lib/python3.11/site-packages/torch/_tensor.py", line 648, in backward
    torch.autograd.backward(
RuntimeError: expected scalar type Float but found BFloat16
"""


def giving_up(limit, **changes):
    return grid_space(search__give_up_after=limit, **ONE_TASK, **changes)


def told_one_by_one(engine, causes):
    """Tell the engine the outcome of one item after the other: a cause it failed of, or none if it finished."""
    works = []
    for cause in causes:
        work = engine.ask()
        works.append(work)
        engine.tell(finished(work) if cause is None else failed(work, cause))
    return works


def test_as_many_failures_in_a_row_as_allowed_end_the_work_and_name_the_first(tmp_path):
    space = giving_up(3)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        flying = engine.ask()
        works = told_one_by_one(engine, ["oom", "bug"])
        assert engine.given_up is None
        works += told_one_by_one(engine, ["nan"])
        assert engine.given_up == (
            "3 items failed one after the other, as many as search.give_up_after allows, first the "
            f"{works[0].kind} {works[0].uid} (oom): it broke: oom; "
            f"mend the cause, then chembench retry {paths_in(tmp_path).root} --failed"
        )
        assert engine.ask() is None and not engine.done
        assert engine.tell(finished(flying)), "what is in flight still counts"
        assert engine.given_up is not None and engine.ask() is None


def test_the_first_failure_is_told_with_the_place_of_its_traceback(tmp_path):
    space = giving_up(1)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        work = engine.ask()
        error = RunPaths(paths_in(tmp_path).run(work.uid, 1).root).error
        error.parent.mkdir(parents=True)
        error.write_text(TRACEBACK)
        engine.tell(failed(work))
        assert f"it broke: bug at {error} (chembench/training/finetune.py:214); mend" in engine.given_up


def test_one_that_finished_in_between_starts_the_count_anew(tmp_path):
    space = giving_up(3)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        told_one_by_one(engine, ["bug", "bug", None, "bug", "bug", None, "bug", "bug"])
        assert engine.given_up is None
        told_one_by_one(engine, ["bug"])
        assert engine.given_up is not None


def test_a_pruned_trial_is_no_failure(tmp_path):
    space = giving_up(2)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        told_one_by_one(engine, ["bug"])
        work = engine.ask()
        engine.tell(Outcome(uid=work.uid, attempt=1, kind=work.kind, status="pruned", objectives=(1.0,)))
        told_one_by_one(engine, ["bug"])
        assert engine.given_up is None


def test_lost_and_preempted_attempts_are_not_counted(tmp_path):
    space = giving_up(2)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        told_one_by_one(engine, ["bug", "preempted", *["worker-lost"] * 6])
        assert engine.given_up is None and len(engine._failed_in_a_row) == 1
        assert any(item.outcome.cause == "worker-lost" for item in engine.state.items.values() if item.is_final)


def test_trials_that_fail_with_their_pre_training_count_once_with_it(tmp_path):
    space = giving_up(3, controls={"from_scratch": False, "baselines": []})
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        for expected in (1, 2):
            told_one_by_one(engine, ["oom"])
            assert len(engine._failed_in_a_row) == expected and engine.given_up is None
        assert sum(item.status == "failed" for item in engine.state.items.values()) > 6


def test_a_retry_and_a_new_driver_begin_to_count_anew(tmp_path):
    space = giving_up(2)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        told_one_by_one(engine, ["bug", "bug"])
        assert engine.given_up is not None
        engine.retry()
        assert engine.given_up is None
        told_one_by_one(engine, ["bug"])
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        told_one_by_one(engine, ["bug"])
        assert engine.given_up is None
        engine.retry()
        drive(engine)
        assert ledger.state.finished


def test_a_sweep_whose_last_items_failed_is_done_not_given_up(tmp_path):
    space = giving_up(3, controls__baselines=["forest_ecfp4", "constant"])
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        drive(engine, lambda w: failed(w) if w.kind == "baseline" else finished(w))
        assert len(engine._failed_in_a_row) == 3 and engine.done and engine.given_up is None


# ------------------------------------------------------------------------------------------------ what is told of them


def test_items_that_failed_alike_are_told_once_the_first_root_cause_first(tmp_path):
    space = grid_space(search__replacements=0, **ONE_TASK)

    def run(work):
        if work.kind == "pretrain" and work.spec.molecules == 40:
            return failed(work, "oom")
        return failed(work, "nan") if work.kind == "baseline" else finished(work)

    state, works = swept(space, tmp_path, run)
    broken = [work.uid for work in works if work.kind == "pretrain" and work.spec.molecules == 40]
    baselines = [uid for uid, item in state.items.items() if item.kind == "baseline"]
    by_cause = {failure.cause: failure for failure in failures_of(state)}
    assert by_cause == {
        "oom": Failure("oom", "it broke: oom", 2, next(uid for uid in state.items if uid in broken), "", 6),
        "nan": Failure("nan", "it broke: nan", 3, baselines[0], "", 0),
    }
    assert (
        status_of(state).model_dump()["first_failure"]
        == f"{failures_of(state)[0].first}: {failures_of(state)[0].message}"
    )
    assert status_of(state).model_dump()["failures"] == {"nan": 3, "oom": 8}


def test_messages_that_differ_in_the_uid_alone_are_alike_and_others_are_not(tmp_path):
    space = grid_space(**ONE_TASK)

    def run(work):
        if work.kind != "baseline":
            return finished(work)
        why = "lost" if work.spec.baseline == "constant" else f"no result in trials/{work.uid}/1"
        return failed(work).model_copy(update={"message": why})

    state, _ = swept(space, tmp_path, run)
    told = {failure.message: failure.count for failure in failures_of(state)}
    first = failures_of(state)[0]
    assert sorted(told.values()) == [1, 2] and told["lost"] == 1
    assert first.message == f"no result in trials/{first.first}/1"


def test_the_place_is_that_of_the_first_item_s_last_attempt(tmp_path):
    space = grid_space(**ONE_TASK)
    state, _ = swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    paths = paths_in(tmp_path)
    (failure,) = failures_of(state, paths)
    assert failure.place == ""
    error = paths.run(failure.first, 1).error
    error.parent.mkdir(parents=True)
    error.write_text(TRACEBACK)
    assert failures_of(state, paths)[0].place == f"{error} (chembench/training/finetune.py:214)"


@pytest.mark.parametrize(
    "text", ["", "Killed", 'File "/opt/torch/x.py", line 3, in f', 'File "/a/mychembench/b.py", line 1']
)
def test_a_traceback_without_a_line_of_ours_is_told_by_its_file(tmp_path, text):
    run = RunPaths(tmp_path)
    assert place_of(run) == ""
    run.error.write_text(text)
    assert place_of(run) == str(run.error)


def test_without_failures_nothing_is_told(tmp_path):
    state, _ = swept(grid_space(**ONE_TASK), tmp_path)
    assert failures_of(state) == [] and status_of(state).model_dump()["first_failure"] == ""
