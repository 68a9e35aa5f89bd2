"""MLflow as a projection: what was lost, doubled, delayed or changed comes back to what the ledger says."""

import os
import shutil

import pytest
from tracked_sweep import CONFIRM, FAILED, PRETRAIN, RUNNING, SEARCH, STARTED_AT, FakeSweep, curve, seven_items, trial

from chembench.paths import SweepPaths
from chembench.sweep.ledger import read_state
from chembench.tracking import spool
from chembench.tracking.border import TrackingError
from chembench.tracking.curves import read_curves
from chembench.tracking.mlflow_sync import close, follow, sync
from chembench.tracking.sent import SentFile
from chembench.tracking.store import Store, quiet_mlflow
from chembench.tracking.wanted import Wanted

REGRESSION, PRETRAINING = "tiny/regression", "tiny/pretrain"


def one_pass(sweep, database):
    """What the process beside a driver does once: what is noted is trusted."""
    return follow(sweep.paths.root, database, stop=iter([False] * 12 + [True] * 99).__next__)


def numbers(client, runs):
    """Everything in the store but ids and times."""
    found = {}
    for experiment, by_uid in runs().items():
        for uid, run in by_uid.items():
            told = {k: v for k, v in run.data.tags.items() if k.startswith("chembench.") and "run_id" not in k}
            told.pop("chembench.digest")
            curves = {
                key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            found[experiment, uid] = (run.info.status, told, run.data.params, curves)
    return found


def links(runs):
    """Uid -> uids of the runs its links lead to."""
    by_id = {run.info.run_id: uid for by_uid in runs().values() for uid, run in by_uid.items()}
    names = ("mlflow.parentRunId", "chembench.pretrain_run_id")
    return {
        uid: {name: by_id[run.data.tags[name]] for name in names if name in run.data.tags}
        for by_uid in runs().values()
        for uid, run in by_uid.items()
    }


def test_an_empty_store_is_filled_with_the_same_runs_numbers_and_links(sweep, database, empty_database, client, runs):
    sync(sweep.paths.root, None, final=True)
    before, linked = numbers(client, runs), links(runs)
    assert linked[SEARCH.digest] == {
        "mlflow.parentRunId": f"sweep:{REGRESSION}",
        "chembench.pretrain_run_id": PRETRAIN.digest,
    }
    shutil.copy(empty_database, database.removeprefix("sqlite:///"))
    shutil.rmtree(sweep.paths.root.parent / "mlartifacts")
    report = sync(sweep.paths.root, None, final=True)
    assert (report.sent, report.unsent) == (7, 0)
    assert (numbers(client, runs), links(runs)) == (before, linked)


def test_files_that_are_gone_are_sent_again(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=True)
    shutil.rmtree(sweep.paths.root.parent / "mlartifacts")
    assert sync(sweep.paths.root, None, final=True).unsent == 0
    confirm = runs()[REGRESSION][CONFIRM.digest].info.run_id
    assert [f.path for f in client.list_artifacts(confirm)] == ["predictions.csv", "spec.json"]
    assert sync(sweep.paths.root, None, final=True).sent == 0


def test_a_link_to_a_run_that_was_refused_at_first_is_added(sweep, database, runs, monkeypatch):
    create = Store.create

    def refusing(self, experiment, record, tags):
        if record.uid == PRETRAIN.digest:
            raise TrackingError("not now")
        return create(self, experiment, record, tags)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "create", refusing)
        assert sync(sweep.paths.root, None, final=False).unsent == 1
    assert "chembench.pretrain_run_id" not in runs()[REGRESSION][SEARCH.digest].data.tags
    sync(sweep.paths.root, None, final=False)
    assert links(runs)[SEARCH.digest]["chembench.pretrain_run_id"] == PRETRAIN.digest


