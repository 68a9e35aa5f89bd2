"""The report as HTML and Markdown: the same numbers, linked, escaped, self-contained, the same bytes every time."""

import re
from html.parser import HTMLParser

import pytest
from report_folder import folder, gathered, write_predictions
from report_rows import TASKS, whole_state

from chembench.api import open_sweep
from chembench.report.page import write
from chembench.report.page.blocks import Table, without_runs
from chembench.report.page.drawing import Drawn, draw
from chembench.report.page.gather import gather
from chembench.report.page.html import to_html
from chembench.report.page.markdown import escaped, to_markdown
from chembench.report.page.source import line_anchor
from chembench.report.render import boards_from_state
from chembench.tracking.mlflow_sync import tracking_uri_of
from chembench.tracking.sent import Seen, SentFile
from chembench.tracking.spool import parent_uid

NASTY = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Anchors, links and texts of a page, and whether its elements nest."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.text, self._open = [], [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "xlink:href", "src") if name in found]
        if tag not in ("meta", "br", "link", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return gathered(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report on disk: the folder of its sweep, where a figure of an earlier report lay, and the state."""
    paths, state = folder(tmp_path_factory.mktemp("written"))
    old = paths.root / "figures" / "old.svg"
    old.parent.mkdir()
    old.touch()
    write.report_sweep(state, paths)
    return paths, state


def page_of(report):
    return to_html(report, {figure.name: Drawn("<svg></svg>", b"") for figure in report.figures})


def numbers(text):
    return re.findall(r"\d+\.\d+", text)


def test_every_section_is_there_in_the_order_in_which_it_is_read(report):
    assert [section.name for section in report.sections][:2] == ["answer", "boards"]
    assert {"cost", "learning-curves", "scaling", "predictions", "pretraining", "signatures", "costs"} <= {
        section.name for section in report.sections
    }
    page = Page(page_of(report))
    assert [name for name in page.ids if name in {s.name for s in report.sections}] == [s.name for s in report.sections]


def test_html_and_markdown_tell_the_same_numbers(report):
    page = Page(page_of(report))
    html_numbers = numbers(" ".join(page.text))
    markdown = re.sub(r"\]\(<[^>]*>\)|!\[[^\]]*\]\([^)]*\)", "", to_markdown(report))
    assert len(html_numbers) > 100
    assert sorted(html_numbers) == sorted(numbers(markdown))


def test_every_number_of_a_board_links_to_the_runs_behind_it(report):
    boards = next(section for section in report.sections if section.name == "boards")
    tables = [block for block in boards.blocks if isinstance(block, Table) and block.columns[0].title == "method"]
    ids = set(Page(page_of(report)).ids)
    assert tables
    for table in tables:
        for line in table.lines:
            for cell, column in zip(line.cells, table.columns, strict=True):
                if re.search(r"\d", cell.text) and column.title not in ("method", "mean rank"):
                    assert cell.link is not None and cell.link.to in ids


def test_every_link_within_the_page_has_its_end(report):
    page = Page(page_of(report))
    inner = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inner and inner <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_every_run_stands_in_the_table_of_runs_with_its_folder(written):
    paths, state = written
    for place in (paths.root, paths.reports):
        page = Page((place / "report.html").read_text())
        assert {f"run-{uid}" for uid in state.items} <= set(page.ids)
        folders = [link for link in page.links if "trials/" in link]
        assert len(folders) == len(state.items)
        assert all((place / link).is_dir() for link in folders)


def test_a_page_fetches_nothing_and_runs_nothing(written):
    paths, _ = written
    text = paths.report.read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [link for link in page.links if re.match(r"[a-z]+:|//", link)]
    assert "url(http" not in text and "@import" not in text


@pytest.mark.parametrize("uri", ["https://me:secret@mlflow.example.org/base", None])
def test_runs_that_were_sent_link_to_mlflow(tmp_path, uri):
    paths, state = folder(tmp_path)
    state.header["places"] = {"tracking_uri": uri}
    sent = SentFile(paths.sent, tracking_uri_of(state, paths))
    item = next(item for item in state.items.values() if item.kind == "confirm" and item.spec.task == "delaney")
    sent.add("", parent_uid("demo", "regression"), Seen("parent1"))
    sent.add("parent1", item.uid, Seen("abc123def456"))
    report = gathered_again(state, paths)
    base = "https://mlflow.example.org/base" if uri else "http://127.0.0.1:5000"
    text = page_of(report)
    assert f'href="{base}/#/runs/abc123def456">abc123de</a>' in text
    assert "secret" not in text
    assert ("chembench ui demo" in text) == (uri is None)


def gathered_again(state, paths):
    return gather(state, paths, boards_from_state(state))


def test_without_mlflow_the_page_says_so(report):
    assert "No run is known to have been sent to MLflow" in page_of(report)


def test_names_that_are_markup_are_shown_as_they_are(tmp_path):
    state = whole_state()
    state.name = f"demo {NASTY}"
    state.header["tasks"] = {**TASKS, "delaney": {**TASKS["delaney"], "note": NASTY, "unit": NASTY}}
    state.header["command"] = ["chembench", NASTY, "```"]
    failed = next(item for item in state.items.values() if item.status == "failed")
    failed.outcome = failed.outcome.model_copy(update={"message": f"{NASTY} | [x](javascript:alert)"})
    report = gathered(tmp_path, state)
    html, markdown = page_of(report), to_markdown(report)
    assert "<script" not in html and html.count("&lt;script&gt;") > 4
    fenced = re.sub(r"^(```+)text\n.*?\n\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in fenced and "\\[x\\](javascript" in fenced


def test_a_molecule_whose_smiles_is_markup_breaks_nothing(tmp_path):
    paths, state = folder(tmp_path)
    for item in state.items.values():
        if item.kind == "confirm" and item.status == "finished":
            write_predictions(paths.run(item.uid, 1).predictions, item.spec.task_kind, smiles=(NASTY, "$x$", "CCO"))
    report = gather(state, paths, boards_from_state(state))
    drawn = {f.name: draw(f) if f.name == "worst-delaney" else Drawn("<svg></svg>", b"") for f in report.figures}
    text = to_html(report, drawn)
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>", "&lt;b&gt;"),
        ("[x](y)", "\\[x\\](y)"),
        ("*x* `y`", "\\*x\\* \\`y\\`"),
        ("forest_ecfp4 _a_", "forest_ecfp4 \\_a\\_"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_shows_what_looks_like_markup(text, shown):
    assert escaped(text) == shown


def test_the_same_sweep_gives_the_same_bytes(written, tmp_path):
    paths, state = written
    report = gather(state, paths, boards_from_state(state))
    assert to_markdown(report) == (paths.root / "report.md").read_text()
    drawn = {figure.name: draw(figure) for figure in report.figures}
    assert to_html(report, drawn) == paths.report.read_text()
    for name, one in drawn.items():
        assert (paths.root / "figures" / f"{name}.png").read_bytes() == one.png


def test_figures_lie_beside_the_page_and_those_of_an_earlier_report_go(written):
    paths, _ = written
    page = Page(paths.report.read_text())
    files = {path.relative_to(paths.root).as_posix() for path in (paths.root / "figures").iterdir()}
    assert {link for link in page.links if link.startswith("figures/")} == files
    assert "figures/old.svg" not in files and len(files) > 10
    svg = (paths.root / "figures" / "scores-delaney.svg").read_text()
    assert 'href="../report.html#line-' in svg


def test_a_report_is_written_where_it_is_asked_for_and_nowhere_else(tmp_path, monkeypatch):
    paths, state = folder(tmp_path)
    state.items.clear()
    paths.ledger.touch()
    view = open_sweep(paths.root)
    monkeypatch.setattr(type(view), "begun", lambda self: state)
    written = view.report(tmp_path / "here")
    assert [path.name for path in written] == ["report.html", "report.md"]
    assert not paths.report.exists() and not paths.reports.exists()


def test_a_page_of_a_sweep_that_is_not_finished_says_so(tmp_path, report):
    assert "unfinished" in page_of(report)
    assert re.search(r"This sweep is not finished: (\d+) of \1 items are done\.", page_of(report))
    done = whole_state()
    done.finished = True
    assert "unfinished" not in page_of(gathered(tmp_path, done)).partition("<main>")[0].partition("</style>")[2]


def test_lines_of_one_name_on_two_tasks_are_told_apart():
    assert line_anchor("a", "x") != line_anchor("b", "x") != line_anchor(None, "x")


def test_a_report_without_runs_tells_none_and_links_to_none(report):
    bare = without_runs(report)
    assert [[type(b) for b in s.blocks] for s in bare.sections] == [
        [type(b) for b in s.blocks] for s in report.sections if s.name != "runs"
    ]
    page = Page(page_of(bare))
    assert not [link for link in page.links if link.startswith(("#line-", "#run"))]
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "runs" not in page.ids and "boards" in page.ids
