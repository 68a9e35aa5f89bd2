import pytest

from chembench import api
from chembench.forecast import plan_text


@pytest.fixture(scope="module")
def quickstart():
    return api.make_plan(api.load_space("quickstart"))


def test_every_cell_stands_with_its_exact_parameters(quickstart):
    lines = plan_text(quickstart, width=100).splitlines()
    for cell in (*quickstart.cells, *quickstart.control_cells):
        (line,) = [line for line in lines if line.split()[:1] == [cell.name]]
        assert line.split()[1] == f"{cell.parameters:,}"


def test_the_items_add_up_to_what_the_first_line_says(quickstart):
    text = plan_text(quickstart, width=100)
    assert f" {sum(quickstart.items.values())} items" in text.splitlines()[0]
    assert all(f"\n{kind.ljust(8)}  {count}\n" in text + "\n" for kind, count in quickstart.items.items())


def test_an_adaptive_space_gives_upper_bounds_and_the_cells_in_reach():
    plan = api.make_plan(api.load_space("full_adaptive_tiny"))
    text = plan_text(plan, width=100)
    assert plan.cells == ()
    assert f"{len(plan.candidate_cells)} cells in reach of the sampler" in text
    assert f"at most {plan.total_items} items" in text


def test_a_cell_that_cannot_be_built_is_told_with_its_reason(quickstart):
    plan = quickstart.model_copy(update={"infeasible": ({"cell": "bart-x-1", "reason": "too small"},)})
    assert "not feasible: bart-x-1: too small" in plan_text(plan, width=100)
    assert "not feasible" not in plan_text(quickstart, width=100)