def test_a_run_that_was_deleted_in_mlflow_is_made_anew_with_its_links(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=True)
    for experiment, uid in ((PRETRAINING, PRETRAIN.digest), (REGRESSION, f"sweep:{REGRESSION}")):
        client.delete_run(runs()[experiment][uid].info.run_id)
    assert sync(sweep.paths.root, None, final=True).unsent == 0
    assert links(runs)[SEARCH.digest] == {
        "mlflow.parentRunId": f"sweep:{REGRESSION}",
        "chembench.pretrain_run_id": PRETRAIN.digest,
    }


def doubled(client, run):
    """A second run with the tags of ``run``, as a request that is carried out late creates it."""
    told = client.get_run(run.info.run_id)
    tags = {key: value for key, value in told.data.tags.items() if key != "chembench.digest"}
    return client.create_run(told.info.experiment_id, start_time=told.info.start_time - 5, tags=tags).info.run_id


@pytest.mark.parametrize("uid", [SEARCH.digest, f"sweep:{REGRESSION}"])
def test_a_run_that_is_there_twice_goes_to_the_bin(sweep, database, runs, client, uid):
    sync(sweep.paths.root, None, final=True)
    kept = runs()[REGRESSION][uid]
    extra = doubled(client, kept)
    assert sync(sweep.paths.root, None, final=True).unsent == 0
    assert runs()[REGRESSION][uid].info.run_id == kept.info.run_id
    assert client.get_run(extra).info.lifecycle_stage == "deleted"


def test_an_answer_that_is_lost_creates_no_second_run(sweep, database, runs, monkeypatch):
    create, lost = Store.create, []

    def losing(self, experiment, record, tags):
        run_id = create(self, experiment, record, tags)
        if record.uid not in lost:
            lost.append(record.uid)
            raise TrackingError("the answer did not come")
        return run_id

    monkeypatch.setattr(Store, "create", losing)
    for _ in range(12):
        one_pass(sweep, database)
    assert len(lost) == 10
    assert {name: len(by_uid) for name, by_uid in runs().items()} == {
        PRETRAINING: 2, REGRESSION: 6, "tiny/classification": 2,
    }  # fmt: skip
    assert sync(sweep.paths.root, None, final=True).unsent == 0


def test_a_request_that_is_carried_out_late_leaves_no_run_running(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=True)
    for uid in (SEARCH.digest, f"sweep:{REGRESSION}"):
        client.update_run(runs()[REGRESSION][uid].info.run_id, status="RUNNING")
    assert sync(sweep.paths.root, None, final=True).unsent == 0
    assert runs()[REGRESSION][SEARCH.digest].info.status == "FINISHED"
    assert runs()[REGRESSION][f"sweep:{REGRESSION}"].info.status == "KILLED"


def test_after_a_process_that_was_killed_the_store_is_asked(sweep, database, runs, client):
    """The killed process had created a run and noted nothing, and the last mark is older than that."""
    one_pass(sweep, database)
    assert sync(sweep.paths.root, None, final=False).unsent == 0
    lines = sweep.paths.sent.read_text().splitlines(keepends=True)
    sweep.paths.sent.write_text("".join(line for line in lines if '"answered"' not in line))
    extra = doubled(client, runs()[REGRESSION][SEARCH.digest])
    close(sweep.paths.root, database, 60.0)
    assert client.get_run(extra).info.lifecycle_stage == "deleted"


def test_a_note_of_a_run_that_is_not_there_is_not_believed_twice(sweep, database, runs):
    sync(sweep.paths.root, None, final=False)
    right = runs()[REGRESSION][RUNNING.digest].info.run_id
    sweep.paths.sent.write_text(sweep.paths.sent.read_text().replace(right, "0" * 32))
    sweep.end(RUNNING, metrics={"objective": 0.4})
    report = sync(sweep.paths.root, None, final=False)
    assert report.unsent == 0
    assert runs()[REGRESSION][RUNNING.digest].info.status == "FINISHED"


