"""What is deleted and what never is; on real folders, by the ledgers of real sweeps."""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from held_sweep import HeldSweep, filled, inputs_in, visible

from chembench import register as registering
from chembench import retention
from chembench.errors import ConfigError, DataError
from chembench.holdings import parse_size, size_text
from chembench.paths import CachePaths, SweepPaths, part_beside, process_space, read_json, write_json
from chembench.register import register, register_merged, registered
from chembench.retention import clear_parts, collect, plan_gc
from chembench.sweep.ledger import Ledger


@pytest.fixture
def cache(tmp_path):
    return CachePaths(tmp_path / "cache")


@pytest.fixture
def held(tmp_path, cache):
    """A sweep that its test closes, so that no driver is at work on it."""
    sweeps = []

    def make(name: str = "one") -> HeldSweep:
        sweeps.append(HeldSweep(tmp_path / "sweeps", cache, name))
        return sweeps[-1]

    yield make
    for sweep in sweeps:
        sweep.close()


def why(plan: retention.Plan, path: Path) -> tuple[bool, str]:
    """Whether a thing goes, and why it does or does not."""
    (entry,) = [entry for entry in plan.entries if entry.path == path]
    return entry.goes, entry.why


def going(plan: retention.Plan) -> list[Path]:
    """What goes, in the order of going."""
    return [entry.path for entry in plan.goes]


# ----------------------------------------------------------------------------------------------------- the order


