"""Questions that MLflow's pages answer for a sweep, each as the address of a page: a saved search with its columns.

MLflow keeps a view that is shared as a tag of its experiment, and so are these kept. The address names the view alone:
of one that holds a search as well MLflow shows the search without its columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from chembench.config import digest_of
from chembench.paths import SweepPaths
from chembench.specs import TrialSpec
from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.winners import winners
from chembench.tracking import spool
from chembench.tracking.store import Store, open_store, quiet_mlflow

SCORE: dict[spool.Group, tuple[str, bool]] = {
    "pretrain": ("best/loss", True),
    "regression": ("test/rmse", True),
    "classification": ("test/roc_auc", False),
}
"""What runs of an experiment are ordered by, and whether smaller is better."""
CURVES = "valid/loss"
COLUMNS = (
    "tags.`chembench.kind`",
    "tags.`chembench.architecture`",
    "tags.`chembench.size`",
    "tags.`chembench.molecules`",
)
RECIPE = ("params.`finetune.method`", "params.`finetune.learning_rate`", "tags.`chembench.status`")
"""What more is shown of search trials."""
VIEW = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsHiddenMode": "FIRST_20_RUNS",
    "viewMaximized": True,
    "runListHidden": False,
    "isAccordionReordered": False,
    "groupBy": None,
    "groupsExpanded": {},
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
}
"""The rest of a shared view, as MLflow 3 writes it."""
MOST_CURVES = 40
"""Runs whose curves are drawn in one chart: their ids stand in its address."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and where it is answered."""

    text: str
    url: str


def questions(state: SweepState, paths: SweepPaths, tracking_uri: str, base: str) -> list[Question]:
    """What can be asked of a sweep that MLflow holds; none if it holds nothing of it. The views are kept in MLflow.

    Args:
        state: the ledger's fold.
        paths: the sweep's folder.
        tracking_uri: of the store.
        base: address of MLflow's pages, such as ``http://127.0.0.1:5000``.

    Raises:
        TrackingError: if MLflow fails.
    """
    with quiet_mlflow():
        return list(_Pages(state, paths, open_store(tracking_uri, paths.root.parent), base.rstrip("/")).all())


@dataclass(slots=True)
class _Pages:
    """The addresses of one sweep in one store."""

    state: SweepState
    paths: SweepPaths
    store: Store
    base: str

    def all(self) -> Iterator[Question]:
        experiments: dict[spool.Group, str] = {}
        for group in spool.groups_of(self.state):
            known = self.store.known_experiment(f"{self.state.name}/{group}")
            if known:
                experiments[group] = known[0]
        for group, experiment in experiments.items():
            yield from self._of_sweep(group, experiment)
        if "pretrain" in experiments:
            yield from self._of_pretraining(experiments["pretrain"])
        for task, told in self.state.header["tasks"].items():
            if told["kind"] in experiments:
                yield from self._of_task(task, told["kind"], experiments)

    def _of_sweep(self, group: spool.Group, experiment: str) -> Iterator[Question]:
        parent = self._run(experiment, spool.parent_uid(self.state.name, group))
        if parent:
            yield Question(
                f"{group}: boards, report and settings of the sweep", self._page(experiment, parent, "artifacts")
            )
        if any(item.status == "failed" and spool.group_of(item) == group for item in self.state.items.values()):
            yield Question(f"{group}: what failed", self._search(experiment, {"status": "failed"}))

    def _of_pretraining(self, experiment: str) -> Iterator[Question]:
        yield Question(
            "pre-training: every model by its validation loss",
            self._search(experiment, {"kind": "pretrain"}, *SCORE["pretrain"]),
        )
        uids = [i.uid for i in self.state.items.values() if i.kind == "pretrain" and i.status == "finished"]
        runs = [run for uid in uids[:MOST_CURVES] if (run := self._run(experiment, uid))]
        if runs:
            yield Question("pre-training: curves side by side", self._curves(experiment, runs))

    def _of_task(self, task: str, group: spool.Group, experiments: dict[spool.Group, str]) -> Iterator[Question]:
        experiment, best = experiments[group], winners(self.state).get(task)
        metric, is_smaller = SCORE[group]
        scored = {"task": task}
        yield Question(f"{task}: best runs by test score", self._search(experiment, scored, metric, is_smaller))
        searched = {"task": task, "kind": "search"}
        yield Question(
            f"{task}: best trials by validation", self._search(experiment, searched, "best/objective", is_smaller=True)
        )
        if best is None:
            return
        item = self.state.items[best]
        if item.cell is not None:
            name = f"{task}: all trials of the winner's cell, {item.cell.name}"
            yield Question(name, self._search(experiment, _cell_tags(item), "best/objective", is_smaller=True))
        if run := self._run(experiment, best):
            yield Question(f"{task}: lineage, from the winner's scores", self._page(experiment, run))
        if isinstance(item.spec, TrialSpec) and item.spec.pretrained and "pretrain" in experiments:
            before = self._run(experiments["pretrain"], item.spec.pretrained)
            if before:
                name = f"{task}: lineage, over its pre-training to the corpus"
                yield Question(name, self._page(experiments["pretrain"], before))

    def _run(self, experiment: str, uid: str) -> str:
        """Id of the run of an item; empty if MLflow does not have it."""
        runs = self.store.runs(experiment, sweep_id=spool.sweep_id(self.paths), trial_uid=uid)
        return runs[0].seen.run_id if runs else ""

    def _page(self, experiment: str, run: str, tab: str = "") -> str:
        return f"{self.base}/#/experiments/{experiment}/runs/{run}{'/' + tab if tab else ''}"

    def _search(self, experiment: str, tags: dict[str, str], metric: str = "", is_smaller: bool = True) -> str:
        wanted = " and ".join(f"tags.`chembench.{name}` = '{value}'" for name, value in tags.items())
        order = f"metrics.`{metric}`" if metric else "attributes.start_time"
        recipe = RECIPE if tags.get("kind") == "search" else ("tags.`chembench.cause`",) if "status" in tags else ()
        columns = [*([order] if metric else []), *COLUMNS, *recipe]
        searched = {"searchFilter": wanted, "orderByKey": order, "orderByAsc": is_smaller}
        key = f"chembench-{digest_of([wanted, order, is_smaller, columns])}"
        self.store.keep_view(experiment, key, {**VIEW, **searched, "selectedColumns": columns})
        return f"{self.base}/#/experiments/{experiment}/runs?viewStateShareKey={key}"

    def _curves(self, experiment: str, runs: list[str]) -> str:
        fields = {
            "runs": json.dumps(runs, separators=(",", ":")),
            "metric": json.dumps(CURVES),
            "experiments": json.dumps([experiment]),
            "plot_metric_keys": json.dumps([CURVES]),
            "x_axis": "step",
        }
        return f"{self.base}/#/metric?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def _cell_tags(item: ItemRecord) -> dict[str, str]:
    cell = item.cell
    assert cell is not None, "a winner has a cell, but for a baseline"
    tags = {"architecture": cell.architecture, "size": cell.size, "molecules": str(cell.molecules)}
    return {"task": str(item.labels["task"]), **tags, "kind": "search"}


def server_of(tracking_uri: str) -> str | None:
    """The address that shows a store's pages by itself; none for a database."""
    return tracking_uri if tracking_uri.startswith(("http://", "https://")) else None
