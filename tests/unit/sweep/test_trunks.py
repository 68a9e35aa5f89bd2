"""Scales on one trunk: what continues what, in which order, and what becomes of it when something fails or is lost."""

from pathlib import Path

import pytest
from sweep_fakes import (
    Killed,
    drive,
    engine_on,
    essence,
    failed,
    finished,
    grid_space,
    of_kind,
    opened,
    paths_in,
    prepared_for,
    retried,
    swept,
)

from chembench.errors import ConfigError
from chembench.paths import CachePaths
from chembench.register import needs_of
from chembench.report.rows import rows_from_state
from chembench.sweep.ledger import read_state
from chembench.sweep.merge import merge_sweeps
from chembench.sweep.plan import make_plan, share_of
from chembench.sweep.plugin import Engine
from chembench.sweep.progress import failures_of
from chembench.sweep.resolve import Resolver
from chembench.sweep.shard import Shard
from chembench.training.schedule import shared_molecules

TRUNK = {"epochs": 1, "learning_rate": 1e-3, "schedule": "wsd", "share_trunk": True, "batch_size": 4}
SCALES = [20, 40, 60]


def trunk_space(**changes):
    defaults = {"pretrain": TRUNK, "grid__molecules": SCALES, "grid__architecture": ["roberta"]}
    defaults |= {"tasks": ["freewilson_pic50"], "search__replacements": 0}
    return grid_space(**(defaults | changes))


def pretrainings(state):
    """Items of kind pretrain by their scale."""
    return {item.spec.molecules: item for item in state.items.values() if item.kind == "pretrain"}


def failed_items(state):
    """Items that failed."""
    return [item for item in state.items.values() if item.status == "failed"]


class Checkpoints:
    """A cache in which a finished pre-training lies until it is lost."""

    def __init__(self):
        self.there = set()

    def run(self, work):
        if work.kind == "pretrain":
            assert work.spec.continues is None or work.spec.continues in self.there, "its trunk is not there"
            self.there.add(work.uid)
        elif work.kind != "baseline" and work.spec.pretrained:
            assert work.spec.pretrained in self.there, "its checkpoint is not there"
        return finished(work)

    def engine(self, space, ledger):
        cache = CachePaths(Path("/cache"))
        return Engine(space, prepared_for(space), cache, ledger, has_checkpoint=self.there.__contains__)


def test_each_scale_continues_the_next_smaller_one_and_all_have_its_warm_up(tmp_path):
    state, works = swept(trunk_space(), tmp_path)
    chain = pretrainings(state)
    assert [chain[scale].spec.continues for scale in SCALES] == [None, chain[20].uid, chain[40].uid]
    assert {item.spec.warmup_steps for item in chain.values()} == {round(0.06 * 5)}
    order = [work.spec.molecules for work in of_kind(works, "pretrain")]
    assert order == SCALES
    assert [work.inputs.trunk for work in of_kind(works, "pretrain")] == [
        None,
        f"/cache/pretrained/{chain[20].uid}",
        f"/cache/pretrained/{chain[40].uid}",
    ]


def test_with_any_number_in_flight_a_scale_waits_for_the_one_it_continues(tmp_path):
    one, _ = swept(trunk_space(), tmp_path / "one")
    checkpoints = Checkpoints()
    with opened(trunk_space(), tmp_path / "many") as ledger:
        drive(checkpoints.engine(trunk_space(), ledger), checkpoints.run, in_flight=8, seed=3)
        assert essence(ledger.state) == essence(one)


def test_every_learning_rate_and_architecture_has_a_trunk_of_its_own(tmp_path):
    space = trunk_space(
        pretrain={key: value for key, value in TRUNK.items() if key != "learning_rate"},
        grid__architecture=["roberta", "llama"],
        grid__pretrain={"learning_rate": [1e-3, 2e-3]},
        search__trials=1,
    )
    state, _ = swept(space, tmp_path)
    trunks = {row.trunk for row in rows_from_state(state) if row.kind == "pretrain"}
    assert len(trunks) == 4
    for item in state.items.values():
        if item.kind == "pretrain" and item.spec.continues:
            below = state.items[item.spec.continues].spec
            assert (below.learning_rate, below.model) == (item.spec.learning_rate, item.spec.model)


