"""Ray as it is started and joined, with a stand-in for Ray itself."""

import signal
import sys
import tempfile
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest

from chembench.errors import ConfigError, DiskFullError, RunError
from chembench.sweep import ray_runner
from chembench.sweep.ray_cluster import cluster


class AuthenticationError(Exception):
    message = "no token"


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Starts Ray, whose ``init`` does what it is told; gives what was called."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    called, ray = [], ModuleType("ray")
    ray.shutdown = lambda: called.append("shutdown")
    monkeypatch.setitem(sys.modules, "ray", ray)
    exceptions = SimpleNamespace(AuthenticationError=AuthenticationError)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)

    def start(init, within=lambda: None, ray_address="local", log=None):
        ray.init = lambda **arguments: (called.append("init"), init())
        with cluster(ray_address, log):
            within()

    start.called = called
    return start


def failing(error):
    def init():
        raise error

    return init


STARTUP = "The current node timed out during startup. This could\nhappen because some of the raylet failed."


@pytest.mark.parametrize(
    ("address", "error", "kind", "told"),
    [
        ("local", Exception(STARTUP), RunError, r"ray must come up on this machine, it did not \(Exception: "
         r"The current node timed out during startup\. .* failed\); what is finished is kept: give the same"),
        ("auto", RuntimeError("version mismatch"), RunError, r"the cluster at 'auto', it did not \(Runtime"),
        ("local", OSError(28, "No space left on device", "/tmp/x"), DiskFullError, "no space left on the device that"),
        ("auto", ConnectionError("no"), ConfigError, "ray must let this machine in at 'auto'"),
        ("auto", AuthenticationError(), ConfigError, r"ray must find a token .* \(no token\)"),
    ],
)  # fmt: skip
def test_a_ray_that_does_not_come_up_is_told_in_one_sentence_and_leaves_nothing(
    start, tmp_path, address, error, kind, told
):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(kind, match=told) as caught:
        start(failing(error), ray_address=address)
    assert "\n" not in str(caught.value)
    assert start.called == ["init", "shutdown"]
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_ray_that_is_ended_by_a_second_signal_leaves_nothing(start, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(lambda: None, failing(KeyboardInterrupt()))
    assert start.called == ["init", "shutdown"] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_ray_prints_is_never_output_and_stands_in_the_sweeps_log(start, tmp_path, capsys, is_kept):
    log = tmp_path / "logs" / "ray.log"
    for worker in (1, 2):
        start(lambda: None, partial(print, f"(raylet) worker {worker} died"), log=log if is_kept else None)
    told = "(raylet) worker 1 died\n(raylet) worker 2 died\n"
    assert capsys.readouterr() == ("", "" if is_kept else told)
    assert not is_kept or log.read_text() == told


def test_a_ray_that_killed_workers_for_want_of_memory_is_told_and_the_sweep_goes_on_later(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tuner = tune_that_ends(
        monkeypatch,
        "Caught unexpected exception: 2 worker(s) were killed due to the node running low on memory.\n"
        "Memory on the node (IP: 192.0.2.2, ID: a4e9) was 22.91GB used / 23.54GB limit (0.973410)",
    )
    with pytest.raises(RunError, match=r"the machine ran low on it \(22\.91GB used / 23\.54GB limit\) .*again") as low:
        tuner()
    assert low.value.cause == "worker-lost"


def test_whatever_else_tune_raises_is_a_bug_still(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="something else") as other:
        tune_that_ends(monkeypatch, "something else")()
    assert not isinstance(other.value, RunError)


def tune_that_ends(monkeypatch, message):
    """Runs a Tune whose ``fit`` raises this."""

    class Tuner:
        def __init__(self, *_, **__):
            pass

        def fit(self):
            raise RuntimeError(message)

    settings = dict.fromkeys(("TuneConfig", "RunConfig", "FailureConfig", "CheckpointConfig"), lambda **_: None)
    tune = SimpleNamespace(Tuner=Tuner, with_resources=lambda *_: None, **settings)
    ray = ModuleType("ray")
    ray.tune = tune
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    monkeypatch.setattr(ray_runner, "trainable", lambda: None)
    return partial(ray_runner._run_tune, None)
