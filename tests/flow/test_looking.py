"""What a finished sweep shows: status, boards, items, MLflow's runs, and predictions of the winners."""

import csv
import io
import json
import re
from collections import Counter

import pytest
from flow_sweeps import without

from chembench import cli
from chembench.data.audit import audit_facts, read_audit
from chembench.paths import SweepPaths
from chembench.report.columns import MEASURED_COLUMNS

GRID = "full_grid_tiny"
KINDS = {"freewilson_pic50": "regression", "freewilson_active": "classification"}
SMILES = ["CCO", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)O"]


@pytest.fixture
def shown(ray, capsys):
    """Runs a command on the grid that Ray swept; gives what it printed."""

    def show(verb, *arguments):
        assert cli.run([verb, str(ray[GRID].root), *arguments]) == 0
        return capsys.readouterr().out

    return show


def test_the_sweep_printed_its_boards_and_where_they_are(ray):
    for swept in ray.values():
        assert "regression board of " in swept.out and "classification board of " in swept.out
        assert f"boards: {swept.root / 'leaderboards'}" in swept.out
        assert f"MLflow: chembench ui {swept.root}" in swept.out
        assert "MLflow: every run, board and model is sent" in swept.err or "warning: " in swept.err


def test_without_a_terminal_the_first_and_last_line_of_progress_stand_there(ray):
    lines = [line for line in ray[GRID].err.splitlines() if " items, " in line]
    assert lines[0] == "0/316 items, time left unknown: nothing runs"
    assert lines[-1] == "316/316 items, done"
    between = r"[0-9]+/316 items, (about .+ left|time left unknown): .+"  # unknown until items of each kind have ended
    assert [line for line in lines[1:-1] if not re.fullmatch(between, line)] == []


def test_status(shown):
    status = json.loads(shown("status", "-f", "json"))
    assert (status["finished"], status["left"], status["expected"]) == (True, 0, 316)
    assert "full_grid_tiny: finished, 316 of 316 items done" in shown("status")


def test_boards_in_every_form_hold_the_same_lines(shown, ray):
    documents = json.loads(shown("leaderboard", "-f", "json"))["boards"]
    assert set(documents) == {"regression", "classification", "pretraining"}
    lines = [line for document in documents.values() for line in document["lines"]]
    rows = list(csv.DictReader(io.StringIO(shown("leaderboard", "-f", "csv"))))
    assert [row["method"] for row in rows] == [line["method"] for line in lines]
    markdown, printed = shown("leaderboard", "-f", "md"), shown("leaderboard")
    cells = ray[GRID].view.state().header["cells"]
    assert len(cells) == 24
    for name in (*cells, "forest_ecfp4", "forest_descriptors", "constant"):
        assert markdown.count(f"| {name}") >= 2, name
        assert printed.count(name) >= 2, name


def test_board_files_are_those_that_are_shown(shown, ray):
    folder = ray[GRID].view.paths.leaderboards
    documents = json.loads(shown("leaderboard", "-f", "json"))["boards"]
    for name, document in documents.items():
        assert json.loads((folder / f"{name}.json").read_text())["lines"] == document["lines"]
    assert {path.suffix for path in folder.iterdir()} == {".md", ".csv", ".json"}
    copied = ray[GRID].view.paths.reports
    beside = {"space.toml", "environment.json", "report.html", "report.md", "figures"}
    assert {path.name for path in folder.iterdir()} | beside == {path.name for path in copied.iterdir()}


def test_every_line_says_what_it_cost(shown):
    documents = json.loads(shown("leaderboard", "-f", "json"))["boards"]
    for line in documents["regression"]["lines"]:
        assert line["replicates"] == (1 if line["method"] == "constant" else 2)
        assert all(line[name] is not None for name in MEASURED_COLUMNS[:1])
        if line["group"] != "baseline":
            assert line["parameters"] > 0 and line["epochs"] > 0 and line["vs_forest"] is not None


