import pytest
from report_rows import pretraining, scored

from chembench.report.pretrain_board import pretrain_board


def test_losses_are_averaged_over_pretraining_seeds_and_sorted():
    rows = [
        pretraining("a", 0.4, 0),
        pretraining("b", 0.6, 1),
        pretraining("c", 0.3, 0, molecules=4000),
        scored("t", 1.0),
    ]
    board = pretrain_board(reversed(rows), "s")
    assert [entry.method for entry in board.entries] == ["roberta-w64x2-4000", "roberta-w64x2-1000"]
    one, two = board.entries
    assert (two.loss.mean, two.loss.n, two.device_hours) == (0.5, 2, 4.0)
    assert two.loss.high - 0.5 == pytest.approx(12.706204736432095 * 0.1)
    assert (one.loss.low, one.loss.n) == (None, 1)
    assert (one.parameters, one.epochs, one.molecules_seen) == (105_000, 3.0, 12_000)
    assert board == pretrain_board(rows, "s")


def test_a_model_that_lost_a_seed_is_listed_apart():
    lost = pretraining("b", 0.0, 1, status="failed", cause="nan").model_copy(update={"metrics": {}})
    board = pretrain_board([pretraining("a", 0.4), lost], "s")
    assert board.entries == ()
    (line,) = board.incomplete
    assert (line.method, line.done, line.expected) == ("roberta-w64x2-1000", 1, 2)
    assert line.reason == "1 failed (nan), 1 finished"


def test_settings_that_the_grid_varies_are_lines_of_their_own():
    rows = [pretraining(str(rate), rate, settings={"pretrain.learning_rate": rate}) for rate in (0.1, 0.2)]
    assert [entry.method for entry in pretrain_board(rows, "s").entries] == [
        "roberta-w64x2-1000+learning_rate=0.1",
        "roberta-w64x2-1000+learning_rate=0.2",
    ]


def test_models_of_different_corpora_are_not_averaged():
    rows = [pretraining("a", 0.4, data="one"), pretraining("b", 0.6, data="two")]
    assert [entry.loss.n for entry in pretrain_board(rows, "s").entries] == [1, 1]