def test_records_are_never_collected_whatever_the_bound(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.confirm("a", checkpoint, 0.1)
    sweep.confirm("b", checkpoint, 0.2)
    sweep.search(None, "failed")
    filled(sweep.paths.run(checkpoint, 1).error, 10)
    sweep.close()
    before = {name for name in visible(sweep.paths.root) if "/model/" not in name and "resume.pt" not in name}
    collect(plan_gc(cache, keep_bytes=0))
    assert before <= visible(sweep.paths.root)
    assert {name.rpartition("/")[2] for name in before} >= {
        "ledger.jsonl", "result.json", "curves.jsonl", "predictions.csv", "error.txt", "spec.json",
    }  # fmt: skip


def test_states_go_before_models_the_worst_first_and_checkpoints_the_largest_first(held, cache):
    sweep = held()
    checkpoints = [sweep.pretrain(seed, size) for seed, size in enumerate((1000, 3000, 2000, 4000))]
    winner = sweep.confirm("best", checkpoints[3], 0.1)
    losers = [sweep.confirm(f"u{n}", None, objective) for n, objective in enumerate((0.3, 0.9, 0.5))]
    failed = sweep.search(None, "waiting")
    sweep.end(failed, "failed", state=5)
    sweep.close()
    model, run = lambda uid: sweep.paths.run(uid, 1).model, sweep.paths.run
    plan = plan_gc(cache)
    assert going(plan) == [
        run(failed, 1).resume,
        *(model(losers[n]) for n in (1, 2, 0)),
        *(cache.pretrained(checkpoints[n]) for n in (1, 2, 0)),
    ]
    assert why(plan, model(losers[1])) == (True, "not the winner of t")
    assert why(plan, run(failed, 1).resume) == (True, f"search {failed} has ended")
    assert why(plan, model(winner)) == (False, "winner of t")
    kept = (False, "of the model that is winner of t (sweep 'one')")
    assert why(plan, cache.pretrained(checkpoints[3])) == kept
    assert plan.freed == 5 + 3 * 100 + 6000


@pytest.mark.parametrize("keep, gone", [(10**9, 0), (-1, 1), (-11, 2), (-111, 3), (-(10**9), 3)])
def test_no_more_goes_than_the_bound_needs(held, cache, keep, gone):
    sweep = held()
    checkpoint = sweep.pretrain(0, 1000)
    sweep.pretrain(1, 500)
    sweep.confirm("best", checkpoint, 0.1)
    sweep.confirm("other", None, 0.2)
    failed = sweep.search(None, "waiting")
    sweep.end(failed, "failed", state=10)
    sweep.close()
    held_now = plan_gc(cache).left + plan_gc(cache).freed
    plan = plan_gc(cache, keep_bytes=max(0, held_now + keep))
    assert [entry.what for entry in plan.goes] == ["state", "model", "checkpoint"][:gone]
    assert collect(plan).freed == plan.freed
    assert plan_gc(cache, keep_bytes=max(0, held_now + keep)).goes == ()


def test_a_bound_that_cannot_be_kept_is_told_with_numbers_and_nothing_needed_goes(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain(0, 50_000)
    winner = sweep.confirm("best", checkpoint, 0.1, model=700)
    sweep.close()
    plan = plan_gc(cache, keep_bytes=1000)
    assert plan.goes == ()
    assert plan.warning.startswith("--keep 1 kB cannot be kept, ")
    assert "(checkpoints 50 kB, records " in plan.warning
    assert "nothing needed is deleted, allow more or free disk space elsewhere" in plan.warning
    collect(plan)
    assert cache.pretrained(checkpoint).is_dir() and sweep.paths.run(winner, 1).model.is_dir()
    assert plan_gc(cache, keep_bytes=10**6).warning == ""


# ------------------------------------------------------------------------------------------------ what is needed


@pytest.mark.parametrize("status", ["waiting", "running", "preempted"])
def test_a_checkpoint_stays_while_a_trial_of_it_has_not_ended(held, cache, status):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.search(checkpoint, "finished")
    left = sweep.search(checkpoint, status, rate=0.25)
    sweep.close()
    assert why(plan_gc(cache), cache.pretrained(checkpoint)) == (False, f"search {left} has not ended (sweep 'one')")


def test_a_checkpoint_stays_while_its_pretraining_is_not_told(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain(status="running")
    sweep.close()
    assert why(plan_gc(cache), cache.pretrained(checkpoint))[0] is False


def test_the_state_of_an_item_that_has_not_ended_stays(held, cache):
    sweep = held()
    uid = sweep.search(None, "waiting")
    sweep.end(uid, "preempted", state=10)
    sweep.end(uid, "running", state=10)
    sweep.close()
    for attempt in (1, 2):
        assert why(plan_gc(cache), sweep.paths.run(uid, attempt).resume) == (False, f"search {uid} has not ended")


def test_a_model_that_may_still_win_stays_with_its_checkpoint(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.confirm("best so far", None, 0.1)
    open_unit = sweep.confirm("open", checkpoint, 0.2, others="waiting")
    control = sweep.confirm("open control", None, 0.3, others="running")
    sweep.close()
    plan = plan_gc(cache)
    for uid in (open_unit, control):
        assert why(plan, sweep.paths.run(uid, 1).model) == (False, "may still win t")
    assert why(plan, cache.pretrained(checkpoint))[0] is False


def test_a_model_whose_unit_lacks_a_replicate_cannot_win_and_goes(held, cache):
    sweep = held()
    uid = sweep.confirm("broken", None, 0.1, others="failed")
    sweep.close()
    assert why(plan_gc(cache), sweep.paths.run(uid, 1).model)[0] is True


def test_the_model_of_an_attempt_that_was_replaced_goes_first(held, cache):
    sweep = held()
    uid = sweep.confirm("best", None, 0.1)
    loser = sweep.confirm("other", None, 0.9)
    sweep.end(uid, "finished", 0.1, model=100)
    sweep.close()
    plan = plan_gc(cache)
    assert going(plan) == [sweep.paths.run(uid, 1).model, sweep.paths.run(loser, 1).model]
    assert why(plan, sweep.paths.run(uid, 1).model) == (True, "attempt 2 replaced it")


def test_what_the_ledger_does_not_know_stays(held, cache):
    sweep = held()
    model = filled(sweep.paths.run("unknown", 1).model / "weights", 10).parent
    sweep.close()
    assert why(plan_gc(cache), model) == (False, "the ledger knows no item unknown")


# -------------------------------------------------------------------------------------------------- other sweeps


def test_nothing_goes_of_a_sweep_whose_driver_is_at_work(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    uid = sweep.confirm("best", None, 0.1)
    loser = sweep.confirm("other", None, 0.2)
    plan = plan_gc(cache)
    at_work = (False, "the driver of sweep 'one' is at work")
    assert plan.goes == ()
    assert why(plan, sweep.paths.run(uid, 1).model) == why(plan, sweep.paths.run(loser, 1).model) == at_work
    assert why(plan, cache.pretrained(checkpoint)) == (False, "sweep 'one' uses it")


def test_a_driver_that_began_after_the_plan_was_made_is_respected(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    plan = plan_gc(cache)
    assert plan.goes
    again = held("two")
    with pytest.raises(ConfigError, match="sweep one is driven by another process"):
        with Ledger(sweep.paths):
            collect(plan)
    assert cache.pretrained(checkpoint).is_dir()
    again.close()
    collect(plan)
    assert not cache.pretrained(checkpoint).exists()


def test_what_another_sweep_uses_since_the_plan_was_made_stays(held, cache):
    one = held("one")
    shared, own = one.pretrain(0), one.pretrain(1)
    one.confirm("best", None, 0.1)
    one.close()
    inputs = inputs_in(cache, "-new")
    plan = plan_gc(cache)
    assert {*inputs.values(), cache.pretrained(shared), cache.pretrained(own)} == set(going(plan))
    two = held("two")
    two.pretrain(0, None)
    winner = two.confirm("better", shared, 0.05)
    two._tell(event="sweep", name="two", space_digest="s", header={"inputs": {"corpus": inputs["corpora"].name}})
    two.close()
    done = collect(plan)
    assert why(done, cache.pretrained(shared)) == (False, "of the model that is winner of t (sweep 'two')")
    assert two.paths.run(winner, 1).model.is_dir() and cache.pretrained(shared).is_dir()
    assert inputs["corpora"].is_dir() and not inputs["tasks"].exists() and not cache.pretrained(own).exists()
    assert done.freed == plan.freed - 50 - 1000 and done.left >= plan.left


def test_what_a_sweep_uses_that_begins_while_others_are_collected_stays(held, cache, monkeypatch):
    one = held("one")
    first, second = one.pretrain(0, 2000), one.pretrain(1, 1000)
    one.close()
    turns = []

    def slowly(where):
        turns.append(where)
        if len(turns) == 2:
            held("two").pretrain(1, None)
        return registering(where)

    registering = retention.registering
    monkeypatch.setattr(retention, "registering", slowly)
    done = collect(plan_gc(cache))
    assert not cache.pretrained(first).exists() and cache.pretrained(second).is_dir()
    assert why(done, cache.pretrained(second)) == (False, "sweep 'two' uses it")
    assert retention.summary(done, is_done=True).startswith("deleted 1 thing, 2 kB; ")


def test_what_somebody_else_deleted_meanwhile_is_not_counted(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    plan = plan_gc(cache)
    retention.delete(cache.pretrained(checkpoint))
    done = collect(plan)
    assert (why(done, cache.pretrained(checkpoint)), done.freed) == ((False, "somebody else deleted it"), 0)


def test_nobody_is_noted_between_the_last_look_and_the_deletion(held, cache, monkeypatch):
    sweep = held()
    sweep.pretrain()
    sweep.close()
    looked = []

    def look(path):
        with cache.register_lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        looked.append(path)

    monkeypatch.setattr(retention, "delete", look)
    assert looked == going(collect(plan_gc(cache))) != []


def test_what_another_sweep_uses_stays_when_one_sweep_is_collected(held, cache):
    one, two = held("one"), held("two")
    shared, own = one.pretrain(0), one.pretrain(1)
    two.pretrain(0)
    for sweep in (one, two):
        sweep.close()
    plan = plan_gc(cache, [one.paths])
    assert why(plan, cache.pretrained(shared)) == (False, "sweep 'two' uses it")
    assert going(plan) == [cache.pretrained(own)]
    assert all("two" not in str(entry.path) for entry in plan.entries)


def test_what_two_sweeps_used_goes_when_both_are_collected_and_need_it_no_more(held, cache):
    one, two = held("one"), held("two")
    shared = one.pretrain(0)
    two.pretrain(0)
    two.search(shared, "waiting")
    one.close()
    two.close()
    assert why(plan_gc(cache), cache.pretrained(shared))[0] is False
    with two.ledger.__class__(two.paths) as ledger:
        two.ledger = ledger
        two.end(next(uid for uid, item in two.state.items.items() if item.kind == "search"), "finished")
    assert why(plan_gc(cache), cache.pretrained(shared)) == (True, "all its trials have ended")


def test_a_sweep_whose_folder_was_deleted_keeps_nothing(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.confirm("best", checkpoint, 0.1)
    sweep.close()
    sweep.paths.root.rename(sweep.paths.root.with_name("moved away"))
    inputs = inputs_in(cache)
    (record,) = cache.register.glob("*.json")
    plan = plan_gc(cache)
    assert why(plan, cache.pretrained(checkpoint)) == (True, "no registered sweep uses it")
    assert why(plan, record) == (True, "the folder of sweep 'one' is gone")
    assert {place for place in inputs.values()} <= set(going(plan))
    collect(plan)
    assert visible(cache.root) == {str(cache.register_lock.relative_to(cache.root))}


def test_what_a_sweep_that_was_renamed_and_resumed_uses_stays(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.confirm("best", checkpoint, 0.1)
    sweep.close()
    inputs = inputs_in(cache)
    renamed = SweepPaths(sweep.paths.root.rename(sweep.paths.root.with_name("renamed")))
    register(cache, renamed)
    plan = plan_gc(cache)
    kept = (False, "of the model that is winner of t (sweep 'renamed')")
    assert why(plan, cache.pretrained(checkpoint)) == kept
    assert not {place for place in inputs.values()} & set(going(plan))


def test_a_merged_sweep_is_noted_in_the_caches_of_its_sources(tmp_path):
    sweeps = [swept_in(tmp_path / name, tmp_path / f"cache of {name}") for name in ("one", "two", "unseen")]
    shutil.rmtree(tmp_path / "cache of unseen")
    target = SweepPaths(tmp_path / "merged")
    register_merged(target, sweeps)
    for name in ("one", "two"):
        (use,) = registered(CachePaths(tmp_path / f"cache of {name}"))
        assert use.paths == target
    assert not (tmp_path / "cache of unseen").exists()


def swept_in(root: Path, cache_dir: Path) -> SweepPaths:
    """A sweep that has begun in a cache."""
    cache_dir.mkdir()
    paths = SweepPaths(root)
    with Ledger(paths) as ledger:
        header = {"places": {"cache_dir": str(cache_dir)}}
        ledger.append({"event": "sweep", "name": root.name, "space_digest": "s", "header": header})
    return paths


def test_a_cache_that_cannot_be_written_is_told(cache, tmp_path):
    filled(cache.register, 1)
    with pytest.raises(ConfigError, match=r"a sweep notes itself in its cache, .* cannot be written: .*--cache-dir"):
        register(cache, SweepPaths(tmp_path / "one"))


def test_a_sweep_on_a_machine_that_is_not_seen_from_here_keeps_everything(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    (record,) = cache.register.glob("*.json")
    write_json(record, read_json(record) | {"host": "far-away", "folder": "/on/far/away"})
    inputs = inputs_in(cache)
    plan = plan_gc(cache)
    assert plan.goes == ()
    kept, reason = why(plan, cache.pretrained(checkpoint))
    assert not kept and reason == f"sweep 'away' of machine far-away may use it; delete {record} if that is gone"
    assert why(plan, inputs["shards"]) == (False, reason)


def test_a_sweep_that_cannot_be_read_keeps_everything(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    lines = sweep.paths.ledger.read_bytes().splitlines(keepends=True)
    sweep.paths.ledger.write_bytes(b"".join([lines[0], b"damage\n", *lines[1:]]))
    plan = plan_gc(cache)
    assert plan.goes == ()
    assert "sweep 'one' cannot be read: ledger" in why(plan, cache.pretrained(checkpoint))[1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": 1, "host": "x"}'])
def test_a_note_that_names_no_sweep_keeps_everything_and_is_named(held, cache, text):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    note = cache.register / "foreign.json"
    note.write_text(text)
    kept, reason = why(plan_gc(cache, [sweep.paths]), cache.pretrained(checkpoint))
    assert not kept and reason.startswith(f"'{note}' must name a sweep, it does not (") and "; delete it" in reason


def test_a_sweep_of_somebody_who_lets_nobody_look_keeps_everything(held, cache, monkeypatch):
    one, other = held("one"), held("other")
    checkpoint = one.pretrain()
    one.close()
    other.close()

    def refused(paths):
        if paths == other.paths:
            raise PermissionError(13, "Permission denied", str(paths.ledger))
        return read_state(paths)

    read_state = registering.read_state
    monkeypatch.setattr(registering, "read_state", refused)
    kept, reason = why(plan_gc(cache, [one.paths]), cache.pretrained(checkpoint))
    assert not kept and reason.startswith("sweep 'other' cannot be read: [Errno 13] Permission denied")


def test_a_sweep_that_is_preparing_its_inputs_keeps_all_of_them(cache, tmp_path):
    paths = SweepPaths(tmp_path / "sweeps" / "new")
    inputs = inputs_in(cache)
    with Ledger(paths):
        register(cache, paths)
        assert why(plan_gc(cache), inputs["corpora"]) == (False, "sweep 'new' is preparing its inputs")
    assert why(plan_gc(cache), inputs["corpora"]) == (True, "no registered sweep uses it")


# -------------------------------------------------------------------------------------------------------- inputs


def test_inputs_of_registered_sweeps_stay_and_all_others_go(held, cache):
    sweep = held()
    sweep.close()
    used, unused = inputs_in(cache), inputs_in(cache, "-old")
    plan = plan_gc(cache)
    assert {why(plan, place) for place in used.values()} == {(False, "sweep 'one' uses it")}
    assert {why(plan, place) for place in unused.values()} == {(True, "no registered sweep uses it")}
    collect(plan)
    assert all(place.is_dir() for place in used.values()) and not any(place.exists() for place in unused.values())


def test_inputs_stay_when_one_sweep_is_collected(held, cache):
    sweep = held()
    sweep.close()
    inputs = inputs_in(cache, "-old")
    plan = plan_gc(cache, [sweep.paths])
    assert not {entry.path for entry in plan.entries} & set(inputs.values())


def test_a_sweep_that_was_never_registered_is_collected_when_it_is_named(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain()
    sweep.close()
    for record in cache.register.glob("*.json"):
        record.unlink()
    assert going(plan_gc(cache, [sweep.paths])) == [cache.pretrained(checkpoint)]


def test_downloads_crash_reports_and_foreign_files_are_left_alone(held, cache):
    held().close()
    others = [filled(cache.root / "raw" / "delaney.csv", 9), filled(cache.crash("x"), 9), filled(cache.root / "my", 9)]
    collect(plan_gc(cache, keep_bytes=0))
    assert all(file.is_file() for file in others)


# --------------------------------------------------------------------------------------------------------- parts


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def part_of(path: Path, pid: int, space: str | None = None) -> Path:
    return filled(path.with_name(f".{path.name}.{space or process_space()}.{pid}.0123abcd") / "half", 7).parent


def test_parts_of_dead_processes_go_and_those_of_living_ones_stay(held, cache):
    sweep = held()
    uid = sweep.search(None, "finished")
    sweep.close()
    pid, run = dead_pid(), sweep.paths.run(uid, 1)
    dead = [part_of(place, pid) for place in (cache.shard("s"), cache.pretrained("p"), cache.work / "w", run.model)]
    dead += [part_of(run.root, pid), part_of(sweep.paths.leaderboards / "rows.csv", pid)]
    alive = part_of(cache.shard("t"), os.getpid())
    plan = plan_gc(cache, keep_bytes=10**9)
    assert set(going(plan)) == set(dead)
    assert why(plan, dead[0]) == (True, f"process {pid} is dead")
    assert why(plan, alive) == (False, f"process {os.getpid()} writes it")
    collect(plan)
    assert not any(part.exists() for part in dead) and alive.is_dir()


def test_a_part_written_elsewhere_goes_when_it_was_untouched_for_a_day(held, cache):
    held().close()
    fresh, old = (part_of(cache.shard(name), 1, "0" * 8) for name in ("fresh", "old"))
    day_ago = (old / "half").stat().st_mtime - 1.1 * retention.UNTOUCHED_SECONDS
    os.utime(old / "half", (day_ago, day_ago))
    plan = plan_gc(cache)
    assert why(plan, fresh) == (False, "written elsewhere or before a restart, less than a day ago")
    assert why(plan, old) == (True, "written elsewhere or before a restart, untouched for a day")


def test_a_hidden_file_that_is_not_ours_stays(held, cache):
    sweep = held()
    foreign = filled(cache.shard("x").parent / ".snapshot" / "file", 9)
    sweep.close()
    collect(plan_gc(cache, keep_bytes=0))
    assert foreign.is_file()


def test_a_driver_that_takes_a_sweep_up_clears_what_was_left_unfinished(held, cache):
    sweep = held()
    uid = sweep.search(None, "finished")
    pid = dead_pid()
    dead = [part_of(cache.shard("s"), pid), part_of(sweep.paths.run(uid, 1).resume, pid)]
    alive = part_of(sweep.paths.run(uid, 1).model, os.getpid())
    assert clear_parts(cache, sweep.paths) == 14
    assert not any(part.exists() for part in dead) and alive.is_dir()
    assert clear_parts(cache, sweep.paths) == 0


def test_reruns_that_have_ended_go(held, cache):
    sweep = held()
    uid = sweep.search(None, "finished")
    sweep.close()
    place = sweep.paths.trials / uid
    ended = filled(place / "rerun-1" / "result.json", 9).parent
    running, dead = (filled(place / f"rerun-{n}" / "checkpoint" / "w", 9) for n in (2, 3))
    day_ago = dead.stat().st_mtime - 1.1 * retention.UNTOUCHED_SECONDS
    os.utime(dead, (day_ago, day_ago))
    plan = plan_gc(cache)
    assert why(plan, ended) == (True, f"the rerun of {uid} has ended")
    assert why(plan, place / "rerun-2") == (False, f"the rerun of {uid} has not ended")
    assert why(plan, place / "rerun-3") == (True, f"the rerun of {uid} was untouched for a day")
    assert running.is_file()


# ------------------------------------------------------------------------------------------------------ deleting


def test_a_folder_disappears_at_once_or_not_at_all(cache, monkeypatch):
    folder = filled(cache.pretrained("p") / "weights", 9).parent

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(retention.shutil, "rmtree", killed)
        retention.delete(folder)
    assert not folder.exists()
    (part,) = folder.parent.iterdir()
    assert part.name.startswith(part_beside(folder).name[:5])
    retention.delete(part)
    assert list(folder.parent.iterdir()) == []


def test_what_is_gone_already_is_no_error(cache):
    retention.delete(cache.pretrained("p"))
    retention.delete(cache.pretrained("p") / "file")


def test_what_cannot_be_deleted_is_told(cache, monkeypatch):
    folder = filled(cache.pretrained("p") / "weights", 9).parent

    def refused(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(DataError, match=r"p' must be deleted, it cannot be: Permission denied; make it writable"):
        retention.delete(folder)


def test_what_goes_is_shown_one_by_one_and_what_stays_by_its_reason(held, cache):
    sweep = held()
    checkpoint = sweep.pretrain(0, 2_000_000)
    sweep.confirm("best", checkpoint, 0.1)
    loser = sweep.confirm("other", None, 0.2, model=5000)
    inputs = inputs_in(cache)
    sweep.close()
    plan = plan_gc(cache)
    first, *stays = retention.as_rows(plan)
    model = str(sweep.paths.run(loser, 1).model)
    assert first == {
        "": "goes", "what": "model", "size": "5 kB", "bytes": 5000, "where": model, "why": "not the winner of t"
    }  # fmt: skip
    assert {row[""] for row in stays} == {"stays"}
    by_what = {row["what"]: row for row in stays}
    assert by_what["input"]["where"] == f"{len(inputs)} of them" and by_what["input"]["why"] == "sweep 'one' uses it"
    assert by_what["checkpoint"]["size"] == "2 MB"
    assert sum(row["bytes"] for row in [first, *stays]) == plan.freed + plan.left
    assert retention.summary(plan, is_done=False) == "would delete 1 thing, 5 kB; 2 MB stay"
    assert retention.summary(plan, is_done=True).startswith("deleted 1 thing, 5 kB; ")


# ------------------------------------------------------------------------------------------------- register, sizes


def test_a_sweep_is_registered_once_however_often_it_goes_on(cache, tmp_path):
    paths = SweepPaths(tmp_path / "one")
    paths.root.mkdir()
    register(cache, paths)
    register(cache, paths)
    (record,) = cache.register.glob("*.json")
    assert read_json(record)["folder"] == str(paths.root) and read_json(record)["host"] == platform.node()
    assert [use.paths for use in registered(cache)] == [paths]


@pytest.mark.parametrize(
    "text, size",
    [("20GB", 20 * 10**9), ("500MiB", 500 * 2**20), ("1.5kB", 1500), ("0B", 0), ("2TiB", 2 * 2**40)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["20", "GB", "20 GB", "20gb", "-1GB", "1e3GB", "20G", "", "1.GB", "½GB", "20GB ", 20, "-0.1B", "9" * 400 + "GB"],
)
def test_a_size_that_is_written_otherwise_is_refused(text):
    with pytest.raises(ConfigError, match=r"a size is a number and one of B, kB, MB, GB, TB, .* such as 20GB or 500Mi"):
        parse_size(text)


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (25 * 10**6, "25 MB"), (20_440_000_000, "20.4 GB")]
)
def test_sizes_are_shown_as_people_write_them(size, text):
    assert size_text(size) == text
