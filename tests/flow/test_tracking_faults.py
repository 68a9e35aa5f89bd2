"""A real MLflow server that is down, killed, hangs or fails: no sweep waits for it, and it gets all of it, once."""

import json
import shutil
import time
from types import SimpleNamespace

import pytest
from flow_sweeps import Swept, assert_same, run, small_sweep, sweep
from mlflow_servers import PATIENCE, Proxy, Server, missing_for_postgres, postgres, within
from tracked_sweep import CONFIRM, RUNNING, curve, seven_items

from chembench.sweep.ledger import read_events, read_state
from chembench.sweep.winners import winners
from chembench.tracking.mlflow_sync import finish, start_beside, sync
from chembench.tracking.store import quiet_mlflow
from chembench.upkeep import examine_sweep

SEVEN = {"tiny/pretrain": 2, "tiny/regression": 6, "tiny/classification": 2}
"""Runs that seven items make, the sweep's own among them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server") / "mlflow").start()
    yield made
    made.kill()


@pytest.fixture
def proxy(server):
    made = Proxy(server.port)
    yield made
    made.close()


@pytest.fixture
def tiny(tmp_path):
    """A sweep of seven items, one of them running."""
    return seven_items(tmp_path / "sweeps" / "tiny")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    """A user who lets MLflow wait for no more than this."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")


def held(uri, made):
    """What a server holds of one sweep: experiment -> uid -> run with its curves; no uid has two."""
    from mlflow import MlflowClient

    with quiet_mlflow():
        client, found = MlflowClient(uri, registry_uri=uri), {}
        for experiment in client.search_experiments():
            own = f"tags.`chembench.folder` = '{folder_tag(made)}'"
            for parent in client.search_runs([experiment.experiment_id], own):
                below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
                runs = [parent, *client.search_runs([experiment.experiment_id], below)]
                by_uid = found.setdefault(experiment.name, {})
                for one in runs:
                    uid = one.data.tags["chembench.trial_uid"]
                    assert uid not in by_uid, f"{uid} has two runs"
                    by_uid[uid] = one_run(client, one)
        return found


def folder_tag(made):
    from chembench.tracking.spool import folder_name

    return folder_name(made.paths)


def one_run(client, found):
    curves = {}
    for key in found.data.metrics:
        history = client.get_metric_history(found.info.run_id, key)
        assert len({m.step for m in history}) == len(history), f"{key} has a point twice"
        curves[key] = sorted((m.step, m.value) for m in history)
    told = {k: v for k, v in found.data.tags.items() if k.startswith("chembench.") and "run_id" not in k}
    told = {k: v for k, v in told.items() if k not in ("chembench.digest", "chembench.model")}
    return SimpleNamespace(status=found.info.status, params=found.data.params, curves=curves, tags=told, run=found)


def counted(uri, made):
    return {name: len(by_uid) for name, by_uid in held(uri, made).items()}


def essence(uri, made):
    """What two stores have in common that hold the same sweep."""
    return {
        (name, uid): (one.status, one.params, one.curves, one.tags)
        for name, by_uid in held(uri, made).items()
        for uid, one in by_uid.items()
    }


def status_of(uri, made, spec):
    one = held(uri, made).get("tiny/regression", {}).get(spec.digest)
    return one and one.status


def test_a_server_that_is_down_from_the_start_gets_everything_later(tiny, tmp_path):
    server = Server(tmp_path / "mlflow")
    beside = start_beside(tiny.paths.root, server.uri)
    tiny.end(RUNNING, metrics={"objective": 0.4})
    tiny.finish()
    before = time.monotonic()
    report = finish(beside, tiny.paths.root, seconds=60)
    assert time.monotonic() - before < 70
    assert report.unsent == 10
    assert f"send them with `chembench sync {tiny.paths.root} --tracking-uri {server.uri}`" in report.message
    server.start()
    try:
        sent = sync(tiny.paths.root, server.uri, final=True)
        assert (sent.sent, sent.unsent) == (7, 0)
        assert counted(server.uri, tiny) == SEVEN
        assert not [
            one for by_uid in held(server.uri, tiny).values() for one in by_uid.values() if one.status == "RUNNING"
        ]
    finally:
        server.kill()


