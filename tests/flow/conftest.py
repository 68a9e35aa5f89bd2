"""One sweep per tiny space and runner, and a small one, made when a test first asks for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_sweeps import NO_MLFLOW, SMALL, Swept, options, ray_cluster, shared, small_sweep, sweep
from ray_nodes import Nodes, ray_nodes

SPACES = ("full_grid_tiny", "full_adaptive_tiny")


@pytest.fixture(scope="session")
def common(tmp_path_factory) -> Path:
    """A folder that the pytest processes of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def serial(common) -> dict[str, Swept]:
    """Each tiny space, swept in one process; the two share a cache, as sweeps of a user do."""

    def make(place):
        alone = ["--runner", "serial", *NO_MLFLOW]
        return {n: sweep(place, place / "cache", n, ["--space", n, *alone]) for n in SPACES}

    return made("serial", common, make)


@pytest.fixture(scope="session")
def ray(common) -> dict[str, Swept]:
    """Each tiny space, swept on one Ray with two workers, from a cache of its own."""

    def make(place):
        with ray_cluster() as (address, key):
            joined = ["--runner", "ray", "--ray-address", address]
            told = {SPACES[0]: [], SPACES[1]: NO_MLFLOW}  # one of them is looked at in MLflow
            return {n: sweep(place, place / "cache", n, ["--space", n, *joined, *told[n]], **key) for n in SPACES}

    return made("ray", common, make)


@pytest.fixture(scope="session")
def small(common) -> Swept:
    """One cell and its control on both tasks, swept in one process."""

    def make(place):
        return {"small": sweep(place, place / "cache", "small", small_sweep("serial"))}

    return made("small", common, make)["small"]


@pytest.fixture(scope="module")
def control_folder(tmp_path_factory) -> Path:
    """What workers of `nodes` obey."""
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def nodes(control_folder) -> Iterator[Nodes]:
    """A cluster for the tests of one file."""
    with ray_nodes(control_folder) as found:
        yield found


PAPER = (
    "mode=paper",
    "tokenizer.name=paper_substitute",
    "pretrain.epochs=2",
    "pretrain.keep_every_epoch=true",
    "pretrain.max_grad_norm=none",
    "finetune={method='descriptor_probe', learning_rate=0.01, loss='l1', max_epochs=2, max_grad_norm='none', "
    "checkpoints='every_epoch', select_by='loss'}",
    "task.freewilson_pic50.mask_missing=false",
    "task.freewilson_active.mask_missing=false",
    "controls.from_scratch=false",
    "search.sampler=grid",
    "search.trials=1",
    "confirm.rescore_seeds=0",
)
"""The settings of paper_2405_00949 that differ from sound mode, on a tiny space."""


@pytest.fixture(scope="session")
def paper(common) -> Swept:
    """One cell in paper mode, on both tasks."""

    def make(place):
        given = ["--space", "full_grid_tiny", *options(*SMALL, *PAPER), "--runner", "serial", *NO_MLFLOW]
        return {"paper": sweep(place, place / "cache", "paper", given)}

    return made("paper", common, make)["paper"]


def made(name: str, common: Path, make) -> dict[str, Swept]:
    found = shared(common, name, make)
    for swept in found.values():
        assert swept.status == 0, swept.err
    return found
