"""A table of recorded scores: one line for each configuration, task and replicate; a mistake is named with its line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chembench.errors import ChembenchError, DataError
from chembench.models.sizes import require_size
from chembench.recorded.source import Recording
from chembench.registry import ARCHITECTURES
from chembench.specs import Cell, FinetuneSpec, TaskKind

NEEDED: tuple[tuple[str, ...], ...] = (
    ("architecture",),
    ("size",),
    ("molecules", "corpus"),
    ("task",),
    ("task_type",),
    ("repeat", "head_seed"),
    ("validation_loss", "validation_score"),
    ("test_score",),
    ("metric",),
)
"""Columns of a table; of two in one place exactly one is given."""
MOST_DIGITS = 12
"""Of a count or an index."""
LARGEST = 1e100
"""Of a score or a loss; squares must stay finite."""
OPTIONAL = ("pretrain_seed", "split", "pretrain_loss")
METRICS: dict[str, TaskKind] = {"rmse": "regression", "rmse_normalised": "regression", "roc_auc": "classification"}
"""Metrics of a recorded test score, and the kind of task each is for."""
UNRECORDED: dict[str, float | int] = {"learning_rate": 1.0, "max_epochs": 1}
"""Stands for the recipe, which a table does not tell, where the space searches it; boards show none for it."""
SIZES = {"small": "13M", "medium": "30M"}
"""What the sizes of ours are called in arXiv 2405.00949."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    line: int
    cell: Cell
    task: str
    kind: TaskKind
    pretrain_seed: int
    split: int
    head_seed: int
    metric: str
    test: float
    validation: float
    """Lower is better: the recorded loss, or what the recorded score makes."""
    validation_is_score: bool
    pretrain_loss: float | None

    @property
    def key(self) -> str:
        return row_key(self.cell, self.task, self.pretrain_seed, self.split, self.head_seed)


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a recorded file; at least one, no two with the same key."""

    name: str
    rows: Mapping[str, Row]

    def values(self, of: Callable[[Row], Any]) -> list[Any]:
        """What ``of`` gives, each value once, in the order of the file."""
        return list(dict.fromkeys(of(row) for row in self.rows.values()))


def row_key(cell: Cell, task: str, pretrain_seed: int, split: int, head_seed: int) -> str:
    """What one recorded result is found by."""
    return f"{cell.name}/{task}/{pretrain_seed}/{split}/{head_seed}"


def is_unrecorded(recipe: FinetuneSpec) -> bool:
    """Whether a recipe only stands for one that a table does not tell."""
    return all(getattr(recipe, name) == value for name, value in UNRECORDED.items())


def read_table(recording: Recording) -> Table:
    """The rows of a recorded table.

    Raises:
        DataError: naming the file, the line and the first rule that is broken.
    """
    lines = csv.reader(io.StringIO(recording.text(), newline=""), strict=True)
    rows: dict[str, Row] = {}
    tasks: dict[str, Row] = {}
    losses: dict[tuple[str, int], Row] = {}
    number = 1
    try:
        header = next(lines, None)
        if header is None:
            raise DataError("a table of recorded scores begins with the names of its columns, the file is empty")
        names = _checked_header([name.strip() for name in header])
        for cells in lines:
            number = lines.line_num
            if not cells:
                continue
            row = _row(number, names, cells)
            _check_alike(row, rows, tasks, losses)
            rows[row.key] = row
        if not rows:
            raise DataError("a table of recorded scores has at least one line below its header, this one has none")
    except csv.Error as error:
        way_out = "shorten the value" if "field larger than field limit" in str(error) else "mend the quotes"
        raise DataError(f"{recording.name}, line {lines.line_num}: not valid CSV: {error}; {way_out}") from error
    except ChembenchError as error:
        raise DataError(f"{recording.name}, line {number}: {str(error).rstrip('.')}") from error
    return Table(recording.name, rows)


def _checked_header(names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"a column stands once, '{twice}' stands {names.count(twice)} times; drop the others")
    for choice in NEEDED:
        given = [name for name in choice if name in names]
        if not given:
            raise DataError(f"column '{' or '.join(choice)}' is missing; there are {', '.join(names)}; add it")
        if len(given) > 1:
            raise DataError(f"of {' and '.join(given)} one column says all, both are given; drop one")
    known = [*(name for choice in NEEDED for name in choice), *OPTIONAL]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise DataError(f"column '{unknown}' is not known; drop it; known are {', '.join(known)}")
    return names


def _row(line: int, names: list[str], cells: list[str]) -> Row:
    if len(cells) != len(names):
        raise DataError(f"a line has one value for each of the {len(names)} columns, this one has {len(cells)}")
    given = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    empty = next((name for name, cell in given.items() if not cell and name != "pretrain_loss"), None)
    if empty is not None:
        raise DataError(f"{empty} is empty; fill it in, or leave the line out")
    kind = _kind(given["task_type"])
    metric = _metric(given["metric"], kind)
    cell = Cell(
        architecture=_architecture(given["architecture"]),
        size=_size(given["size"]),
        molecules=_molecules(given.get("molecules", given.get("corpus", ""))),
    )
    is_score = "validation_score" in given
    return Row(
        line=line,
        cell=cell,
        task=given["task"],
        kind=kind,
        pretrain_seed=_index(given, "pretrain_seed"),
        split=_index(given, "split"),
        head_seed=_index(given, "head_seed" if "head_seed" in given else "repeat"),
        metric=metric,
        test=_score(given, "test_score", metric),
        validation=_validation(given, metric),
        validation_is_score=is_score,
        pretrain_loss=_number(given, "pretrain_loss") if given.get("pretrain_loss") else None,
    )


def _check_alike(row: Row, rows: dict[str, Row], tasks: dict[str, Row], losses: dict[tuple[str, int], Row]) -> None:
    """Hold a row against those before it."""
    same = rows.get(row.key)
    if same is not None:
        raise DataError(
            f"a replicate is recorded once, {row.cell.name} on {row.task} with pre-training seed {row.pretrain_seed}, "
            f"split {row.split}, repeat {row.head_seed} stands in line {same.line} too; drop one of them"
        )
    first = tasks.setdefault(row.task, row)
    for what, own, other in (("task_type", row.kind, first.kind), ("metric", row.metric, first.metric)):
        if own != other:
            raise DataError(
                f"a task has one {what}, '{row.task}' has '{own}' here and '{other}' in line {first.line}; correct one"
            )
    before = losses.setdefault((row.cell.name, row.pretrain_seed), row)
    if before.pretrain_loss != row.pretrain_loss:
        raise DataError(
            f"a pre-training has one loss, {row.cell.name} has {row.pretrain_loss} here and {before.pretrain_loss} "
            f"in line {before.line}; correct one"
        )


def _architecture(text: str) -> str:
    """Our name; ``ChemBERTa``, ``ChemBART`` and ``ChemLLaMA`` are the paper's."""
    aliases = {"chemberta": "roberta", "chembart": "bart", "chemllama": "llama"}
    return ARCHITECTURES.require(aliases.get(text.lower(), text.lower()))


