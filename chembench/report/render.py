"""Boards as terminal tables, Markdown, CSV and JSON: the same records, never computed anew.

CSV and JSON keep every digit. A narrow terminal gets fewer columns, never broken words, and is told what is left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.data.audit import Audit
from chembench.paths import written_whole
from chembench.report.audited import audit_sentences, audited
from chembench.report.badges import explained
from chembench.report.board import Leaderboard, TaskSection
from chembench.report.columns import MEASURED_COLUMNS, RECORD_COLUMNS, Column, Record, method_of, records, shown
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.pretrain_board import PretrainBoard, pretrain_board
from chembench.report.rows import ResultRow, State, rows_as_csv, rows_from_state
from chembench.report.verdicts import cost_sentences, order_sentences, sentences
from chembench.statistics.aggregate import Aggregate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Board = Leaderboard | PretrainBoard
FORMATS = ("md", "csv", "json")
"""Forms in which boards are kept as files."""
WRITTEN = (*FORMATS, "latex")


@dataclass(frozen=True, slots=True)
class Boards:
    """All boards of a sweep, and the rows they were made of."""

    boards: tuple[Board, ...]
    rows: tuple[ResultRow, ...]


def boards_from_state(state: State, audit: Audit | None = None) -> Boards:
    """Rows of a sweep, one leaderboard per task type, the pre-training board last.

    Args:
        state: the sweep's.
        audit: of its data, whose facts then stand on the lines.

    Raises:
        DataError: if one replicate has two results.
    """
    rows = rows_from_state(state)
    found = leaderboards(rows, design_from_state(state)).values()
    boards: list[Board] = [audited(board, audit) for board in found]
    return Boards((*boards, pretrain_board(rows, state.name, state.space_digest)), tuple(rows))


def write_boards(boards: Boards, folder: Path) -> list[Path]:
    """Write ``<board>.md``, ``.csv`` and ``.json`` for each board, and ``rows.csv``; each file is written whole."""
    texts = {f"{board.name}.{form}": boards_text([board], form) for board in boards.boards for form in FORMATS}
    texts["rows.csv"] = rows_as_csv(boards.rows)
    written = []
    for name, text in texts.items():
        with written_whole(folder / name) as part:
            part.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def boards_text(boards: Sequence[Board], form: str) -> str:
    """Boards as one text.

    ``md``, ``csv`` (one table), ``json`` (one board: itself; else ``boards`` by name) or ``latex``.
    """
    if form == "md":
        return "\n".join(map(to_markdown, boards))
    if form == "csv":
        return to_csv(boards)
    if form == "json":
        return to_json(boards)
    if form == "latex":
        return "\n".join([r"% \usepackage{booktabs}", "", *filter(None, map(to_latex, boards))])
    raise ValueError(
        f"a board is written as one of {', '.join(WRITTEN)}, got {form!r}; use print_boards for a terminal"
    )


def to_csv(boards: Iterable[Board]) -> str:
    """Every line of every board in one table; an empty cell means that there is no such value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RECORD_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for board in boards:
        writer.writerows(records(board))
    return text.getvalue()


def to_json(boards: Sequence[Board]) -> str:
    """Boards as JSON, each with the columns of its lines and whether they are measured."""
    documents = {board.name: _document(board) for board in boards}
    value = documents.popitem()[1] if len(documents) == 1 else {"schema_version": 1, "boards": documents}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _document(board: Board) -> dict[str, Any]:
    columns = [{"name": name, "measured": name in MEASURED_COLUMNS} for name in RECORD_COLUMNS]
    document = {
        "schema_version": board.schema_version,
        "board": board.name,
        "sweep": board.sweep,
        "space_digest": board.space_digest,
        "columns": columns,
        "lines": records(board),
        "notes": notes(board),
    }
    if isinstance(board, Leaderboard):
        document["tasks"] = [
            {**section.model_dump(exclude={"entries", "incomplete"}), "said": sentences(section)}
            for section in board.sections
        ]
        document["overall"] = board.overall.model_dump() if board.overall else None
    return document


@dataclass(frozen=True, slots=True)
class _Part:
    """One table of a board: a task, or the pre-trainings."""

    title: str
    note: str
    columns: tuple[Column, ...]
    complete: list[Record]
    incomplete: list[Record]
    sentences: tuple[str, ...] = ()
    """What the comparison says, in words."""


def _parts(board: Board) -> list[_Part]:
    lines = records(board)
    if isinstance(board, PretrainBoard):
        title = "validation loss on standardised descriptors, lower is better"
        return [_part(title, "", shown(board), lines)] if lines else []
    return [
        _part(
            _section_title(section),
            section.note,
            shown(board, section),
            [line for line in lines if line["task"] == section.task],
            (*sentences(section), *cost_sentences(section), *audit_sentences(section.audit)),
        )
        for section in board.sections
    ]