def test_a_cosine_beside_a_trunk_is_named_as_it_always_was(tmp_path):
    both = trunk_space(
        pretrain={key: value for key, value in TRUNK.items() if key != "schedule"},
        grid__pretrain={"schedule": ["cosine", "wsd"]},
        search__trials=1,
    )
    alone = trunk_space(pretrain={key: TRUNK[key] for key in ("epochs", "learning_rate", "batch_size")})
    state, _ = swept(both, tmp_path / "both")
    before, _ = swept(alone, tmp_path / "alone")
    cosines = {uid for uid, item in state.items.items() if item.kind == "pretrain" and item.spec.schedule == "cosine"}
    assert cosines == {item.uid for item in pretrainings(before).values()}


def test_rows_tell_which_pre_trainings_share_a_trunk_and_count_each_molecule_once(tmp_path):
    def run(work):
        outcome = finished(work)
        if work.kind != "pretrain":
            return outcome
        below = {20: 0, 40: 16, 60: 36}[work.spec.molecules]
        return outcome.model_copy(
            update={"metrics": {"valid/loss": 0.5, "epochs": 1.0}, "facts": {"molecules_shared": below}}
        )

    state, _ = swept(trunk_space(), tmp_path, run)
    chain = pretrainings(state)
    rows = {row.uid: row for row in rows_from_state(state)}
    assert {row.trunk for row in rows.values() if row.kind != "baseline" and row.molecules} == {chain[20].uid}
    assert {row.trunk for row in rows.values() if row.molecules in (0, None)} == {None}
    own = [rows[chain[scale].uid] for scale in SCALES]
    assert [row.continues for row in own] == [None, chain[20].uid, chain[40].uid]
    assert [row.molecules_seen for row in own] == [20, 24, 24]
    assert [row.molecules_shared for row in own] == [0, 16, 36]
    assert [shared_molecules(chain[scale].spec) for scale in (20, 40)] == [16, 36]


def test_a_scale_whose_trunk_failed_fails_with_a_sentence_and_all_are_retried_together(tmp_path):
    def run(work):
        return failed(work, "oom") if work.kind == "pretrain" and work.spec.molecules == 20 else finished(work)

    space = trunk_space()
    state, works = swept(space, tmp_path, run)
    chain = pretrainings(state)
    assert [work.spec.molecules for work in of_kind(works, "pretrain")] == [20]
    assert {item.status for item in chain.values()} == {"failed"}
    assert chain[40].outcome.message == f"the pre-training {chain[20].uid} that it continues failed: it broke: oom"
    assert (chain[60].failed_with, chain[40].failed_with, chain[20].failed_with) == (
        chain[40].uid,
        chain[20].uid,
        None,
    )
    told = failures_of(state)
    assert [(one.first, one.count, one.followers) for one in told] == [(chain[20].uid, 1, len(failed_items(state)) - 1)]
    after, again, _ = retried(space, tmp_path, uids=[chain[60].uid])
    assert {item.uid for item in chain.values()} <= set(again)
    assert essence(after) == essence(swept(space, tmp_path / "undisturbed")[0])


def test_a_driver_killed_at_any_event_goes_on_to_the_same_end(tmp_path):
    space = trunk_space(search__trials=1, controls={"from_scratch": False, "baselines": []})
    whole, _ = swept(space, tmp_path / "whole")
    for left in range(whole.events - 1):
        with opened(space, tmp_path / str(left), left=left) as ledger, pytest.raises(Killed):
            drive(engine_on(space, ledger))
        assert essence(swept(space, tmp_path / str(left))[0]) == essence(whole)


