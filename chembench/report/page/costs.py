"""What the sweep cost, against what its plan forecast."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, get_args

from chembench.errors import ChembenchError
from chembench.report.board import Entry, TaskSection
from chembench.report.columns import hours
from chembench.report.page.blocks import Block, Cell, Figure, Heading, Section, absent, paragraph, table
from chembench.report.page.plots import ParetoPlot, ParetoPoint
from chembench.report.page.source import Source, file_part, metric_title
from chembench.report.spent import total
from chembench.specs import Kind

if TYPE_CHECKING:
    from chembench.sweep.plan import Plan


def pareto(source: Source) -> Section:
    """Score against cost, one figure per task."""
    blocks: list[Block] = [
        paragraph(
            "The cost of a line is everything that was spent to get it: search, rescoring and confirm runs, and the "
            "pre-training it stands on, in device-hours. A filled mark is on the front: no other method has both a "
            "better mean and a lower cost. Being on the front is no proof of a difference."
        )
    ]
    for section in source.sections:
        blocks.append(_front(section) or absent(f"No method on {section.task} has both a score and a cost."))
    return Section(name="cost", title="Score against cost", blocks=tuple(blocks))


def _front(section: TaskSection) -> Figure | None:
    priced = [(entry, cost) for entry in section.entries if (cost := entry.spent.total_device_hours)]
    if not priced:
        return None
    looks = sorted({_family(entry) for entry, _ in priced})
    points = [
        ParetoPoint(
            label=entry.method,
            cost=cost,
            score=entry.score.mean,
            low=entry.score.low,
            high=entry.score.high,
            look=looks.index(_family(entry)),
            is_front=bool(entry.pareto),
        )
        for entry, cost in priced
    ]
    return Figure(
        name=f"pareto-{file_part(section.task)}",
        caption=f"{section.task}: test {metric_title(section)} against device-hours, better is up. "
        "Filled: on the front, which the line joins. Bars are 95 % intervals.",
        plot=ParetoPlot(
            points=tuple(points),
            looks=tuple(looks),
            x_label="device-hours, pre-training included",
            y_label=f"test {metric_title(section)}",
            better=section.better,
        ),
    )


def _family(entry: Entry) -> str:
    return "baseline" if entry.group == "baseline" else entry.architecture or entry.method


def costs(source: Source) -> Section:
    """Items and device-hours, forecast against actual."""
    plan = _plan(source)
    blocks: list[Block] = [absent(plan)] if isinstance(plan, str) else []
    blocks += _items(source, None if isinstance(plan, str) else plan)
    blocks += _hours(source, None if isinstance(plan, str) else plan)
    return Section(name="costs", title="Costs: forecast against actual", blocks=tuple(blocks))


def _plan(source: Source) -> Plan | str:
    """The forecast for the sweep's space, or why there is none."""
    from chembench.sweep.plan import make_plan
    from chembench.sweep.reading import space_from

    if "space" not in source.state.header:
        return "There is no forecast: the sweep's record holds no space, as its runs were recorded elsewhere."
    if source.state.header.get("shard"):
        return "There is no forecast: the sweep is a shard, and a plan speaks for the whole space."
    try:
        return make_plan(space_from(source.state.header["space"]))
    except ChembenchError as error:
        return f"There is no forecast, as this version cannot plan the sweep's space: {error}"


def _items(source: Source, plan: Plan | None) -> list[Block]:
    by_kind: dict[str, Counter[str]] = {}
    for row in source.rows:
        by_kind.setdefault(row.kind, Counter())[row.status] += 1
    spent = {kind: total(row.device_hours for row in source.rows if row.kind == kind) for kind in by_kind}
    lines: list[tuple[str | Cell, ...]] = []
    for kind in get_args(Kind):
        counts = by_kind.get(kind, Counter())
        planned = plan.items.get(kind, 0) if plan is not None else None
        if not counts and not planned:
            continue
        lines.append(
            (
                kind,
                "-" if planned is None else f"{planned:,}",
                f"{counts['finished']:,}",
                f"{counts['pruned']:,}",
                f"{counts['failed']:,}",
                f"{counts['waiting'] + counts['running']:,}",
                hours(spent.get(kind)),
            )
        )
    titles = ("items", "planned", "finished", "pruned", "failed", "left", "device-hours")
    bound = "In an adaptive space the planned counts are upper bounds. " if plan is not None and plan.adaptive else ""
    return [
        Heading(text="Items"),
        table(titles, lines, right=(1, 2, 3, 4, 5, 6)),
        paragraph(f"{bound}A pre-training that was found in the cache counts with what it cost when it was built."),
    ]


def _hours(source: Source, plan: Plan | None) -> list[Block]:
    actual = total(row.device_hours for row in source.rows)
    wall = _wall_hours(source)
    pretrain = total(row.device_hours for row in source.rows if row.kind == "pretrain")
    others = total(row.device_hours for row in source.rows if row.kind in ("search", "rescore", "confirm"))
    baselines = total(row.device_hours for row in source.rows if row.kind == "baseline")
    models = None if pretrain is None or others is None else pretrain + others
    lines: list[tuple[str | Cell, ...]] = [
        ("of models", "-" if plan is None else hours(plan.device_hours), hours(models), _ratio(plan, models)),
        ("- of their pre-training", "-", hours(pretrain), "-"),
        ("- of their fine-tuning", "-", hours(others), "-"),
        ("of baselines", "-", hours(baselines), "-"),
        ("of all", "-", hours(actual), "-"),
        ("wall hours, first start to last end", "-", hours(wall), "-"),
    ]
    blocks: list[Block] = [
        Heading(text="Device-hours"),
        table(("", "forecast", "actual", "actual / forecast"), lines, right=(1, 2, 3)),
    ]
    if plan is not None:
        said = f"{plan.pretrain_flops:.2g} FLOPs of pre-training and {plan.finetune_flops:.2g} of fine-tuning"
        blocks.append(paragraph(f"The forecast assumed {said}. {_upper(plan.notes[-1])}. Baselines are not forecast."))
    return blocks


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ratio(plan: Plan | None, actual: float | None) -> str:
    return "-" if plan is None or actual is None or not plan.device_hours else f"{actual / plan.device_hours:.2f}"


def _wall_hours(source: Source) -> float | None:
    """From the first start of an item to the last end; breaks between two drivers are part of it."""
    measured = [item.outcome.measured for item in source.state.items.values() if item.outcome is not None]
    starts = [float(m["started_at"]) for m in measured if isinstance(m.get("started_at"), int | float)]
    ends = [float(m["ended_at"]) for m in measured if isinstance(m.get("ended_at"), int | float)]
    if not starts or not ends:
        return None
    length = (max(ends) - min(starts)) / 3600
    return length if math.isfinite(length) and length >= 0 else None
