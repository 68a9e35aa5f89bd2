"""What MLflow holds after a pass, on a real database."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracked_sweep import (
    BASELINE,
    CONFIRM,
    FAILED,
    PRETRAIN,
    PRUNED,
    RUNNING,
    SEARCH,
    STARTED_AT,
    FakeSweep,
    curve,
    trial,
)

from chembench.errors import ConfigError
from chembench.tracking import mlflow_sync
from chembench.tracking.border import TrackingError
from chembench.tracking.mlflow_sync import close, default_tracking_uri, follow, sync, ui_command
from chembench.tracking.store import MLFLOW_STATUS, Store

REGRESSION, CLASSIFICATION, PRETRAINING = "tiny/regression", "tiny/classification", "tiny/pretrain"


def counted(runs):
    return {name: len(by_uid) for name, by_uid in runs().items()}


def test_items_are_nested_under_the_sweep_in_three_experiments(sweep, database, runs):
    report = sync(sweep.paths.root, None, final=False)
    assert (report.sent, report.unsent, report.message) == (7, 0, "")
    found = runs()
    assert {name: len(by_uid) for name, by_uid in found.items()} == {PRETRAINING: 2, REGRESSION: 6, CLASSIFICATION: 2}
    for name, by_uid in found.items():
        parent = by_uid.pop(f"sweep:{name}")
        assert parent.info.run_name == "tiny"
        assert parent.info.status == "RUNNING"
        assert parent.info.start_time == STARTED_AT * 1000
        told = {"seed": "0", "grid.architecture": '["roberta", "bart", "llama"]'}
        assert told.items() <= parent.data.params.items()
        assert parent.data.tags["chembench.version.torch"] == "2.13.0"
        assert {run.data.tags["mlflow.parentRunId"] for run in by_uid.values()} == {parent.info.run_id}


def test_a_finished_trial_has_parameters_curves_tags_cost_and_inputs(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    found = runs()
    run = found[REGRESSION][SEARCH.digest]
    assert run.info.run_name == "roberta-w8x1-64/solubility/search s0 #0"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == ((STARTED_AT + 100) * 1000, (STARTED_AT + 110) * 1000)
    expected = {"model.hidden": "8", "finetune.learning_rate": "0.001", "finetune.method": "full", "parameters": "2345"}
    assert expected.items() <= run.data.params.items()
    tags = {
        "sweep": "tiny",
        "space": "5" * 12,
        "trial_uid": SEARCH.digest,
        "kind": "search",
        "architecture": "roberta",
        "size": "w8x1",
        "molecules": "64",
        "task": "solubility",
        "task_type": "regression",
        "split": "0",
        "seed": "0",
        "pretrain_run_id": found[PRETRAINING][PRETRAIN.digest].info.run_id,
        "status": "finished",
        "cause": "none",
        "device": "a processor",
    }
    assert {f"chembench.{key}": value for key, value in tags.items()}.items() <= run.data.tags.items()
    assert run.data.metrics["best/rmse"] == 1.5
    assert run.data.metrics["best/epoch"] == 2
    assert run.data.metrics["cost/device_hours"] == 0.003
    assert run.data.metrics["cost/wall_seconds"] == 10
    assert not [key for key in run.data.metrics if key.startswith("test/")]
    history = client.get_metric_history(run.info.run_id, "valid/objective")
    assert [(m.step, m.value) for m in history] == [(1, 0.9), (2, 0.5), (3, 0.7)]
    assert history[0].timestamp == (STARTED_AT + 101) * 1000
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("solubility", "d" * 12)
    assert "log mol/L" in given.dataset.profile


def test_test_scores_and_predictions_are_on_confirm_and_baseline_runs(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    confirm, baseline = runs()[REGRESSION][CONFIRM.digest], runs()[CLASSIFICATION][BASELINE.digest]
    assert confirm.data.metrics["test/rmse"] == 1.6
    assert baseline.data.metrics["test/roc_auc"] == 0.75
    assert baseline.info.run_name == "forest_ecfp4/toxicity/baseline s0"
    assert [f.path for f in client.list_artifacts(confirm.info.run_id)] == ["predictions.csv", "spec.json"]
    names = {given.dataset.name: given.dataset.digest for given in confirm.inputs.dataset_inputs}
    assert names == {"solubility": "d" * 12, "solubility/test": "5" * 12}


def test_failed_and_pruned_items_show_as_such(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    failed, pruned = (runs()[REGRESSION][spec.digest] for spec in (FAILED, PRUNED))
    assert (failed.info.status, failed.data.tags["chembench.status"]) == ("FAILED", "failed")
    assert failed.data.tags["chembench.cause"] == "oom"
    assert failed.data.tags["mlflow.note.content"] == "the model does not fit"
    assert "error.txt" in [f.path for f in client.list_artifacts(failed.info.run_id)]
    assert (pruned.info.status, pruned.data.tags["chembench.status"]) == ("KILLED", "pruned")
    assert pruned.data.metrics["valid/objective"] == 1.5


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_second_pass_creates_nothing(sweep, database, runs, client, forgotten):
    sync(sweep.paths.root, None, final=False)
    before = runs()
    if forgotten:
        sweep.paths.sent.unlink()
    report = sync(sweep.paths.root, None, final=False)
    assert (report.sent, report.unsent) == (0, 0)
    assert counted(runs) == {name: len(by_uid) for name, by_uid in before.items()}
    for uid, run in runs()[REGRESSION].items():
        assert run.info.run_id == before[REGRESSION][uid].info.run_id
    running = before[REGRESSION][RUNNING.digest].info.run_id
    assert len(client.get_metric_history(running, "train/loss")) == 1


def test_a_running_item_is_continued_epoch_by_epoch(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    run = runs()[REGRESSION][RUNNING.digest]
    assert run.info.status == "RUNNING"
    folder = sweep.paths.run(RUNNING.digest, 1)
    with folder.curves.open("a") as file:
        file.write('{"epoch": 2, "at": 1700000102, "train/loss": 0.5}\n{"epoch": 3, "at": 17')
    assert sync(sweep.paths.root, None, final=False).sent == 1
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.6), (2, 0.5)]


def test_a_second_attempt_goes_on_in_the_same_run(sweep, database, runs, client):
    sync(sweep.paths.root, None, final=False)
    sweep.end(RUNNING, "failed", again=True, cause="worker-lost")
    sync(sweep.paths.root, None, final=False)
    sweep.start(RUNNING, attempt=2)
    sweep.epochs(RUNNING, curve(0.8, 0.4), attempt=2)
    sweep.end(RUNNING, attempt=2, metrics={"objective": 0.4})
    sync(sweep.paths.root, None, final=False)
    run = runs()[REGRESSION][RUNNING.digest]
    assert (run.info.status, run.data.tags["chembench.attempt"]) == ("FINISHED", "2")
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]


def test_a_retried_failure_becomes_finished(sweep, database, runs):
    sync(sweep.paths.root, None, final=False)
    sweep.start(FAILED, attempt=2)
    sync(sweep.paths.root, None, final=False)
    assert runs()[REGRESSION][FAILED.digest].info.status == "RUNNING"
    sweep.end(FAILED, attempt=2, metrics={"objective": 0.4})
    sync(sweep.paths.root, None, final=False)
    run = runs()[REGRESSION][FAILED.digest]
    assert (run.info.status, run.data.tags["chembench.cause"]) == ("FINISHED", "none")
    assert run.data.tags["mlflow.note.content"] == ""


def test_an_interrupted_sweep_leaves_no_run_running_and_goes_on_later(sweep, database, runs):
    sync(sweep.paths.root, None, final=True)
    by_uid = runs()[REGRESSION]
    assert by_uid[RUNNING.digest].info.status == by_uid[f"sweep:{REGRESSION}"].info.status == "KILLED"
    assert by_uid[RUNNING.digest].data.tags["chembench.status"] == "interrupted"
    sync(sweep.paths.root, None, final=False)
    by_uid = runs()[REGRESSION]
    assert by_uid[RUNNING.digest].info.status == by_uid[f"sweep:{REGRESSION}"].info.status == "RUNNING"
    assert by_uid[RUNNING.digest].data.tags["chembench.status"] == "running"


def test_boards_lie_with_the_sweeps_own_runs(sweep, database, runs, client):
    for name in ("regression.md", "regression.csv", "regression.json", "pretraining.md", "classification.md"):
        sweep.paths.leaderboards.mkdir(exist_ok=True)
        (sweep.paths.leaderboards / name).write_text(name)
    sync(sweep.paths.root, None, final=False)

    def boards_of(experiment):
        parent = runs()[experiment][f"sweep:{experiment}"].info.run_id
        return [Path(f.path).name for f in client.list_artifacts(parent, "leaderboards")]

    assert boards_of(REGRESSION) == ["regression.csv", "regression.md"]
    assert boards_of(PRETRAINING) == ["pretraining.md"]


def test_artifacts_lie_beside_the_database_and_none_in_the_cwd(sweep, database, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sync(sweep.paths.root, None, final=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    spec = next((tmp_path / "sweeps" / "mlartifacts" / "tiny" / "regression").rglob("spec.json"))
    assert spec.is_file()


def test_a_pass_cut_anywhere_is_made_good_by_the_next(sweep, database, runs, monkeypatch):
    """Each call in turn is the last one that works; afterwards no run is doubled and none is missing."""
    names = ("create", "write", "write_inputs", "write_files", "close")
    whole = {name: getattr(Store, name) for name in names}
    for allowed in range(0, 40, 3):
        left = [allowed]

        def guarded(name, left=left):
            def call(self, *args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise TrackingError("the server went away; start it again")
                return whole[name](self, *args, **kwargs)

            return call

        for name in names:
            monkeypatch.setattr(Store, name, guarded(name))
        if allowed % 2:
            sweep.paths.sent.unlink(missing_ok=True)
        sync(sweep.paths.root, None, final=False)
        for name in names:
            monkeypatch.setattr(Store, name, whole[name])
    sweep.paths.sent.unlink(missing_ok=True)
    assert sync(sweep.paths.root, None, final=False).unsent == 0
    assert counted(runs) == {PRETRAINING: 2, REGRESSION: 6, CLASSIFICATION: 2}
    for uid, run in runs()[REGRESSION].items():
        assert run.info.status == MLFLOW_STATUS[run.data.tags["chembench.status"]], uid
    assert runs()[REGRESSION][SEARCH.digest].data.metrics["best/rmse"] == 1.5


def test_a_server_that_is_down_is_told_at_once_with_the_way_out(sweep):
    before = time.monotonic()
    report = sync(sweep.paths.root, "http://127.0.0.1:9", final=True)
    assert time.monotonic() - before < 100  # by default MLflow would try for four minutes
    assert (report.sent, report.unsent) == (0, 10)
    assert f"not sent, send them with `chembench sync {sweep.paths.root} --tracking-uri http://" in report.message
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_one_refused_run_does_not_hold_up_the_others(sweep, database, runs, monkeypatch):
    create = Store.create

    def refusing(self, experiment, record, tags):
        if record.uid == SEARCH.digest:
            raise TrackingError("mlflow refused it; ask why")
        return create(self, experiment, record, tags)

    monkeypatch.setattr(Store, "create", refusing)
    report = sync(sweep.paths.root, None, final=False)
    assert (report.sent, report.unsent) == (6, 1)
    assert report.message.startswith("mlflow refused it; ask why; 1 runs, boards or models are not sent")
    assert SEARCH.digest not in runs()[REGRESSION]


def test_hints_of_another_store_or_of_a_lost_database_count_for_nothing(sweep, database, empty_database, runs):
    sync(sweep.paths.root, None, final=False)
    place = sweep.paths.root.parent
    for name in ("another", "lost"):
        (place / f"{name}.db").write_bytes(empty_database.read_bytes())
    assert sync(sweep.paths.root, f"sqlite:///{place}/another.db", final=False).sent == 7
    hints = sweep.paths.sent.read_text()
    sweep.paths.sent.write_text(hints.replace("/mlflow.db", "/lost.db"))  # as if lost.db had been full and was deleted
    assert sync(sweep.paths.root, f"sqlite:///{place}/lost.db", final=False).sent == 7


def test_an_experiment_in_the_bin_is_refused_with_the_way_out(sweep, database, client):
    sync(sweep.paths.root, None, final=False)
    client.delete_experiment(client.get_experiment_by_name(PRETRAINING).experiment_id)
    report = sync(sweep.paths.root, None, final=False)
    assert "'tiny/pretrain' is; restore it with `mlflow experiments restore" in report.message


def test_two_uploaders_do_not_work_at_once(sweep, database):
    from chembench.tracking.sent import only_one

    with only_one(sweep.paths.sending) as is_free:
        assert is_free
        report = sync(sweep.paths.root, None, final=False)
    assert report.unsent == 10
    assert "another process is sending this sweep" in report.message


def test_following_ends_when_the_sweep_is_finished_and_sent(sweep, database, runs):
    sweep.end(RUNNING, metrics={"objective": 0.8})
    sweep.finish()
    until = time.monotonic() + 20
    assert follow(sweep.paths.root, None, lambda: time.monotonic() > until).unsent == 0
    assert time.monotonic() < until
    assert {run.info.status for run in runs()[PRETRAINING].values()} == {"FINISHED"}
    assert runs()[REGRESSION][f"sweep:{REGRESSION}"].data.tags["chembench.status"] == "finished"


def test_following_stops_when_told(sweep, database):
    answers = iter([False] * 3)
    report = follow(sweep.paths.root, None, lambda: next(answers, True))
    assert report.unsent > 0


def test_a_time_limit_cuts_the_pass(sweep, database):
    report = close(sweep.paths.root, database, limit_seconds=0.0)
    assert (report.sent, report.unsent) == (0, 10)
    assert report.message == "sending to mlflow was stopped before its end"


def test_a_folder_without_sweep_is_a_clear_error(tmp_path, capsys):
    assert mlflow_sync.main(["--sweep", str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err


def test_the_default_database_lies_beside_the_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri(Path("sweeps/tiny")) == f"sqlite:///{tmp_path}/sweeps/mlflow.db"


def test_the_ui_is_for_databases():
    command = ui_command("sqlite:////data/mlflow.db")
    assert command[:6] == [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:////data/mlflow.db"]
    assert "file:///data/mlartifacts" in command
    with pytest.raises(ConfigError, match=r"'http://host:5000' is a server; open that in a browser"):
        ui_command("http://host:5000")


def test_importing_the_tracker_imports_no_mlflow():
    code = "import sys, chembench.tracking.mlflow_sync; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mlflow", "torch", "pandas", "rdkit"} & set(loaded.stdout.split())


def test_fifty_runs_are_sent_within_seconds(tmp_path, empty_database):
    sweep = FakeSweep(tmp_path / "sweeps" / "many")
    (tmp_path / "sweeps" / "mlflow.db").write_bytes(empty_database.read_bytes())
    for seed in range(50):
        spec = trial("search", head_seed=seed)
        sweep.add(spec, head_seed=seed)
        sweep.start(spec)
        sweep.epochs(spec, curve(*[1 / (epoch + 1) for epoch in range(15)]))
        sweep.end(spec, metrics={"objective": 0.1})
    before = time.monotonic()
    assert sync(sweep.paths.root, None, final=False).sent == 50
    assert time.monotonic() - before < 20


def test_a_database_that_could_not_be_made_leaves_none_behind(sweep, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    def broken(self, *_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sqlalchemy_store.SqlAlchemyStore, "_initialize_store_state", broken)
        report = sync(sweep.paths.root, None, final=False)
    assert report.unsent == 10
    assert "no space left on device" in report.message
    assert not list(sweep.paths.root.parent.glob("*mlflow.db"))
