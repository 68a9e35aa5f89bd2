"""The forecast of a sweep: exact where it can be, and said where it is a bound."""

from collections import Counter

import pytest
from sweep_fakes import ADAPTIVE_MODEL, adaptive_space, changed, grid_space, swept

from chembench.errors import ConfigError
from chembench.sweep.cells import control_cells, grid_cells
from chembench.sweep.plan import make_plan
from chembench.sweep.reading import read_space


@pytest.fixture(scope="module")
def full_grid():
    return make_plan(read_space("full_grid"))


def test_full_grid_has_18_cells_and_6_control_cells(full_grid):
    assert len(full_grid.cells) == 18 and len(full_grid.control_cells) == 6
    cells = {(c.architecture, c.size, c.molecules) for c in full_grid.cells}
    architectures, sizes, molecules = ("roberta", "bart", "llama"), ("13M", "30M"), (10**7, 2 * 10**7, 3 * 10**7)
    assert cells == {(a, s, m) for a in architectures for s in sizes for m in molecules}
    assert {(c.architecture, c.size, c.molecules) for c in full_grid.control_cells} == {
        (a, s, 0) for a in architectures for s in sizes
    }


def test_the_paper_space_has_the_papers_parameter_counts():
    plan = make_plan(read_space("paper_2405_00949"))
    assert {(c.architecture, c.size): c.parameters for c in plan.cells} == {
        ("roberta", "13M"): 12_872_995,
        ("roberta", "30M"): 29_303_913,
        ("bart", "13M"): 13_570_857,
        ("bart", "30M"): 29_698_665,
        ("llama", "13M"): 13_204_305,
        ("llama", "30M"): 29_447_529,
    }
    assert plan.items == {"pretrain": 18, "search": 108, "rescore": 0, "confirm": 540, "baseline": 66}


def test_full_grid_counts_its_items(full_grid):
    units = 6 * (18 + 6)
    assert full_grid.items == {
        "pretrain": 18 * 3,
        "search": units * 24,
        "rescore": units * 3 * 3,
        "confirm": units * 3 * 5,
        "baseline": 6 * (5 + 5 + 1),
    }


def test_an_adaptive_plan_has_no_cells_and_bounds_what_the_sampler_may_demand(tmp_path):
    plan = make_plan(read_space("full_adaptive"))
    assert plan.adaptive and plan.cells == () and plan.control_cells == () and len(plan.candidate_cells) == 24
    assert plan.items["pretrain"] == 18 * 3 and plan.items["search"] == 6 * 120
    assert any(note.startswith("adaptive: counts and costs are upper bounds") for note in plan.notes)
    space = adaptive_space(confirm__pretrain_seeds=2)
    ran = Counter(item.kind for item in swept(space, tmp_path)[0].items.values())
    assert all(ran[kind] <= bound for kind, bound in make_plan(space).items.items())


def test_a_plan_is_the_same_data_twice_and_fits_json(full_grid):
    import json

    data = full_grid.as_data()
    assert json.loads(json.dumps(data)) == data == make_plan(read_space("full_grid")).as_data()
    assert data["total_items"] == sum(full_grid.items.values()) and len(data["cells"]) == 18


def test_a_missing_corpus_is_a_line_of_the_plan(full_grid):
    assert any(note.startswith("corpus: ") and "corpus/*.smi.gz" in note for note in full_grid.notes)
    assert not any(note.startswith("corpus: ") for note in make_plan(read_space("quickstart")).notes)


def test_an_infeasible_cell_is_listed_with_its_reason_and_left_out():
    plan = make_plan(grid_space(grid__size=["w32x1", "w33x1"]))
    assert {row["cell"] for row in plan.infeasible} == {"llama-w33x1-20", "llama-w33x1-40", "llama-w33x1-scratch"}
    assert all("rotary positions need heads of even width, got 33" in row["reason"] for row in plan.infeasible)
    assert len(plan.cells) == 6 and len(plan.control_cells) == 3


def test_a_space_without_a_cell_that_can_be_built_is_refused():
    space = grid_space(grid__architecture=["llama"], grid__size=["w33x1"])
    with pytest.raises(ConfigError, match=r"no cell of space 'space' can be built(.|\n)*llama-w33x1-20: rotary"):
        make_plan(space)


def test_cells_that_share_a_pre_training_are_charged_for_it_once():
    one = make_plan(grid_space())
    two = make_plan(grid_space(finetune__max_epochs=None, grid__finetune={"max_epochs": [2, 3]}))
    assert len(two.cells) == 2 * len(one.cells) and two.items["pretrain"] == one.items["pretrain"] == 4
    assert two.pretrain_flops == one.pretrain_flops > 0


def test_twice_the_epochs_cost_twice_the_pre_training_and_steps_do_not_grow_with_molecules():
    def costs(**fields):
        space = grid_space(pretrain={"learning_rate": 1e-3, **fields}, grid__architecture=["bart"])
        return {cell.molecules: cell.pretrain_flops for cell in make_plan(space).cells}

    assert costs(epochs=2) == {m: 2 * flops for m, flops in costs(epochs=1).items()}
    assert costs(epochs=1)[40] == 2 * costs(epochs=1)[20]
    assert costs(steps=10)[40] == costs(steps=10)[20] > 0


def test_cells_are_shuffled_by_the_seed_and_by_nothing_else():
    orders = [[c.name for c in grid_cells(read_space("full_grid", [f"seed={seed}"]))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != sorted(orders[0])


def test_half_a_grid_is_a_balanced_sample():
    half = grid_cells(read_space("full_grid"))[:9]
    for axis in ("architecture", "size", "molecules"):
        assert len({getattr(cell, axis) for cell in half}) == len(
            {getattr(cell, axis) for cell in grid_cells(read_space("full_grid"))}
        )


def test_the_order_of_the_axes_in_the_file_does_not_matter():
    turned = grid_space(grid={"molecules": [40, 20], "size": ["w32x1"], "architecture": ["llama", "roberta"]})
    assert grid_cells(turned) == grid_cells(grid_space())


def test_without_controls_there_are_none():
    assert control_cells(grid_space(controls__from_scratch=False)) == []
    assert control_cells(adaptive_space()) == []


def test_an_adaptive_space_with_fixed_axes_reaches_the_cells_of_its_choices():
    space = adaptive_space(model=changed(ADAPTIVE_MODEL, architecture="bart"))
    assert {cell.name for cell in grid_cells(space)} == {f"bart-w32x1-{m}" for m in ("scratch", 20, 40, 60)}
