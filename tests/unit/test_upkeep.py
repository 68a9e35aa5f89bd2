"""A sweep's projections are rebuilt from its ledger; what is damaged is told, and mended where that loses nothing."""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from kept_sweeps import SPACE, begun, carried_out
from optuna.storages.journal import JournalFileBackend
from sweep_fakes import MortalLedger, drive, engine_on, failed, paths_in

from chembench import upkeep
from chembench.errors import ConfigError
from chembench.paths import part_beside, process_space, read_json
from chembench.sweep.ledger import Ledger, read_state
from chembench.sweep.reading import shipped_spaces, space_from
from chembench.sweep.results import read_outcome
from chembench.tracking.places import network_file_system
from chembench.tracking.sent import Seen, SentFile
from chembench.tracking.store import open_store, quiet_mlflow
from chembench.upkeep import examine_sweep, mend, sync_sweep


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """An MLflow database without a run; its migrations take seconds, once."""
    place = tmp_path_factory.mktemp("bare")
    with quiet_mlflow():
        open_store(f"sqlite:///{place / 'mlflow.db'}", place)
    return place / "mlflow.db"


@pytest.fixture(scope="session")
def whole(tmp_path_factory, bare):
    """A sweep that has ended, with every projection, made once."""
    folder = tmp_path_factory.mktemp("whole")
    with begun(folder) as ledger:
        drive(engine_on(SPACE, ledger), carried_out)
    shutil.copy(bare, folder / "sweeps" / "mlflow.db")
    assert sync_sweep(paths_in(folder)).problems == ()
    return folder