def test_an_item_is_shown_by_the_start_of_its_uid(shown, ray, capsys):
    uid = next(uid for uid, item in ray[GRID].view.state().items.items() if item.kind == "confirm")
    item = json.loads(shown("show", uid[:10], "-f", "json"))
    assert item["uid"] == uid and item["status"] == "finished" and len(item["curves"]) == 2
    assert "test/rmse" in item["outcome"]["metrics"] or "test/roc_auc" in item["outcome"]["metrics"]
    assert cli.run(["show", str(ray[GRID].root), "zz"]) == 2
    assert "no item of sweep 'full_grid_tiny' has a uid that starts with 'zz'" in capsys.readouterr().err


def test_search_and_rescore_items_have_no_test_score(ray):
    for item in ray[GRID].view.state().items.values():
        is_open = item.kind in ("confirm", "baseline")
        assert any(name.startswith("test/") for name in item.outcome.metrics) == is_open


@pytest.fixture(scope="module")
def tracked(ray):
    """MLflow's client on the grid that Ray swept, with everything sent."""
    from mlflow import MlflowClient

    from chembench.tracking.mlflow_sync import sync

    view = ray[GRID].view
    report = sync(view.root, None, final=True)
    assert report.unsent == 0, report.message
    return MlflowClient(view.tracking_uri)


def runs(client, group):
    experiment = client.get_experiment_by_name(f"{GRID}/{group}")
    found, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=500, page_token=token)
        found, token = [*found, *page], page.token
        if not token:
            return found


def test_mlflow_holds_one_run_per_item_and_one_parent_per_experiment(tracked, ray):
    items = ray[GRID].view.state().items
    told = Counter()
    for group in ("pretrain", "regression", "classification"):
        found = runs(tracked, group)
        parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        assert len(parents) == 1
        assert {run.info.status for run in found} == {"FINISHED"}
        children = [run for run in found if run not in parents]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
        told.update(run.data.tags["chembench.trial_uid"] for run in children)
    assert told == Counter(list(items))


@pytest.mark.parametrize("task", list(KINDS))
def test_the_winner_served_by_mlflow_predicts_what_the_command_predicts(task, tracked, ray, tmp_path, capsys):
    import mlflow
    import numpy as np

    table = tmp_path / "in.csv"
    table.write_text("smiles\n" + "".join(f"{smiles}\n" for smiles in SMILES))
    assert cli.run(["predict", str(ray[GRID].root), "--task", task, "--input", str(table)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (column,) = [name for name in rows[0] if name.startswith("predicted_")]
    (winner,) = [run for run in runs(tracked, KINDS[task]) if run.data.tags.get("chembench.winner_of") == task]
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(ray[GRID].view.tracking_uri)
    try:
        served = mlflow.pyfunc.load_model(winner.data.tags["chembench.model"]).predict(SMILES)
    finally:
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(registry)
    assert served.shape == (len(SMILES), 1)
    # the command reads its digits back from text
    np.testing.assert_allclose(served.iloc[:, 0], [float(row[column]) for row in rows], rtol=1e-6)
    assert len({row[column] for row in rows}) > 1


def test_predict_asks_which_task(ray, capsys, tmp_path):
    (tmp_path / "in.smi").write_text("CCO\n")
    assert cli.run(["predict", str(ray[GRID].root), "--input", str(tmp_path / "in.smi")]) == 2
    assert "has the tasks freewilson_pic50, freewilson_active; choose one with --task" in capsys.readouterr().err


def test_a_sweep_alike_but_for_times_is_written_alike(ray, serial):
    for swept in zip(ray.values(), serial.values(), strict=True):
        first, second = (
            [without(row, *MEASURED_COLUMNS) for row in csv.DictReader(path.open())]
            for path in (found.view.paths.leaderboards / "regression.csv" for found in swept)
        )
        assert first == second


def test_a_sweep_is_audited_before_its_first_trial(ray, shown):
    audit = read_audit(SweepPaths(ray[GRID].root))
    assert {task.name for task in audit.tasks} == set(KINDS)
    assert audit.corpus.scales == (64, 128, 192)
    assert json.loads(shown("audit", "-f", "json")) == {**audit.model_dump(mode="json"), "leaks": audit.leaks}
    assert all(audit_facts(audit, task, 128).in_corpus is not None for task in KINDS)
