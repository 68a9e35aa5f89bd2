"""The audit of a sweep's data, as it was made before the first trial."""

from __future__ import annotations

from chembench.data.audit import BINS, NEAR, TaskAudit, read_audit
from chembench.errors import DataError
from chembench.report import audit_tables
from chembench.report.audit_tables import AuditTable
from chembench.report.page.blocks import Block, Figure, Heading, Section, Table, absent, paragraph, table
from chembench.report.page.plots import LinesPlot, Panel, Series
from chembench.report.page.source import Source, file_part
from chembench.report.wording import counted

_PARTS = {"valid": "validation", "test": "test"}
SHOWN_FINDINGS = 20
"""A table of more of them is folded."""


def audit(source: Source) -> Section:
    """Findings first, then how far the test is from training, then everything that was counted."""
    return Section(name="audit", title="Audit of the data", blocks=tuple(_blocks(source)))


def _blocks(source: Source) -> list[Block]:
    try:
        found = read_audit(source.paths)
    except DataError as error:
        return [absent(f"The audit cannot be read: {error}.")]
    if found is None:
        return [absent(f"The sweep's folder holds no audit; chembench audit {source.state.name} makes it.")]
    blocks = _table(audit_tables.overview(found), is_long=False)
    for name, tests in found.by_task.items():
        blocks.append(Heading(text=name))
        findings = audit_tables.findings(tests)
        if findings.lines:
            blocks += _table(findings, is_long=len(findings.lines) > SHOWN_FINDINGS)
        else:
            blocks.append(paragraph("Nothing was found that needs a warning."))
        blocks.append(_similarity(tests[0]))
        for one in audit_tables.of_task(tests):
            blocks += _table(one, is_long=True)
    return blocks


def _table(found: AuditTable, *, is_long: bool) -> list[Block]:
    made: Table = table(found.columns, found.lines, right=found.right, caption=found.title)
    note = [paragraph(f"{found.note[:1].upper()}{found.note[1:]}.")] if found.note and not is_long else []
    return [made.model_copy(update={"is_long": is_long}), *note]


def _similarity(task: TaskAudit) -> Figure:
    parts = {part.part: part for part in task.similarity}
    fold = f", outer fold {task.outer}," if task.outer else ""
    series = []
    for look, (name, label) in enumerate(_PARTS.items()):
        histogram = parts[name].histogram
        shares = [count / sum(histogram) for count in histogram]
        series.append(
            Series(
                label=f"{label} ({counted(sum(histogram), 'row')})",
                x=tuple(place / BINS for place in range(BINS + 1)),
                y=(*shares, shares[-1]),
                look=look,
                style="steps",
            )
        )
    return Figure(
        name=f"similarity-{file_part(task.name)}",
        caption=f"How near validation and test molecules of {task.name}{fold} are to their nearest training molecule: "
        f"share of rows by Tanimoto similarity of ECFP4. Above {NEAR:g} a test asks little more than training did.",
        plot=LinesPlot(
            panels=(Panel(series=tuple(series)),), x_label="similarity to the nearest", y_label="share of rows"
        ),
    )
