import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chembench.errors import ConfigError, DataError, RunError
from chembench.specs import BaselineSpec, EarlierTrial, Outcome, Rungs, Work
from chembench.training import finetune as finetune_module
from chembench.training.fitted import FittedModel
from chembench.trial import cause_of, run_item


def labels(smiles):
    return [[100.0 + 3.0 * text.count("O") - 2.0 * len(text), np.nan if "Cl" in text else len(text)] for text in smiles]


@pytest.fixture(scope="module")
def split(world):
    return world.write_split("trial", labels)


def work(spec, inputs, folder, **changes):
    fields = {"uid": spec.digest, "attempt": 1, "spec": spec, "inputs": inputs, "folder": str(folder), "sweep": "made"}
    return Work(**{**fields, **changes})


@pytest.fixture
def search(world, split, tmp_path):
    return work(world.trial_spec(targets=2), split[0], tmp_path / "trials" / "uid" / "1")


@pytest.fixture
def confirm(world, split, tmp_path):
    spec = world.trial_spec("confirm", targets=2)
    inputs = split[0].model_copy(update={"sealed": split[1]})
    return work(spec, inputs, tmp_path / "trials" / "uid" / "1", save_model=True)


def lines(folder, name="curves.jsonl"):
    return [json.loads(line) for line in (Path(folder) / name).read_text().splitlines()]


def stored(folder):
    return Outcome.model_validate_json((Path(folder) / "result.json").read_text())


def test_a_search_trial_leaves_a_whole_folder(search):
    outcome = run_item(search)
    assert outcome.status == "finished" and outcome.cause is None and outcome.kind == "search"
    assert outcome == stored(search.folder)
    assert Work.model_validate_json((Path(search.folder) / "spec.json").read_text()) == search
    curves = lines(search.folder)
    assert [line["epoch"] for line in curves] == [1, 2, 3]
    assert [line["objective"] for line in curves] == pytest.approx(outcome.objectives, rel=1e-5)
    assert {"train/loss", "valid/loss", "valid/rmse", "at"} <= curves[0].keys()
    assert {
        "wall_seconds",
        "device",
        "device_name",
        "host",
        "peak_memory_mib",
        "device_hours",
        "molecules_seen",
    } <= set(outcome.measured)
    assert outcome.measured["started_at"] <= outcome.measured["ended_at"]
    assert outcome.measured["peak_memory_mib"] > 10
    assert {"parameters", "trainable_parameters", "truncated", "undefined", "checkpoint"} <= set(outcome.facts)
    assert sorted(file.name for file in Path(search.folder).iterdir()) == [
        "curves.jsonl",
        "predictions.csv",
        "result.json",
        "spec.json",
    ]


