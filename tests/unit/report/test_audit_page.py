"""An audit in every form: the same numbers, nothing from data read as markup, nothing fetched from elsewhere."""

import re
from html.parser import HTMLParser

import pytest
from audited import ALKANES, EVIL, inputs_of

from chembench.data.audit import Audit
from chembench.paths import CachePaths
from chembench.report.audit_page import audit_markdown, audit_page, audit_section, histogram_svg
from chembench.report.audit_tables import findings, of_task, overview
from chembench.sweep.auditing import audit_inputs


@pytest.fixture(scope="module")
def audit(tmp_path_factory) -> Audit:
    place = tmp_path_factory.mktemp("audit")
    cache = CachePaths(place / "cache")
    inputs = inputs_of(place, cache, corpus=ALKANES, scales=(5, 20), targets=("y",))
    return audit_inputs(inputs, cache, 1, lambda line: None)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids, self.texts = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == [], "every tag is closed"
    return tags


def test_the_page_holds_every_cell_of_every_table(audit):
    tags = parsed(audit_page(audit))
    texts = {text.strip() for text in tags.texts}
    tests = audit.by_task["mine"]
    for table in [overview(audit), findings(tests), *of_task(tests)]:
        assert all(len(line) == len(table.columns) for line in table.lines), table.title
        assert {cell.strip() for line in table.lines for cell in line} - {""} <= texts, table.title


def test_nothing_from_data_is_read_as_html(audit):
    text = audit_page(audit)
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in text
    assert "script" not in parsed(text).seen
    named = audit.model_copy(update={"target": EVIL, "tasks": (audit.tasks[0].model_copy(update={"name": EVIL}),)})
    assert "script" not in parsed(audit_page(named)).seen


def test_the_page_needs_no_other_file(audit):
    text = audit_page(audit)
    assert not re.search(r"(src|href)=\"(?!#)", text.replace("xmlns", ""))
    assert not {"link", "img", "script", "iframe"} & parsed(text).seen


def test_ids_are_there_once(audit):
    twice = audit.model_copy(update={"tasks": (audit.tasks[0], audit.tasks[0])})
    ids = parsed(audit_page(twice)).ids
    assert len(ids) == len(set(ids))


def test_the_section_is_part_of_the_page(audit):
    assert str(audit_section(audit)) in audit_page(audit)


def test_the_histogram_is_the_same_bytes_every_time(audit):
    first = histogram_svg(audit.tasks[0], "one")
    assert histogram_svg(audit.tasks[0], "one") == first
    assert first.startswith("<svg") and "validation (3 rows)" in first


def test_markdown_shows_what_the_page_shows_and_no_more(audit):
    text = audit_markdown(audit)
    assert "\\<script\\>alert" in text and "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) > 1
    assert f"## {audit.tasks[0].name}" in text


def test_markdown_cells_cannot_end_a_cell(audit):
    odd = audit.tasks[0].model_copy(update={"unreadable_first": ("a|b\nc",)})
    text = audit_markdown(audit.model_copy(update={"tasks": (odd,)}))
    assert "a\\|b c" in text


def test_the_overview_has_a_column_per_scale(audit):
    table = overview(audit)
    assert table.columns[-2:] == ("test in 5", "test in 20")
    assert table.right == tuple(range(2, len(table.columns)))
