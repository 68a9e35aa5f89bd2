"""A sweep's report as one value, from its ledger and its folder."""

from __future__ import annotations

from collections.abc import Callable

from chembench.paths import SweepPaths
from chembench.report.page.answer import answer
from chembench.report.page.audited import audit
from chembench.report.page.blocks import Report, Section
from chembench.report.page.boards import boards
from chembench.report.page.comparisons import comparisons
from chembench.report.page.costs import costs, pareto
from chembench.report.page.environment import again, environment
from chembench.report.page.factors import factors
from chembench.report.page.runs import runs
from chembench.report.page.scaling import scaling
from chembench.report.page.signatures import signatures
from chembench.report.page.source import Source
from chembench.report.page.together import together
from chembench.report.page.training import learning, pretraining
from chembench.report.page.winners import predictions
from chembench.report.render import Boards
from chembench.sweep.state import SweepState

SECTIONS: tuple[Callable[[Source], Section], ...] = (
    answer,
    boards,
    comparisons,
    together,
    factors,
    pareto,
    learning,
    scaling,
    predictions,
    audit,
    pretraining,
    signatures,
    costs,
    environment,
    again,
    runs,
)


def gather(state: SweepState, paths: SweepPaths, boards: Boards) -> Report:
    """Everything a report says, in the order in which it is read.

    Args:
        state: the fold of the ledger.
        paths: the sweep's folder; a file that is missing there leaves a gap that is named.
        boards: made of the same state.
    """
    source = Source(state, paths, boards)
    return Report(
        sweep=state.name,
        title=f"Report of {state.name}",
        is_finished=state.finished,
        sections=tuple(section(source) for section in SECTIONS),
    )
