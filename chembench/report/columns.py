"""Columns of boards: flat records for CSV and JSON, and the shown ones with their text and importance.

One schema serves every board, so that the CSV of all boards is one table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chembench.report.badges import marks
from chembench.report.board import SECONDARY, Entry, Incomplete, Leaderboard, TaskSection
from chembench.report.pretrain_board import PretrainBoard, PretrainEntry, PretrainIncomplete
from chembench.statistics.aggregate import Standing
from chembench.statistics.estimates import Difference, Estimate

RECORD_COLUMNS = (
    "board",
    "task",
    "unit",
    "metric",
    "better",
    "rank",
    "method",
    "group",
    "status",
    "architecture",
    "size",
    "molecules",
    "parameters",
    "pretrain_flops",
    "score",
    "score_low",
    "score_high",
    "replicates",
    "replicates_expected",
    "varies",
    "scope",
    "ties",
    "p_best",
    "more_runs",
    "more_of",
    "mean_rank",
    "win_rate",
    "improvability",
    "validation",
    *(name for names in SECONDARY.values() for name in names),
    "vs_forest",
    "vs_forest_low",
    "vs_forest_high",
    "vs_forest_pairs",
    "vs_forest_basis",
    "items",
    "epochs",
    "molecules_seen",
    "continues",
    "molecules_shared",
    "device_hours",
    "trunk_device_hours",
    "pretrain_device_hours",
    "in_corpus",
    "pareto",
    "untuned",
    "recipe",
    "recipe_text",
    "badges",
    "reason",
)
MEASURED_COLUMNS = ("device_hours", "trunk_device_hours", "pretrain_device_hours", "pareto")
"""Differ when the same sweep is run again."""

Record = dict[str, Any]
BETWEEN_BADGES = "; "


def records(board: Leaderboard | PretrainBoard) -> list[Record]:
    """Every line of a board as a flat record of `RECORD_COLUMNS`; None where a column says nothing."""
    if isinstance(board, PretrainBoard):
        lines: list[Record] = [_pretrain_record(entry) for entry in board.entries]
        lines += [_apart(line) for line in board.incomplete]
        shared: Record = {"metric": "loss", "better": "lower"}
        return [_whole({"board": board.name, **shared, **line}) for line in lines]
    found = []
    over_all = {line.method: line for line in board.overall.standings} if board.overall else {}
    for section in board.sections:
        shared = {"board": board.name, **section.model_dump(include={"task", "unit", "metric", "better"})}
        lines = [*map(_entry_record, section.entries), *map(_apart, section.incomplete)]
        found += [_whole({**shared, **line, **_over_all(over_all.get(line["method"]))}) for line in lines]
    return found


def _over_all(line: Standing | None) -> Record:
    """What a method's standing over all tasks of the board repeats on each of its lines."""
    return line.model_dump(include={"mean_rank", "win_rate", "improvability"}) if line else {}


def _whole(record: Record) -> Record:
    return {name: record.get(name) for name in RECORD_COLUMNS}


def _score(score: Estimate) -> Record:
    return {"score": score.mean, "score_low": score.low, "score_high": score.high, "replicates": score.n}


def _entry_record(entry: Entry) -> Record:
    plain = ("method", "group", "architecture", "size", "molecules", "parameters")
    more = ("pretrain_flops", "varies", "scope", "validation")
    against = entry.vs_forest
    return {
        **{name: getattr(entry, name) for name in (*plain, *more)},
        **_score(entry.score),
        "status": "complete",
        "replicates_expected": entry.expected,
        **entry.secondary,
        **(_difference(against) if against else {}),
        **entry.spent.model_dump(),
        **entry.model_dump(include={"rank", "ties", "p_best", "more_runs", "more_of", "in_corpus", "pareto"}),
        "untuned": entry.untuned,
        "recipe": entry.recipe,
        "recipe_text": entry.recipe_text,
        "badges": _joined(entry.badges),
    }


def _difference(against: Difference) -> Record:
    return {
        "vs_forest": against.value,
        "vs_forest_low": against.low,
        "vs_forest_high": against.high,
        "vs_forest_pairs": against.n,
        "vs_forest_basis": against.basis,
    }


def _pretrain_record(entry: PretrainEntry) -> Record:
    own = ("method", "architecture", "size", "molecules", "parameters", "epochs", "molecules_seen", "device_hours")
    plain = (*own, "pretrain_flops", "continues", "molecules_shared", "trunk_device_hours")
    return {
        **{name: getattr(entry, name) for name in plain},
        **_score(entry.loss),
        "status": "complete",
        "replicates_expected": entry.loss.n,
        "varies": "pre-training seed" if entry.loss.n > 1 else "-",
    }


def _apart(line: Incomplete | PretrainIncomplete) -> Record:
    return {
        "method": line.method,
        "status": "incomplete",
        "replicates": line.done,
        "replicates_expected": line.expected,
        "badges": _joined(line.badges) if isinstance(line, Incomplete) else None,
        "reason": line.reason,
    }


def _joined(badges: Sequence[str]) -> str | None:
    return BETWEEN_BADGES.join(badges) or None


def method_of(record: Record) -> str:
    """The method of a line with its marks: ``*`` untuned, others for its badges; the notes say what for."""
    badges = (record["badges"] or "").split(BETWEEN_BADGES)
    return str(record["method"]) + ("*" if record["untuned"] else "") + marks(badges)


