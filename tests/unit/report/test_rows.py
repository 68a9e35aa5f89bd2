import csv
import io
import json

import pytest
from pydantic import ValidationError
from report_rows import RECIPE, pretraining, row, scored, whole_state

from chembench.report.rows import ResultRow, rows_as_csv, rows_as_json, rows_from_state
from chembench.specs import FinetuneSpec


@pytest.fixture(scope="module")
def state():
    return whole_state()


@pytest.fixture(scope="module")
def rows(state):
    return rows_from_state(state)


def test_every_item_becomes_one_row(state, rows):
    assert sorted(row.uid for row in rows) == sorted(state.items)


def test_a_confirm_row_says_what_was_run_and_what_came_out(rows):
    found = next(r for r in rows if r.kind == "confirm" and r.task == "delaney" and r.method == "roberta-w64x2-4000")
    assert (found.architecture, found.size, found.molecules, found.unit) == ("roberta", "w64x2", 4000, "log mol/L")
    assert (found.split, found.head_seed, found.pretrain_seed) == (0, 0, 0)
    assert (found.recipe, found.finetune) == (RECIPE.digest, RECIPE)
    assert found.study == "roberta-w64x2-4000/delaney"
    assert found.metrics["test_rmse"] == pytest.approx(0.618034)
    assert (found.objective, found.epochs, found.parameters) == (0.4, 5.0, 104_999)
    assert not {"objective", "epochs"} & set(found.metrics)
    assert (found.device_hours, found.peak_memory_mib, found.device) == (0.0123, 512.0, "cpu")


def test_confirm_rows_of_a_changed_recipe_say_so(state):
    record = next(r for r in state.items.values() if r.kind == "confirm")
    unit, recipe = record.labels["unit"], record.spec.finetune.digest
    state.openings = {unit: [(record.cell.name, "another"), (record.cell.name, recipe)], "other": [("c", "r")]}
    record.superseded = True
    try:
        rows = rows_from_state(state)
    finally:
        state.openings, record.superseded = {}, False
    assert [row.uid for row in rows if row.superseded] == [record.uid]
    changed = [row for row in rows if row.recipe_changed]
    assert {row.study for row in changed} == {unit} and {row.kind for row in changed} == {"confirm"}


def test_a_baseline_row_carries_its_name_and_facts(rows):
    found = next(r for r in rows if r.method == "constant" and r.task == "delaney")
    assert (found.kind, found.untuned, found.deterministic, found.architecture) == ("baseline", True, True, None)


def test_a_failed_row_keeps_its_cause(rows):
    found = [r for r in rows if r.status == "failed"]
    assert [(r.cause, r.message, r.metrics) for r in found] == [("oom", "out of memory", {})]


def test_a_waiting_item_has_no_result(state):
    record = next(iter(state.items.values()))
    outcome, status = record.outcome, record.status
    record.outcome, record.status = None, "waiting"
    try:
        found = next(r for r in rows_from_state(state) if r.uid == record.uid)
    finally:
        record.outcome, record.status = outcome, status
    assert (found.status, found.attempt, found.metrics, found.device_hours) == ("waiting", None, {}, None)


def test_a_pretraining_row_counts_what_the_model_saw(rows):
    found = next(r for r in rows if r.kind == "pretrain")
    assert (found.molecules, found.epochs, found.molecules_seen) == (4000, 3.0, 12_000)
    assert found.pretrain_uid == found.uid


def test_a_checkpoint_from_the_cache_costs_what_it_cost_when_built(state):
    record = next(r for r in state.items.values() if r.spec.kind == "pretrain")
    kept = record.outcome
    again = {"reused": True, "device_hours": 1e-6, "built": {"device_hours": 4.5}}
    record.outcome = kept.model_copy(update={"measured": again})
    try:
        found = next(r for r in rows_from_state(state) if r.uid == record.uid)
    finally:
        record.outcome = kept
    assert found.device_hours == 4.5


def test_the_order_of_items_does_not_matter(state, rows):
    state.items = dict(reversed(state.items.items()))
    assert rows_from_state(state) == rows


def test_a_row_refuses_what_it_does_not_know_and_nan():
    with pytest.raises(ValidationError, match="colour"):
        ResultRow.model_validate({**row("a").model_dump(), "colour": "red"})
    with pytest.raises(ValidationError, match="finite"):
        scored("a", float("nan"))


def test_csv_is_one_line_per_row_with_all_digits_and_fixed_columns_first():
    text = rows_as_csv([scored("b", 1 / 3), pretraining("a", 0.1)])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["uid"] for line in lines] == ["a", "b"]
    assert lines[1]["test_rmse"] == repr(1 / 3)
    assert lines[0]["test_rmse"] == ""
    assert lines[0]["valid_loss"] == "0.1"
    assert lines[1]["finetune_learning_rate"] == "0.001"
    header = text.splitlines()[0].split(",")
    assert header[:4] == ["schema_version", "uid", "attempt", "sweep"]
    assert [name for name in header if name.startswith("finetune_")] == [
        f"finetune_{n}" for n in FinetuneSpec.model_fields
    ]


def test_json_names_the_measured_columns_and_gives_the_rows_back():
    rows = [scored("b", 1 / 3), pretraining("a", 0.1)]
    document = json.loads(rows_as_json(rows))
    assert document["schema_version"] == 1
    assert set(document["measured"]) <= set(ResultRow.model_fields)
    assert "device_hours" in document["measured"]
    assert [ResultRow.model_validate(line) for line in document["rows"]] == sorted(rows, key=lambda r: r.uid)
