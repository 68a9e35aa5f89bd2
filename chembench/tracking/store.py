"""The MLflow side. Every call raises `TrackingError` when MLflow fails, whatever MLflow raised.

MLflow is imported at the first call. Nothing here uses its global state (active run, tracking URI).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chembench.paths import written_whole
from chembench.tracking.border import TrackingError, border
from chembench.tracking.curves import Point
from chembench.tracking.places import SQLITE, artifact_root, local_path, network_file_system, sqlite_file
from chembench.tracking.sent import Seen, turn
from chembench.tracking.spool import DataInput, RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

at_the_border = border("mlflow")

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
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds of silence; 120 by default
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """MLflow without retries, telemetry, progress bars and log lines, but for what the user has set.

    The environment is put back afterwards.
    """
    ours = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(ours)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in ours:
            os.environ.pop(name, None)


@dataclass(frozen=True, slots=True)
class Found:
    """A run as MLflow has it."""

    uid: str
    seen: Seen
    parent: str
    """Id of the run it is nested under; empty if there is none."""
    artifacts: str
    """URI of its folder of files."""


class Store:
    """One tracking store; made by `open_store`."""

    def __init__(self, client: MlflowClient, artifacts: Path | None) -> None:
        self.client = client
        self._artifacts = artifacts

    @at_the_border
    def experiment(self, name: str) -> tuple[str, bool]:
        """Id of the experiment ``name``, which is created if need be, and whether it was."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = self.files_of(name)
            return str(self.client.create_experiment(name, artifact_location=place.as_uri() if place else None)), True
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"an mlflow experiment must not be in the bin to be written to, '{name}' is; "
                f"restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        return str(found.experiment_id), False

    def files_of(self, name: str) -> Path | None:
        """Where the files of an experiment belong; none where a server keeps them."""
        return self._artifacts / name if self._artifacts else None

    @at_the_border
    def known_experiment(self, name: str) -> tuple[str, str] | None:
        """Id of the experiment ``name`` and where it keeps its files; none if it is not there."""
        found = self.client.get_experiment_by_name(name)
        return (str(found.experiment_id), str(found.artifact_location)) if found is not None else None

    @at_the_border
    def keep_view(self, experiment: str, key: str, view: Mapping[str, object]) -> None:
        """Keep a view of an experiment's runs, as MLflow's Share does, for addresses with ``viewStateShareKey=key``."""
        import json

        self.client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{key}", json.dumps(dict(view)))

    @at_the_border
    def runs(self, experiment: str, **tags: str) -> list[Found]:
        """Every run with these values of its tags ``chembench.*``; of one uid the oldest first."""
        wanted = " and ".join(f"tags.`chembench.{name}` = '{value}'" for name, value in tags.items())
        return self._search(experiment, wanted)

    @at_the_border
    def running_below(self, experiment: str, parent: str) -> list[Found]:
        """The run ``parent`` and those nested under it, as far as they are said to be running."""
        nested = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        itself = f"attributes.run_id = '{parent}' and attributes.status = 'RUNNING'"
        return [*self._search(experiment, nested), *self._search(experiment, itself)]

    def _search(self, experiment: str, wanted: str) -> list[Found]:
        found: list[Found] = []
        token = None
        while True:
            page = self.client.search_runs(
                [experiment], wanted, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            found += [_found(run) for run in page]
            token = page.token
            if not token:
                return found

    @at_the_border
    def create(self, experiment: str, record: RunRecord, tags: Mapping[str, str]) -> str:
        """A new run for ``record``, still running; its id. It has no digest until everything else is written."""
        born = {**tags, "chembench.status": "running"}
        born.pop("chembench.digest", None)
        run = self.client.create_run(experiment, start_time=record.started_ms, tags=born, run_name=record.name)
        return str(run.info.run_id)

    @at_the_border
    def write(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        """Add parameters, metrics and, at the very last, tags; sending the same again changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, value, point.at_ms, point.epoch) for point in points for key, value in point.values.items()
        ]
        while len(metrics) > METRICS_PER_CALL:
            self.client.log_batch(run_id, metrics[:METRICS_PER_CALL])
            del metrics[:METRICS_PER_CALL]
        self.client.log_batch(
            run_id,
            metrics,
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )

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
    def has_model(self, place: str) -> bool:
        """Whether the model ``models:/<id>`` is whole, as far as it can be told without fetching it."""
        model = self.client.get_logged_model(place.rpartition("/")[2])
        folder = local_path(str(model.artifact_location))
        return str(model.status) == "READY" and (folder is None or (folder / "MLmodel").is_file())

    @at_the_border
    def written(self, run_id: str) -> frozenset[tuple[str, int, float]]:
        """Metrics that a run has already: key, step and value."""
        keys = self.client.get_run(run_id).data.metrics
        return frozenset((key, m.step, m.value) for key in keys for m in self.client.get_metric_history(run_id, key))

    @at_the_border
    def reopen(self, run_id: str) -> None:
        """Make an ended run run again."""
        self.client.update_run(run_id, status="RUNNING")

    @at_the_border
    def close(self, run_id: str, status: str, ended_ms: int) -> None:
        """End a run; the last call for it, so that a run that shows as ended is whole."""
        self.client.set_terminated(run_id, MLFLOW_STATUS[status], ended_ms)

    @at_the_border
    def bin(self, run_id: str) -> None:
        """Move a run to MLflow's bin, from where it can be restored."""
        self.client.delete_run(run_id)


def _found(run: Run) -> Found:
    tags, info = run.data.tags, run.info
    told = tags.get("chembench.status", "")
    seen = Seen(
        run_id=str(info.run_id),
        attempt=int(tags.get("chembench.attempt", 0)),
        status=told if info.status == MLFLOW_STATUS.get(told) else "unknown",
        digest=tags.get("chembench.digest", ""),
        model=tags.get("chembench.model", ""),
    )
    return Found(tags.get("chembench.trial_uid", ""), seen, tags.get("mlflow.parentRunId", ""), str(info.artifact_uri))


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
            if network_file_system(database) is None:
                with closing(sqlite3.connect(part)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
