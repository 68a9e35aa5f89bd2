"""Failed items that wait again, and what is chosen anew because of them."""

import json
import random

import pytest
from sweep_fakes import (
    Killed,
    drive,
    engine_on,
    essence,
    failed,
    finished,
    grid_space,
    of_kind,
    opened,
    paths_in,
    retried,
    swept,
)

from chembench.errors import ConfigError, UnknownNameError
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.rows import rows_from_state
from chembench.sweep.ledger import Ledger, line_of, read_events, read_state
from chembench.sweep.progress import expected_items, status_of
from chembench.sweep.winners import winners
from chembench.tracking.spool import records

ONE_TASK = {"tasks": ["freewilson_pic50"]}


def events_of(folder):
    return [event for _, event in read_events(paths_in(folder).ledger)]


def names_of(events):
    return [event["event"] for event in events]


# -------------------------------------------------------------------------------------------------- what is retried


@pytest.mark.parametrize("kind", ["baseline", "confirm", "rescore"])
def test_what_failed_once_ends_after_a_retry_as_if_it_never_had(tmp_path, kind):
    space = grid_space(**ONE_TASK)
    before, _ = swept(space, tmp_path, lambda w: failed(w) if w.kind == kind else finished(w))
    lost = [uid for uid, item in before.items.items() if item.status == "failed"]
    state, again, works = retried(space, tmp_path)
    assert lost and again == lost
    assert {work.uid: work.attempt for work in works if work.uid in lost} == dict.fromkeys(lost, 2)
    assert essence(state) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_only_the_cause_and_the_uids_that_are_asked_for_are_retried(tmp_path):
    space = grid_space(**ONE_TASK)
    causes = {"forest_ecfp4": "oom", "constant": "nan"}

    def run(work):
        return failed(work, causes[work.spec.baseline]) if work.kind == "baseline" else finished(work)

    state, _ = swept(space, tmp_path, run)
    by_cause = {}
    for item in state.items.values():
        if item.kind == "baseline":
            by_cause.setdefault(item.outcome.cause, []).append(item.uid)
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert engine.retry(cause="preempted") == [] and engine.done
        with pytest.raises(ConfigError, match=rf"item {by_cause['oom'][0]} failed of oom, not of nan; name the one"):
            engine.retry(cause="nan", uids=by_cause["oom"])
        with pytest.raises(UnknownNameError, match=r"unknown cause 'nam'\. Did you mean 'nan'\? Known: bug, data"):
            engine.retry(cause="nam")
        assert engine.state.finished
        assert engine.retry(cause="nan") == by_cause["nan"] and not engine.done
        one = by_cause["oom"][0]
        assert engine.retry(uids=[one]) == [one]
        assert {item.uid for item in engine.state.items.values() if item.status == "failed"} == {*by_cause["oom"][1:]}


@pytest.mark.parametrize("told", ["is finished", "is no item of this sweep"])
def test_what_has_not_failed_is_not_retried_and_nothing_is_written(tmp_path, told):
    space = grid_space(**ONE_TASK)
    state, _ = swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    bad = next(uid for uid, item in state.items.items() if item.status == "failed")
    other = "f" * 12 if "no item" in told else next(u for u, i in state.items.items() if i.status == "finished")
    with opened(space, tmp_path) as ledger:
        with pytest.raises(ConfigError, match=f"only a failed item can be retried, {other} {told}; see chembench stat"):
            engine_on(space, ledger).retry(uids=[bad, other])
        assert ledger.state.items[bad].status == "failed" and ledger.state.finished


@pytest.fixture
def without_a_checkpoint(tmp_path):
    """A sweep in which one pre-training of each architecture fails; failed trials are not replaced."""
    space = grid_space(search__replacements=0, **ONE_TASK)

    def run(work):
        return failed(work, "oom") if work.kind == "pretrain" and work.spec.molecules == 40 else finished(work)

    state, _ = swept(space, tmp_path, run)
    return space, tmp_path, state


