"""What `chembench reproduce-paper` tells, as text and as JSON."""

from __future__ import annotations

import json
from collections import Counter

from chembench.paper.beside import Beside
from chembench.paper.claims import NO_TEST, Judged, judge
from chembench.paper.headline import Headline, headline
from chembench.recorded.source import Recording
from chembench.recorded.table import Table, read_table
from chembench.statistics.estimates import Value

PAPER = "arXiv 2405.00949"


class Told(Value):
    """Everything the rows say of the paper."""

    schema_version: int = 1
    paper: str = PAPER
    rows: str
    """File of the rows, with its SHA-256."""
    claims: tuple[Judged, ...]
    headline: Headline
    sweep: str | None = None
    beside: tuple[Beside, ...] = ()

    def as_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"


def tell(recording: Recording, sweep: str | None = None, ours: tuple[Beside, ...] = ()) -> Told:
    """Judge every claim on recorded rows.

    Args:
        recording: the table.
        sweep: name of a sweep of ours.
        ours: its cells beside the published ones.

    Raises:
        DataError: if the table is malformed.
    """
    table: Table = read_table(recording)
    rows = f"{recording.name} (SHA-256 {recording.sha256})"
    return Told(rows=rows, claims=judge(table), headline=headline(table), sweep=sweep, beside=ours)


def as_markdown(told: Told) -> str:
    """Claims with verdicts, headline figures, published tables recomputed, ours beside them."""
    lines = [
        f"# {told.paper}: what its rows say",
        "",
        f"Rows: {told.rows}. The verdict is that of configurations, each pre-trained once; runs (head seeds counted as "
        "if each were a model of its own) are the paper's way and stand below it.",
        "",
        "## Claims",
        "",
    ]
    for number, judged in enumerate(told.claims, 1):
        lines += [f"{number}. **{judged.claim}**: {judged.verdict}"]
        if not judged.figures:
            lines += [f"   - {judged.reason}"]
        for figure in judged.figures:
            test = "" if figure.test == NO_TEST else f" ({figure.test})"
            lines += [f"   - unit {figure.unit}: {figure.verdict}; {figure.figure}{test}"]
    lines += ["", "## Ranking the configurations", "", *_ranking(told.headline)]
    lines += ["", "## Published figures recomputed", "", "| table | figures | largest difference |", "|---|---|---|"]
    for line in told.headline.recomputed:
        largest = "-" if line.largest_difference is None else f"{line.largest_difference:.5f} ({line.where})"
        lines.append(f"| {line.table} | {line.figures} | {largest} |")
    if told.sweep is not None:
        lines += ["", f"## Sweep {told.sweep} beside the published figures", "", *_beside(told.beside)]
    return "\n".join(lines) + "\n"


def _ranking(found: Headline) -> list[str]:
    lines = ["| task | best mean | P(best) | tie group | pairs told apart | omnibus p |", "|---|---|---|---|---|---|"]
    for line in found.tasks:
        chance = "-" if line.p_best is None else f"{line.p_best:.2f}"
        p = "-" if line.omnibus_p is None else f"{line.omnibus_p:.3g}"
        lines.append(
            f"| {line.task} | {line.best} {line.best_mean:.4f} | {chance} | {len(line.tie_group)} of "
            f"{line.configurations} | {line.separated_pairs} of {line.pairs} | {p} |"
        )
    if found.no_order:
        return [*lines, "", f"The tasks cannot be brought to one order: {found.no_order}."]
    firsts = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in found.first_by.items())
    return [*lines, "", f"First over all tasks, by the way of bringing them to one order: {firsts}."]


def _beside(found: tuple[Beside, ...]) -> list[str]:
    if not found:
        return ["It has none of the 18 published cells."]
    counts = Counter(line.place for line in found)
    lines = [", ".join(f"{count} {place}" for place, count in sorted(counts.items())) + ".", ""]
    lines += ["| task | cell | published | band | ours | |", "|---|---|---|---|---|---|"]
    for line in found:
        ours = "-" if line.ours is None else f"{line.ours.mean:.4f}"
        why = f" because {line.reason}" if line.reason else ""
        band = f"{line.low:.4f} to {line.high:.4f}"
        lines.append(f"| {line.task} | {line.method} | {line.published:.4f} | {band} | {ours} | {line.place}{why} |")
    return lines