def _size(text: str) -> str:
    size = SIZES.get(text.lower(), text)
    require_size(size)
    return size


def _molecules(text: str) -> int:
    """Such as 10000000, 10_000_000 or 10m; 0 is from scratch."""
    units = {"k": 10**3, "m": 10**6}
    scale = units.get(text[-1:].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    digits = digits.replace("_", "")
    if not digits.isdecimal():
        raise DataError(f"molecules must be a whole number such as 10000000 or 10m, got '{text}'; correct it")
    if len(digits) > MOST_DIGITS:
        raise DataError(f"molecules must have {MOST_DIGITS} digits at most, got {len(digits)}; correct it")
    return int(digits) * scale


def _kind(text: str) -> TaskKind:
    kinds: tuple[Literal["regression", "classification"], ...] = get_args(TaskKind)
    for kind in kinds:
        if text == kind:
            return kind
    raise DataError(f"task_type must be {' or '.join(kinds)}, got '{text}'; correct it")


def _metric(text: str, kind: TaskKind) -> str:
    if text not in METRICS:
        raise DataError(f"metric must be one of {', '.join(METRICS)}, got '{text}'; correct it")
    if METRICS[text] != kind:
        raise DataError(f"metric '{text}' is one of {METRICS[text]}, the task is {kind}; correct one of the two")
    return text


def _index(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not text.isdecimal():
        raise DataError(f"{name} must be a whole number from 0 on, got '{text}'; correct it")
    if len(text) > MOST_DIGITS:
        raise DataError(f"{name} must have {MOST_DIGITS} digits at most, got {len(text)}; number replicates from 0 on")
    return int(text)


def _number(given: Mapping[str, str], name: str) -> float:
    try:
        value = float(given[name])
    except ValueError:
        value = math.nan
    if not abs(value) < LARGEST:
        raise DataError(
            f"{name} must be a number below {LARGEST:g}, got '{given[name]}'; leave out what was not measured"
        )
    return value


def _score(given: Mapping[str, str], name: str, metric: str) -> float:
    value = _number(given, name)
    top = 1.0 if metric == "roc_auc" else math.inf
    if not 0.0 <= value <= top:
        bounds = "between 0 and 1" if metric == "roc_auc" else "at least 0"
        raise DataError(f"{name} must be {bounds} for {metric}, got {value:g}; correct it")
    return value


def _validation(given: Mapping[str, str], metric: str) -> float:
    if "validation_loss" in given:
        return _number(given, "validation_loss")
    score = _score(given, "validation_score", metric)
    return 1.0 - score if metric == "roc_auc" else score