@pytest.mark.parametrize("which", ["all", "oom", "pre-training", "trial"])
def test_a_pre_training_and_the_trials_that_failed_with_it_are_retried_together(without_a_checkpoint, which):
    space, folder, before = without_a_checkpoint
    broken = [item for item in before.items.values() if item.kind == "pretrain" and item.status == "failed"]
    first = broken[0].uid
    of_first = [item.uid for item in before.items.values() if item.failed_with == first]
    asked = {
        "all": {},
        "oom": {"cause": "oom"},
        "pre-training": {"uids": [first]},
        "trial": {"uids": [of_first[1]]},
    }[which]
    state, again, works = retried(space, folder, **asked)
    if which in ("all", "oom"):
        assert essence(state) == essence(swept(space, folder / "undisturbed")[0])
    else:
        assert set(again) == {first, *of_first} and len(of_first) == 3
        assert {work.uid for work in works} > {first, *of_first}, "rescore and confirm follow"
        assert {item.uid for item in state.items.values() if item.kind == "pretrain" and item.status == "failed"} == {
            broken[1].uid
        }


def test_a_driver_killed_while_it_retries_loses_nothing(without_a_checkpoint):
    space, folder, before = without_a_checkpoint
    broken = next(uid for uid, item in before.items.items() if item.kind == "pretrain" and item.status == "failed")
    lost = {broken, *(uid for uid, item in before.items.items() if item.failed_with == broken)}
    written = paths_in(folder).ledger.read_bytes()
    for left in range(len(lost)):
        paths_in(folder).ledger.write_bytes(written)
        with opened(space, folder) as ledger:
            engine = engine_on(space, ledger)
            ledger.left = left
            with pytest.raises(Killed):
                engine.retry(uids=[broken])
        state, again, _ = retried(space, folder, uids=[broken])
        assert set(again) == lost and len(lost) == 4, "the same call retries the same items"
        assert {state.items[uid].status for uid in lost} == {"finished"}


def test_a_pre_training_that_fails_again_fails_its_trials_again(without_a_checkpoint):
    space, folder, before = without_a_checkpoint
    state, again, works = retried(space, folder, lambda w: failed(w, "oom") if w.kind == "pretrain" else finished(w))
    assert {work.kind for work in works} == {"pretrain"} and len(again) == 8
    assert {k: v for k, v in essence(state).items() if k != "items"} == {
        k: v for k, v in essence(before).items() if k != "items"
    }
    assert {item.attempt for item in state.items.values() if item.status == "failed"} == {2}


# --------------------------------------------------------------------------------------------- counts and projections


