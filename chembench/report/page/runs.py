"""Every run of the sweep, by the line it stands behind: where the numbers of a report come from."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from chembench.report.board import PRIMARY
from chembench.report.columns import hours
from chembench.report.page.blocks import Block, Cell, Code, Column, Line, Link, Section, Table, absent, paragraph
from chembench.report.page.source import Source, line_anchor, run_anchor
from chembench.report.rows import ResultRow
from chembench.report.wording import counted
from chembench.tracking import spool
from chembench.tracking.mlflow_sync import tracking_uri_of
from chembench.tracking.places import sqlite_file
from chembench.tracking.sent import SentFile

LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where `chembench ui` answers."""
COLUMNS = (
    Column(title="run"),
    Column(title="kind"),
    Column(title="status"),
    Column(title="replicate"),
    Column(title="test", align="right"),
    Column(title="validation", align="right"),
    Column(title="epochs", align="right"),
    Column(title="device-hours", align="right"),
    Column(title="folder"),
    Column(title="MLflow"),
)


def runs(source: Source) -> Section:
    """The table that all numbers link to."""
    if not source.rows:
        return Section(name="runs", title="Runs", blocks=(absent("No item of the sweep is known yet."),))
    sent = _Sent(source)
    lines: list[Line] = []
    for (task, method), group in _groups(source).items():
        lines.append(_heading(task, method, group))
        for row in group:
            lines.append(_line(source, row, sent))
    said = (
        "Scores, costs and names of methods above link to their lines here, and from there to the folder that each run "
        "left; what is worked out from many runs stands beside the methods that it is of"
    )
    blocks: list[Block] = [
        paragraph(
            f"{said}. Test and validation are the primary metric of the task, of a pre-training its validation loss; "
            f"the test is scored in confirm and baseline runs alone. Show all of one: "
        ),
        Code(text=f"chembench show {source.state.name} RUN"),
        *_about_mlflow(source, sent),
        Table(columns=COLUMNS, lines=tuple(lines)),
    ]
    return Section(name="runs", title="Runs", blocks=tuple(blocks))


def _groups(source: Source) -> dict[tuple[str, str], list[ResultRow]]:
    """Task and method -> all items, pre-trainings first."""
    groups: dict[tuple[str, str], list[ResultRow]] = {}
    order = {"confirm": 0, "baseline": 0, "rescore": 1, "search": 2, "pretrain": 0}
    for row in sorted(source.rows, key=lambda row: (row.task or "", row.method, order[row.kind])):
        name = source.pretrain_methods.get(row.uid, row.method)
        groups.setdefault((row.task or "", name), []).append(row)
    return groups


def _heading(task: str, method: str, group: Sequence[ResultRow]) -> Line:
    text = f"{method} on {task}" if task else f"{method}, pre-training"
    return Line(
        cells=(Cell(text=f"{text}: {counted(len(group), 'run')}"),),
        anchor=line_anchor(task or None, method),
        is_heading=True,
    )


def _line(source: Source, row: ResultRow, sent: _Sent) -> Line:
    folder, run_id = source.folder(row.uid), sent.run_id(row)
    metric = PRIMARY[row.task_kind] if row.task_kind else "loss"
    test, valid = row.metrics.get(f"test_{metric}"), row.metrics.get(f"valid_{metric}")
    status = f"{row.status} ({row.cause})" if row.cause else row.status
    return Line(
        anchor=run_anchor(row.uid),
        cells=(
            Cell(text=row.uid),
            Cell(text=row.kind + (", superseded" if row.superseded else "")),
            Cell(text=status),
            Cell(text=replicate(row)),
            Cell(text="-" if test is None else f"{test:.4f}"),
            Cell(text="-" if valid is None else f"{valid:.4f}"),
            Cell(text="-" if row.epochs is None else f"{row.epochs:g}"),
            Cell(text=hours(row.device_hours)),
            Cell(text=folder or "-", link=Link(kind="folder", to=folder) if folder else None),
            Cell(text=run_id[:8] or "-", link=sent.link(run_id)),
        ),
    )


def replicate(row: ResultRow) -> str:
    """Which replicate a run is, in words; of a search trial which point of its study."""
    if row.kind == "search":
        return "-" if row.ordinal is None else f"trial {row.ordinal}"
    known = (("checkpoint", row.pretrain_seed), ("outer", row.outer or None), ("split", row.split))
    last = ("seed" if row.kind == "baseline" else "head seed", row.head_seed)
    return ", ".join(f"{name} {index}" for name, index in (*known, last) if index is not None) or "-"


class _Sent:
    """Ids of MLflow's runs, as they are noted beside the ledger; MLflow itself is not asked."""

    def __init__(self, source: Source) -> None:
        self.uri = tracking_uri_of(source.state, source.paths)
        self._file = SentFile(source.paths.sent, self.uri)
        parents = {
            group: self._file.find("", spool.parent_uid(source.state.name, group))
            for group in ("pretrain", "regression", "classification")
        }
        self._parents = {group: seen.run_id for group, seen in parents.items() if seen is not None}

    def run_id(self, row: ResultRow) -> str:
        """Empty where none is noted."""
        parent = self._parents.get("pretrain" if row.kind == "pretrain" else str(row.task_kind))
        seen = self._file.find(parent, row.uid) if parent else None
        return seen.run_id if seen else ""

    @property
    def is_empty(self) -> bool:
        return not self._parents

    @property
    def address(self) -> str | None:
        """Of the server, without the name and password that may stand in it; none where no server shows the runs."""
        parts = urlsplit(self.uri)
        if parts.scheme in ("http", "https"):
            return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        return LOCAL_SERVER if sqlite_file(self.uri) is not None else None

    def link(self, run_id: str) -> Link | None:
        return Link(kind="web", to=f"{self.address}/#/runs/{run_id}") if run_id and self.address else None


def _about_mlflow(source: Source, sent: _Sent) -> list[Block]:
    if sent.is_empty:
        return [
            absent(
                "No run is known to have been sent to MLflow, so there are no links to it; chembench sync sends them."
            )
        ]
    if sqlite_file(sent.uri) is None:
        return []
    return [
        paragraph("Links to MLflow open while this runs on the machine that shows the page:"),
        Code(text=f"chembench ui {source.state.name}"),
    ]
