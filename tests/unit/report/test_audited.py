"""Facts of the audit on the lines of a board."""

from report_rows import design, forest, three

from chembench.data.audit import Facts
from chembench.report import audited as module
from chembench.report.audited import audit_sentences, audited
from chembench.report.columns import records
from chembench.report.leaderboard import leaderboards

ROWS = [*three("a", [1.0, 2.0, 3.0]), *forest()]


def facts(molecules, **changes):
    known = {"in_corpus": molecules / 4000, "in_training": 0, "nearest_median": 0.41, "conflicts": 0, "leaks": 0}
    return Facts(**(known | changes))


def board(monkeypatch, **changes):
    monkeypatch.setattr(module, "audit_facts", lambda audit, task, molecules: facts(molecules, **changes))
    (made,) = leaderboards(ROWS, design(cells=())).values()
    return audited(made, object())


def test_each_line_says_how_much_of_the_test_its_pre_training_saw(monkeypatch):
    lines = {line["method"]: line for line in records(board(monkeypatch))}
    assert lines["roberta-w64x2-1000"]["in_corpus"] == 0.25 and lines["forest_ecfp4"]["in_corpus"] == 0.0
    assert {line["badges"] for line in lines.values()} == {None}


def test_a_leak_is_a_badge_of_every_line_and_a_sentence(monkeypatch):
    made = board(monkeypatch, in_training=3, conflicts=2)
    assert {line["badges"] for line in records(made)} == {"test molecules stand in training"}
    assert audit_sentences(made.sections[0].audit) == [
        "audit: the median test molecule has a Tanimoto similarity of 0.41 to the nearest in training",
        "audit: 3 test rows hold a molecule that training or validation has, too",
        "audit: 2 molecules have labels that contradict each other; all rows are kept",
    ]


def test_without_an_audit_a_board_stays_as_it_is():
    (made,) = leaderboards(ROWS, design(cells=())).values()
    assert audited(made, None) is made and audit_sentences(made.sections[0].audit) == []
