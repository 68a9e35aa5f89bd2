"""Workers and nodes of a Ray cluster die, join and come back late: no result is lost, none counts twice."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from flow_sweeps import environment, ray_cluster
from node_items import Control, finished, wait_until

from chembench.api import load_space, open_engine
from chembench.errors import InterruptedSweepError, RunError
from chembench.paths import write_json
from chembench.registry import RUNNERS
from chembench.specs import Work
from chembench.sweep.ledger import read_events, read_state
from chembench.sweep.running import RunnerOptions
from chembench.trial import run_item

ONE_CELL = (
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['llama']",
    "grid.size=['w16x1']",
    "grid.molecules=[64]",
    "controls.baselines=['constant']",
    "confirm.head_seeds=1",
)
ENOUGH = InterruptedSweepError("enough")


@pytest.fixture
def control(control_folder):
    """Empty: items of one name belong to several sweeps here."""
    for file in control_folder.iterdir():
        file.unlink()
    return Control(control_folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def engine(tmp_path, cache):
    with open_engine(load_space("full_grid_tiny", ONE_CELL), out=tmp_path, cache_dir=cache) as engine:
        yield engine


def drive(engine, nodes, on_change=lambda: None, **options):
    RUNNERS.load("ray")(engine, RunnerOptions(ray_address=nodes.address, **options), on_change)


@contextlib.contextmanager
def meanwhile(act):
    """``act`` in a thread; what it raises is raised at the end of the block."""
    raised = []

    def carry_out():
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            raised.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    yield
    thread.join()
    if raised:
        raise raised[0]


def of_kind(engine, kind):
    return next(item for item in engine.state.items.values() if item.kind == kind)


def result_of(engine, uid, attempt):
    return engine._paths.run(uid, attempt).result


def events_of(engine):
    return [event for _, event in read_events(engine._paths.ledger)]


def in_flight(events):
    """How many items were in flight after each event."""
    steps = {"started": 1, "result": -1, "lost": -1}
    return list(itertools.accumulate(steps.get(event["event"], 0) for event in events))


def attempts(events, uid):
    """Attempt -> status and cause, in the order in which they were told."""
    told = [event["outcome"] for event in events if event["event"] == "result" and event["uid"] == uid]
    return {outcome["attempt"]: (outcome["status"], outcome["cause"]) for outcome in told}


def test_no_loss_changes_what_comes_out_and_limits_hold(engine, nodes, control):
    options = RunnerOptions(ray_address=nodes.address, max_concurrent=1)

    def stop_early():
        if sum(item.status == "finished" for item in engine.state.items.values()) == 2:
            options.stopping.request(ENOUGH)

    with pytest.raises(InterruptedSweepError, match="enough"):
        RUNNERS.load("ray")(engine, options, stop_early)
    before = len(events_of(engine))
    assert max(in_flight(events_of(engine))) == 1, "as many as --max-concurrent says"

    pretrain, baseline = of_kind(engine, "pretrain").uid, of_kind(engine, "baseline").uid
    for uid, attempt in ((pretrain, 1), (pretrain, 2), (baseline, 1)):
        control.hold(uid, attempt)

    def disturb():
        os.kill(control.pid(pretrain), signal.SIGKILL)
        assert control.pid(pretrain, 2) != control.pid(pretrain, 1)
        nodes.kill_node_of(control.pid(baseline))
        nodes.add()
        wait_until(result_of(engine, baseline, 2).exists)
        late = finished(baseline, 1, "baseline")  # as from a worker that could not be told that its node is dead
        write_json(result_of(engine, baseline, 1), late.model_dump(mode="json"))
        control.let_go(pretrain, 2)

    with meanwhile(disturb):
        drive(engine, nodes)
    assert engine.done and {item.status for item in engine.state.items.values()} == {"finished"}
    events = events_of(engine)
    lost = ("failed", "worker-lost")
    assert attempts(events, pretrain) == {1: lost, 2: ("finished", None)}
    assert attempts(events, baseline) == {1: lost, 2: ("finished", None)}
    assert engine.state.items[baseline].outcome.metrics == {"objective": 2.0}, "not what the late worker wrote"
    others = [item for item in engine.state.items.values() if item.uid not in (pretrain, baseline)]
    assert {item.attempt for item in others} == {1}
    assert max(in_flight(events)[before:]) == 2, "as many as the nodes hold"
    assert in_flight(events)[-1] == 0
    assert read_state(engine._paths).items[baseline].outcome == engine.state.items[baseline].outcome


def is_stopped(pid):
    """Whether no thread of the process runs any more; a signal is under way for a while."""
    states = [stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def test_a_pretraining_goes_on_from_its_state_when_its_node_dies(tmp_path, cache, nodes, control):
    kept, longer = [], (*ONE_CELL, "controls.from_scratch=false", "pretrain.epochs=100", "name='longer'")
    control.real.touch()
    with open_engine(load_space("full_grid_tiny", longer), out=tmp_path, cache_dir=cache) as engine:
        uid = of_kind(engine, "pretrain").uid
        options = RunnerOptions(ray_address=nodes.address)

        def stop_when_done():
            if engine.state.items[uid].status == "finished":
                options.stopping.request(ENOUGH)

        def kill_its_node():
            wait_until(engine._paths.run(uid, 1).resume.exists)
            os.kill(control.pid(uid), signal.SIGSTOP)  # a node that is gone writes no more
            wait_until(lambda: is_stopped(control.pid(uid)))
            kept.append(torch.load(engine._paths.run(uid, 1).resume, weights_only=True)["step"])
            nodes.kill_node_of(control.pid(uid))
            nodes.add()

        with meanwhile(kill_its_node), pytest.raises(InterruptedSweepError, match="enough"):
            RUNNERS.load("ray")(engine, options, stop_when_done)
        item = engine.state.items[uid]
        assert attempts(events_of(engine), uid) == {1: ("failed", "worker-lost"), 2: ("finished", None)}
        # the kernel wakes stopped processes when their raylet dies: one more state may have been kept before the end
        assert item.outcome.measured["resumed_at_step"] >= kept[0] > 0
        work = Work.model_validate_json(engine._paths.run(uid, 2).spec.read_text())
    undisturbed = alone(work, tmp_path)
    assert undisturbed.metrics == item.outcome.metrics and undisturbed.facts == item.outcome.facts
    assert weights(tmp_path / "alone" / "checkpoint") == weights(Path(work.inputs.checkpoint))


def alone(work, tmp_path):
    """The same pre-training in one go in this process."""
    inputs = work.inputs.model_copy(update={"checkpoint": str(tmp_path / "alone" / "checkpoint")})
    return run_item(work.model_copy(update={"inputs": inputs, "folder": str(tmp_path / "alone" / "1"), "attempt": 1}))


def weights(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_a_node_is_waited_for_when_none_is_left_and_the_sweep_ends_with_the_way_out(engine, nodes, control):
    said, joined = [], threading.Event()
    uid = of_kind(engine, "baseline").uid
    control.hold(uid)

    def say(line):
        said.append(line)
        joined.set()

    def lose_all():
        control.pid(uid)
        for node in nodes.alive:
            nodes.kill(node)
        assert joined.wait(120)
        nodes.add()

    with meanwhile(lose_all):
        drive(engine, nodes, say=say)
    assert engine.done and attempts(events_of(engine), uid) == {1: ("failed", "worker-lost"), 2: ("finished", None)}
    assert (
        said[0]
        == "a node with 1 CPU and 0 GPU is needed for what is left, none is alive; waiting 600 s for one to join"
    )


def test_a_sweep_without_nodes_ends_with_the_way_out(engine, nodes, control):
    uid = of_kind(engine, "baseline").uid
    control.hold(uid)

    def lose_all():
        control.pid(uid)
        for node in nodes.alive:
            nodes.kill(node)

    with (
        meanwhile(lose_all),
        pytest.raises(RunError, match="none is alive for 1 s; start one and give the same") as told,
    ):
        drive(engine, nodes, node_seconds=1.0)
    assert told.value.cause == "worker-lost"


JOIN = """
import sys
from chembench.errors import ConfigError
from chembench.sweep.ray_runner import run_with_ray
from chembench.sweep.running import RunnerOptions
try:
    run_with_ray(None, RunnerOptions(ray_address=sys.argv[1]), print)