def test_a_server_that_is_killed_in_mid_sweep_and_started_again_misses_nothing(tiny, tmp_path):
    server = Server(tmp_path / "mlflow").start()
    beside = start_beside(tiny.paths.root, server.uri)
    try:
        assert within(lambda: status_of(server.uri, tiny, RUNNING) == "RUNNING")
        server.kill()
        tiny.epochs(RUNNING, curve(0.3, 0.2), first=2)
        tiny.end(RUNNING, metrics={"objective": 0.2})
        server.start()
        assert within(lambda: status_of(server.uri, tiny, RUNNING) == "FINISHED")
        tiny.finish()
        assert finish(beside, tiny.paths.root, seconds=PATIENCE).unsent == 0
        assert counted(server.uri, tiny) == SEVEN
        assert {one.status for one in held(server.uri, tiny)["tiny/pretrain"].values()} == {"FINISHED"}
        live = essence(server.uri, tiny)
        assert sync(tiny.paths.root, server.uri, final=True).sent == 0
        other = f"sqlite:///{tmp_path / 'other.db'}"
        assert sync(tiny.paths.root, other, final=True).sent == 7
        assert essence(other, tiny) == live
    finally:
        beside.process.kill()
        beside.process.wait()
        server.kill()


def test_a_server_that_hangs_is_left_alone_in_time_and_only_what_it_lacks_is_counted(tiny, server, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "900")  # a user with much patience; the driver has none
    beside = start_beside(tiny.paths.root, proxy.uri)
    assert within(lambda: status_of(server.uri, tiny, RUNNING) == "RUNNING")
    assert within(lambda: '"answered"' in tiny.paths.sent.read_text())
    proxy.mode = "stall"
    tiny.end(RUNNING, metrics={"objective": 0.4})
    tiny.finish()
    assert within(lambda: proxy.stalled > 0)
    before = time.monotonic()
    report = finish(beside, tiny.paths.root, seconds=20)
    assert time.monotonic() - before < 40
    assert beside.process.poll() is not None
    # the item that ended, the sweep itself three times, and the confirm run that has become a winner
    assert report.unsent == 5
    assert "mlflow must take everything within 20 s at the end of a sweep" in report.message
    proxy.mode = "pass"
    assert sync(tiny.paths.root, proxy.uri, final=True).unsent == 0
    assert counted(server.uri, tiny) == SEVEN
    assert held(server.uri, tiny)["tiny/regression"][CONFIRM.digest].tags["chembench.winner_of"] == "solubility"


def test_a_server_that_fails_is_told_with_its_answer_and_gets_everything_later(tiny, server, proxy):
    proxy.mode = "fail"
    report = sync(tiny.paths.root, proxy.uri, final=True)
    assert (report.sent, report.unsent) == (0, 10)
    assert "mlflow failed in 'open_store' with MlflowException" in report.message
    proxy.mode = "pass"
    assert sync(tiny.paths.root, proxy.uri, final=True).unsent == 0
    assert counted(server.uri, tiny) == SEVEN


def test_runs_that_are_created_late_are_not_there_twice(tiny, server, proxy):
    assert sync(tiny.paths.root, proxy.uri, final=False).unsent == 0
    late = [tiny.again(seed) for seed in (7, 8)]
    proxy.mode = "late"
    assert sync(tiny.paths.root, proxy.uri, final=False).unsent == 2
    requests = len(proxy.late)
    assert requests >= 2
    proxy.mode = "pass"
    assert sync(tiny.paths.root, proxy.uri, final=False).unsent == 0
    assert proxy.deliver() == requests
    (finding,) = [f for f in examine_sweep(tiny.paths, proxy.uri) if "there twice" in f.found]
    assert finding.found.startswith(f"{requests} runs are there twice")
    assert sync(tiny.paths.root, proxy.uri, final=False).unsent == 0
    by_uid = held(server.uri, tiny)["tiny/regression"]
    assert [by_uid[spec.digest].status for spec in late] == ["FINISHED", "FINISHED"]
    assert len(by_uid) == SEVEN["tiny/regression"] + 2


def test_what_a_killed_driver_left_running_is_closed_and_goes_on_under_the_same_runs(tiny, server):
    beside = start_beside(tiny.paths.root, server.uri)
    assert within(lambda: status_of(server.uri, tiny, RUNNING) == "RUNNING")
    beside.process.kill()
    beside.process.wait()
    first = ids(held(server.uri, tiny)["tiny/regression"])
    assert sync(tiny.paths.root, server.uri, final=True).unsent == 0
    assert status_of(server.uri, tiny, RUNNING) == "KILLED"
    assert held(server.uri, tiny)["tiny/regression"]["sweep:tiny/regression"].status == "KILLED"
    tiny.append({"event": "lost", "uid": RUNNING.digest, "attempt": 1})
    tiny.start(RUNNING, attempt=2)
    beside = start_beside(tiny.paths.root, server.uri)
    assert within(lambda: status_of(server.uri, tiny, RUNNING) == "RUNNING")
    tiny.epochs(RUNNING, curve(0.8, 0.4), attempt=2)
    tiny.end(RUNNING, attempt=2, metrics={"objective": 0.4})
    tiny.finish()
    assert finish(beside, tiny.paths.root, seconds=PATIENCE).unsent == 0
    last = held(server.uri, tiny)["tiny/regression"]
    assert ids(last) == first
    assert {one.status for one in last.values()} == {"FINISHED", "FAILED", "KILLED"}  # killed: the pruned one
    assert last[RUNNING.digest].curves["valid/objective"] == [(1, 0.8), (2, 0.4)]


