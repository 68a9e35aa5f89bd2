"""The saved searches that `chembench ui` prints: each finds, in a real store, what its question asks for."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tracked_sweep import CONFIRM, FAILED, PRETRAIN, PRUNED, RUNNING, SEARCH

from chembench.sweep.ledger import read_state
from chembench.tracking.mlflow_sync import sync
from chembench.tracking.questions import questions

BASE = "http://127.0.0.1:5001"


@pytest.fixture
def asked(sweep, database):
    """Question -> address, of a sweep that is finished and sent."""
    sweep.end(RUNNING, metrics={"objective": 0.8, "valid/rmse": 2.4})
    sweep.finish()
    sync(sweep.paths.root, None, final=True)
    found = questions(read_state(sweep.paths), sweep.paths, database, f"{BASE}/")
    assert len({question.text for question in found}) == len(found)
    return {question.text: question.url for question in found}


def view_of(client, url):
    """The experiment and the view that an address shows, as MLflow keeps it."""
    page = urlsplit(urlsplit(url).fragment)
    experiment, (key,) = page.path.split("/")[2], parse_qs(page.query)["viewStateShareKey"]
    return experiment, json.loads(client.get_experiment(experiment).tags[f"mlflow.sharedViewState.{key}"])


def search(client, url):
    """The uids that a saved search lists, in its order."""
    experiment, view = view_of(client, url)
    order = [f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"]
    runs = client.search_runs([experiment], view["searchFilter"], order_by=order)
    return [run.data.tags["chembench.trial_uid"] for run in runs]


def test_the_views_have_the_columns_that_answer(asked, client):
    _, best = view_of(client, asked["solubility: best runs by test score"])
    assert best["selectedColumns"][:2] == ["metrics.`test/rmse`", "tags.`chembench.kind`"]
    _, failed = view_of(client, asked["regression: what failed"])
    assert "tags.`chembench.cause`" in failed["selectedColumns"]


def run_of(client, url):
    return client.get_run(urlsplit(url).fragment.split("/")[4]).data.tags["chembench.trial_uid"]


def test_every_address_is_a_page_of_this_server(asked):
    assert all(url.startswith(f"{BASE}/#/") for url in asked.values())


def test_the_best_run_of_a_task_comes_first(asked, client):
    assert search(client, asked["solubility: best runs by test score"])[0] == CONFIRM.digest
    trials = search(client, asked["solubility: best trials by validation"])
    assert trials == [SEARCH.digest, RUNNING.digest, PRUNED.digest, FAILED.digest], "one that failed has no score"


def test_all_trials_of_the_winners_cell_are_listed(asked, client):
    found = search(client, asked["solubility: all trials of the winner's cell, roberta-w8x1-64"])
    assert set(found) == {SEARCH.digest, PRUNED.digest, FAILED.digest, RUNNING.digest}


def test_failures_are_listed_where_there_are_some(asked, client):
    url = asked["regression: what failed"]
    assert search(client, url) == [FAILED.digest]
    assert "pretrain: what failed" not in asked


def test_curves_of_every_pretraining_stand_in_one_chart(asked, client):
    fields = parse_qs(urlsplit(urlsplit(asked["pre-training: curves side by side"]).fragment).query)
    (run,) = json.loads(fields["runs"][0])
    assert client.get_run(run).data.tags["chembench.trial_uid"] == PRETRAIN.digest
    assert json.loads(fields["plot_metric_keys"][0]) == ["valid/loss"]
    assert client.get_metric_history(run, "valid/loss"), "the chart shows what is there"


def test_the_lineage_leads_from_a_score_to_the_corpus(asked, client):
    assert run_of(client, asked["solubility: lineage, from the winner's scores"]) == CONFIRM.digest
    before = asked["solubility: lineage, over its pre-training to the corpus"]
    assert run_of(client, before) == PRETRAIN.digest
    run = client.get_run(urlsplit(before).fragment.split("/")[4])
    assert {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}["corpus"] == "c" * 12


def test_the_sweeps_own_run_holds_boards_report_and_audit(sweep, database, client):
    sweep.finish()
    for name, text in (("report.html", "<p>"), ("report.md", "#"), ("audit.json", "{}")):
        (sweep.paths.root / name).write_text(text)
    sync(sweep.paths.root, None, final=True)
    asked = {q.text: q.url for q in questions(read_state(sweep.paths), sweep.paths, database, BASE)}
    run = urlsplit(asked["regression: boards, report and settings of the sweep"]).fragment.split("/")[4]
    names = {file.path for file in client.list_artifacts(run)}
    assert {"report.html", "report.md", "audit.json", "space.toml"} <= names


def test_a_report_that_changed_is_sent_again(sweep, database, client, tmp_path):
    sweep.finish()
    sync(sweep.paths.root, None, final=True)
    for text in ("first", "second"):
        (sweep.paths.root / "report.html").write_text(text)
        sync(sweep.paths.root, None, final=True)
        asked = {q.text: q.url for q in questions(read_state(sweep.paths), sweep.paths, database, BASE)}
        run = urlsplit(asked["regression: boards, report and settings of the sweep"]).fragment.split("/")[4]
        assert Path(client.download_artifacts(run, "report.html", str(tmp_path))).read_text() == text
        assert client.get_run(run).info.status == "FINISHED"


def test_a_store_without_the_sweep_answers_nothing(sweep, database):
    assert questions(read_state(sweep.paths), sweep.paths, database, BASE) == []