def _part(title: str, note: str, columns: tuple[Column, ...], lines: list[Record], said: Sequence[str] = ()) -> _Part:
    complete = [line for line in lines if line["status"] == "complete"]
    incomplete = [line for line in lines if line["status"] == "incomplete"]
    filled = tuple(column for column in columns if any(column.text(line) != "-" for line in complete))
    return _Part(title, note, filled or columns, complete, incomplete, tuple(said))


def _section_title(section: TaskSection) -> str:
    metric = "RMSE" if section.kind == "regression" else "ROC-AUC"
    unit = f" in {section.unit}" if section.unit and section.kind == "regression" else ""
    targets = f", mean of {section.targets} targets" if section.targets > 1 else ""
    return f"{section.task}: {metric}{unit}{targets}, {section.better} is better"


def _board_title(board: Board) -> str:
    return (
        f"{board.name} board of {board.sweep}" if isinstance(board, Leaderboard) else f"pre-training of {board.sweep}"
    )


_INTERVAL = (
    "± is half of the 95 % t interval over the runs or seeds; where several things vary, each counts with its own "
    "variance; no interval for one"
)


def notes(board: Board) -> list[str]:
    """What a reader must know to read the numbers right."""
    if isinstance(board, PretrainBoard):
        return [_INTERVAL] if board.entries else []
    entries = [entry for section in board.sections for entry in section.entries]
    said = ["lines stand in the order of their mean test score"] if entries else []
    if any(entry.rank is not None for entry in entries):
        said[0] += (
            "; rank is 1 + how many methods are shown to be better, at a family-wise 5 %; methods that share a letter "
            "under ties are not shown to differ, or are equivalent in practice"
        )
        said.append(
            "P(best): share of bootstrap draws, over what is independent, in which the method has the best mean"
        )
    if any(entry.score.low is not None for entry in entries):
        said.insert(1, _INTERVAL)
    if any(entry.more_runs is not None for entry in entries):
        said.append(
            "more runs to part: of this method and of the best mean, each; at 80 % power if means stay as found"
        )
    if any(entry.scope == "this checkpoint" for entry in entries):
        said.append(
            "one pre-training seed: a pre-trained line speaks for this checkpoint, not for its architecture; "
            "set confirm.pretrain_seeds to 3 for that"
        )
    bases = sorted({entry.vs_forest.basis for entry in entries if entry.vs_forest})
    if bases:
        said.append(f"vs ECFP4 forest: method minus forest ({', '.join(bases)})")
    if any(entry.untuned for entry in entries):
        said.append("* untuned: no setting of this baseline was searched")
    told = [badge for entry in entries for badge in entry.badges]
    told += [badge for section in board.sections for line in section.incomplete for badge in line.badges]
    return said + explained(told)


def to_markdown(board: Board) -> str:
    """A board as Markdown, with every shown column."""
    blocks = [f"## {_board_title(board)}"]
    for part in _parts(board):
        blocks.append(f"### {part.title}")
        if part.note:
            blocks.append(f"*{part.note}*")
        if part.complete:
            titles = [_joined(column.title) for column in part.columns]
            cells = [[column.text(line) for column in part.columns] for line in part.complete]
            blocks.append(_markdown_table(titles, cells, [column.align for column in part.columns]))
        if part.sentences:
            blocks.append("\n".join(f"- {sentence}" for sentence in part.sentences))
        if part.incomplete:
            cells = [_apart_cells(line) for line in part.incomplete]
            blocks.append("Incomplete, not ranked:")
            blocks.append(_markdown_table(_APART_TITLES, cells, ["left", "right", "left"]))
    if isinstance(board, Leaderboard) and board.overall:
        titles, cells = overall_cells(board.overall)
        blocks.append(f"### {OVERALL}")
        aligns = ["left"] + ["right"] * (len(titles) - 1)
        blocks.append(_markdown_table([joined_word(title) for title in titles], cells, aligns))
        blocks.append("\n".join(f"- {sentence}" for sentence in order_sentences(board.overall)))
    blocks.append("\n".join(f"- {note}" for note in notes(board)) or "No lines yet.")
    return "\n\n".join(blocks) + "\n"


def to_latex(board: Board) -> str:
    """A board as LaTeX: a table per task, what the comparison says and the notes below it."""
    from chembench.report import latex

    tables = []
    for part in _parts(board):
        columns = [column for column in part.columns if column.importance < LATEX_BELOW]
        cells = [[column.text(line) for column in columns] for line in part.complete]
        apart = [f"not ranked: {', '.join(_apart_cells(line))}" for line in part.incomplete]
        said = [*part.sentences, *apart, *notes(board)]
        titles = [_joined(column.title) for column in columns]
        caption = f"{_board_title(board)}, {part.title}" + (f" ({part.note})" if part.note else "")
        tables.append(latex.table(caption, titles, cells, [column.align for column in columns], said))
    if isinstance(board, Leaderboard) and board.overall:
        titles, cells = overall_cells(board.overall)
        aligns = ["left"] + ["right"] * (len(titles) - 1)
        caption = f"{_board_title(board)}, {OVERALL}"
        plain = [joined_word(title) for title in titles]
        tables.append(latex.table(caption, plain, cells, aligns, order_sentences(board.overall)))
    return "\n\n".join(tables) + "\n" if tables else ""


