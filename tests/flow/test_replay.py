"""A finished sweep is replayed from its own record: the same asks, the same pruning, the same boards, in seconds."""

import signal
import subprocess
import time

import pytest
from flow_sweeps import asks, boards, choices, command_line, environment, run

from chembench.api import open_sweep
from chembench.replay import replay


@pytest.fixture(scope="module")
def replayed(serial, tmp_path_factory):
    """Each tiny space, replayed."""
    out = tmp_path_factory.mktemp("replayed")
    return {name: replay(swept.root, out=out, show_progress=False) for name, swept in serial.items()}


@pytest.fixture(params=["full_grid_tiny", "full_adaptive_tiny"])
def pair(request, serial, replayed):
    return serial[request.param].view, replayed[request.param]


def told(sweep) -> dict[str, list[dict]]:
    """Its boards without what says that it is a replay."""
    lines = {name: [{**line} for line in found] for name, found in boards(sweep).items()}
    for line in (line for found in lines.values() for line in found):
        badges = str(line.pop("badges", None) or "").split("; ")
        line["badges"] = [badge for badge in badges if badge not in ("", "replayed")]
    return lines


def test_the_boards_are_the_same(pair):
    swept, again = pair
    assert told(again) == told(swept)
    assert all(row.replayed for row in again.rows()) and not any(row.replayed for row in swept.rows())


def test_what_it_cost_is_what_was_recorded(pair):
    costs = [sorted((row.device_hours or 0.0, row.peak_memory_mib or 0.0) for row in view.rows()) for view in pair]
    assert costs[0] == costs[1]


def test_search_and_pruning_are_gone_through_again(pair):
    swept, again = pair
    first, second = asks(swept), asks(again)
    assert {study: {k: p for k, (_, p) in points.items()} for study, points in first.items()} == {
        study: {k: p for k, (_, p) in points.items()} for study, points in second.items()
    }
    assert {unit: choice["recipe"] for unit, choice in choices(swept).items()} == {
        unit: choice["recipe"] for unit, choice in choices(again).items()
    }
    states = [sorted((r.kind, r.status, r.epochs or 0.0, r.objective or 0.0) for r in view.rows()) for view in pair]
    assert states[0] == states[1]


def test_no_uid_is_one_of_the_sweep_and_no_checkpoint_is_touched(pair):
    swept, again = pair
    assert not set(swept.state().items) & set(again.state().items)
    assert not list(again.paths.trials.rglob("model"))


def test_another_seed_asks_for_what_was_never_recorded(serial, tmp_path):
    swept = serial["full_grid_tiny"]
    done = run(["replay", str(swept.root), "--set", "seed=7", "--quiet"], tmp_path, swept.cache)
    assert done.returncode == 1
    assert "items failed one after the other" in done.stderr
    assert "sweep 'full_grid_tiny' never carried it out: replay it with its own space, sampler and seed" in done.stderr


def test_a_replay_that_was_killed_goes_on(serial, replayed, tmp_path):
    swept, name = serial["full_grid_tiny"], "full_grid_tiny-replay"
    process = subprocess.Popen(
        command_line("replay", str(swept.root), "--quiet"), cwd=tmp_path, env=environment(swept.cache),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    trials = tmp_path / "sweeps" / name / "trials"
    while process.poll() is None and len(list(trials.glob("*/*/result.json"))) < 20:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not open_sweep(tmp_path / "sweeps" / name).state().finished
    assert run(["resume", name, "--quiet"], tmp_path, swept.cache).returncode == 0
    assert boards(open_sweep(tmp_path / "sweeps" / name)) == boards(replayed["full_grid_tiny"])
