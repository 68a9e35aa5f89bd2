"""What a run should look like, without MLflow."""

import pytest
from tracked_sweep import CONFIRM, PRETRAIN, RUNNING, SEARCH, seven_items, trial

from chembench.specs import FinetuneSpec
from chembench.sweep.ledger import read_state
from chembench.sweep.state import ItemRecord
from chembench.tracking import spool


@pytest.fixture
def by_uid(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    state = read_state(sweep.paths)
    return {record.uid: record for record in spool.records(state, sweep.paths, final=False)}


def test_a_record_is_the_same_whenever_it_is_made(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    first, second = (list(spool.records(read_state(sweep.paths), sweep.paths, final=False)) for _ in range(2))
    assert first == second


def test_pre_training_comes_first_for_others_link_to_it(by_uid):
    assert next(iter(by_uid)) == PRETRAIN.digest
    assert by_uid[SEARCH.digest].pretrained == PRETRAIN.digest


def test_an_item_that_waits_has_no_record(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    waiting = trial("rescore")
    sweep.add(waiting)
    assert waiting.digest not in {r.uid for r in spool.records(read_state(sweep.paths), sweep.paths, final=False)}


def test_a_line_that_is_being_written_is_left_out(by_uid):
    record = by_uid[RUNNING.digest]
    with record.curves.open("a") as file:
        file.write('{"epoch": 2, "at": 1.0, "objective": 0.5}\n{"epoch": 3, "at"')
    assert [point.epoch for point in spool.points_of(record)] == [1, 2]


def test_only_known_finite_scores_are_shown(by_uid):
    record = by_uid[RUNNING.digest]
    record.curves.write_text('{"epoch": 1, "at": 2e9, "objective": 0.5, "valid/rmse": null, "valid/x": 1}\n')
    (point,) = spool.points_of(record)
    assert point.values == {"valid/objective": 0.5}
    assert point.at_ms == 2e12


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_no_run_has_more_than_twenty_metrics_and_a_hundred_parameters(kind):
    names = [f"{part}/{name}" for part in ("valid", "test") for name in spool.SCORES[kind]]
    outcome = {name: 1.0 for name in [*names, "valid/loss", "objective", "best_epoch", "epochs", "anything"]}
    item = ItemRecord("u", trial("confirm", task_kind=kind), None, {}, 1, status="finished")
    item.outcome = _outcome(item, outcome)
    final = spool._final_metrics(item, kind)
    per_epoch = {"train/loss", "valid/loss", "valid/objective"} | {f"valid/{name}" for name in spool.SCORES[kind]}
    assert len(final.keys() | per_epoch) <= spool.MAX_METRIC_KEYS
    assert len(spool._text(spool._params(item))) <= spool.MAX_PARAMS


def _outcome(item, metrics):
    from chembench.specs import Outcome

    measured = {"wall_seconds": 1.0, "device_hours": 1.0, "peak_memory_mib": 1.0, "molecules_seen": 5}
    return Outcome(uid="u", attempt=1, kind=item.kind, status="finished", metrics=metrics, measured=measured)


def test_every_field_of_a_recipe_is_a_parameter(by_uid):
    params = by_uid[CONFIRM.digest].params
    given = {name for name, value in CONFIRM.finetune.model_dump().items() if value is not None}
    assert {f"finetune.{name}" for name in given} <= params.keys()
    assert given == FinetuneSpec.model_fields.keys() - {"patience"}
    assert params["finetune.class_weights"] == "false"


def test_boards_go_to_the_experiment_they_are_named_after(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    sweep.paths.leaderboards.mkdir()
    for name in ("regression.md", "classification.csv", "pretraining.md", "rows.csv", "regression.json", "notes.txt"):
        (sweep.paths.leaderboards / name).write_text(name)
    named = {group: [f.name for f in spool.boards(sweep.paths, group)] for group in spool.SCORES}
    assert named == {
        "pretrain": ["pretraining.md", "rows.csv"],
        "regression": ["regression.md", "rows.csv"],
        "classification": ["classification.csv", "rows.csv"],
    }
    before = spool.digest_of_files(spool.boards(sweep.paths, "regression"))
    (sweep.paths.leaderboards / "regression.md").write_text("changed")
    assert spool.digest_of_files(spool.boards(sweep.paths, "regression")) != before


def test_a_scale_that_continues_a_trunk_names_it_and_links_to_it(tmp_path):
    sweep = seven_items(tmp_path / "tiny")
    sharing = {"schedule": "wsd", "share_trunk": True, "epochs": 1}
    small = PRETRAIN.model_copy(update=sharing)
    large = small.model_copy(update={"molecules": 128, "continues": small.digest})
    for spec in (small, large):
        sweep.add(spec, pretrain_seed=0)
        sweep.start(spec)
    made = {record.uid: record for record in spool.records(read_state(sweep.paths), sweep.paths, final=False)}
    record = made[large.digest]
    assert record.tags["chembench.continues"] == record.params["continues"] == record.pretrained == small.digest
    assert made[small.digest].pretrained is None and "chembench.continues" not in made[small.digest].tags
    order = list(made)
    assert order.index(small.digest) < order.index(large.digest)