def test_what_is_unsent_is_counted_without_mlflow(sweep, database):
    sync(sweep.paths.root, None, final=True)

    def unsent():
        return Wanted(
            sweep.paths, read_state(sweep.paths), SentFile(sweep.paths.sent, database), final=True
        ).unsent()  # fmt: skip

    assert unsent() == 0
    late = trial("search", head_seed=9)
    sweep.add(late)
    sweep.start(late)
    sweep.end(late, metrics={"objective": 0.4})
    assert unsent() == 1
    sweep.paths.leaderboards.mkdir()
    (sweep.paths.leaderboards / "regression.md").write_text("a board")
    assert unsent() == 2


def test_an_earlier_sweep_in_the_same_folder_is_ended_and_stays_apart(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    first = {run.info.run_id for by_uid in runs().values() for run in by_uid.values()}
    shutil.rmtree(sweep.paths.root)
    again = FakeSweep(sweep.paths.root)
    again.add(SEARCH)
    again.start(SEARCH)
    sync(again.paths.root, None, final=False)
    now = client.search_runs([client.get_experiment_by_name(REGRESSION).experiment_id])
    earlier = [run for run in now if run.info.run_id in first]
    assert {run.info.status for run in earlier} == {"FINISHED", "KILLED", "FAILED"}
    assert [run.info.status for run in now if run.info.run_id not in first] == ["RUNNING", "RUNNING"]


def test_two_sweeps_of_one_name_keep_their_runs_apart(sweep, database, client, tmp_path):
    other = seven_items(tmp_path / "elsewhere" / "tiny")
    for root in (sweep.paths.root, other.paths.root):
        assert sync(root, database, final=False).sent == 7
    found = client.search_runs([client.get_experiment_by_name(REGRESSION).experiment_id])
    parents = [run.data.tags.get("mlflow.parentRunId") for run in found]
    assert sorted(parents.count(parent) for parent in set(parents)) == [2, 5, 5]


def widened(sweep, trials):
    header = {"at": STARTED_AT, "space": {"seed": 0, "search": {"trials": trials}}, "versions": {}, "tasks": {}}
    sweep.append({"event": "sweep", "name": "tiny", "space_digest": f"{trials}" * 12, "header": header})


def test_a_sweep_that_was_widened_shows_its_new_settings_on_the_same_run(sweep, database, runs):
    widened(sweep, 3)
    sweep.end(RUNNING, metrics={"objective": 0.4})
    sweep.finish()
    sync(sweep.paths.root, None, final=False)
    before = runs()[REGRESSION][f"sweep:{REGRESSION}"]
    assert (before.info.status, before.data.tags["chembench.search.trials"]) == ("FINISHED", "3")
    widened(sweep, 5)
    assert sync(sweep.paths.root, None, final=False).unsent == 0
    after = runs()[REGRESSION][f"sweep:{REGRESSION}"]
    assert after.info.run_id == before.info.run_id
    assert (after.info.status, after.data.tags["chembench.search.trials"]) == ("RUNNING", "5")
    assert after.data.params == {"seed": "0"}
    assert runs()[REGRESSION][SEARCH.digest].data.tags["chembench.space"] == "5" * 12


def test_the_numbers_of_the_last_attempt_are_shown_though_the_clock_was_set_back(sweep, database, runs, client):
    measured = {"wall_seconds": 7.0, "started_at": STARTED_AT - 9000, "ended_at": STARTED_AT - 9010}
    sync(sweep.paths.root, None, final=False)
    sweep.start(FAILED, attempt=2)
    with sweep.paths.run(FAILED.digest, 2).curves.open("a") as file:
        for epoch, at in ((1, STARTED_AT + 500), (2, STARTED_AT - 8000), (3, STARTED_AT - 7990)):
            file.write(f'{{"epoch": {epoch}, "at": {at}, "objective": {1 / epoch}}}\n')
    sweep.end(FAILED, attempt=2, metrics={"objective": 0.4}, measured=measured)
    assert sync(sweep.paths.root, None, final=False).unsent == 0
    run = runs()[REGRESSION][FAILED.digest]
    history = client.get_metric_history(run.info.run_id, "valid/objective")
    assert [m.step for m in history] == [1, 2, 3]
    times = [run.info.start_time, *(m.timestamp for m in history), run.info.end_time]
    assert times == sorted(times)
    assert run.data.metrics["cost/wall_seconds"] == 7.0
    assert run.data.metrics["valid/objective"] == 1 / 3


def test_a_damaged_line_of_a_curve_leaves_the_others(sweep, database, runs, client):
    curves = sweep.paths.run(SEARCH.digest, 1).curves
    lines = curves.read_bytes().splitlines(keepends=True)
    curves.write_bytes(lines[0] + b"\0\0\0\n[1]\n" + lines[2])
    assert read_curves(curves)[1] == [2, 3]
    assert sync(sweep.paths.root, None, final=False).unsent == 0
    run = runs()[REGRESSION][SEARCH.digest]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "valid/objective")] == [1, 3]


