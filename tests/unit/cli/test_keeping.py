"""Verbs that keep house."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from chembench import api, cli, doctor, upkeep
from chembench.sweep import merge


def test_a_missing_database_is_no_reason_to_make_one(capsys, monkeypatch):
    found = SimpleNamespace(tracking_uri="sqlite:////nowhere/mlflow.db")
    monkeypatch.setattr(api, "open_sweep", lambda name, out: found)
    assert cli.run(["ui", "s"]) == 2
    assert "database must exist, /nowhere/mlflow.db does not" in capsys.readouterr().err


def test_ui_becomes_mlflows_pages(monkeypatch, tmp_path):
    (tmp_path / "mlflow.db").touch()
    called = []
    monkeypatch.setattr(os, "execvp", lambda program, command: called.append((program, command)))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert cli.run(["ui", "--tracking-uri", uri, "--port", "5123"]) == 0
    ((program, command),) = called
    assert program == command[0]
    assert command[command.index("--backend-store-uri") + 1] == uri
    assert command[-2:] == ["--port", "5123"]


def test_doctor_reports_as_data_and_fails_when_a_check_does(capsys):
    code = cli.run(["doctor", "nowhere", "-f", "json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert code == 1
    assert {"python", "processors", "memory", "cache", "spaces", "data", "gpu", "ray", "sweep"} <= set(checks)
    assert checks["sweep"]["state"] == "fail"
    assert all(check["way_out"] for check in checks.values() if check["state"] != "ok")


@pytest.mark.parametrize(("problems", "code"), [((), 0), (("boards: no space", "MLflow: no answer"), 1)])
def test_sync_tells_each_step_and_what_could_not_be_made(problems, code, capsys, monkeypatch):
    called = []

    def made_anew(paths, tracking_uri, say):
        called.append((paths, tracking_uri))
        say("boards: made")
        return SimpleNamespace(problems=problems)

    monkeypatch.setattr(upkeep, "sync_sweep", made_anew)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: SimpleNamespace(paths=f"paths of {name}"))
    assert cli.run(["sync", "s", "--tracking-uri", "http://there"]) == code
    assert called == [("paths of s", "http://there")]
    assert capsys.readouterr() == ("boards: made\n", "".join(f"{problem}\n" for problem in problems))


def test_merge_makes_a_sweep_of_its_own_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    called = []
    for name in ("one", "two"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        (tmp_path / "sweeps" / name / "ledger.jsonl").touch()
    monkeypatch.setattr(
        merge, "merge_sweeps", lambda sources, target, say: called.append((sources, target, say("2 merged")))
    )
    assert cli.run(["merge", "one", "sweeps/two", "--name", "all"]) == 0
    root = tmp_path / "sweeps" / "all"
    ((sources, target, _),) = called
    assert [paths.root for paths in sources] == [tmp_path / "sweeps" / "one", tmp_path / "sweeps" / "two"]
    assert target.root == root
    told = f"merged into {root}; what is left of it, and its boards: chembench resume sweeps/all"
    assert capsys.readouterr().out.splitlines() == ["2 merged", told]
    assert cli.run(["merge", "one", "two", "--name", "../x"]) == 2


def test_doctor_mends_where_it_is_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda places: asked.append(places) or [])
    assert cli.run(["doctor", "s", "--fix", "--out", "there"]) == 0
    assert asked == [doctor.Places(sweep="s", out=Path("there"), fix=True)]


def test_ui_prints_where_each_question_is_answered(capsys, monkeypatch, tmp_path):
    from chembench.tracking import questions as asking

    (tmp_path / "mlflow.db").touch()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    view = SimpleNamespace(tracking_uri=uri, name="s", begun=lambda: None, paths=None)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: view)
    monkeypatch.setattr(os, "execvp", lambda program, command: None)
    found = [asking.Question("best runs", "http://127.0.0.1:5123/#/experiments/1")]
    monkeypatch.setattr(asking, "questions", lambda state, paths, uri, base: found if base.endswith(":5123") else [])
    assert cli.run(["ui", "s", "--port", "5123"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["best runs", "  http://127.0.0.1:5123/#/experiments/1"]
    assert cli.run(["ui", "s"]) == 0
    assert "MLflow holds no run of sweep 's' yet; chembench sync sends them" in capsys.readouterr().out


def test_of_a_server_the_addresses_are_printed_and_nothing_is_served(capsys, monkeypatch):
    from chembench.tracking import questions as asking

    view = SimpleNamespace(tracking_uri="http://mlflow.example:80", name="s", begun=lambda: None, paths=None)
    monkeypatch.setattr(api, "open_sweep", lambda name, out: view)
    monkeypatch.setattr(os, "execvp", lambda program, command: pytest.fail("something is served"))
    found = [asking.Question("best runs", "http://mlflow.example:80/#/experiments/1")]
    monkeypatch.setattr(asking, "questions", lambda state, paths, uri, base: found)
    assert cli.run(["ui", "s"]) == 0
    assert capsys.readouterr().out.splitlines() == ["best runs", "  http://mlflow.example:80/#/experiments/1"]
