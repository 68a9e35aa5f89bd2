"""The audit in a report: what was written beside the ledger, the same numbers, or why there is none."""

import pytest
from audited import ALKANES, EVIL, inputs_of
from report_folder import folder

from chembench.data.audit import write_audit
from chembench.paths import CachePaths
from chembench.report import audit_tables
from chembench.report.page.audited import audit as audit_of
from chembench.report.page.blocks import Figure, Report, Table, Text
from chembench.report.page.drawing import Drawn
from chembench.report.page.html import to_html
from chembench.report.page.source import Source
from chembench.report.render import boards_from_state
from chembench.sweep.auditing import audit_inputs


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    place = tmp_path_factory.mktemp("audited")
    paths, state = folder(place)
    cache = CachePaths(place / "cache")
    found = audit_inputs(inputs_of(place, cache, corpus=ALKANES, scales=(5, 20)), cache, 1, lambda line: None)
    return Source(state, paths, boards_from_state(state)), found


def said(section):
    blocks = [block for block in section.blocks if isinstance(block, Text)]
    return " ".join(cell.text for block in blocks for line in block.lines for cell in line)


def test_every_table_of_the_audit_is_there(audited):
    source, found = audited
    write_audit(source.paths, found)
    section = audit_of(source)
    shown = [block for block in section.blocks if isinstance(block, Table)]
    tests = found.by_task["mine"]
    made = [audit_tables.overview(found), audit_tables.findings(tests), *audit_tables.of_task(tests)]
    assert [tuple(tuple(cell.text for cell in line.cells) for line in table.lines) for table in shown] == [
        table.lines for table in made
    ]
    assert [block.name for block in section.blocks if isinstance(block, Figure)] == ["similarity-mine"]
    report = Report(sweep="s", title="s", is_finished=True, sections=(section,))
    page = to_html(report, {"similarity-mine": Drawn("<svg></svg>", b"")})
    assert EVIL not in page and "&lt;script&gt;" in page


def test_a_damaged_audit_is_a_gap_that_is_told(audited):
    source, _ = audited
    source.paths.audit.write_text("{}")
    assert said(audit_of(source)).startswith("The audit cannot be read: the audit of a sweep must be as it was written")


def test_without_an_audit_the_command_that_makes_it_is_told(audited):
    source, _ = audited
    source.paths.audit.unlink(missing_ok=True)
    assert said(audit_of(source)) == "The sweep's folder holds no audit; chembench audit demo makes it."