@pytest.fixture
def paths(whole, tmp_path):
    """`whole`, which is put back afterwards; a copy would be another folder for MLflow."""
    kept = tmp_path / "kept"
    shutil.copytree(whole, kept)
    yield paths_in(whole)
    for place in (*whole.iterdir(), *(whole / "sweeps").iterdir()):
        if place.is_dir() and place.name != "sweeps":
            shutil.rmtree(place)
        elif place.is_file() and not place.name.startswith("mlflow.db"):
            place.unlink()
    shutil.copytree(kept, whole, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db*"))
    fill(whole / "sweeps" / "mlflow.db", kept / "sweeps" / "mlflow.db")


def fill(database, source):
    """The content of ``source`` in ``database``, which MLflow may hold open in this process."""
    with contextlib.closing(sqlite3.connect(source)) as given, contextlib.closing(sqlite3.connect(database)) as place:
        given.backup(place)


def projections(paths):
    """Everything that can be rebuilt, without ids and times."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(paths.journal)))
    trials = []
    for study in storage.get_all_studies():
        found = optuna.load_study(study_name=study.study_name, storage=storage).trials
        trials.append((study.study_name, [(t.state.name, t.value, t.params, t.user_attrs) for t in found]))
    boards = {
        str(f.relative_to(root)): f.read_text()
        for root in (paths.leaderboards, paths.reports)
        for f in root.iterdir()
        if f.is_file() and f.stem != "report"  # it links to runs by their ids
    }
    return trials, boards, runs_of(paths)


def client_of(paths):
    with quiet_mlflow():
        return open_store(f"sqlite:///{paths.root.parent / 'mlflow.db'}", paths.root.parent).client


def runs_of(paths):
    """(Experiment, uid) -> status, parameters, curves and the uids that its links lead to."""
    client, found, ids = client_of(paths), {}, {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            ids[run.info.run_id] = run.data.tags["chembench.trial_uid"]
            found[experiment.name, ids[run.info.run_id]] = run
    links = ("mlflow.parentRunId", "chembench.pretrain_run_id")
    return {
        key: (
            run.info.status,
            run.data.params,
            {k: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, k)] for k in run.data.metrics},
            {name: ids[run.data.tags[name]] for name in links if name in run.data.tags},
        )
        for key, run in found.items()
    }


def whats(findings):
    return [(finding.what, finding.state) for finding in findings]


# ------------------------------------------------------------------------------------------------------- rebuild


def test_a_sweep_in_order_has_no_finding(paths):
    assert examine_sweep(paths) == []


def test_every_projection_is_rebuilt_from_ledger_and_trials_alone(paths, bare):
    before = projections(paths)
    assert len(before[0]) == 2 and len(before[2]) > 20
    home = paths.root.parent
    for file in (paths.journal, paths.sent, paths.space, paths.environment):
        file.unlink()
    fill(home / "mlflow.db", bare)
    for folder in (paths.leaderboards, paths.reports, home / "mlartifacts"):
        shutil.rmtree(folder)
    said = []
    assert sync_sweep(paths, say=said.append).problems == ()
    assert projections(paths) == before
    assert examine_sweep(paths) == []
    assert said[0].startswith("Optuna's journal: ") and "everything is sent" in said[-1]
    ids = {json.loads(line).get("run_id") for line in paths.sent.read_text().splitlines()} - {None}
    for report in (paths.report, paths.reports / "report.html"):
        text = report.read_text()
        assert "<svg" in text and any(run_id in text for run_id in ids)


def test_a_sweep_that_goes_on_gets_no_report(tmp_path, bare):
    with begun(tmp_path):
        pass
    shutil.copy(bare, tmp_path / "sweeps" / "mlflow.db")
    assert sync_sweep(paths_in(tmp_path)).problems == ()
    assert not paths_in(tmp_path).report.exists()


def test_a_second_call_changes_nothing(paths):
    before = projections(paths)
    report = sync_sweep(paths)
    assert (report.mlflow.sent, report.problems) == (0, ())
    assert projections(paths) == before


def test_what_cannot_be_rebuilt_is_told_and_the_rest_is(paths):
    paths.journal.unlink()
    paths.journal.mkdir()
    shutil.rmtree(paths.leaderboards)
    paths.report.unlink()
    paths.report.mkdir()
    report = sync_sweep(paths, "http://127.0.0.1:9")
    journal, page, mlflow = report.problems
    assert page.startswith("report: ") and str(paths.report) in page
    assert journal.startswith("Optuna's journal: optuna failed in 'write_journal' with")
    assert mlflow.startswith("MLflow: mlflow failed in 'open_store'")
    assert (paths.leaderboards / "regression.md").is_file()
    assert report.mlflow.unsent == len(read_state(paths).items) + 3


def test_while_a_driver_works_it_keeps_the_journal(paths):
    paths.journal.unlink()
    said = []
    with paths.lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sync_sweep(paths, say=said.append).problems == ()
    assert said[0] == "Optuna's journal: left to the driver, who is at work"
    assert not paths.journal.exists()


def test_a_sweep_that_has_not_begun_is_refused(tmp_path):
    with MortalLedger(paths_in(tmp_path)):
        pass
    with pytest.raises(ConfigError, match=r"has not begun, its ledger holds nothing; give its `chembench"):
        sync_sweep(paths_in(tmp_path))
    (finding,) = examine_sweep(paths_in(tmp_path))
    assert finding.found == "the sweep has not begun"


@pytest.mark.parametrize("info", shipped_spaces(), ids=lambda info: info.name)
def test_a_space_is_read_back_from_what_a_ledger_holds_of_it(info):
    from chembench.sweep.reading import read_space

    space = read_space(info.name)
    assert space_from(json.loads(json.dumps(space.as_data()))).identity() == space.identity()


# --------------------------------------------------------------------------------------------------- examination


def test_without_a_sweep_there_is_nothing_to_examine(tmp_path):
    with pytest.raises(ConfigError, match="no sweep in"):
        examine_sweep(paths_in(tmp_path))


def test_a_torn_last_line_is_cut_off(paths):
    content = paths.ledger.read_bytes()
    paths.ledger.write_bytes(content + b'{"event": "sta')
    (finding,) = examine_sweep(paths)
    assert (finding.what, finding.state, finding.is_mendable) == ("ledger", "warn", True)
    assert finding.found == "its last 14 bytes are no whole line: a driver was killed while it wrote"
    (mended,) = mend(paths, [finding])
    assert mended.done == f"{paths.ledger} was cut back to its last whole line"
    assert paths.ledger.read_bytes() == content


def test_what_a_driver_wrote_since_the_ledger_was_looked_at_is_not_cut_off(paths):
    with paths.ledger.open("ab") as file:
        file.write(b'{"event": "sta')
    (finding,) = examine_sweep(paths)
    with Ledger(paths) as ledger:
        for _ in range(3):
            ledger.append({"event": "finished"})
    written = paths.ledger.read_bytes()
    mend(paths, [finding])
    assert paths.ledger.read_bytes() == written


def test_a_result_that_came_back_since_it_was_missed_is_left(paths):
    run = paths.run(ended(paths, "pretrain").uid, 1)
    away = run.result.rename(run.result.with_name("away"))
    (finding,) = [f for f in examine_sweep(paths) if f.what == "results"]
    away.rename(run.result)
    (mended,) = mend(paths, [finding])
    assert mended.done == "0 results written again from the ledger"
    assert list(run.root.glob("result.json*")) == [run.result]


def test_a_damaged_ledger_is_told_with_its_line_and_never_touched(paths):
    lines = paths.ledger.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:4], lines[4].replace(b"event", b"evemt", 1), *lines[5:]])
    paths.ledger.write_bytes(damaged)
    (finding,) = examine_sweep(paths)
    assert (finding.what, finding.state, finding.is_mendable) == ("ledger", "fail", False)
    assert f"is damaged in line 5 of {len(lines)}" in finding.found
    assert mend(paths, [finding]) == []
    assert paths.ledger.read_bytes() == damaged


def ended(paths, kind, status="finished"):
    return next(i for i in read_state(paths).items.values() if (i.kind, i.status) == (kind, status))


@pytest.mark.parametrize("damage_done", ["folder gone", "result gone", "result torn"])
def test_a_result_that_is_lost_comes_back_from_the_ledger(paths, damage_done):
    run = paths.run(ended(paths, "pretrain").uid, 1)
    before = read_json(run.result)
    if damage_done == "folder gone":
        shutil.rmtree(run.root)
    elif damage_done == "result gone":
        run.result.unlink()
    else:
        run.result.write_bytes(run.result.read_bytes()[:40])
    (finding,) = [f for f in examine_sweep(paths) if f.what == "results"]
    assert (finding.state, finding.is_mendable, finding.where) == ("warn", True, str(run.result))
    mend(paths, [finding])
    assert read_json(run.result) == before
    kept = list(run.root.glob("result.json.damaged*"))
    assert len(kept) == (damage_done == "result torn")
    assert [f for f in examine_sweep(paths) if f.what == "results"] == []


def test_a_result_that_contradicts_the_ledger_is_told_and_left(paths):
    item = ended(paths, "confirm")
    file = paths.run(item.uid, 1).result
    changed = read_outcome(file).model_copy(update={"metrics": {"objective": 9.0}})
    file.write_text(changed.model_dump_json())
    (finding,) = examine_sweep(paths)
    assert (finding.what, finding.state, finding.is_mendable) == ("results", "fail", False)
    assert finding.found == "1 result of ended items say something else than the ledger"
    assert mend(paths, [finding]) == []
    assert read_outcome(file) == changed


def test_attempts_that_the_ledger_does_not_know_are_told_and_left(paths):
    known = ended(paths, "search")
    for folder in (paths.trials / "0123456789ab" / "1", paths.trials / known.uid / "7"):
        folder.mkdir(parents=True)
    (finding,) = examine_sweep(paths)
    assert (finding.what, finding.is_mendable) == ("results", False)
    assert finding.found == "2 attempts in trials/ that the ledger does not know"
    assert (paths.trials / known.uid / "7").is_dir()


def test_damaged_curves_and_predictions_are_told_and_left(paths):
    first, second = (paths.run(ended(paths, kind).uid, 1) for kind in ("search", "confirm"))
    first.curves.write_bytes(first.curves.read_bytes() + b"\0\0\n")
    second.predictions.write_bytes(second.predictions.read_bytes()[:-3])
    before = first.curves.read_bytes(), second.predictions.read_bytes()
    findings = examine_sweep(paths)
    assert whats(findings) == [("curves", "warn"), ("predictions", "warn")]
    assert [f.where for f in findings] == [str(first.curves), str(second.predictions)]
    assert mend(paths, findings) == []
    assert (first.curves.read_bytes(), second.predictions.read_bytes()) == before
    second.predictions.unlink()
    assert "1 file of predictions missing or damaged" in [f.found for f in examine_sweep(paths)]


def test_items_that_ran_when_the_driver_died_are_told_apart_by_their_results(tmp_path, bare):
    with begun(tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        works = [engine.ask() for _ in range(3)]
        engine.tell(failed(works[0]))
        carried_out(works[1])
    paths = paths_in(tmp_path)
    shutil.copy(bare, paths.root.parent / "mlflow.db")
    findings = [f for f in examine_sweep(paths) if f.what in ("results", "items")]
    assert [f.found for f in findings] == [
        "1 result of the last driver's items, not in the ledger yet",
        "1 item ran when the last driver ended and left no result",
    ]
    assert findings[0].way_out == f"folded in by the next start: chembench resume {paths.root}"
    assert mend(paths, findings) == []
    mend(paths, examine_sweep(paths))
    assert {status for (_, uid), (status, *_) in runs_of(paths).items() if uid == works[2].uid} == {"KILLED"}
    with MortalLedger(paths) as ledger:
        engine_on(SPACE, ledger)
        assert ledger.state.items[works[1].uid].status == "finished"


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(paths, monkeypatch):
    places = (paths.trials / "u" / "1" / "result.json", paths.root.parent / "mlflow.db", paths.leaderboards / "a.md")
    living = [part_beside(place) for place in places]
    monkeypatch.setattr(os, "getpid", dead_process)
    dead = [part_beside(place) for place in (*places, paths.root.parent.parent / "cache" / "pretrained" / "abc")]
    monkeypatch.undo()
    foreign = dead[0].with_name(dead[0].name.replace(process_space(), "0" * 8))
    for part in (*living, *dead, foreign):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("half")
    (finding,) = [f for f in examine_sweep(paths) if f.what == "leftovers"]
    assert finding.found == "4 files and folders that killed processes left unfinished, 16 B"
    (mended,) = mend(paths, [finding])
    assert mended.done == "4 files and folders deleted"
    assert not any(part.exists() for part in dead)
    assert all(part.exists() for part in (*living, foreign))


def test_a_journal_that_differs_is_written_anew(paths):
    paths.journal.write_bytes(paths.journal.read_bytes()[:-30])
    (finding,) = examine_sweep(paths)
    assert finding.what == "journal" and finding.found.startswith("Optuna's journal is not as the ledger says: ")
    mend(paths, [finding])
    assert examine_sweep(paths) == []


def test_boards_that_differ_are_written_anew(paths):
    (paths.leaderboards / "regression.md").write_text("the best model is mine")
    (paths.reports / "rows.csv").unlink()
    (finding,) = [f for f in examine_sweep(paths) if f.what == "boards"]
    assert finding.found.startswith("2 of ")
    mend(paths, examine_sweep(paths))
    assert examine_sweep(paths) == []


def test_mlflow_is_put_right(paths):
    client = client_of(paths)
    uids = {uid: run for run in all_runs(client) for uid in [run.data.tags["chembench.trial_uid"]]}
    gone, wrong, twice = (uids[ended(paths, kind).uid] for kind in ("baseline", "search", "confirm"))
    client.delete_run(gone.info.run_id)
    client.update_run(wrong.info.run_id, status="RUNNING")
    tags = {key: value for key, value in twice.data.tags.items() if key != "chembench.digest"}
    client.create_run(twice.info.experiment_id, tags=tags)
    findings = examine_sweep(paths)
    assert [f.found.split(", first")[0] for f in findings] == [
        "1 runs are missing in MLflow",
        "1 runs in MLflow are not as the ledger says",
        "1 runs are there twice",
    ]
    done = mend(paths, findings)
    assert len({one.done for one in done}) == 1 and len(done) == 3
    assert examine_sweep(paths) == []


def all_runs(client):
    return [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]


def test_damaged_and_foreign_notes_of_what_was_sent_are_told_and_replaced(paths):
    with paths.sent.open("a") as file:
        file.write("{damaged\n")
    (finding,) = examine_sweep(paths)
    assert finding.found.startswith("1 lines of mlflow.sent.jsonl, first ")
    mend(paths, [finding])
    assert examine_sweep(paths) == []
    paths.sent.unlink()
    SentFile(paths.sent, "http://elsewhere:5000").add("p", "u", Seen("run"))
    (finding,) = examine_sweep(paths)
    assert finding.found == "what was sent is noted for another store, http://elsewhere:5000"
    mend(paths, [finding])
    assert examine_sweep(paths) == []


def test_a_store_that_does_not_answer_is_told(paths):
    (*_, finding) = examine_sweep(paths, "http://127.0.0.1:9")
    assert (finding.what, finding.is_mendable) == ("mlflow", False)
    assert finding.found.startswith("mlflow failed in 'open_store'")


def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path):
    with begun(tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        engine.tell(carried_out(engine.ask()))
    database = tmp_path / "sweeps" / "mlflow.db"
    found = [f.found for f in examine_sweep(paths_in(tmp_path)) if f.what == "mlflow"]
    assert found == [f"there is no database {database} yet, 1 runs are not sent"]
    assert not database.exists()


def test_a_folder_that_was_moved_away_from_its_artifacts_is_told(paths, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(paths.root.parent, moved)
    findings = examine_sweep(paths.__class__(moved / "one"))
    astray = [f for f in findings if "which is not beside its database; was it moved?" in f.found]
    assert len(astray) == 1 and not astray[0].is_mendable


def test_while_a_driver_works_its_process_is_told_and_nothing_is_mended(paths):
    paths.journal.unlink()
    file = paths.run(ended(paths, "search").uid, 1).result
    file.unlink()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from chembench.paths import SweepPaths;"
         "from chembench.sweep.locking import take_lock; lock = take_lock(SweepPaths(Path(sys.argv[1])));"
         "print('held', flush=True); sys.stdin.read()", str(paths.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        findings = examine_sweep(paths)
        assert whats(findings) == [("lock", "ok"), ("results", "warn")]
        assert findings[0].found == f"process {holder.pid} drives the sweep"
        with pytest.raises(ConfigError, match=rf"driven by another process \(pid {holder.pid}\)"):
            mend(paths, findings)
    finally:
        holder.communicate()
    assert not file.exists()


def test_a_database_on_a_network_file_system_is_told(paths, monkeypatch):
    monkeypatch.setattr(upkeep, "network_file_system", lambda folder: "nfs4")
    (finding,) = examine_sweep(paths)
    assert (finding.what, finding.is_mendable) == ("database", False)
    assert "lies on a network file system (nfs4)" in finding.found


def test_network_file_systems_are_told_by_the_innermost_mount(tmp_path):
    mounts = tmp_path / "mounts"
    (tmp_path / "a b").mkdir()
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n"
        f"/dev/sdb {str(tmp_path).replace(' ', chr(92) + '040')}/a\\040b xfs rw 0 0\ntorn\n"
    )
    assert network_file_system(Path("/usr"), mounts) is None
    assert network_file_system(tmp_path, mounts) == "nfs4"
    assert network_file_system(tmp_path / "a b", mounts) is None
    assert network_file_system(tmp_path, tmp_path / "none") is None


def test_looking_changes_nothing(paths):
    paths.journal.write_bytes(b"damaged")
    (paths.reports / "rows.csv").unlink()

    def content():
        root = paths.root.parent.parent
        return {f: f.read_bytes() for f in root.rglob("*") if f.is_file() and "mlflow.db" not in f.name}

    before, started = content(), time.time()
    assert len(examine_sweep(paths)) == 2
    assert content() == before
    assert not [f for f in before if f.stat().st_mtime > started]
