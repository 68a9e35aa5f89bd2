"""Where methods stand beside one another: the comparison of a section, and what it says of each line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from chembench.report.rows import ResultRow
from chembench.report.verdicts import pareto
from chembench.statistics import regions
from chembench.statistics.comparison import Comparison, compare
from chembench.statistics.estimates import OVERLAP, Key

if TYPE_CHECKING:
    from chembench.report.board import Entry


def compared(
    scores: Mapping[str, Mapping[Key, float]],
    rows: Mapping[str, Sequence[ResultRow]],
    better: Literal["lower", "higher"],
    overlap: float = OVERLAP,
) -> Comparison | None:
    """All complete methods of a task with one another; none where none is complete.

    Args:
        scores: method -> replicate -> primary test metric.
        rows: method -> the rows behind them.
        better: which way is better.
        overlap: n_test / n_train of the outer folds, where there are any.
    """
    if not scores:
        return None
    return compare(
        scores,
        better=better,
        region=region_of(row for own in rows.values() for row in own),
        overlap=overlap,
        fixed={method for method, own in rows.items() if all(row.deterministic for row in own)},
    )


def region_of(rows: Iterable[ResultRow]) -> float | None:
    """Half width of the region of practical equivalence, in the unit of the primary metric of ``rows``.

    The standard deviation of the training labels is what an RMSE and its normalised value tell; without both there is
    no region for an RMSE.
    """
    for row in rows:
        if row.task_kind == "classification":
            return regions.region_of("roc_auc")
        raw, normalised = row.metrics.get("test_rmse"), row.metrics.get("test_rmse_normalised")
        if raw and normalised:
            return regions.region_of("rmse", raw / normalised)
    return None


def placed(entries: Sequence[Entry], comparison: Comparison | None) -> tuple[Entry, ...]:
    """Lines with their rank, ties and chances; where nothing was replicated they have none."""
    if comparison is None:
        return tuple(entries)
    cheap = pareto(entries, comparison.better)
    worse = Counter(pair.second for pair in comparison.pairs if pair.verdict == "first")
    worse += Counter(pair.first for pair in comparison.pairs if pair.verdict == "second")
    said = bool(comparison.p_best)
    return tuple(
        entry.model_copy(
            update={
                "rank": 1 + worse[entry.method] if said else None,
                "ties": comparison.letters.get(entry.method, "") if said else "",
                "p_best": comparison.p_best.get(entry.method),
                "more_runs": comparison.needed.get(entry.method),
                "more_of": comparison.needed_axis.get(entry.method, ""),
                "pareto": entry.method in cheap if entry.spent.total_device_hours is not None else None,
            }
        )
        for entry in entries
    )
