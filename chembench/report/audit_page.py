"""An audit as a page of its own, as a section for another page, and as Markdown. All text from data is escaped."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chembench.data.audit import BINS, NEAR, SEVERITIES, Audit, TaskAudit
from chembench.report import audit_tables
from chembench.report.audit_tables import AuditTable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SHOWN_LINES = 25
"""A table with more lines than this is folded."""
_PARTS = (("valid", "validation", "#E69F00", "//"), ("test", "test", "#0072B2", ""))
"""Colours of Okabe and Ito, told apart by hatching as well."""
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chembench audit",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


def audit_page(audit: Audit) -> str:
    """The audit as one HTML file that needs no other."""
    return _environment().get_template("audit.html.j2").render(audit=audit, section=audit_section(audit))


def audit_section(audit: Audit) -> Markup:
    """The audit as ``<section>`` elements, without style; another page may embed it."""
    from markupsafe import Markup

    tasks = [
        {
            "name": name,
            "findings": audit_tables.findings(tests),
            "tables": list(audit_tables.of_task(tests)),
            "svg": Markup(histogram_svg(tests[0], f"audit-{place}")),
        }
        for place, (name, tests) in enumerate(audit.by_task.items())
    ]
    made = _environment().get_template("audit_section.html.j2")
    text = made.render(overview=audit_tables.overview(audit), tasks=tasks, shown=SHOWN_LINES, severities=SEVERITIES)
    return Markup(text)


def audit_markdown(audit: Audit) -> str:
    """The audit as Markdown: the overview, and each task's findings and tables."""
    return "\n".join(_markdown(audit)) + "\n"


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("chembench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# ---- the histogram ----


def histogram_svg(task: TaskAudit, name: str) -> str:
    """How near validation and test are to training, as one ``<svg>`` element; the same bytes for the same numbers.

    Args:
        task: measured.
        name: that its ids begin with, so that several drawings can stand in one page.
    """
    from matplotlib import rc_context, rcdefaults
    from matplotlib.figure import Figure

    with rc_context():
        rcdefaults()  # what a person set in matplotlibrc would change the bytes
        with rc_context(_SETTINGS):
            figure = Figure(figsize=(6.4, 2.5), layout="constrained")
            _draw(figure, task)
            written = io.StringIO()
            figure.savefig(written, format="svg", metadata={"Date": None})
    return _inline(written.getvalue(), name)


def _draw(figure: Any, task: TaskAudit) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    found = {similarity.part: similarity for similarity in task.similarity}
    width = 1 / BINS
    for place, (part, label, colour, hatch) in enumerate(_PARTS):
        rows = sum(found[part].histogram)
        shares = [count / rows for count in found[part].histogram]
        lefts = [b * width + (0.08 + 0.42 * place) * width for b in range(BINS)]
        look = {"color": colour, "edgecolor": "white" if hatch else colour, "hatch": hatch, "linewidth": 0.4}
        axes.bar(lefts, shares, width=0.42 * width, align="edge", label=f"{label} ({rows:,} rows)", **look)
    axes.axvline(NEAR, color="#666666", linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_xlim(0, 1)
    axes.set_xlabel("Tanimoto similarity to the nearest training molecule (ECFP4)")
    axes.set_ylabel("share of rows")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _inline(text: str, name: str) -> str:
    """The ``svg`` element alone; no id of it is an id of another drawing."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"', text)
    text = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{name}-{found[1]})", text)
    return re.sub(r'href="#([^"]+)"', lambda found: f'href="#{name}-{found[1]}"', text)


# ---- Markdown ----


def _markdown(audit: Audit) -> Iterator[str]:
    yield f"# Audit of {audit.of} {_plain(audit.target)}\n"
    yield from _markdown_table(audit_tables.overview(audit), level=2)
    for name, tests in audit.by_task.items():
        yield f"\n## {_plain(name)}\n"
        found = audit_tables.findings(tests)
        if found.lines:
            yield from _markdown_table(found, level=3)
        for table in audit_tables.of_task(tests):
            yield ""
            yield from _markdown_table(table, level=3)


def _markdown_table(table: AuditTable, level: int) -> Iterator[str]:
    yield f"{'#' * level} {_plain(table.title)}\n"
    yield f"| {' | '.join(map(_plain, table.columns))} |"
    yield f"| {' | '.join('---:' if n in table.right else '---' for n in range(len(table.columns)))} |"
    for line in table.lines:
        yield f"| {' | '.join(map(_plain, line))} |"
    if table.note:
        yield f"\n{_plain(table.note)}"


def _plain(text: str) -> str:
    """``text`` as Markdown that shows it and means nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
