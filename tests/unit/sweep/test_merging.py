"""Ledgers of one sweep that become one: shards driven apart, and copies that went on by themselves."""

import itertools
import os
import shutil

import pytest
from sweep_fakes import (
    adaptive_space,
    drive,
    engine_on,
    essence,
    failed,
    finished,
    grid_space,
    leave_result,
    opened,
    paths_in,
    swept,
)

from chembench.errors import ConfigError, DataError, DiskFullError
from chembench.paths import SweepPaths
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.rows import rows_from_state
from chembench.sweep import merge
from chembench.sweep.ledger import Ledger, line_of, read_events, read_state
from chembench.sweep.merge import merge_sweeps
from chembench.sweep.plan import make_plan, share_of
from chembench.sweep.progress import expected_items
from chembench.sweep.shard import Shard

ONE_TASK = {"tasks": ["freewilson_pic50"]}


def with_result(work):
    """An outcome with a test score, and the folder that a worker leaves."""
    outcome = finished(work)
    if work.kind in ("confirm", "baseline") and outcome.status == "finished":
        metrics = {**outcome.metrics, "test/rmse": outcome.metrics["objective"], "valid/rmse": 1.0}
        outcome = outcome.model_copy(update={"metrics": metrics})
    leave_result(work, outcome)
    return outcome


def merged(folder, *parts, said=None):
    target = paths_in(folder)
    return merge_sweeps([paths_in(part) for part in parts], target, (said if said is not None else []).append)


def boards_of(state):
    return leaderboards(rows_from_state(state), design_from_state(state))


def files_in(paths):
    return {path.relative_to(paths.trials): path.read_bytes() for path in paths.trials.rglob("*") if path.is_file()}


def copied(folder, target):
    shutil.copytree(folder, target)
    return target


# --------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("of", [1, 3])
@pytest.mark.parametrize("make", [grid_space, adaptive_space])
def test_merged_shards_are_the_sweep_that_was_not_divided(tmp_path, make, of):
    space = make(search__sampler="tpe", search__pruner="median", search__trials=5)
    parts = [tmp_path / str(index) for index in range(1, of + 1)]
    for index, part in enumerate(parts, 1):
        swept(space, part, with_result, in_flight=index, seed=index, shard=Shard(index, of))
    whole, _ = swept(space, tmp_path / "whole", with_result)
    said = []
    state = merged(tmp_path / "merged", *parts, said=said)
    assert essence(state) == essence(whole) and state.finished
    assert {k: v.model_dump(exclude={"sweep"}) for k, v in boards_of(state).items()} == {
        k: v.model_dump(exclude={"sweep"}) for k, v in boards_of(whole).items()
    }
    assert files_in(paths_in(tmp_path / "merged")) == files_in(paths_in(tmp_path / "whole"))
    assert state.header["shard"] is None and said[0].startswith(f"{of} sweeps merged: {len(whole.items)} items, ")
    assert [part["shard"] for part in state.header["merged"]] == [f"{index}/{of}" for index in range(1, of + 1)]
    again, works = swept(space, tmp_path / "merged")
    assert not works and again.events == state.events, "nothing is left to do"


def test_the_order_of_the_events_follows_the_sources_and_not_the_clock(tmp_path, monkeypatch):
    space = grid_space(**ONE_TASK)
    clock = itertools.count(2e9, -60.0)
    monkeypatch.setattr("time.time", lambda: next(clock))
    parts = [tmp_path / str(index) for index in (1, 2)]
    for index, part in enumerate(parts, 1):
        swept(space, part, shard=Shard(index, 2))
    for name in ("a", "b"):
        merged(tmp_path / name, *parts)
    one, two = (paths_in(tmp_path / name).ledger.read_bytes() for name in ("a", "b"))
    assert one == two
    assert essence(merged(tmp_path / "c", *reversed(parts))) == essence(read_state(paths_in(tmp_path / "a")))


def test_some_of_the_shards_are_a_sweep_that_goes_on_with_the_rest(tmp_path):
    space = grid_space(**ONE_TASK)
    parts = [tmp_path / str(index) for index in (1, 3)]
    for index, part in zip((1, 3), parts, strict=True):
        swept(space, part, shard=Shard(index, 3))
    state = merged(tmp_path / "merged", *parts)
    assert not state.finished and not any(item.is_left for item in state.items.values())
    done = set(state.items)
    state, works = swept(space, tmp_path / "merged")
    assert not done & {work.uid for work in works} and works
    assert essence(state) == essence(swept(space, tmp_path / "whole")[0])