@pytest.mark.parametrize("lost", [(60,), (40,), (20, 40), (20, 40, 60)])
def test_what_was_deleted_is_made_again_from_the_smallest_scale_that_is_needed(tmp_path, lost):
    checkpoints, space = Checkpoints(), trunk_space()
    with opened(space, tmp_path) as ledger:
        drive(checkpoints.engine(space, ledger), checkpoints.run)
        chain = pretrainings(ledger.state)
    checkpoints.there -= {chain[scale].uid for scale in lost}
    more = trunk_space(confirm__head_seeds=3)
    with opened(more, tmp_path) as ledger:
        works = drive(checkpoints.engine(more, ledger), checkpoints.run, in_flight=4, seed=1)
        assert all(not item.is_left for item in ledger.state.items.values())
    made = [work.spec.molecules for work in of_kind(works, "pretrain")]
    assert sorted(made) == list(lost), "each once"


def test_a_trunk_that_cannot_be_made_again_fails_what_stands_on_it(tmp_path):
    checkpoints, space = Checkpoints(), trunk_space()
    with opened(space, tmp_path) as ledger:
        drive(checkpoints.engine(space, ledger), checkpoints.run)
        chain = pretrainings(ledger.state)
    checkpoints.there.clear()
    more = trunk_space(confirm__head_seeds=3)
    with opened(more, tmp_path) as ledger:
        drive(checkpoints.engine(more, ledger), failed)
        again = pretrainings(ledger.state)
        assert {item.status for item in again.values()} == {"failed"}
        assert again[60].failed_with == chain[40].uid
        assert all(not item.is_left for item in ledger.state.items.values())


def test_a_checkpoint_stays_as_long_as_a_scale_has_to_continue_it(tmp_path):
    space = trunk_space(controls={"from_scratch": False, "baselines": []})
    with opened(space, tmp_path) as ledger:
        engine = engine_on(space, ledger)
        while (work := engine.ask()).kind != "pretrain" or work.spec.molecules != 40:
            engine.tell(finished(work) if work.kind == "pretrain" else failed(work))
        chain = pretrainings(ledger.state)
        why = needs_of(ledger.state).checkpoints
        assert why[chain[20].uid] == f"pretrain {chain[40].uid} continues it and has not ended"
        engine.tell(finished(work))
        drive(engine)
        kept = needs_of(ledger.state).checkpoints
        assert all(text.startswith("of the model that is winner") for text in kept.values())


def test_a_trunk_and_its_branches_lie_on_one_shard(tmp_path):
    space = trunk_space(grid__architecture=["roberta", "llama", "bart"], controls__from_scratch=False)
    held = [share_of(space, Shard(index, 3))[0] for index in (1, 2, 3)]
    assert sorted(len(cells) for cells in held) == [3, 3, 3]
    assert [len({name.partition("-")[0] for name in cells}) for cells in held] == [1, 1, 1]
    for index in (1, 2, 3):
        state, _ = swept(space, tmp_path / str(index), shard=Shard(index, 3))
        assert {item.cell.name for item in state.items.values() if item.kind == "search"} == set(held[index - 1])
        assert len(pretrainings(state)) == 3


def test_shards_are_merged_into_the_sweep_that_was_driven_whole(tmp_path):
    space = trunk_space(grid__architecture=["roberta", "llama"], search__trials=1)
    for index in (1, 2):
        swept(space, tmp_path / str(index), shard=Shard(index, 2))
    merge_sweeps([paths_in(tmp_path / str(index)) for index in (1, 2)], paths_in(tmp_path / "both"), lambda line: None)
    state = read_state(paths_in(tmp_path / "both"))
    whole, _ = swept(space, tmp_path / "whole")
    assert essence(state)["items"] == essence(whole)["items"]
    trunks = {row.uid: row.trunk for row in rows_from_state(state)}
    assert trunks == {row.uid: row.trunk for row in rows_from_state(whole)} and any(trunks.values())