def test_one_unreadable_file_does_not_hold_up_the_others(sweep, database, runs, monkeypatch):
    points_of = spool.points_of

    def broken(record):
        if record.uid == SEARCH.digest:
            raise OSError("the disk does not answer")
        return points_of(record)

    monkeypatch.setattr("chembench.tracking.spool.points_of", broken)
    report = sync(sweep.paths.root, None, final=False)
    assert (report.sent, report.unsent) == (6, 1)
    assert report.message.startswith("the disk does not answer")


def test_an_epoch_measured_anew_with_another_value_is_shown_as_the_latest(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    sweep.start(RUNNING, attempt=2)
    sweep.epochs(RUNNING, curve(0.7, 0.4), attempt=2)
    sync(sweep.paths.root, None, final=False)
    run = runs()[REGRESSION][RUNNING.digest]
    history = client.get_metric_history(run.info.run_id, "valid/objective")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.timestamp)] == [(1, 0.8), (1, 0.7), (2, 0.4)]


def test_an_attempt_that_repeats_epochs_one_by_one_doubles_none(sweep, database, runs, client):
    sweep.epochs(RUNNING, curve(0.6, 0.5), first=2)
    one_pass(sweep, database)
    sweep.start(RUNNING, attempt=2)
    one_pass(sweep, database)
    for epoch, objective in enumerate((0.8, 0.6, 0.5, 0.4), 1):
        sweep.epochs(RUNNING, curve(objective), attempt=2, first=epoch)
        one_pass(sweep, database)
    run = runs()[REGRESSION][RUNNING.digest]
    history = client.get_metric_history(run.info.run_id, "valid/objective")
    assert [(m.step, m.value) for m in history] == [(1, 0.8), (2, 0.6), (3, 0.5), (4, 0.4)]


def test_what_the_user_set_for_mlflow_stays(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with quiet_mlflow():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "600"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "600"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_confirm_run_tells_whether_its_recipe_stands_and_what_it_wins(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    sweep.end(RUNNING, metrics={"objective": 0.4})
    cell, recipe = read_state(sweep.paths).items[CONFIRM.digest].cell.canonical(), CONFIRM.finetune.canonical()
    choice = {"event": "chosen", "unit": "u", "task": "solubility", "cell": cell, "cell_name": "c", "rescored": {}}

    def told():
        state = read_state(SweepPaths(sweep.paths.root))
        record = next(r for r in spool.records(state, sweep.paths, final=False) if r.uid == CONFIRM.digest)
        return record.tags["chembench.superseded"], record.tags["chembench.winner_of"]

    sweep.append({**choice, "ordinal": 0, "recipe": recipe})
    assert told() == ("false", "none")
    sweep.finish()
    assert told() == ("false", "solubility")
    sweep.append({**choice, "ordinal": 1, "recipe": {**recipe, "learning_rate": 0.5}, "basis": "changed"})
    assert told()[0] == "true"