def test_a_pre_training_that_two_shards_did_is_one_and_is_counted(tmp_path):
    space = adaptive_space(search__trials=6)
    whole, _ = swept(space, tmp_path / "whole")
    states = [swept(space, tmp_path / str(i), timed(i), shard=Shard(i, 2))[0] for i in (1, 2)]
    shared = set(states[0].items) & set(states[1].items)
    assert shared and {states[0].items[uid].kind for uid in shared} == {"pretrain"}
    for order in ((1, 2), (2, 1)):
        state = merged(tmp_path / f"merged{order[0]}", *(tmp_path / str(i) for i in order))
        assert state.header["remeasured"] == len(shared) and essence(state) == essence(whole)
        assert {state.items[uid].outcome.measured["wall_seconds"] for uid in shared} == {float(order[0])}


def timed(seconds):
    def run(work):
        return finished(work).model_copy(update={"measured": {"wall_seconds": float(seconds)}})

    return run


@pytest.mark.parametrize("shards", [["1/2", "2/2"], ["1/2"], ["1/2", "1/3"]])
def test_the_header_has_the_cells_of_all_shards_and_expects_the_whole(tmp_path, shards):
    space = grid_space(**ONE_TASK)
    for text in shards:
        shard = Shard.parse(text)
        with opened(space, tmp_path / text, shard=shard) as ledger:
            cells, expected = share_of(space, shard)
            header = {**ledger.state.header, "cells": cells, "expected": expected}
            event = {"event": "sweep", "name": "one", "space_digest": space.digest, "header": header}
            ledger.append(event)
    state = merged(tmp_path / "merged", *(tmp_path / shard for shard in shards))
    assert state.header["expected"] == dict(make_plan(space).items)
    assert expected_items(state) == make_plan(space).total_items
    assert len(state.header["cells"]) == len(set(state.header["cells"]))
    assert len(state.header["cells"]) == 6 or "2/2" not in shards
    assert state.name == "one" and state.space_digest == space.digest


# ------------------------------------------------------------------------------------------------- copies that went on


def half_a_sweep(folder, space, count=12):
    """A sweep whose driver ended after so many items."""
    with opened(space, folder) as ledger:
        engine = engine_on(space, ledger)
        for _ in range(count):
            engine.tell(with_result(engine.ask()))
    return folder


def test_copies_of_one_sweep_that_went_on_apart_become_one(tmp_path):
    space = grid_space(**ONE_TASK)
    half = half_a_sweep(tmp_path / "half", space)
    ahead, behind = copied(half, tmp_path / "ahead"), copied(half, tmp_path / "behind")
    swept(space, ahead, timed(2))
    with opened(space, behind) as ledger:
        engine = engine_on(space, ledger)
        for _ in range(5):
            engine.tell(timed(3)(engine.ask()))
    state = merged(tmp_path / "merged", behind, ahead)
    assert essence(state) | {"finished": True} == essence(read_state(paths_in(ahead)))
    assert state.header["remeasured"] == 5, "what they have in common was measured once"
    assert sorted(item.outcome.measured["wall_seconds"] for item in state.items.values())[-1] == 3.0
    state, works = swept(space, tmp_path / "merged")
    assert not works and state.finished


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_finished_result_counts_before_a_failed_one_and_that_before_none(tmp_path, order):
    space = grid_space(**ONE_TASK)
    sick, well = tmp_path / "sick", tmp_path / "well"
    swept(space, sick, lambda w: failed(w) if w.kind == "baseline" else finished(w))
    half_a_sweep(well, space, count=4)
    with opened(space, well) as ledger:
        engine = engine_on(space, ledger)
        baselines = [item.uid for item in engine.state.items.values() if item.kind == "baseline"]
        work = engine.ask(only=baselines)
        engine.tell(with_result(work))
    parts = [(sick, well)[n] for n in order]
    state = merged(tmp_path / "merged", *parts)
    statuses = {uid: state.items[uid].status for uid in baselines}
    assert statuses == dict.fromkeys(baselines, "failed") | {work.uid: "finished"}
    assert essence(state)["items"][work.uid] == essence(read_state(paths_in(well)))["items"][work.uid]


