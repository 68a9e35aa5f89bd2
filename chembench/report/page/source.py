"""What a report is gathered from: the ledger's fold, its boards, and the files of the sweep's folder.

Nothing outside that folder is read, and nothing is asked of MLflow: the ids of its runs stand in a file beside the
ledger. A file that is missing or damaged leaves a gap that the report names.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chembench.config import digest_of
from chembench.paths import RunPaths, SweepPaths, read_json
from chembench.report.board import Entry, Leaderboard, TaskSection
from chembench.report.page.blocks import Cell, anchor
from chembench.report.pretrain_board import PretrainBoard, pretrain_name
from chembench.report.render import Boards
from chembench.report.rows import ResultRow
from chembench.sweep.state import SweepState
from chembench.tracking.curves import finite, read_curves


def line_anchor(task: str | None, method: str) -> str:
    """By which a board's line is linked to the runs behind it; a pre-training has no task."""
    return f"line-{digest_of([task or '', method])[:10]}"


def run_anchor(uid: str) -> str:
    return f"run-{re.sub(r'[^A-Za-z0-9_.-]', '-', uid)}"


def linked(text: str, task: str | None, method: str) -> Cell:
    """A number with a link to the runs it was made of; what says nothing links nowhere."""
    return Cell(text=text, link=anchor(line_anchor(task, method)) if text not in ("", "-") else None)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A molecule of a test set, one target, as one run saw it."""

    row: str
    smiles: str
    target: str
    measured: float
    predicted: float


@dataclass
class Source:
    """One sweep."""

    state: SweepState
    paths: SweepPaths
    boards: Boards
    _curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> tuple[ResultRow, ...]:
        return self.boards.rows

    @cached_property
    def leaderboards(self) -> list[Leaderboard]:
        return [board for board in self.boards.boards if isinstance(board, Leaderboard)]

    @cached_property
    def pretraining(self) -> PretrainBoard:
        return next(board for board in self.boards.boards if isinstance(board, PretrainBoard))

    @cached_property
    def sections(self) -> list[TaskSection]:
        return [section for board in self.leaderboards for section in board.sections]

    @cached_property
    def pretrain_methods(self) -> dict[str, str]:
        """Uid of each pre-training -> what its line on the pre-training board is called."""
        return {row.uid: pretrain_name(row) for row in self.rows if row.kind == "pretrain"}

    def entry(self, section: TaskSection, method: str) -> Entry | None:
        return next((entry for entry in section.entries if entry.method == method), None)

    def counted(self, task: str, method: str) -> list[ResultRow]:
        """The finished runs that a line's score is the mean of, by replicate."""
        kinds = ("confirm", "baseline")
        return [
            row
            for row in self.rows
            if row.kind in kinds
            and (row.task, row.method, row.status) == (task, method, "finished")
            and not row.superseded
        ]

    def run(self, uid: str) -> RunPaths:
        """Files of the attempt that counts."""
        return self.paths.run(uid, max(self.state.items[uid].attempt, 1))

    def folder(self, uid: str) -> str | None:
        """The folder of an item's last attempt, below the sweep's; none where it left none."""
        root = self.run(uid).root
        return root.relative_to(self.paths.root).as_posix() if root.is_dir() else None

    def curves(self, uid: str) -> list[dict[str, Any]]:
        """What was measured after each epoch of an item; of an epoch that stands there twice the last counts."""
        if uid not in self._curves:
            entries, _ = read_curves(self.run(uid).curves)
            by_epoch = {int(entry["epoch"]): {"epoch": int(entry["epoch"]), **finite(entry)} for entry in entries}
            self._curves[uid] = [by_epoch[epoch] for epoch in sorted(by_epoch)]
        return self._curves[uid]

    def test_predictions(self, uid: str) -> list[Prediction]:
        """What an item predicted of the test molecules that were measured; empty where the file says nothing."""
        return list(_predictions(self.run(uid).predictions))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What the machine wrote down of itself; empty where that file is gone."""
        try:
            found = read_json(self.paths.environment)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _predictions(file: Path) -> Iterable[Prediction]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in csv.DictReader(text.splitlines()):
        try:
            measured, predicted = float(line["measured"] or "nan"), float(line["predicted"])
        except (KeyError, TypeError, ValueError):
            continue
        if line["part"] == "test" and math.isfinite(measured) and math.isfinite(predicted):
            yield Prediction(str(line["row"]), str(line["smiles"]), str(line["target"]), measured, predicted)


def metric_title(section: TaskSection) -> str:
    """``RMSE in log mol/L``, ``ROC-AUC``."""
    if section.kind == "classification":
        return "ROC-AUC"
    if section.unit == "normalised":
        return "normalised RMSE"
    return f"RMSE in {section.unit}" if section.unit else "RMSE"


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of the values, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(place * step)] for place in range(most)]


def p_text(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def file_part(name: str) -> str:
    """A name as part of a file's; where something was replaced, a digest keeps it apart from others."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return plain if plain == name else f"{plain}-{digest_of(name)[:4]}"


def architectures(rows: Iterable[ResultRow]) -> list[str]:
    """Every architecture of the rows, in alphabetical order: the order of colours."""
    return sorted({row.architecture for row in rows if row.architecture})