LATEX_BELOW = 5
"""A page of a paper has room for the columns that are more important than this."""

OVERALL = "all tasks: methods complete on each, in the order of their mean rank"
_APART_TITLES = ["incomplete", "runs", "reason"]


def joined_word(title: str) -> str:
    """A title of one line, where a hyphen at the end of a line parts a word."""
    return title.replace("-\n", "").replace("\n", " ")


def _joined(title: str) -> str:
    return title.replace("-\n", "-").replace("\n", " ")


def _apart_cells(line: Record) -> list[str]:
    return [method_of(line), f"{line['replicates']}/{line['replicates_expected']}", line["reason"]]


def overall_cells(found: Aggregate) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the order over all tasks."""
    titles = ["method", "mean\nrank", "95 % over\ntasks", "win\nrate", "improv-\nability", "TES", "P(first)"]
    cells = [
        [
            line.method,
            f"{line.mean_rank:.2f}",
            f"{line.rank_low:.2f} to {line.rank_high:.2f}",
            f"{line.win_rate:.2f}",
            f"{line.improvability:.3f}",
            f"{line.tes:.3f}",
            f"{line.p_first:.2f}",
        ]
        for line in found.standings
    ]
    return titles, cells


def _markdown_table(titles: Sequence[str], cells: Iterable[Sequence[str]], aligns: Sequence[str]) -> str:
    rules = ["---:" if align == "right" else "---" for align in aligns]
    lines = [titles, rules, *([text.replace("|", "\\|") for text in line] for line in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_boards(boards: Sequence[Board], console: Console) -> None:
    """Print boards to a terminal of any width: a table per task, incomplete methods below it, all notes at the end."""
    from rich.text import Text

    left_out: dict[str, None] = {}
    said: dict[str, None] = {}
    for board in boards:
        if isinstance(board, PretrainBoard) and not records(board):
            continue  # nothing was pre-trained
        left_out |= _print_board(board, console)
        said |= dict.fromkeys(notes(board))
    if left_out:
        said[f"not shown at this width: {', '.join(left_out)}; -f csv has every column"] = None
    for note in said or {"no lines yet": None}:
        console.print(Text(f"· {note}", style="dim"))


def _print_board(board: Board, console: Console) -> dict[str, None]:
    """Print the tables of a board; return the titles that had no room, in order."""
    from rich.text import Text

    left_out: dict[str, None] = {}
    console.print(Text(_board_title(board), style="bold"))
    for part in _parts(board):
        console.print(Text(f"\n{part.title}" + (f" ({part.note})" if part.note else "")))
        if part.complete:
            left_out |= _print_fitting(part, console)
        for sentence in part.sentences:
            console.print(Text(f"> {sentence}"))
        if part.incomplete:
            console.print()
            console.print(_table(_APART_TITLES, [_apart_cells(line) for line in part.incomplete], {1}, {2}))
    if isinstance(board, Leaderboard) and board.overall:
        titles, cells = overall_cells(board.overall)
        console.print(Text(f"\n{OVERALL}"))
        console.print(_table(titles, cells, set(range(1, len(titles))), set()))
        for sentence in order_sentences(board.overall):
            console.print(Text(f"> {sentence}"))
    console.print()
    return left_out


def _print_fitting(part: _Part, console: Console) -> dict[str, None]:
    """Print the complete lines with as many columns as there is room for; return the titles of the others."""
    columns = list(part.columns)
    widths = {column: _width(column, part.complete) for column in columns}
    while sum(widths[column] for column in columns) + len(columns) - 1 > console.width:  # 1 between two of them
        spare = [column for column in columns if column.importance > 0]
        if not spare:
            break
        columns.remove(max(spare, key=lambda column: (column.importance, columns.index(column))))
    console.print(_part_table(columns, part.complete))
    return dict.fromkeys(_joined(column.title) for column in part.columns if column not in columns)


def _width(column: Column, lines: Iterable[Record]) -> int:
    """Cells that a column takes; rich says the same of a table of it, and needs a second for all columns."""
    from rich.cells import cell_len

    texts = [column.title, *map(column.text, lines)]
    return max(cell_len(text) for whole in texts for text in whole.split("\n")) + 1  # the space behind it


def _part_table(columns: Sequence[Column], lines: Iterable[Record]) -> Table:
    right = {index for index, column in enumerate(columns) if column.align == "right"}
    return _table(
        [column.title for column in columns],
        [[column.text(line) for column in columns] for line in lines],
        right,
        set(),
    )


def _table(titles: Sequence[str], cells: Iterable[Sequence[str]], right: set[int], wraps: set[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="")
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index in right else "left", no_wrap=index not in wraps)
    for line in cells:
        table.add_row(*(Text(text) for text in line))
    return table