def test_a_merged_sweep_and_a_source_that_went_on_are_merged_again(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1", with_result, shard=Shard(1, 2))
    with opened(space, tmp_path / "2", shard=Shard(2, 2)) as ledger:
        engine = engine_on(space, ledger, Shard(2, 2))
        engine.tell(with_result(engine.ask()))
    first = merged(tmp_path / "first", tmp_path / "1", tmp_path / "2")
    assert not first.finished
    swept(space, tmp_path / "2", with_result, shard=Shard(2, 2))
    with pytest.raises(ConfigError, match=r"a merge makes a new sweep, \S+ exists; give it another --name, or remove"):
        merged(tmp_path / "first", tmp_path / "1", tmp_path / "2")
    second = merged(tmp_path / "second", tmp_path / "first", tmp_path / "2")
    assert second.header["remeasured"] == 0
    state, works = swept(space, tmp_path / "second")
    assert not works and essence(state) == essence(swept(space, tmp_path / "whole", with_result)[0])
    assert files_in(paths_in(tmp_path / "second")) == files_in(paths_in(tmp_path / "whole"))


def test_a_choice_that_rests_on_a_result_that_is_not_kept_is_made_again(tmp_path):
    space = grid_space(confirm__rescore_seeds=0, **ONE_TASK)
    swept(space, tmp_path / "1")

    def otherwise(work):
        outcome = finished(work)
        worst = {"objective": -1.0 - work.labels["ordinal"]} if work.kind == "search" else outcome.metrics
        return outcome.model_copy(update={"metrics": worst})

    swept(space, tmp_path / "2", otherwise)
    before = essence(read_state(paths_in(tmp_path / "1")))["chosen"]
    state = merged(tmp_path / "merged", tmp_path / "1", tmp_path / "2")
    assert not state.finished and {choice["ordinal"] for choice in state.choices.values()} == {2}
    state, _ = swept(space, tmp_path / "merged")
    assert state.finished
    assert {unit: c["ordinal"] for unit, c in state.choices.items()} == {u: c["ordinal"] for u, c in before.items()}


# ------------------------------------------------------------------------------------------- what ran, and its folders


def test_what_ran_waits_again_unless_its_result_is_found_and_attempts_go_on_counting(tmp_path):
    space = grid_space(**ONE_TASK)
    with opened(space, tmp_path / "1", shard=Shard(1, 1)) as ledger:
        engine = engine_on(space, ledger, Shard(1, 1))
        done, lost, preempted = engine.ask(), engine.ask(), engine.ask()
        leave_result(done, with_result(done))
        leave_result(preempted, failed(preempted, "preempted"))
        state_file = paths_in(tmp_path / "1").run(lost.uid, 1).resume
        state_file.parent.mkdir(parents=True)
        state_file.write_bytes(b"half way")
    state = merged(tmp_path / "merged", tmp_path / "1")
    assert {uid: state.items[uid].status for uid in (done.uid, lost.uid, preempted.uid)} == {
        done.uid: "finished",
        lost.uid: "waiting",
        preempted.uid: "waiting",
    }
    assert paths_in(tmp_path / "merged").run(lost.uid, 1).resume.read_bytes() == b"half way"
    with opened(space, tmp_path / "merged") as ledger:
        engine = engine_on(space, ledger)
        again = [engine.ask(), engine.ask()]
        assert {(work.uid, work.attempt) for work in again} == {(lost.uid, 2), (preempted.uid, 2)}


def test_of_an_item_that_never_ended_the_source_is_kept_that_tried_most_often(tmp_path):
    space = grid_space(**ONE_TASK)
    for name, drivers in (("1", 1), ("2", 3)):
        for attempt in range(1, drivers + 1):
            with opened(space, tmp_path / name) as ledger:
                work = engine_on(space, ledger).ask()
                state_file = paths_in(tmp_path / name).run(work.uid, attempt).resume
                state_file.parent.mkdir(parents=True)
                state_file.write_text(f"{name} {attempt}")
    for order in (("1", "2"), ("2", "1")):
        state = merged(tmp_path / "merged" / order[0], *(tmp_path / name for name in order))
        assert (state.items[work.uid].attempt, state.items[work.uid].status) == (3, "waiting")
        kept = paths_in(tmp_path / "merged" / order[0]).run(work.uid, 3).resume
        assert kept.read_text() == "2 3"


def test_a_retried_item_waits_in_the_merged_sweep_too(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1", lambda w: failed(w) if w.kind == "baseline" else finished(w))
    with opened(space, tmp_path / "1") as ledger:
        again = engine_on(space, ledger).retry()
    state = merged(tmp_path / "merged", tmp_path / "1")
    assert {state.items[uid].status for uid in again} == {"waiting"} and not state.finished
    drive_on, works = swept(space, tmp_path / "merged")
    assert {work.uid: work.attempt for work in works} == dict.fromkeys(again, 2) and drive_on.finished


def test_folders_are_linked_with_all_their_attempts_or_copied_where_that_cannot_be(tmp_path, monkeypatch):
    space = grid_space(**ONE_TASK)

    def run(work):
        if work.attempt == 1 and work.kind == "confirm":
            leave_result(work, failed(work, "preempted"))
            return failed(work, "preempted")
        model = paths_in(tmp_path / "1").run(work.uid, work.attempt).model / "weights"
        model.parent.mkdir(parents=True)
        model.write_bytes(work.uid.encode())
        return with_result(work)

    swept(space, tmp_path / "1", run)
    source = files_in(paths_in(tmp_path / "1"))
    merged(tmp_path / "linked", tmp_path / "1")
    assert files_in(paths_in(tmp_path / "linked")) == source
    assert {path.stat().st_nlink for path in paths_in(tmp_path / "linked").trials.rglob("*") if path.is_file()} == {2}
    monkeypatch.setattr(os, "link", no_link)
    merged(tmp_path / "copied", tmp_path / "1")
    assert files_in(paths_in(tmp_path / "copied")) == source
    assert {path.stat().st_nlink for path in paths_in(tmp_path / "copied").trials.rglob("*") if path.is_file()} == {1}


def no_link(*args, **kwargs):
    raise OSError(18, "Invalid cross-device link")


def test_folders_that_are_missing_are_counted_and_those_of_orphans_are_not_missed(tmp_path):
    space = grid_space(**ONE_TASK)
    state, _ = swept(space, tmp_path / "1", lambda w: failed(w) if w.kind == "pretrain" else with_result(w))
    said = []
    merged(tmp_path / "merged", tmp_path / "1", said=said)
    broken = sum(item.kind == "pretrain" for item in state.items.values())
    assert said[1] == (
        f"{broken} items that were started have no folder in their sweep; their results are in the ledger"
    )


def test_space_and_environment_come_along(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1")
    paths = paths_in(tmp_path / "1")
    paths.space.write_text("name = 'one'\n")
    paths.environment.write_text("{}")
    merged(tmp_path / "merged", tmp_path / "1")
    made = paths_in(tmp_path / "merged")
    assert (made.space.read_text(), made.environment.read_text()) == ("name = 'one'\n", "{}")


def test_a_ledger_of_an_earlier_version_is_merged_with_the_basis_of_its_choices(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1")
    ledger = paths_in(tmp_path / "1").ledger
    events = [{k: v for k, v in event.items() if k != "basis"} for _, event in read_events(ledger)]
    ledger.write_bytes(b"".join(map(line_of, events)))
    merged(tmp_path / "merged", tmp_path / "1")
    state, works = swept(space, tmp_path / "merged")
    assert not works and essence(state) == essence(swept(space, tmp_path / "again")[0])


# -------------------------------------------------------------------------------------------------- what is refused


def test_sweeps_of_different_spaces_are_refused_with_what_differs(tmp_path):
    swept(grid_space(**ONE_TASK), tmp_path / "1")
    swept(grid_space(search__trials=4, finetune__patience=2, **ONE_TASK), tmp_path / "2")
    with pytest.raises(ConfigError) as caught:
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "2")
    assert caught.value.problems == (
        "only sweeps of one space can be merged, 'one' (there) and 'one' (here) differ; leave one of them out",
        "finetune.patience: (not set) there, 2 here",
        "search.trials: 3 there, 4 here",
    )
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("trials", [(3, 4), (4, 3)])
def test_sweeps_that_could_be_raised_to_the_same_are_told_so(tmp_path, trials):
    for number in trials:
        swept(grid_space(search__trials=number, **ONE_TASK), tmp_path / str(number))
    with pytest.raises(
        ConfigError, match=r"differ; raise both to the same by chembench resume --set, or leave one"
    ) as c:
        merged(tmp_path / "merged", *(tmp_path / str(number) for number in trials))
    assert c.value.problems[1:] == (f"search.trials: {trials[0]} there, {trials[1]} here",)


def test_sweeps_on_different_inputs_are_refused_with_what_differs(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1")
    with Ledger(paths_in(tmp_path / "2")) as ledger:
        header = dict(read_state(paths_in(tmp_path / "1")).header)
        header["inputs"] = {**header["inputs"], "labels": "others"}
        ledger.append({"event": "sweep", "name": "two", "space_digest": space.digest, "header": header})
    with pytest.raises(
        DataError, match="same inputs can be merged, 'one' and 'two' differ in labels; leave one of them"
    ):
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "2")


def test_different_trials_at_one_place_are_refused_by_name(tmp_path):
    space = grid_space(search__sampler="tpe", search__trials=8, search__ask_window=1, **ONE_TASK)
    swept(space, tmp_path / "1")

    def upside_down(work):
        outcome = finished(work)
        return outcome.model_copy(update={"metrics": {"objective": 1 - outcome.metrics["objective"]}})

    swept(space, tmp_path / "2", upside_down)
    with pytest.raises(ConfigError) as caught:
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "2")
    first, *told, rest = caught.value.problems
    assert first == "sweeps that asked for different trials at one place cannot be merged; leave one of them out"
    one, two = (read_state(paths_in(tmp_path / name)) for name in ("1", "2"))
    assert len(told) == 10 and rest.startswith("and ") and rest.endswith(" more")
    study, ordinal = sorted(
        (study, k) for study, points in one.asked.items() for k in points if points[k].uid != two.asked[study][k].uid
    )[0]
    uids = [state.asked[study][ordinal].uid for state in (one, two)]
    assert told[0] == f"trial {ordinal} of {study}: {uids[0]} in one, {uids[1]} in one"


def test_a_source_that_is_driven_is_refused(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1")
    with opened(space, tmp_path / "2"), pytest.raises(ConfigError, match=rf"another process \(pid {os.getpid()}\)"):
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "2")
    with opened(space, tmp_path / "1"):
        pass  # the lock of the first source was given back


def test_a_merge_needs_different_sweeps_that_exist_and_have_begun(tmp_path):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1")
    with pytest.raises(ConfigError, match="a merge takes different sweeps, got none; name each folder once"):
        merged(tmp_path / "merged")
    again = SweepPaths(paths_in(tmp_path / "1").root / ".." / "one")
    with pytest.raises(ConfigError, match=r"different sweeps, got \S+/one twice; name each folder once"):
        merge_sweeps([paths_in(tmp_path / "1"), again], paths_in(tmp_path / "merged"), print)
    with pytest.raises(ConfigError, match=r"no sweep in \S+nothing\S+; start one with"):
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "nothing")
    Ledger(paths_in(tmp_path / "empty")).close()
    with pytest.raises(ConfigError, match=r"a sweep that is merged must have begun, \S+ has not; leave it out"):
        merged(tmp_path / "merged", tmp_path / "1", tmp_path / "empty")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("step", ["_copy_folder", "SweepPaths"])
def test_a_merge_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, step):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1", with_result)
    before = paths_in(tmp_path / "1").ledger.read_bytes()
    calls = itertools.count()

    def full(*args):
        if next(calls) == 3 or step == "SweepPaths":
            raise OSError(28, "No space left on device")
        return original(*args)

    original = getattr(merge, step)
    with monkeypatch.context() as patch:
        patch.setattr(merge, step, full)
        with pytest.raises(DiskFullError, match="no space left on the device that holds"):
            merged(tmp_path / "merged", tmp_path / "1")
    assert list((tmp_path / "merged" / "sweeps").iterdir()) == []
    assert paths_in(tmp_path / "1").ledger.read_bytes() == before
    assert merged(tmp_path / "merged", tmp_path / "1").finished