def test_three_scales_on_a_trunk_cost_33_million_passes_in_place_of_60():
    scales = [10_000_000, 20_000_000, 30_000_000]
    wsd = {"epochs": 1, "learning_rate": 1e-3, "schedule": "wsd"}
    alone = make_plan(trunk_space(grid__molecules=scales, pretrain=wsd))
    shared = make_plan(trunk_space(grid__molecules=scales, pretrain=wsd | {"share_trunk": True}))
    assert alone.molecule_passes == 60_000_000
    assert shared.molecule_passes == pytest.approx(33_000_000, rel=1e-4)
    assert shared.items == alone.items
    assert shared.pretrain_flops / alone.pretrain_flops == pytest.approx(33 / 60, rel=1e-4)
    assert shared.disk_gb > alone.disk_gb, "the state before the decay is kept"
    own = {cell.molecules: (cell.passes, cell.shared) for cell in shared.cells}
    assert own[10_000_000] == (10_000_000, 0)
    assert all(passes + taken_over == scale for scale, (passes, taken_over) in own.items())


def test_the_plan_and_the_specifications_agree_on_what_is_shared(tmp_path):
    space = trunk_space()
    resolver = Resolver(space, prepared_for(space), CachePaths(tmp_path))
    for cell in make_plan(space).cells:
        chain = resolver.lineage(cell.cell, 0)
        assert cell.shared == (shared_molecules(chain[-2]) if len(chain) > 1 else 0)


def test_an_adaptive_space_brings_the_smaller_scales_along(tmp_path):
    model = {"architecture": "roberta", "size": "w32x1", "molecules": {"choice": [0, *SCALES]}}
    space = trunk_space(grid=None, grid__molecules=None, grid__architecture=None, model=model)
    state, _ = swept(space, tmp_path)
    asked = {item.cell.molecules for item in state.items.values() if item.kind == "search"}
    assert set(pretrainings(state)) == {scale for scale in SCALES if scale <= max(asked)}
    assert len(pretrainings(state)) <= make_plan(space).items["pretrain"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedule": "cosine"}, r"'share_trunk' says something of the schedule wsd alone, none is \(roberta\); set"),
        ({"epochs": 2}, r"scales share a trunk in one pass over nested molecules, got epochs = 2; set epochs = 1"),
        ({"epochs": None, "steps": 100}, r"scales share a trunk in one pass over nested molecules, got steps = 100"),
        ({"keep_every_epoch": True}, r"one pass over a shared trunk has no earlier epoch to keep; drop keep_every_"),
        ({"decay_fraction": 0.0}, r"pretrain.decay_fraction: input should be greater than 0, got 0.0"),
        ({"decay_fraction": 1.0}, r"pretrain.decay_fraction: input should be less than 1, got 1.0"),
        (
            {"decay_fraction": 0.96},
            r"warmup_fraction \+ decay_fraction must be at most 1, got 0.06 \+ 0.96",
        ),
        ({"schedule": "linear"}, r"input should be 'cosine' or 'wsd', got 'linear'"),
    ],
)
def test_what_does_not_go_with_a_trunk_is_told_in_a_sentence(changes, told):
    fields = {key: value for key, value in (TRUNK | changes).items() if value is not None}
    with pytest.raises(ConfigError, match=told):
        trunk_space(pretrain=fields)


def test_an_axis_of_the_grid_that_breaks_a_trunk_is_told_too():
    without = {key: value for key, value in TRUNK.items() if key != "epochs"}
    with pytest.raises(ConfigError, match=r"scales share a trunk in one pass over nested molecules, got epochs = 3"):
        trunk_space(pretrain=without, grid__pretrain={"epochs": [1, 3]})


def test_decay_without_wsd_is_refused():
    fields = {"epochs": 1, "learning_rate": 1e-3, "decay_fraction": 0.2}
    with pytest.raises(ConfigError, match=r"'decay_fraction' says something of the schedule wsd alone"):
        trunk_space(pretrain=fields)
