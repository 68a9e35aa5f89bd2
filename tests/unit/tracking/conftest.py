"""A sweep of seven items, and an MLflow database that is made once and copied."""

import shutil

import pytest
from tracked_sweep import seven_items

from chembench.tracking.store import open_store, quiet_mlflow


@pytest.fixture
def sweep(tmp_path):
    return seven_items(tmp_path / "sweeps" / "tiny")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Migrations take seconds, once."""
    folder = tmp_path_factory.mktemp("mlflow")
    with quiet_mlflow():
        open_store(f"sqlite:///{folder / 'mlflow.db'}", folder)
    return folder / "mlflow.db"


@pytest.fixture
def database(sweep, empty_database):
    """The default database of ``sweep``, migrated; its tracking URI."""
    place = sweep.paths.root.parent / "mlflow.db"
    shutil.copy(empty_database, place)
    return f"sqlite:///{place}"


@pytest.fixture
def client(database):
    from mlflow import MlflowClient

    with quiet_mlflow():
        return MlflowClient(database, registry_uri=database)


@pytest.fixture
def runs(client):
    """Everything in the database: name of the experiment -> uid -> run."""

    def read():
        found = {}
        for experiment in client.search_experiments():
            for run in client.search_runs([experiment.experiment_id]):
                by_uid = found.setdefault(experiment.name, {})
                uid = run.data.tags["chembench.trial_uid"]
                assert uid not in by_uid, f"{uid} has two runs"
                by_uid[uid] = run
        return found

    return read
