"""Ray Tune and the serial runner give the same sweep; only what is measured differs."""

import itertools

import pytest
from flow_sweeps import assert_same, results


@pytest.mark.parametrize("space", ["full_grid_tiny", "full_adaptive_tiny"])
def test_ray_and_serial_ask_measure_choose_and_rank_alike(space, ray, serial):
    assert_same(ray[space].view, serial[space].view)


@pytest.mark.parametrize("space", ["full_grid_tiny", "full_adaptive_tiny"])
def test_every_item_was_finished_by_both(space, ray, serial):
    for swept in (ray[space], serial[space]):
        assert swept.view.status().finished
        assert {found["status"] for found in results(swept.view).values()} <= {"finished", "pruned"}


def test_the_grid_has_18_cells_and_6_controls_with_every_item(serial):
    counts = {kind: sum(n.values()) for kind, n in serial["full_grid_tiny"].view.status().counts.items()}
    assert counts == {"pretrain": 18, "search": 96, "rescore": 96, "confirm": 96, "baseline": 10}


def test_both_runners_trained_for_themselves(ray, serial):
    for swept in (ray["full_grid_tiny"], serial["full_grid_tiny"]):
        pretrained = [item for item in swept.view.state().items.values() if item.kind == "pretrain"]
        assert len(pretrained) == 18
        assert not any(item.outcome.measured["reused"] for item in pretrained)


def test_more_than_one_worker_was_at_work_under_ray(ray):
    spans = sorted(
        (item.outcome.measured["started_at"], item.outcome.measured["ended_at"])
        for item in ray["full_grid_tiny"].view.state().items.values()
    )
    assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def test_ray_was_warm(ray):
    """An actor that starts anew imports for seconds; the median item of the grid takes a fraction of one."""
    walls = sorted(item.outcome.measured["wall_seconds"] for item in ray["full_grid_tiny"].view.state().items.values())
    assert walls[len(walls) // 2] < 1.0
