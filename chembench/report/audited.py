"""What the audit knows, on the lines of a board: how much of the test the pre-training saw, and leaks as badges."""

from __future__ import annotations

from chembench.data.audit import Audit, Facts, audit_facts
from chembench.report.badges import LEAK
from chembench.report.board import Entry, Leaderboard, TaskSection
from chembench.report.wording import counted


def audited(board: Leaderboard, audit: Audit | None) -> Leaderboard:
    """The board with the facts of the audit on its lines; as it is where there was no audit."""
    if audit is None:
        return board
    return board.model_copy(update={"sections": tuple(_section(section, audit) for section in board.sections)})


def _section(section: TaskSection, audit: Audit) -> TaskSection:
    facts = audit_facts(audit, section.task, 0)
    if facts is None:
        return section
    entries = tuple(
        _entry(entry, facts, audit_facts(audit, section.task, entry.molecules or 0)) for entry in section.entries
    )
    return section.model_copy(update={"entries": entries, "audit": facts})


def _entry(entry: Entry, facts: Facts, own: Facts | None) -> Entry:
    badges = (*entry.badges, LEAK) if facts.in_training else entry.badges
    return entry.model_copy(update={"in_corpus": own.in_corpus if own else None, "badges": badges})


def audit_sentences(facts: Facts | None) -> list[str]:
    """What a reader of scores must know of the data; nothing where there was no audit."""
    if facts is None:
        return []
    near = f"{facts.nearest_median:.2f} to the nearest in training"
    said = [f"audit: the median test molecule has a Tanimoto similarity of {near}"]
    if facts.in_training:
        rows = counted(facts.in_training, "test row holds", "test rows hold")
        said.append(f"audit: {rows} a molecule that training or validation has, too")
    if facts.conflicts:
        molecules = counted(facts.conflicts, "molecule has", "molecules have")
        said.append(f"audit: {molecules} labels that contradict each other; all rows are kept")
    return said