except ConfigError as error:
    print(error)
"""
NO_MODE = {"RAY_AUTH_MODE": "disabled"}
WRONG = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}
NO_FILE = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere/auth_token"}


def test_a_cluster_that_asks_for_a_token_tells_a_driver_without_it_in_one_sentence(tmp_path):
    def joining(address, **more):
        given = {name: value for name, value in environment(tmp_path).items() if not name.startswith("RAY_AUTH_")}
        command = [sys.executable, "-c", JOIN, address]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=given | more, **pipes)

    with ray_cluster() as (address, _):
        tried = [joining(address, **more) for more in (NO_MODE, WRONG, NO_FILE)]
        told = [process.communicate(timeout=120) for process in tried]
    assert [process.returncode for process in tried] == [0, 0, 0], told
    kept_out = (
        f"ray must let this machine in at '{address}', it does not; correct --ray-address, start a node of the cluster "
        "here, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to its token if it asks for one, or leave --ray-address out\n"
    )
    assert [out for out, _ in told[:2]] == [kept_out, kept_out]
    assert told[2][0].startswith("ray must find a token where RAY_AUTH_MODE says so, it does not (RAY_AUTH_TOKEN_PATH ")
    assert "; set RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_TOKEN_PATH to a file that holds it" in told[2][0]
    assert all(err.count("\n") <= 6 for _, err in told), "what Ray says itself is short"