def test_a_target_that_somebody_else_made_meanwhile_is_not_taken_for_the_merge(tmp_path, monkeypatch):
    space = grid_space(**ONE_TASK)
    swept(space, tmp_path / "1", with_result)
    swept(grid_space(), tmp_path / "other")

    def late(*args):
        shutil.copytree(paths_in(tmp_path / "other").root, paths_in(tmp_path / "merged").root)
        return 0

    monkeypatch.setattr(merge, "_copy_folders", late)
    with pytest.raises(ConfigError, match=r"a merge makes a new sweep, \S+ exists"):
        merged(tmp_path / "merged", tmp_path / "1")
    written = paths_in(tmp_path / "merged").ledger.read_bytes()
    assert written == paths_in(tmp_path / "other").ledger.read_bytes()


def test_the_sources_are_left_as_they_are(tmp_path):
    space = grid_space(**ONE_TASK)
    half_a_sweep(tmp_path / "1", space)

    def everything():
        return {path: path.read_bytes() for path in paths_in(tmp_path / "1").root.rglob("*") if path.is_file()}

    before = everything()
    merged(tmp_path / "merged", tmp_path / "1")
    with opened(space, tmp_path / "merged") as ledger:
        drive(engine_on(space, ledger), with_result)
    assert everything() == before
