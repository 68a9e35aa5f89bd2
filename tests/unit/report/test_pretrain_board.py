import pytest
from report_rows import pretraining, scored, whole_state

from chembench.models.sizes import flops_per_token
from chembench.report.columns import records, shown
from chembench.report.pretrain_board import pretrain_board
from chembench.report.rows import rows_from_state
from chembench.report.spent import spent_on


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


def on_trunk():
    """Two scales on one trunk for each of two seeds."""
    rows = []
    for seed in (0, 1):
        small, large = f"s{seed}", f"l{seed}"
        rows.append(pretraining(small, 0.5, seed, trunk=small, molecules_shared=0, molecules_seen=1000))
        shared = {"molecules_shared": 900, "molecules_seen": 1100, "device_hours": 3.0}
        rows.append(pretraining(large, 0.4, seed, molecules=2000, trunk=small, continues=small, **shared))
    return rows


def test_a_scale_shows_its_own_cost_and_beside_it_that_of_the_trunk():
    large, small = pretrain_board(on_trunk(), "s").entries
    assert (large.continues, large.molecules_seen, large.molecules_shared) == ("roberta-w64x2-1000", 1100, 900)
    assert (large.device_hours, large.trunk_device_hours) == (6.0, 4.0)
    assert (small.continues, small.molecules_shared, small.trunk_device_hours) == (None, 0, None)
    board = pretrain_board(on_trunk(), "s")
    titles = [column.title for column in shown(board)]
    assert titles[-2:] == ["molecules\nof trunk", "dev.-hours\nof trunk"]
    assert records(board)[0]["continues"] == "roberta-w64x2-1000"
    assert not {"molecules\nof trunk"} & {c.title for c in shown(pretrain_board([pretraining("a", 0.4)], "s"))}


def test_what_a_cell_cost_to_pre_train_has_its_trunk_in_it():
    pretrainings = {row.uid: row for row in on_trunk()}
    tuned = [scored("t", 1.0, pretrain_uid="l0"), scored("u", 1.0, pretrain_uid="l0")]
    spent = spent_on(tuned[0].method, tuned, tuned, pretrainings)
    assert spent.pretrain_device_hours == 3.0 + 2.0


def test_operations_are_those_of_every_molecule_behind_a_model_its_trunk_too():
    state = whole_state()
    rows = {row.uid: row for row in rows_from_state(state) if row.kind == "pretrain"}
    for uid, row in rows.items():
        spec = state.items[uid].spec
        a_molecule = 45 * flops_per_token(spec.model, spec.outputs, 45)
        assert row.pretrain_flops == pytest.approx(a_molecule * row.epochs * spec.molecules)
    assert rows
    shared = [row.model_copy(update={"pretrain_flops": 2e9 if row.continues else 1e9}) for row in on_trunk()]
    large, small = pretrain_board(shared, "s").entries
    assert (large.pretrain_flops, small.pretrain_flops) == (2e9, 1e9)
    assert records(pretrain_board(shared, "s"))[0]["pretrain_flops"] == 2e9