def test_predictions_are_a_line_per_molecule_and_target(confirm, split):
    outcome = run_item(confirm)
    with (Path(confirm.folder) / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (24 + 24)
    assert {row["part"] for row in rows} == {"valid", "test"}
    assert {row["target"] for row in rows} == {"target0", "target1"}
    test = [row for row in rows if row["part"] == "test"]
    assert {int(row["row"]) for row in test} == set(range(72, 96))
    assert all((row["measured"] == "") == ("Cl" in row["smiles"] and row["target"] == "target1") for row in rows)
    errors = [float(row["predicted"]) - float(row["measured"]) for row in test if row["target"] == "target0"]
    known = [
        float(row["predicted"]) - float(row["measured"])
        for row in test
        if row["target"] == "target1" and row["measured"]
    ]
    by_hand = (np.sqrt(np.mean(np.square(errors))) + np.sqrt(np.mean(np.square(known)))) / 2
    assert outcome.metrics["test/rmse"] == pytest.approx(by_hand, rel=1e-5)


def test_a_search_trial_has_no_test_row(search):
    run_item(search)
    with (Path(search.folder) / "predictions.csv").open() as file:
        assert {row["part"] for row in csv.DictReader(file)} == {"valid"}


def test_an_attempt_that_is_over_is_never_repeated(search):
    first = run_item(search)
    (Path(search.folder) / "curves.jsonl").unlink()
    assert run_item(search) == first
    assert not (Path(search.folder) / "curves.jsonl").exists()


def test_what_a_killed_process_left_is_cleared(search):
    folder = Path(search.folder)
    folder.mkdir(parents=True)
    (folder / "curves.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    (folder / "error.txt").write_text("old")
    run_item(search)
    assert len(lines(folder)) == 3
    assert not (folder / "error.txt").exists()


def test_a_reused_process_gives_what_a_fresh_one_gives(world, split, search, tmp_path):
    run_item(work(world.trial_spec(targets=2, head_seed=7), split[0], tmp_path / "other"))
    here = run_item(search)
    elsewhere = search.model_copy(update={"folder": str(tmp_path / "elsewhere")})
    code = (
        "import sys; from chembench.specs import Work; from chembench.trial import run_item\n"
        "run_item(Work.model_validate_json(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, elsewhere.model_dump_json()], check=True, capture_output=True)
    there = stored(tmp_path / "elsewhere")
    assert (here.metrics, here.objectives, here.facts) == (there.metrics, there.objectives, there.facts)
    texts = [(Path(folder) / "predictions.csv").read_bytes() for folder in (search.folder, elsewhere.folder)]
    assert texts[0] == texts[1]


def test_a_pruner_stops_a_search_trial(search):
    earlier = tuple(EarlierTrial(ordinal=k, status="finished", objectives=(1e-6, 1e-6, 1e-6)) for k in range(3))
    rungs = Rungs(pruner="median", options={"n_startup_trials": 1}, study="s", earlier=earlier)
    outcome = run_item(search.model_copy(update={"rungs": rungs}))
    assert outcome.status == "pruned" and outcome.cause is None
    assert outcome.message == "stopped by pruner 'median' after epoch 1"
    assert len(outcome.objectives) == 1 and outcome.metrics["epochs"] == 1
    assert not (Path(search.folder) / "predictions.csv").exists()


def test_confirm_trials_are_never_pruned(confirm):
    rungs = Rungs(pruner="threshold", options={"upper": 0.0}, study="s")
    assert run_item(confirm.model_copy(update={"rungs": rungs})).status == "finished"


def test_an_item_that_raises_is_failed_with_its_traceback(search):
    outcome = run_item(search.model_copy(update={"inputs": search.inputs.model_copy(update={"tokenizer": None})}))
    assert (outcome.status, outcome.cause) == ("failed", "bug")
    assert "reads inputs.split and inputs.tokenizer" in outcome.message
    assert "Traceback" in (Path(search.folder) / "error.txt").read_text()
    assert outcome == stored(search.folder)


def test_a_gpu_asked_for_where_none_is_fails_the_item(search, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = run_item(search.model_copy(update={"device": "cuda"}))
    assert outcome.status == "failed"
    assert "asks for a gpu, none is visible; choose a CPU space" in outcome.message


def test_a_loss_that_is_not_finite_has_cause_nan(world, split, search):
    recipe = {"learning_rate": 1e38, "max_grad_norm": None, "warmup_fraction": 0.0}
    outcome = run_item(search.model_copy(update={"spec": world.trial_spec(targets=2, recipe=recipe)}))
    assert (outcome.status, outcome.cause) == ("failed", "nan")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_lack_of_memory_has_cause_oom(search, monkeypatch, error):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(finetune_module, "source_of", fails)
    outcome = run_item(search)
    assert (outcome.status, outcome.cause) == ("failed", "oom")
    assert "needs more memory than there is" in outcome.message


def test_each_error_has_its_cause():
    assert cause_of(DataError("x")) == "data"
    assert cause_of(RunError("x", "preempted")) == "preempted"
    assert cause_of(ConfigError("x")) == cause_of(KeyError("x")) == "bug"
    assert cause_of(MemoryError()) == "oom"


def test_an_interrupt_is_not_an_outcome(search, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune_module, "source_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_item(search)
    assert not (Path(search.folder) / "result.json").exists()


def test_a_pretraining_is_an_item_and_its_second_asking_is_free(world, tmp_path):
    spec, inputs = world.pretrain_spec(), world.pretrain_inputs(tmp_path / "cache")
    first = run_item(work(spec, inputs, tmp_path / "a" / "1"))
    assert first.status == "finished", first.message
    assert first.metrics["epochs"] == 3 and first.measured["reused"] is False
    second = run_item(work(spec, inputs, tmp_path / "b" / "1"))
    assert second.measured["reused"] is True and second.measured["molecules_seen"] == 0
    assert (second.metrics, second.facts) == (first.metrics, first.facts)
    curves = [[line["valid/loss"] for line in lines(tmp_path / name / "1")] for name in "ab"]
    assert curves[0] == curves[1] and len(curves[0]) == 3


def test_a_later_attempt_goes_on_where_a_killed_one_stopped(world, tmp_path, monkeypatch):
    from chembench.training import pretrain as module

    spec = world.pretrain_spec()
    whole = run_item(work(spec, world.pretrain_inputs(tmp_path / "whole"), tmp_path / "whole-item" / "1"))
    inputs, step = world.pretrain_inputs(tmp_path / "parts"), module._Run.step

    def killed(run, micro):
        if run.stepper.steps_done == 16:
            raise KeyboardInterrupt
        step(run, micro)

    monkeypatch.setattr(module._Run, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_item(work(spec, inputs, tmp_path / "uid" / "1"))
    monkeypatch.setattr(module._Run, "step", step)
    outcome = run_item(work(spec, inputs, tmp_path / "uid" / "2", attempt=2))
    assert outcome.measured["resumed_at_step"] == 14
    assert outcome.metrics == whole.metrics
    assert [line["epoch"] for line in lines(tmp_path / "uid" / "2")] == [1, 2, 3]


def test_a_baseline_sees_no_test_label_and_is_scored_on_all_parts(world, split, tmp_path, monkeypatch):
    from chembench.baselines import constant as module

    seen = {}
    plain = module.constant

    def watched(spec, train, valid, test):
        seen["test"] = test
        return plain(spec, train, valid, test)

    monkeypatch.setattr(module, "constant", watched)
    spec = BaselineSpec(
        baseline="constant",
        task="made",
        task_kind="regression",
        targets=2,
        data="made",
        test_rows="made",
        sealed="sealed",
    )
    inputs = split[0].model_copy(update={"sealed": split[1]})
    outcome = run_item(work(spec, inputs, tmp_path / "baseline"))
    assert outcome.status == "finished", outcome.message
    assert np.isnan(seen["test"].labels_NM).all()
    assert outcome.metrics["objective"] == outcome.metrics["valid/rmse_normalised"]
    assert 0.5 < outcome.metrics["test/rmse_normalised"] < 2.0
    assert outcome.metrics["test/r2"] <= 0.0
    assert outcome.facts["untuned"] is True
    with (tmp_path / "baseline" / "predictions.csv").open() as file:
        assert {row["part"] for row in csv.DictReader(file)} == {"valid", "test"}


def test_a_saved_model_predicts_what_the_trial_predicted(confirm):
    run_item(confirm)
    fitted = FittedModel.load(Path(confirm.folder) / "model")
    with (Path(confirm.folder) / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    smiles = [row["smiles"] for row in rows if row["target"] == "target0"]
    predicted = fitted.predict(smiles)
    assert predicted.shape == (24, 2)
    written = [float(row["predicted"]) for row in rows]
    assert predicted.ravel() == pytest.approx(written, rel=1e-5, abs=1e-4)
    assert fitted.target_names == ("target0", "target1") and fitted.unit == "log mol/L"


def test_running_a_baseline_imports_no_torch():
    code = "import sys, chembench.trial; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