def ids(by_uid):
    return {uid: one.run.info.run_id for uid, one in by_uid.items()}


@pytest.mark.skipif(missing_for_postgres() is not None, reason=str(missing_for_postgres()))
def test_a_server_on_postgresql_holds_what_a_file_holds(tiny, tmp_path):
    file = f"sqlite:///{tmp_path / 'file.db'}"
    assert sync(tiny.paths.root, file, final=True).unsent == 0
    with postgres() as database:
        server = Server(tmp_path / "mlflow", database).start()
        try:
            assert sync(tiny.paths.root, server.uri, final=True).unsent == 0
            assert essence(server.uri, tiny) == essence(file, tiny)
            server.kill()
            server.start()
            tiny.end(RUNNING, metrics={"objective": 0.4})
            assert sync(tiny.paths.root, server.uri, final=True).sent == 1
            assert [f for f in examine_sweep(tiny.paths, server.uri) if f.what == "mlflow"] == []
            assert sync(tiny.paths.root, database, final=True).sent == 0  # the same database, without the server
            assert counted(server.uri, tiny) == SEVEN
        finally:
            server.kill()


# ------------------------------------------------------------------------------------------------ a whole sweep


@pytest.fixture(scope="module")
def hung(tmp_path_factory, server) -> Swept:
    """A small sweep beside a server that hangs from its first request to its last, and then does not."""
    proxy = Proxy(server.port)
    proxy.mode = "stall"
    folder = tmp_path_factory.mktemp("hung")
    arguments = [*small_sweep("serial"), "--tracking-uri", proxy.uri]
    swept = sweep(folder, folder / "cache", "small", arguments)
    assert proxy.stalled >= 2  # the process beside the driver, and the one at its end
    proxy.mode = "pass"
    yield swept
    proxy.close()


def test_a_sweep_ends_while_its_server_hangs_and_no_item_waits(hung, small):
    assert hung.status == 0, hung.err
    assert_same(hung.view, small.view)
    events = [event for _, event in read_events(hung.view.paths.ledger)]
    assert events[-1]["event"] == "finished"
    order = [(event["event"], event.get("uid")) for event in events]
    assert order == [(e["event"], e.get("uid")) for _, e in read_events(small.view.paths.ledger)]
    unsent = len(read_state(hung.view.paths).items) + 3 + len(winners(read_state(hung.view.paths)))
    assert f"{unsent} runs, boards or models are not sent, send them with `chembench sync {hung.root}`" in hung.err


def test_sync_sends_all_of_it_from_ledger_and_trials_alone(hung, server, tmp_path):
    made = SimpleNamespace(paths=hung.view.paths)
    boards = {file.name: file.read_text() for file in made.paths.leaderboards.iterdir()}
    for folder in hung.cache.iterdir():
        if folder.name != "pretrained":  # a probe that wins is served with the checkpoint it stands on
            shutil.rmtree(folder)
    for file in (made.paths.space, made.paths.journal, made.paths.sent, made.paths.environment):
        file.unlink(missing_ok=True)
    for folder in (made.paths.leaderboards, made.paths.reports):
        shutil.rmtree(folder)
    done = run(["sync", str(hung.root)], tmp_path, tmp_path / "no cache")
    assert done.returncode == 0, done.stderr
    state = read_state(made.paths)
    found = {uid: one for by_uid in held(server.uri, made).values() for uid, one in by_uid.items()}
    assert found.keys() == state.items.keys() | {
        f"sweep:small/{g}" for g in ("pretrain", "regression", "classification")
    }
    assert {one.status for one in found.values()} == {"FINISHED"}
    for task, uid in winners(state).items():
        assert found[uid].tags["chembench.winner_of"] == task
        assert found[uid].run.data.tags["chembench.model"].startswith("models:/")
    objective = {uid: item.outcome.metrics["objective"] for uid, item in state.items.items() if item.kind == "search"}
    assert {uid: found[uid].run.data.metrics["best/objective"] for uid in objective} == objective
    assert {file.name: file.read_text() for file in made.paths.leaderboards.iterdir()} == boards
    checks = json.loads(run(["doctor", str(hung.root), "-f", "json"], tmp_path, tmp_path / "no cache").stdout)
    assert {check["state"] for check in checks if check["name"] in ("sweep", "journal", "boards", "mlflow")} == {"ok"}