@dataclass(frozen=True, slots=True)
class Column:
    """One shown column."""

    title: str
    text: Callable[[Record], str]
    importance: int
    """Where there is no room, the least important column goes first; 0 stays always."""
    align: Literal["left", "right"] = "right"


def shown(board: Leaderboard | PretrainBoard, section: TaskSection | None = None) -> tuple[Column, ...]:
    """The columns that terminals and Markdown show of a board, or of one of its sections."""
    if isinstance(board, PretrainBoard) or section is None:
        decimals = decimals_for(
            [entry.loss.mean for entry in board.entries] if isinstance(board, PretrainBoard) else []
        )
        return (
            Column("method", lambda r: str(r["method"]), 0, "left"),
            Column("validation\nloss", lambda r: with_half(r, "score", decimals), 0),
            Column("seeds", _replicates, 1),
            Column("params", lambda r: compact(r["parameters"]), 2),
            Column("molecules", lambda r: compact(r["molecules"]), 3),
            Column("epochs", lambda r: number(r["epochs"], 1), 4),
            Column("molecules\nseen", lambda r: compact(r["molecules_seen"]), 6),
            Column("device-\nhours", lambda r: hours(r["device_hours"]), 5),
            *(_TRUNK if isinstance(board, PretrainBoard) and any(e.continues for e in board.entries) else ()),
        )
    decimals = decimals_for([entry.score.mean for entry in section.entries])
    secondary = (
        Column(title, _number_of(name, decimals if name == "mae" else 3), 9)
        for name, title in _SECONDARY_TITLES.items()
        if name in SECONDARY[section.kind]
    )
    return (
        Column("rank", lambda r: number(r["rank"], 0), 1),
        Column("method", method_of, 0, "left"),
        Column("RMSE" if section.kind == "regression" else "ROC-AUC", lambda r: with_half(r, "score", decimals), 0),
        Column("runs", _replicates, 1),
        Column("ties", lambda r: r["ties"] or "-", 3, "left"),
        Column("P(best)", lambda r: number(r["p_best"], 2), 3),
        Column("more runs\nto part", _more_runs, 5, "left"),
        Column("over", lambda r: str(r["varies"]), 5, "left"),
        Column("vs ECFP4\nforest", lambda r: with_half(r, "vs_forest", decimals, sign="+"), 2),
        Column("valid", _number_of("validation", decimals), 3),
        *secondary,
        Column("params", lambda r: compact(r["parameters"]), 4),
        Column("molecules", lambda r: compact(r["molecules"]), 6),
        Column("epochs\nspent", lambda r: number(r["epochs"], 0), 6),
        Column("device-\nhours", lambda r: hours(r["device_hours"]), 5),
        Column("pre-train\ndev.-hours", lambda r: hours(r["pretrain_device_hours"]), 7),
        Column("test in\ncorpus", lambda r: "-" if r["in_corpus"] is None else f"{100 * r['in_corpus']:.0f} %", 7),
        Column("pareto", lambda r: {True: "yes", False: "no", None: "-"}[r["pareto"]], 8),
        Column("recipe", lambda r: str(r["recipe_text"] or "-"), 10, "left"),
    )


_TRUNK = (
    Column("molecules\nof trunk", lambda r: compact(r["molecules_shared"]), 7),
    Column("dev.-hours\nof trunk", lambda r: hours(r["trunk_device_hours"]), 8),
)
"""Of pre-trainings that continue smaller ones: what those were shown and cost."""

_SECONDARY_TITLES = {"rmse_normalised": "RMSE/SD", "mae": "MAE", "r2": "R2", "pr_auc": "PR-AUC", "mcc": "MCC"}


def _number_of(name: str, decimals: int) -> Callable[[Record], str]:
    return lambda record: number(record[name], decimals)


def _more_runs(record: Record) -> str:
    return f"+{record['more_runs']} {record['more_of']}" if record["more_runs"] is not None else "-"


def _replicates(record: Record) -> str:
    return f"{record['replicates']}/{record['replicates_expected']}"


def decimals_for(values: list[float]) -> int:
    """Digits behind the point such that the largest value shows about four digits."""
    largest = max((abs(value) for value in values), default=0.0)
    return 3 - sum(largest >= limit for limit in (10, 100, 1000))


def number(value: float | None, decimals: int, sign: str = "-") -> str:
    """A number with fixed decimals, or ``-``; ``sign="+"`` writes the plus too."""
    return "-" if value is None else f"{value:{sign},.{decimals}f}"


def with_half(record: Record, name: str, decimals: int, sign: str = "-") -> str:
    """``0.712 ± 0.022``: a mean and the half of its interval, which Student's t makes symmetric."""
    value, low, high = (record[key] for key in (name, f"{name}_low", f"{name}_high"))
    text = number(value, decimals, sign)
    return text if low is None else f"{text} ± {number((high - low) / 2, decimals)}"


def compact(count: float | None) -> str:
    """A count in at most five characters or so: 950, 4,000, 104k, 12.9M."""
    if count is None:
        return "-"
    if count < 10_000:
        return f"{count:,.0f}"
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def hours(value: float | None) -> str:
    """Device-hours to three digits; what is less than 0.001 says so."""
    if value is None:
        return "-"
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"
