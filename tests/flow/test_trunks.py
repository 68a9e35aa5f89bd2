"""A real sweep of three data scales on one trunk."""

import shutil

import pytest
from flow_sweeps import NO_MLFLOW, options, shared, sweep

from chembench.paths import CachePaths
from chembench.report.rows import rows_from_state

THREE_SCALES = (
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['roberta']",
    "grid.size=['w16x1']",
    "controls.from_scratch=false",
    "controls.baselines=[]",
    "pretrain.schedule=wsd",
    "pretrain.share_trunk=true",
    "finetune={method='linear_probe', learning_rate=0.01, max_epochs=1}",
    "search.sampler=grid",
    "search.trials=1",
    "confirm.rescore_seeds=0",
    "confirm.head_seeds=1",
)


@pytest.fixture(scope="module")
def trunk(common):
    def make(place):
        given = ["--space", "full_grid_tiny", *options(*THREE_SCALES), "--runner", "serial", *NO_MLFLOW]
        return {"trunk": sweep(place, place / "cache", "trunk", given)}

    return shared(common, "trunk", make)["trunk"]


def test_scales_on_a_trunk_are_pre_trained_for_less_and_repeated_to_the_last_digit(trunk):
    assert trunk.status == 0, trunk.err
    state = trunk.view.state()
    rows = {row.molecules: row for row in rows_from_state(state) if row.kind == "pretrain"}
    assert {row.trunk for row in rows.values()} == {rows[64].uid}
    assert [rows[scale].continues for scale in (64, 128, 192)] == [None, rows[64].uid, rows[128].uid]
    assert [rows[scale].molecules_seen for scale in (64, 128, 192)] == [64, 128 - 32, 192 - 96]
    cache = CachePaths(trunk.cache)
    for row in rows.values():
        shutil.rmtree(cache.pretrained(row.uid))
    confirm = next(i.uid for i in state.items.values() if i.kind == "confirm" and i.cell.molecules == 192)
    assert trunk.view.trial(confirm).rerun().verdict == "equal", "all three are made again first"
    assert trunk.view.trial(rows[128].uid).rerun().verdict == "equal"
