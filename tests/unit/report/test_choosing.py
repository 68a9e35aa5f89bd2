import pytest
from report_rows import design, forest, three

from chembench.errors import ConfigError, UnknownNameError
from chembench.report.choosing import best_units
from chembench.report.leaderboard import leaderboards

BART = {"method": "bart-w64x2-1000", "architecture": "bart", "pretrain_uid": "p1"}
ROWS = [
    *three("a", [1.0, 1.1, 1.2], study="roberta/delaney"),
    *three("b", [0.8, 0.9, 1.0], study="bart/delaney", **BART),
    *forest((0.1, 0.2, 0.3)),
]


def best(top, tasks=(), rows=ROWS):
    return best_units(rows, list(leaderboards(rows, design(cells=())).values()), top, tasks)


def test_the_best_means_are_chosen_and_baselines_left_out():
    assert best(1) == ["bart/delaney"]
    assert best(5) == ["bart/delaney", "roberta/delaney"]
    assert best(1, ["delaney"]) == ["bart/delaney"]


def test_what_cannot_be_chosen_from_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown task 'delany'\. Did you mean 'delaney'"):
        best(1, ["delany"])
    with pytest.raises(ConfigError, match="only complete lines of a board can be confirmed on more seeds"):
        best(1, rows=forest())
