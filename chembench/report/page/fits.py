"""Slopes of scores and losses against scale, and whether a lower pre-training loss goes with a better score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from chembench.errors import DataError
from chembench.report.board import TaskSection
from chembench.report.page.blocks import Block, Cell, absent, paragraph, table
from chembench.report.page.source import Source, p_text
from chembench.report.pretrain_board import PretrainEntry
from chembench.report.wording import listed
from chembench.statistics.estimates import mean
from chembench.statistics.scaling import Point, fit
from chembench.statistics.transfer import correlations

Ladder = tuple[str, list[Point]]
"""What is the same for all points, and the points."""


def fits(ladders: Sequence[Ladder], by: str, what: str) -> list[Block]:
    """A line in logarithms through each ladder of three scales or more."""
    lines: list[tuple[str | Cell, ...]] = []
    refused: dict[str, list[str]] = {}
    for name, found in ladders:
        try:
            one = fit(found, by)
        except DataError as error:
            refused.setdefault(str(error), []).append(name)
            continue
        floor = f"{one.above_floor.floor:.3g}" if one.above_floor else "-"
        lines.append(
            (
                name,
                f"{one.slope:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
                p_text(one.p),
                f"{one.doubled - 1:+.1%}",
                str(one.scales),
                floor,
            )
        )
    blocks: list[Block] = []
    if lines:
        titles = (f"{what} against {by}", "slope of logarithms (95 %)", "p", "at twice the scale", "scales", "floor")
        blocks.append(table(titles, lines, right=(1, 2, 3, 4, 5)))
    no_fit = f"No fit of {what} against {by} for"
    return [*blocks, *(absent(f"{no_fit} {listed(names)}: {why}.") for why, names in refused.items())]


def transfer(source: Source) -> list[Block]:
    """Rank correlation of pre-training loss and fine-tuned score over configurations."""
    losses = {entry.method: entry.loss.mean for entry in source.pretraining.entries}
    scores, better = {}, {}
    for section in source.sections:
        own = _by_checkpoint(source, section)
        if own:
            scores[section.task], better[section.task] = own, section.better
    try:
        found = correlations(losses, scores, better)
    except DataError as error:
        return [absent(f"No correlation of pre-training loss and score: {error}.")]
    lines: list[tuple[str | Cell, ...]] = [
        (
            line.task,
            f"{line.spearman:+.2f} ({line.spearman_low:+.2f} to {line.spearman_high:+.2f})",
            f"{line.kendall:+.2f} ({line.kendall_low:+.2f} to {line.kendall_high:+.2f})",
            str(line.configurations),
        )
        for line in found
    ]
    return [
        paragraph("+1: the lower the pre-training loss, the better the score; 0: the one says nothing of the other."),
        table(("task", "Spearman (95 %)", "Kendall (95 %)", "pre-trained models"), lines, right=(1, 2, 3)),
    ]


def _by_checkpoint(source: Source, section: TaskSection) -> dict[str, float]:
    """Line of the pre-training board -> mean score of the cells that stand on it."""
    found: dict[str, list[float]] = {}
    for entry in section.entries:
        names = {
            source.pretrain_methods[row.pretrain_uid]
            for row in source.counted(section.task, entry.method)
            if row.pretrain_uid in source.pretrain_methods
        }
        for name in names:
            found.setdefault(name, []).append(entry.score.mean)
    return {name: mean(values) for name, values in found.items()}


def loss_points(ladder: Sequence[PretrainEntry], axis: str) -> list[Point]:
    return [Point(float(getattr(entry, axis)), entry.loss.mean) for entry in ladder]


def error(score: float, better: Literal["lower", "higher"]) -> float:
    """What a fit falls with: the score where lower is better, else what is missing to 1."""
    return score if better == "lower" else 1.0 - score
