"""How scores and losses change with parameters, molecules and compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from chembench.models.sizes import TOKENS_PER_MOLECULE
from chembench.report.board import Entry, TaskSection
from chembench.report.page.blocks import Block, Figure, Heading, Section, absent, paragraph
from chembench.report.page.fits import error, fits, loss_points, transfer
from chembench.report.page.plots import LinesPlot, Panel, Series
from chembench.report.page.source import Source, file_part, metric_title
from chembench.report.pretrain_board import PretrainEntry
from chembench.report.wording import listed
from chembench.statistics.scaling import Point

T = TypeVar("T", Entry, PretrainEntry)
AXES = (("molecules", "pre-training molecules"), ("parameters", "parameters"), ("pretrain_flops", "pre-training FLOPs"))


def scaling(source: Source) -> Section:
    """One figure for the losses of pre-training, one per task for scores."""
    blocks: list[Block] = [Heading(text="Pre-training loss")]
    blocks.append(_losses(source) or absent(_few("pre-trainings")))
    entries = [entry for entry in source.pretraining.entries if entry.architecture and entry.size]
    for axis, title in AXES:
        ladders = _ladders(entries, axis, partial(_loss_label, axis))
        blocks += fits([(name, loss_points(ladder, axis)) for name, ladder in ladders], title, "loss")
    for section in source.sections:
        blocks += [Heading(text=section.task), _scores(section) or absent(_few(f"complete cells on {section.task}"))]
        blocks += _score_fits(section)
    blocks += [Heading(text="Pre-training loss and fine-tuned score"), *transfer(source)]
    if any(isinstance(block, Figure) for block in blocks):
        blocks.insert(0, paragraph(_READ))
    return Section(name="scaling", title="Scaling", blocks=tuple(blocks))


_READ = (
    "Lines join what differs in the axis alone, against FLOPs all models of an architecture; bars are 95 % intervals. "
    "FLOPs are estimated: those of one pre-training, its trunk counted in, at a mean length of "
    f"{TOKENS_PER_MOLECULE:g} tokens."
)


def _few(what: str) -> str:
    return f"There are no two {what} that differ in molecules or in parameters alone, so nothing scales."


def _losses(source: Source) -> Figure | None:
    entries = [entry for entry in source.pretraining.entries if entry.architecture and entry.size]
    panels = [panel for name, title in AXES if (panel := _loss_panel(entries, name, title)) is not None]
    if not panels:
        return None
    return Figure(
        name="scaling-loss",
        caption=f"Validation loss of pre-training against {listed(panel.x_label for panel in panels)}.",
        plot=LinesPlot(panels=tuple(panels), x_label="", y_label="validation loss", log_x=True, share_y=False),
    )


def _score_fits(section: TaskSection) -> list[Block]:
    cells = [entry for entry in section.entries if entry.group == "cell"]
    blocks: list[Block] = []
    for axis, title in AXES:
        ladders = [
            (name, [Point(float(getattr(e, axis)), error(e.score.mean, section.better)) for e in ladder])
            for name, ladder in _ladders(cells, axis, partial(_label, axis))
        ]
        blocks += fits(ladders, title, "RMSE" if section.kind == "regression" else "1 - ROC-AUC")
    return blocks


def _loss_label(axis: str, entry: PretrainEntry) -> str:
    return " ".join([_fixed(axis, entry), *(str(value) for _, value in sorted(entry.settings.items()))])


def _fixed(axis: str, entry: Entry | PretrainEntry) -> str:
    """What points on one line have in common."""
    fixed = {"molecules": entry.size, "parameters": f"{entry.molecules:,}"}.get(axis)
    return f"{entry.architecture} {fixed}" if fixed else str(entry.architecture)


def _loss_panel(entries: Sequence[PretrainEntry], axis: str, title: str) -> Panel | None:
    series = []
    for look, (name, ladder) in enumerate(_ladders(entries, axis, partial(_loss_label, axis))):
        series.append(
            Series(
                label=name,
                x=tuple(float(getattr(entry, axis)) for entry in ladder),
                y=tuple(entry.loss.mean for entry in ladder),
                low=_bounds([entry.loss.low for entry in ladder]),
                high=_bounds([entry.loss.high for entry in ladder]),
                look=look,
            )
        )
    return Panel(title=f"loss against {title}", series=tuple(series), x_label=title) if series else None


def _bounds(values: Sequence[float | None]) -> tuple[float, ...]:
    """Ends of intervals; none at all where one of them has none."""
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else ()


def _ladders(entries: Sequence[T], axis: str, label: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    """Entries of one label in the order of the axis; two different places at least."""
    groups: dict[str, list[T]] = {}
    for entry in entries:
        if getattr(entry, axis):
            groups.setdefault(label(entry), []).append(entry)
    whole = [(name, sorted(group, key=lambda entry: getattr(entry, axis))) for name, group in sorted(groups.items())]
    return [(name, group) for name, group in whole if len({getattr(entry, axis) for entry in group}) > 1]


def _scores(section: TaskSection) -> Figure | None:
    cells = [entry for entry in section.entries if entry.group == "cell"]
    scratch = {entry.control: entry for entry in section.entries if entry.group == "from scratch"}
    panels = []
    for axis, title in AXES:
        series: list[Series] = []
        for look, (name, ladder) in enumerate(_ladders(cells, axis, partial(_label, axis))):
            at = tuple(float(getattr(entry, axis)) for entry in ladder)
            series.append(
                Series(
                    label=name,
                    x=at,
                    y=tuple(entry.score.mean for entry in ladder),
                    low=_bounds([entry.score.low for entry in ladder]),
                    high=_bounds([entry.score.high for entry in ladder]),
                    look=look,
                )
            )
            twin = scratch.get(ladder[0].control) if axis == "molecules" else None
            if twin is not None:
                level = (twin.score.mean, twin.score.mean)
                series.append(Series(label="", x=(at[0], at[-1]), y=level, look=look, style="hollow"))
        if series:
            panels.append(Panel(title=f"against {title}", series=tuple(series), x_label=title))
    if not panels:
        return None
    return Figure(
        name=f"scaling-{file_part(section.task)}",
        caption=f"Test {metric_title(section)} on {section.task} ({section.better} is better) against "
        f"{listed(panel.x_label for panel in panels)}. Dashed, hollow: the same model from scratch.",
        plot=LinesPlot(
            panels=tuple(panels), x_label="", y_label=f"test {metric_title(section)}", log_x=True, share_y=False
        ),
    )


def _label(axis: str, entry: Entry) -> str:
    return " ".join(filter(None, (_fixed(axis, entry), entry.method.partition("+")[2])))
