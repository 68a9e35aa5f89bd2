"""Two lines, families of lines and two sweeps side by side."""

import pytest
from report_rows import design, forest, three

from chembench.errors import ConfigError, DataError, UnknownNameError
from chembench.report.differences import Differences, Side, between_lines, between_sweeps

ROBERTA, BART = "roberta-w64x2-1000", "bart-w64x2-1000"
OTHER = {"method": BART, "architecture": "bart", "pretrain_uid": "p1"}
SCRATCH = {"method": "roberta-w64x2-scratch", "molecules": 0, "pretrain_uid": None}
LARGE = {"method": "roberta-w256x4-1000", "size": "w256x4", "parameters": 9_000_000, "pretrain_uid": "p2"}


def side(rows, name="s", **changes):
    return Side(sweep=name, design=design(cells=(), **changes), rows=tuple(rows))


APART = [*three("a", [1.0, 1.01, 0.99]), *three("b", [3.0, 3.01, 2.99], **OTHER), *forest((2.0, 2.3, 1.8))]


def test_two_lines_are_compared_first_minus_second():
    (found,) = between_lines(side(APART), ROBERTA, BART)
    assert (found.task, found.first, found.second, found.verdict) == ("delaney", ROBERTA, BART, "better")
    assert found.difference == pytest.approx(-2.0) and found.low < -2.0 < found.high < 0
    (turned,) = between_lines(side(APART), BART, ROBERTA)
    assert (turned.difference, turned.low, turned.high) == (-found.difference, -found.high, -found.low)
    assert turned.verdict == "worse" and turned.p == found.p


def test_what_cannot_be_told_apart_is_undecided():
    rows = [*three("a", [1.0, 2.0, 3.0]), *three("b", [1.1, 2.2, 3.1], **OTHER)]
    (found,) = between_lines(side(rows), ROBERTA, BART)
    assert found.verdict == "undecided" and found.p > 0.05


def test_the_smallest_and_the_largest_of_each_architecture_and_scale_are_paired():
    rows = [*APART, *three("c", [0.5, 0.51, 0.49], **LARGE)]
    (found,) = between_lines(side(rows), "smallest", "largest")
    assert (found.first, found.second, found.verdict) == (ROBERTA, LARGE["method"], "worse")


def test_pre_trained_cells_are_paired_with_their_control():
    rows = [*APART, *three("c", [2.0, 2.1, 1.9], **SCRATCH)]
    (found,) = between_lines(side(rows), "scratch", "pretrained")
    assert (found.first, found.second, found.verdict) == (SCRATCH["method"], ROBERTA, "worse")


def test_p_is_held_over_all_pairs_that_were_asked_for():
    tasks = design().tasks | {"lipo": design().tasks["delaney"]}
    rows = [*three("a", [1.0, 1.2, 1.1]), *three("b", [1.5, 1.7, 1.3], **OTHER)]
    lipo = [row.model_copy(update={"uid": f"l{row.uid}", "task": "lipo"}) for row in rows]
    (alone,) = between_lines(side(rows), ROBERTA, BART)
    both = between_lines(side([*rows, *lipo], tasks=tasks), ROBERTA, BART)
    assert [one.task for one in both] == ["delaney", "lipo"]
    assert [one.p for one in both] == pytest.approx([2 * alone.p] * 2)
    assert alone.verdict == "better" and {one.verdict for one in both} == {"undecided"}


def test_lines_that_are_not_there_or_not_complete_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown line 'robert-w64x2-1000'\. Did you mean 'roberta-w64x2-1000'"):
        between_lines(side(APART), "robert-w64x2-1000", BART)
    with pytest.raises(ConfigError, match="a difference needs both sides complete on one task"):
        between_lines(side(APART[1:]), ROBERTA, BART)
    with pytest.raises(ConfigError, match="smallest and largest of sweep 's' are on none"):
        between_lines(side(APART), "smallest", "largest")
    with pytest.raises(UnknownNameError, match="unknown task 'lipo'"):
        between_lines(side(APART), ROBERTA, BART, ["lipo"])


def test_two_sweeps_are_compared_by_the_methods_of_both():
    again = [row.model_copy(update={"uid": f"x{row.uid}"}) for row in three("a", [2.0, 2.01, 1.99])]
    (found,) = between_sweeps(side(APART, "one"), side(again, "two"))
    assert (found.first, found.second) == (f"{ROBERTA} (one)", f"{ROBERTA} (two)")
    assert (found.verdict, found.note) == ("better", "")


def test_items_that_two_sweeps_share_are_told():
    found = between_sweeps(side(APART, "one"), side(APART, "one"))
    assert {one.first for one in found} == {f"{m} (one, first)" for m in (ROBERTA, BART, "forest_ecfp4")}
    assert {one.note for one in found} == {"the same items in both"}
    assert {(one.difference, one.low, one.p, one.verdict) for one in found} == {(0.0, None, None, "undecided")}


def test_some_items_that_two_sweeps_share_are_counted():
    more = [*APART[:2], APART[2].model_copy(update={"uid": "other"})]
    (found,) = between_sweeps(side(APART, "one"), side(more, "two"))
    assert found.note == "2 items are the same in both" and found.low is not None


def test_a_line_is_not_compared_with_itself():
    with pytest.raises(ConfigError, match="a difference is one of two lines, got roberta-w64x2-1000 twice"):
        between_lines(side(APART), ROBERTA, ROBERTA)


def test_sweeps_on_other_molecules_are_refused():
    other = [row.model_copy(update={"data": "else"}) for row in APART]
    mine = [row.model_copy(update={"data": "this"}) for row in APART]
    with pytest.raises(DataError, match="scores are compared on the same molecules, task 'delaney' is not known to"):
        between_sweeps(side(mine, "one"), side(other, "two"))


def test_sweeps_without_a_common_method_or_task_are_refused():
    only = three("b", [3.0, 3.01, 2.99], **OTHER)
    with pytest.raises(ConfigError, match="two sweeps are compared by methods that are complete in both"):
        between_sweeps(side(APART[:3], "one"), side(only, "two"))
    with pytest.raises(UnknownNameError, match="unknown task 'lipo'"):
        between_sweeps(side(APART, "one"), side(APART, "two"), ["lipo"])


def test_differences_are_told_in_lines_and_sentences():
    told = Differences(
        contrasts=between_lines(side(APART), ROBERTA, BART), settings=("search.trials: 3 there, 6 here",)
    )
    (line,) = told.as_rows()
    assert set(line) == set(told.COLUMNS) and line["difference"] == "-2.000" and line["first is"] == "better"
    assert told.sentences()[0].startswith("the first is better in 1; difference is first minus second")
    assert told.sentences()[-1] == "told differently: search.trials: 3 there, 6 here"
