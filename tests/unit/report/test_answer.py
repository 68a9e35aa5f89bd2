"""What is said of all tasks at once holds for all of them together, not for each alone."""

from types import SimpleNamespace

import pytest
from report_rows import design, forest, three

from chembench.report.leaderboard import leaderboards
from chembench.report.page.answer import answer

BART = {"method": "bart-w64x2-1000", "architecture": "bart", "pretrain_uid": "p1"}
CLEAR = ([1.0, 1.01, 0.99], [3.0, 3.01, 2.99], (2.0, 2.01, 1.99))
CLOSE = ([1.0, 1.4, 1.2], [2.3, 2.5, 2.1], (1.65, 1.95, 1.75))
TIED = ([1.0, 2.0, 3.0], [1.1, 2.2, 3.2], (1.0, 2.1, 3.4))


def section(task, scores):
    roberta, bart, baseline = scores
    rows = [*three("a", roberta), *three("b", bart, **BART), *forest(baseline)]
    (board,) = leaderboards(rows, design(cells=())).values()
    return board.sections[0].model_copy(update={"task": task})


def said(*sections):
    state = SimpleNamespace(header={"tasks": [s.task for s in sections]}, finished=True)
    blocks = answer(SimpleNamespace(sections=sections, state=state)).blocks
    return ["".join(cell.text for cell in line) for line in blocks[2].lines]


def test_what_is_clear_on_each_task_is_clear_on_all():
    best, forest_ = said(section("one", CLEAR), section("two", CLEAR), section("three", TIED))
    name = "roberta-w64x2-1000"
    assert best == (
        f"A single best method is shown on one ({name}) and two ({name}), with Holm's correction for 3 tasks; "
        "on the other 1 task none."
    )
    assert forest_ == (
        "At least one recipe is shown to be better than forest_ecfp4 on one and two, with Holm's correction for 3 "
        "tasks; on the other 1 task none."
    )


def test_what_is_shown_on_one_task_of_several_is_not_shown_for_all_of_them():
    close = section("close", CLOSE)
    p = max(pair.p for pair in close.comparison.pairs if "roberta-w64x2-1000" in (pair.first, pair.second))
    assert 0.05 / 3 < p < 0.05
    best, forest_ = said(close)
    assert best == "A single best method is shown on close (roberta-w64x2-1000)."
    assert forest_ == "At least one recipe is shown to be better than forest_ecfp4 on close."
    best, forest_ = said(close, section("two", TIED), section("three", TIED))
    assert best == (
        "A single best method is shown on close (roberta-w64x2-1000), if it is looked at alone; "
        "on the other 2 tasks none."
    )
    assert forest_.endswith(" on close, if it is looked at alone; on the other 2 tasks none.")


@pytest.mark.parametrize(("tasks", "where"), [(1, "on the task"), (2, "on any of 2 tasks")])
def test_where_nothing_is_shown_that_is_said(tasks, where):
    best, forest_ = said(*(section(f"task {n}", TIED) for n in range(tasks)))
    assert best == f"No single best method is shown {where}."
    assert forest_.startswith("No recipe is shown to be better than forest_ecfp4")