def test_a_retried_item_waits_and_its_old_outcome_is_history(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert status_of(engine.state).model_dump()["failures"] == {"bug": 3}
        engine.retry()
        status = status_of(engine.state).model_dump()
        assert (status["finished"], status["failures"], status["left"]) == (False, {}, 3)
        assert status["counts"]["baseline"] == {"waiting": 3} and status["eta_seconds"] > 0
        rows = [row for row in rows_from_state(engine.state) if row.kind == "baseline"]
        assert {(row.status, row.cause, row.attempt) for row in rows} == {("waiting", None, None)}
    assert not read_state(paths_in(tmp_path)).finished


def test_trackers_see_a_retried_item_as_one_that_goes_on(tmp_path):
    space = grid_space(**ONE_TASK)
    before, _ = swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    with opened(space, tmp_path) as ledger:
        again = engine_on(space, ledger).retry()

    def statuses(state, **how):
        return {record.uid: record.status for record in records(state, paths_in(tmp_path), **how)}

    waiting = read_state(paths_in(tmp_path))
    assert {statuses(before, final=True)[uid] for uid in again} == {"failed"}
    assert {statuses(waiting, final=False)[uid] for uid in again} == {"running"}
    assert {statuses(waiting, final=True)[uid] for uid in again} == {"interrupted"}
    after, _ = swept(space, tmp_path)
    assert {(r.status, r.attempt) for r in records(after, paths_in(tmp_path), final=True) if r.uid in again} == {
        ("finished", 2)
    }


def test_a_late_result_of_the_failed_attempt_is_ignored_after_a_retry(tmp_path):
    space = grid_space(**ONE_TASK)
    _, works = swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    first = of_kind(works, "baseline")[0]
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        engine.retry(uids=[first.uid])
        assert not engine.tell(finished(first)), "it waits"
        second = engine.ask()
        assert (second.uid, second.attempt) == (first.uid, 2)
        assert not engine.tell(finished(first)), "attempt 2 runs"
        assert engine.tell(finished(second)) and engine.done


# --------------------------------------------------------------------------------------------------------- choosing


def surprising(objective):
    """The first search trial of each study fails; retried it scores so, and its recipe does on new seeds, too."""

    def run(work):
        is_first = work.kind in ("search", "rescore") and work.labels["ordinal"] == 0
        if is_first and work.kind == "search" and work.attempt == 1:
            return failed(work)
        outcome = finished(work)
        return outcome.model_copy(update={"metrics": {"objective": objective}}) if is_first else outcome

    return run


@pytest.fixture(scope="module")
def changed_recipes(tmp_path_factory):
    """A sweep before and after a retry that changes the recipe of every unit."""
    folder, space = tmp_path_factory.mktemp("changed"), grid_space(**ONE_TASK)
    before = essence(swept(space, folder, surprising(-1.0))[0])
    mark = len(events_of(folder))
    state, _, works = retried(space, folder, surprising(-1.0))
    return space, before, state, works, events_of(folder)[mark:]


def test_a_recipe_that_a_retried_trial_changes_opens_the_test_a_second_time(changed_recipes):
    space, before, state, works, events = changed_recipes
    assert {choice["ordinal"] for choice in state.choices.values()} == {0}
    assert {tuple(opened[:1]) for opened in state.openings.values()} <= {
        tuple(opened) for opened in before["openings"].values()
    }
    assert {len(opened) for opened in state.openings.values()} == {2} and state.finished
    assert names_of(events).count("opened") == len(state.openings) == 6
    confirmed = of_kind(works, "confirm")
    assert len(confirmed) == 6 * space.confirm.head_seeds and {work.attempt for work in confirmed} == {1}
    for unit, choice in state.choices.items():
        assert choice["basis"] != before["chosen"][unit]["basis"]


def test_boards_and_winners_count_the_recipe_that_stands_alone(changed_recipes):
    _, _, state, _, _ = changed_recipes
    rows = rows_from_state(state)
    confirms = [row for row in rows if row.kind == "confirm"]
    assert len(confirms) == 24 and sum(row.superseded for row in confirms) == 12
    standing = {row.study: row.recipe for row in confirms if not row.superseded}
    assert standing == {unit: opened[-1][1] for unit, opened in state.openings.items()}
    won = state.items[winners(state)["freewilson_pic50"]]
    assert not won.superseded
    scored = [r.model_copy(update={"metrics": {"test_rmse": float(r.superseded)}}) for r in confirms]
    (board,) = leaderboards(scored, design_from_state(state)).values()
    (section,) = board.sections
    assert {entry.score.mean for entry in section.entries} == {0.0} and len(section.entries) == 6
    assert {entry.badges for entry in section.entries} == {("recipe changed after opening",)}


def test_the_same_recipe_chosen_again_opens_and_confirms_nothing(tmp_path):
    space = grid_space(**ONE_TASK)
    before = essence(swept(space, tmp_path, surprising(9.0))[0])
    mark = len(events_of(tmp_path))
    state, _, works = retried(space, tmp_path, surprising(9.0))
    since = names_of(events_of(tmp_path)[mark:])
    assert {work.kind for work in works} == {"search"} and state.finished
    assert since.count("chosen") == len(state.choices) == 6 and "opened" not in since
    for unit, choice in state.choices.items():
        same = {key for key in choice if choice[key] == before["chosen"][unit].get(key)}
        assert set(choice) - same == {"basis", "at"}
    assert state.openings == before["openings"]


def test_units_in_which_every_search_trial_failed_get_a_recipe_after_all(tmp_path):
    space = grid_space(search__replacements=0, **ONE_TASK)
    swept(space, tmp_path, lambda w: failed(w) if w.kind == "search" else finished(w))
    assert {choice["recipe"] for choice in read_state(paths_in(tmp_path)).choices.values()} == {None}
    state, _, _ = retried(space, tmp_path)
    assert essence(state) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_confirm_runs_wait_for_the_choice_to_stand_again_and_those_of_a_gone_recipe_are_not_run(tmp_path):
    space = grid_space(**ONE_TASK)
    bad = surprising(-1.0)

    def run(work):
        return failed(work) if work.kind == "confirm" and work.labels["head_seed"] == 1 else bad(work)

    swept(space, tmp_path, run)
    state, again, works = retried(space, tmp_path, bad)
    waiting = [item for item in state.items.values() if item.status == "waiting"]
    assert state.finished and len(waiting) == 6 and {item.superseded for item in waiting} == {True}
    assert {item.uid for item in waiting} < set(again) and not {item.uid for item in waiting} & {w.uid for w in works}
    status = status_of(state).model_dump()
    assert status["left"] == 0 and status["counts"]["confirm"] == {"finished": 18, "superseded": 6}
    assert expected_items(state) == sum(item.is_final for item in state.items.values())
    quiet, _ = swept(space, tmp_path)
    assert quiet.finished and quiet.events == state.events, "taken up again it writes nothing"


def test_a_gone_recipe_that_is_chosen_again_is_confirmed_to_its_end(tmp_path):
    space = grid_space(confirm__rescore_seeds=0, **ONE_TASK)
    scores = {0: [None, -1.0], 1: [None, None, -2.0], 2: [-3.0]}

    def run(work):
        if work.kind == "search":
            score = scores.get(work.labels["ordinal"], [5.0])
            objective = score[min(work.attempt, len(score)) - 1]
            if objective is None:
                return failed(work)
            return finished(work).model_copy(update={"metrics": {"objective": objective}})
        return failed(work) if work.kind == "confirm" and work.attempt == 1 else finished(work)

    swept(space, tmp_path, run)
    state, _, works = retried(space, tmp_path, run)
    assert {choice["ordinal"] for choice in state.choices.values()} == {2}
    assert {len(opened) for opened in state.openings.values()} == {1}
    assert {item.status for item in state.items.values() if item.kind == "confirm"} == {"finished"}
    assert of_kind(works, "confirm")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_is_lost_or_killed_a_sweep_retried_to_its_end_is_the_undisturbed_one(tmp_path, seed):
    space = grid_space(search__replacements=0, confirm__pretrain_seeds=2, **ONE_TASK)
    dice = random.Random(seed)

    def run(work):
        if dice.random() < 0.75:
            return finished(work)
        return failed(work, dice.choice(["bug", "oom", "nan", "worker-lost", "preempted"]))

    for _ in range(200):
        with opened(space, tmp_path, left=dice.choice([5, 20, 80, None])) as ledger:
            try:
                engine = engine_on(space, ledger)
                if dice.random() < 0.5:
                    engine.retry()
                drive(engine, run, in_flight=dice.choice([1, 3]), seed=dice.random())
            except Killed:
                continue
            if not any(item.status == "failed" for item in ledger.state.items.values()):
                break
    now, undisturbed = essence(ledger.state), essence(swept(space, tmp_path / "undisturbed")[0])
    assert now["finished"] and now["asked"] == undisturbed["asked"] and now["chosen"] == undisturbed["chosen"]
    assert {uid: now["items"][uid] for uid in undisturbed["items"]} == undisturbed["items"]
    for unit, opened_for in now["openings"].items():
        assert opened_for.count(undisturbed["openings"][unit][0]) == 1
    standing = [item for item in ledger.state.items.values() if item.kind == "confirm" and not item.superseded]
    assert {item.uid for item in standing} == {u for u in undisturbed["items"] if u in {i.uid for i in standing}}
    assert len(standing) == 6 * 4 and {item.status for item in standing} == {"finished"}


# ------------------------------------------------------------------------------------------------ earlier versions


def as_an_earlier_version_wrote_it(folder):
    """Rewrite the ledger without the basis of its choices."""
    ledger = paths_in(folder).ledger
    lines = []
    for event in events_of(folder):
        event.pop("basis", None)
        lines.append(line_of(event))
    ledger.write_bytes(b"".join(lines))
    assert b"basis" not in ledger.read_bytes()


@pytest.mark.parametrize("lost", ["nothing", "rescore", "search", "pretrain"])
def test_a_finished_sweep_of_an_earlier_version_keeps_its_result(tmp_path, lost):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path, lambda w: failed(w) if w.kind == lost and w.uid < "a" else finished(w))
    now = essence(read_state(paths_in(tmp_path)))
    as_an_earlier_version_wrote_it(tmp_path)
    written = paths_in(tmp_path).ledger.read_bytes()
    state, works = swept(space, tmp_path)
    assert not works and essence(state) == now
    assert paths_in(tmp_path).ledger.read_bytes() == written


def test_an_earlier_choice_is_made_again_when_what_it_was_made_from_changes(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path, surprising(-1.0))
    as_an_earlier_version_wrote_it(tmp_path)
    state, _, _ = retried(space, tmp_path, surprising(-1.0))
    assert {choice["ordinal"] for choice in state.choices.values()} == {0}
    assert {len(opened) for opened in state.openings.values()} == {2}


def test_a_ledger_is_json_that_says_what_was_retried(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    _, again, _ = retried(space, tmp_path)
    lines = map(json.loads, paths_in(tmp_path).ledger.read_text().splitlines())
    assert [line["uid"] for line in lines if line["event"] == "retried"] == again
    with Ledger(paths_in(tmp_path)) as ledger:
        assert drive(engine_on(space, ledger)) == []
