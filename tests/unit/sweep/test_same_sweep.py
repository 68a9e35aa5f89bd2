"""The same trials are asked for in any order of results, at any concurrency, and after any restart."""

import itertools

import pytest
from sweep_fakes import (
    Killed,
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

from chembench.config import stable_seed
from chembench.sweep.ledger import read_events, read_state
from chembench.sweep.progress import seconds_left, status_of

HARD = {"search__sampler": "tpe", "search__trials": 5, "search__pruner": "median", "tasks": ["freewilson_pic50"]}


def hard_space(shape: str, window: int = 2):
    """A space in which trials are pruned, replaced and asked by their predecessors' results."""
    if shape == "grid":
        return grid_space(**HARD, search__ask_window=window)
    return adaptive_space(**{**HARD, "search__trials": 12}, search__ask_window=window)


def unlucky(work):
    """Every fifth search trial fails, as its specification decides."""
    if work.kind == "search" and stable_seed("luck", work.spec.digest) % 5 == 0:
        return failed(work)
    return finished(work)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What each space gives when its items are carried out one after the other."""
    found = {}

    def of(shape: str, window: int):
        if (shape, window) not in found:
            state, _ = swept(hard_space(shape, window), tmp_path_factory.mktemp("reference"), unlucky)
            found[shape, window] = essence(state)
        return found[shape, window]

    return of


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("shape", ["grid", "adaptive"])
def test_the_reference_holds_failed_pruned_and_replaced_trials(reference, shape, window):
    found = reference(shape, window)
    assert {status for status, *_ in found["items"].values()} == {"finished", "pruned", "failed"}
    assert max(len(points) for points in found["asked"].values()) > hard_space(shape).search.trials
    assert found["finished"]


@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("shape", ["grid", "adaptive"])
def test_the_order_of_results_and_the_concurrency_change_nothing(tmp_path, reference, shape, window, in_flight):
    state, works = swept(hard_space(shape, window), tmp_path, unlucky, in_flight, seed=10 * window + in_flight)
    assert essence(state) == reference(shape, window)
    assert len({work.uid for work in works}) == len(works)


def test_the_window_belongs_to_the_space_and_changes_the_asks(reference):
    assert reference("grid", 1)["asked"] != reference("grid", 4)["asked"]


def killed_while_running(space, folder, left, seed):
    """Drive until ``left`` events are written; of the items in flight, every other one still leaves its result."""
    handed_out = []

    def run(work):
        handed_out.append(work)
        return unlucky(work)

    with opened(space, folder, left) as ledger:
        try:
            drive(engine_on(space, ledger), run, in_flight=3, seed=seed)
        except Killed:
            for n, item in enumerate(i for i in ledger.state.items.values() if i.status == "running"):
                told = next((w for w in handed_out if w.uid == item.uid and w.attempt == item.attempt), None)
                if n % 2 == 0 and told is not None:
                    leave_result(told, unlucky(told))
            return True
    return False


@pytest.mark.parametrize("shape", ["grid", "adaptive"])
def test_a_restart_at_any_event_goes_on_to_the_same_end(tmp_path, reference, shape):
    space, window = hard_space(shape), 2
    events = read_state(paths_in(whole(space, tmp_path / "whole"))).events
    for left in range(0, events, 17 if shape == "grid" else 5):
        folder = tmp_path / str(left)
        assert killed_while_running(space, folder, left, seed=left)
        before = read_state(paths_in(folder))
        running = {item.uid: item.attempt for item in before.items.values() if item.status == "running"}
        state, works = swept(space, folder, unlucky, in_flight=2, seed=left + 1)
        assert essence(state) == reference(shape, window), f"killed after {left} events"
        done = {item.uid for item in before.items.values() if item.is_final}
        assert not done & {work.uid for work in works}, "what was done is not done again"
        for work in works:
            assert work.attempt == running.get(work.uid, 0) + 1 or work.uid not in running


def whole(space, folder):
    swept(space, folder, unlucky, in_flight=3, seed=0)
    return folder


def test_a_sweep_restarted_after_every_few_events_ends_as_if_it_never_was(tmp_path, reference):
    space, restarts = hard_space("grid"), 0
    while killed_while_running(space, tmp_path, 9, seed=restarts):
        restarts += 1
    assert essence(read_state(paths_in(tmp_path))) == reference("grid", 2)
    assert restarts > 20


def test_a_result_left_by_a_worker_is_folded_in_and_not_computed_again(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        kept, lost = engine.ask(), engine.ask()
        leave_result(kept, finished(kept))
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert engine.state.items[kept.uid].status == "finished"
        works = drive(engine)
    assert kept.uid not in {work.uid for work in works}
    assert [work.attempt for work in works if work.uid == lost.uid] == [2]


def test_a_result_of_another_attempt_in_the_folder_is_not_believed(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        work = engine_on(space, ledger).ask()
        leave_result(work, finished(work).model_copy(update={"attempt": 7}))
    with opened(space, tmp_path) as ledger:
        assert engine_on(space, ledger).state.items[work.uid].status == "waiting"


@pytest.mark.parametrize("content", [b'{"uid": "a', b"\xff\xfe\x00", b"", b"[]"])
def test_a_half_written_or_damaged_result_is_no_result(tmp_path, content):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        work = engine_on(space, ledger).ask()
        leave_result(work, finished(work))
        paths_in(tmp_path).run(work.uid, 1).result.write_bytes(content)
    with opened(space, tmp_path) as ledger:
        assert engine_on(space, ledger).state.items[work.uid].status == "waiting"


def test_items_that_were_started_before_are_handed_out_before_all_others(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        drive_until(engine, lambda: any(item.kind == "confirm" for item in engine.state.items.values()))
        lost = [engine.ask(), *iter_of_kind(engine, "baseline", 2), *iter_of_kind(engine, "pretrain", 1)]
        engine.tell(failed(lost[1], "preempted"))
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        again = [engine.ask() for _ in lost]
        assert {work.uid for work in again} == {work.uid for work in lost}
        assert {work.attempt for work in again} == {2} and again[0].kind == "confirm", "among them the usual order"
        assert engine.ask().attempt == 1


def drive_until(engine, is_there):
    while not is_there():
        engine.tell(finished(engine.ask()))


def iter_of_kind(engine, kind, count):
    """So many items of a kind, whatever is ready before them."""
    uids = [item.uid for item in engine.state.items.values() if item.kind == kind and item.status == "waiting"]
    return [engine.ask(only=uids) for _ in range(count)]


def test_a_late_result_of_an_earlier_attempt_is_never_folded_in(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        first = engine_on(space, ledger).ask()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        second = engine.ask()
        assert (second.uid, second.attempt) == (first.uid, 2)
        leave_result(first, finished(first).model_copy(update={"metrics": {"objective": -99.0}}))
        assert not engine.tell(finished(first))
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        third = engine.ask()
        assert (third.uid, third.attempt) == (first.uid, 3), "attempt 1 ended too late"
        leave_result(third, finished(third))
        leave_result(second, finished(second).model_copy(update={"metrics": {"objective": -98.0}}))
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert engine.state.items[first.uid].outcome == finished(third)
        drive(engine)
        assert essence(ledger.state) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_only_what_is_asked_for_is_handed_out(tmp_path):
    space = grid_space()
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        assert engine.ask(only=[]) is None
        search = [item for item in engine.state.items.values() if item.kind == "search" and item.spec.pretrained]
        assert engine.ask(only=[search[0].uid]) is None, "its pre-training comes first"
        assert engine.ask(only=[search[0].uid, search[0].spec.pretrained]).kind == "pretrain"


def test_drivers_that_end_use_up_no_attempts(tmp_path):
    space = grid_space()
    for expected in range(1, 6):
        with opened(space, tmp_path) as ledger:
            work = engine_on(space, ledger).ask()
            assert work.attempt == expected
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        sixth = engine.ask()
        engine.tell(failed(sixth, "worker-lost"))
        assert engine.state.items[sixth.uid].status == "waiting"


def test_a_pre_training_found_failed_at_the_restart_fails_its_dependents(tmp_path):
    space = grid_space(controls={"baselines": [], "from_scratch": False})
    with opened(space, tmp_path) as ledger:
        work = engine_on(space, ledger).ask()
        assert work.kind == "pretrain"
        leave_result(work, failed(work, "nan"))
    state, works = swept(space, tmp_path)
    assert state.finished and work.uid not in {w.uid for w in works}
    waiting = [item for item in state.items.values() if getattr(item.spec, "pretrained", None) == work.uid]
    assert waiting and {(item.status, item.outcome.cause) for item in waiting} == {("failed", "nan")}


def test_a_finished_sweep_taken_up_again_writes_nothing(tmp_path):
    space = grid_space()
    swept(space, tmp_path)
    before = paths_in(tmp_path).ledger.read_bytes()
    state, works = swept(space, tmp_path)
    assert not works and state.finished and paths_in(tmp_path).ledger.read_bytes() == before


def test_the_wall_clock_plays_no_part(tmp_path, monkeypatch):
    space = hard_space("grid")
    first, _ = swept(space, tmp_path / "now", unlucky)
    monkeypatch.setattr("time.time", lambda: 1.5)
    second, _ = swept(space, tmp_path / "then", unlucky)
    assert essence(first) == essence(second)
    assert {event["at"] for _, event in read_events(paths_in(tmp_path / "then").ledger)} == {1.5}


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    space = hard_space("grid")
    expected = essence(swept(space, tmp_path / "forwards", unlucky)[0])
    clock = itertools.count(2e9, -3600.0)
    monkeypatch.setattr("time.time", lambda: next(clock))
    restarts = 0
    while killed_while_running(space, tmp_path / "backwards", 40, seed=restarts):
        restarts += 1
    state = read_state(paths_in(tmp_path / "backwards"))
    times = [event["at"] for _, event in read_events(paths_in(tmp_path / "backwards").ledger)]
    assert restarts > 3 and times == sorted(times, reverse=True) and len(set(times)) == len(times)
    assert essence(state) == expected
    assert seconds_left(state) == 0.0 and status_of(state).model_dump()["left"] == 0
