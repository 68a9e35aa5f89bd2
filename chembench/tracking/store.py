"""The MLflow side. Every call raises `TrackingError` when MLflow fails, whatever MLflow raised.

MLflow is imported at the first call. Nothing here uses its global state (active run, tracking URI).
"""

from __future__ import annotations

import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from chembench.errors import ChembenchError
from chembench.paths import written_whole
from chembench.tracking.sent import Seen, turn
from chembench.tracking.spool import DataInput, Point, RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Args = ParamSpec("Args")
Result = TypeVar("Result")

SQLITE = "sqlite:///"
METRICS_PER_CALL = 500
MLFLOW_STATUS = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the default blocks one call for four minutes when the server is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(ChembenchError):
    """MLflow cannot be reached or refused something; never raised out of `chembench.tracking`."""


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """MLflow without retries, telemetry, progress bars and log lines; the environment is put back afterwards."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(ENVIRONMENT)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def at_the_border(call: Callable[Args, Result]) -> Callable[Args, Result]:
    """``call``, whose failures are all `TrackingError`.

    MLflow's stores, plugins and their drivers raise whatever they like, and tracking must not fail a sweep.
    """

    @functools.wraps(call)
    def checked(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except TrackingError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            told = lines[0][:300] if lines else "no reason"
            raise TrackingError(f"mlflow failed in '{call.__name__}' with {type(error).__name__}: {told}") from error

    return checked


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file of a ``sqlite:///`` URI; none for other stores."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(tracking_uri.removeprefix(SQLITE).partition("?")[0])


def artifact_root(tracking_uri: str, home: Path) -> Path | None:
    """Where artifacts lie when no server keeps them: beside the database, otherwise in ``home``; never in the cwd."""
    if tracking_uri.startswith(("http://", "https://", "databricks")):
        return None
    database = sqlite_file(tracking_uri)
    return (database.parent if database else home).resolve() / "mlartifacts"


class Store:
    """One tracking store; made by `open_store`."""

    def __init__(self, client: MlflowClient, artifacts: Path | None) -> None:
        self.client = client
        self._artifacts = artifacts

    @at_the_border
    def experiment(self, name: str) -> str:
        """Id of the experiment ``name``, which is created if need be."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = (self._artifacts / name).as_uri() if self._artifacts else None
            return str(self.client.create_experiment(name, artifact_location=place))
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"an mlflow experiment must not be in the bin to be written to, '{name}' is; "
                f"restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        return str(found.experiment_id)

    @at_the_border
    def find(self, experiment: str, sweep: str, uid: str) -> Seen | None:
        """The run that carries the tag ``chembench.trial_uid``, if there is one."""
        wanted = f"tags.`chembench.trial_uid` = '{uid}' and tags.`chembench.sweep` = '{sweep}'"
        runs = self.client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        if not runs:
            return None
        tags, info = runs[0].data.tags, runs[0].info
        status = tags.get("chembench.status", "")
        told = status if info.status == MLFLOW_STATUS.get(status) else "unknown"
        attempt = int(tags.get("chembench.attempt", 0))
        extras = tags.get("chembench.boards", "") or tags.get("chembench.model", "")
        return Seen(info.run_id, attempt, told, extras=extras, is_whole=False)

    @at_the_border
    def create(self, experiment: str, record: RunRecord, tags: Mapping[str, str]) -> str:
        """A new run for ``record``, still running; its id."""
        born = {**tags, "chembench.status": "running"}
        run = self.client.create_run(experiment, start_time=record.started_ms, tags=born, run_name=record.name)
        return str(run.info.run_id)

    @at_the_border
    def write(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        """Add metrics, tags and parameters; sending the same again changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, value, point.at_ms, point.epoch) for point in points for key, value in point.values.items()
        ]
        self.client.log_batch(
            run_id,
            metrics[:METRICS_PER_CALL],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        for start in range(METRICS_PER_CALL, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics[start : start + METRICS_PER_CALL])

    @at_the_border
    def write_inputs(self, run_id: str, inputs: Sequence[DataInput]) -> None:
        """Name the data sets a run read, by digest."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        def entity(given: DataInput) -> DatasetInput:
            source = json.dumps({"digest": given.digest})
            profile = json.dumps(dict(given.profile))
            dataset = Dataset(given.name, given.digest, "chembench", source, profile=profile)
            return DatasetInput(dataset, [InputTag("mlflow.data.context", given.context)])

        self.client.log_inputs(run_id, [entity(given) for given in inputs])

    @at_the_border
    def write_files(self, run_id: str, files: Sequence[Path], folder: str | None = None) -> None:
        """Copy small files to a run; a file of the same name is replaced."""
        for file in files:
            self.client.log_artifact(run_id, str(file), folder)

    @at_the_border
    def epochs(self, run_id: str) -> frozenset[int]:
        """Epochs of which a run has metrics already."""
        keys = self.client.get_run(run_id).data.metrics
        per_epoch = [key for key in keys if key.startswith(("train/", "valid/"))]
        return frozenset(m.step for key in per_epoch[:1] for m in self.client.get_metric_history(run_id, key))

    @at_the_border
    def reopen(self, run_id: str) -> None:
        """Make an ended run run again."""
        self.client.update_run(run_id, status="RUNNING")

    @at_the_border
    def close(self, run_id: str, status: str, ended_ms: int) -> None:
        """End a run; the last call for it, so that a run that shows as ended is whole."""
        self.client.set_terminated(run_id, MLFLOW_STATUS[status], ended_ms)


@at_the_border
def open_store(tracking_uri: str, home: Path) -> Store:
    """Connect; a SQLite database that is not there yet is created, by one process at a time.

    Args:
        tracking_uri: any URI MLflow knows.
        home: folder for the artifacts of a store that is neither a server nor a SQLite file.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    from mlflow import MlflowClient

    database, artifacts = sqlite_file(tracking_uri), artifact_root(tracking_uri, home)
    if database is not None and artifacts is not None and not database.is_file():
        _create_database(database, artifacts)
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    client.search_experiments(max_results=1)
    return Store(client, artifacts)


def _create_database(database: Path, artifacts: Path) -> None:
    """Make the file elsewhere and move it into place, one process at a time.

    Migrations take seconds; two processes at once break them (measured: 3 of 4 failed), and so does a kill.
    With a write-ahead log MLflow's pages are readable while runs are sent, and that takes half as long (measured).
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with turn(database.with_name(f".{database.name}.lock")):
        if database.is_file():
            return
        with written_whole(database) as part:
            made = SqlAlchemyStore(f"{SQLITE}{part}", artifacts.as_uri())  # type: ignore[no-untyped-call]
            made.engine.dispose()
            with closing(sqlite3.connect(part)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
