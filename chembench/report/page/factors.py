"""Which of architecture, size, molecules and method matters, alone and together, over all tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chembench.errors import DataError
from chembench.report.page.blocks import Block, Cell, Figure, Heading, Section, absent, anchor, paragraph, points, table
from chembench.report.page.plots import Bar, IntervalsPlot
from chembench.report.page.source import Source, p_text
from chembench.report.rows import ResultRow
from chembench.report.wording import counted
from chembench.statistics.factors import Effect, Effects, Run, effects
from chembench.statistics.mixed import Mixed, mixed

ALPHA = 0.05


def factors(source: Source) -> Section:
    """Sums of squares of factors and interactions, and the mixed model beside them."""
    runs = runs_of(source)
    blocks: list[Block] = [
        paragraph(
            "What is compared here are levels of the grid's axes over all cells that are complete on every task, "
            "from-scratch controls included (0 molecules); baselines stand outside."
        )
    ]
    try:
        blocks += effect_blocks(effects(runs))
    except DataError as error:
        return Section(name="factors", title="Factor effects", blocks=(absent(f"No factor effects: {error}."),))
    blocks.append(Heading(text="Mixed model"))
    try:
        blocks += mixed_blocks(mixed(runs))
    except DataError as error:
        blocks.append(absent(f"No mixed model: {error}."))
    return Section(name="factors", title="Factor effects", blocks=tuple(blocks))


def runs_of(source: Source) -> list[Run]:
    """Every counted run of the cells that are complete on all tasks, with the levels it was made with."""
    complete = [{e.method for e in section.entries if e.group != "baseline"} for section in source.sections]
    shared = set.intersection(*complete) if complete else set()
    return [
        Run(
            task=section.task,
            task_type=section.kind,
            better=section.better,
            levels=_levels(row),
            key=(row.pretrain_seed or 0, row.split or 0, row.head_seed or 0, row.outer or 0),
            score=row.metrics[f"test_{section.metric}"],
        )
        for section in source.sections
        for method in sorted(shared)
        for row in source.counted(section.task, method)
    ]


def _levels(row: ResultRow) -> dict[str, str]:
    named = {"architecture": row.architecture, "size": row.size, "molecules": row.molecules, **row.settings}
    last = Counter(name.split(".")[-1] for name in named)
    short = {name: name.split(".")[-1] for name in named}  # two tables may have a field of the same name
    return {short[name] if last[short[name]] == 1 else name: str(level) for name, level in named.items()}


def effect_blocks(found: Effects) -> list[Block]:
    lines: list[tuple[str | Cell, ...]] = [
        (
            Cell(text=one.term, link=anchor("runs")),
            f"{one.sum_of_squares:.2f}",
            f"{one.freedom}, {one.error_freedom}",
            "-" if one.f is None else f"{one.f:.2f}",
            "-" if one.p is None else p_text(one.p),
            f"{one.eta2:.2f} ({one.eta2_low:.2f} to {one.eta2_high:.2f})",
            f"{one.partial_eta2:.2f} ({one.partial_eta2_low:.2f} to {one.partial_eta2_high:.2f})",
        )
        for one in found.effects
    ]
    titles = ("term", "sum of squares", "freedom", "F", "p", "eta squared", "partial eta squared")
    return [
        paragraph(f"Unit: {found.unit}, {counted(found.units, 'unit')}. {found.scale[:1].upper()}{found.scale[1:]}."),
        _figure(found.effects),
        table(titles, lines, right=(1, 2, 3, 4, 5, 6)),
        *([points(found.notes)] if found.notes else []),
        _means(found),
    ]


def _figure(effects_: Sequence[Effect]) -> Figure:
    return Figure(
        name="factor-effects",
        caption="Share of the differences between units that each factor and interaction goes with (partial eta "
        "squared), with 95 % intervals of the noncentral F. The share is never below 0: the test is the p value in the "
        "table.",
        plot=IntervalsPlot(
            bars=tuple(
                Bar(
                    label=one.term,
                    value=one.partial_eta2,
                    low=one.partial_eta2_low,
                    high=one.partial_eta2_high,
                    mark="strong" if one.p is not None and one.p < ALPHA else "open",
                )
                for one in effects_
            ),
            x_label="partial eta squared",
            zero=0.0,
            key=("", f"p < {ALPHA:g}, term by term", "not shown"),
        ),
    )


def _means(found: Effects) -> Block:
    lines: list[tuple[str | Cell, ...]] = [
        (factor, level, f"{value:+.2f}") for factor, levels in found.means.items() for level, value in levels.items()
    ]
    return table(("factor", "level", "mean standardised score"), lines, right=(2,), caption="Means, higher is better")


def mixed_blocks(found: Mixed) -> list[Block]:
    lines: list[tuple[str | Cell, ...]] = [
        (
            one.factor,
            f"{one.level} against {one.against}",
            f"{one.value:+.2f}",
            "-" if one.low is None or one.high is None else f"{one.low:+.2f} to {one.high:+.2f}",
            "-" if one.p is None else p_text(one.p),
        )
        for one in found.coefficients
    ]
    joint: list[tuple[str | Cell, ...]] = [
        (factor, "-" if p is None else p_text(p)) for factor, p in found.joint_p.items()
    ]
    variances: list[tuple[str | Cell, ...]] = [(name, f"{value:.3f}") for name, value in found.variances.items()]
    told = [
        table(("factor", "level", "difference", "95 % interval", "p"), lines, right=(2, 3, 4)),
        table(("factor", "p of all its levels"), joint, right=(1,)),
    ]
    return [
        paragraph(f"{found.formula}, on the same scale."),
        *(told if found.converged else []),
        table(("random effect", "variance"), variances, right=(1,)),
        *([points(found.notes)] if found.notes else []),
    ]
