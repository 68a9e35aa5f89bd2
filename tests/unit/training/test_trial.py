import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chembench.errors import ConfigError, DataError, DiskFullError, RunError
from chembench.specs import BaselineSpec, EarlierTrial, Outcome, Rungs, Work
from chembench.training import attempt as attempt_module
from chembench.training import finetune as finetune_module
from chembench.training.fitted import FittedModel
from chembench.training.loop import Stepper
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


def baseline_spec():
    return BaselineSpec(
        baseline="constant",
        task="made",
        task_kind="regression",
        targets=2,
        data="made",
        test_rows="made",
        sealed="sealed",
    )


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
    assert cause_of(DiskFullError("x")) == cause_of(OSError(28, "No space left on device")) == "preempted"


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


def before_step(monkeypatch, number, act):
    """Let ``act`` be called before the optimiser step of that number, counted from 0, of this process."""
    taken, step = [], Stepper.step

    def watched(stepper, indices):
        if len(taken) == number:
            act()
        taken.append(1)
        step(stepper, indices)

    monkeypatch.setattr(Stepper, "step", watched)


def interrupt():
    raise KeyboardInterrupt


def test_a_later_attempt_goes_on_where_a_killed_one_stopped(world, tmp_path, monkeypatch):
    spec = world.pretrain_spec()
    whole = run_item(work(spec, world.pretrain_inputs(tmp_path / "whole"), tmp_path / "whole-item" / "1"))
    inputs = world.pretrain_inputs(tmp_path / "parts")
    monkeypatch.setattr(attempt_module, "EPOCH_SECONDS", -1.0)
    monkeypatch.setattr(attempt_module, "TIMES_ITS_COST", 0.0)
    before_step(monkeypatch, 16, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_item(work(spec, inputs, tmp_path / "uid" / "1"))
    monkeypatch.undo()
    outcome = run_item(work(spec, inputs, tmp_path / "uid" / "2", attempt=2))
    assert outcome.measured["resumed_at_step"] == 14
    assert outcome.measured["earlier_seconds"] > 0
    assert outcome.metrics == whole.metrics
    assert [line["epoch"] for line in lines(tmp_path / "uid" / "2")] == [1, 2, 3]
    assert not list((tmp_path / "uid").rglob("resume.pt")), "an item that ended needs no state"


def stop_now(item):
    """Write the file that asks the item to stop, and let it be seen at the next step."""
    return lambda: (Path(item.folder) / "stop").touch()


@pytest.fixture
def stops_are_seen_at_once(monkeypatch):
    monkeypatch.setattr(attempt_module, "LOOK_SECONDS", 0.0)


def later(item):
    folder = Path(item.folder)
    return item.model_copy(update={"attempt": item.attempt + 1, "folder": str(folder.parent / str(item.attempt + 1))})


@pytest.mark.usefixtures("stops_are_seen_at_once")
def test_a_trial_that_is_asked_to_stop_goes_on_in_its_next_attempt(confirm, tmp_path, monkeypatch):
    whole = run_item(confirm.model_copy(update={"folder": str(tmp_path / "whole")}))
    before_step(monkeypatch, 4, stop_now(confirm))
    stopped = run_item(confirm)
    monkeypatch.undo()
    assert (stopped.status, stopped.cause) == ("failed", "preempted")
    assert stopped.message == "stopped as asked after 5 optimiser steps, in epoch 2; the next attempt goes on there"
    assert (stopped.measured["stopped_at_step"], stopped.measured["stopped_in_epoch"]) == (5, 2)
    assert stopped == stored(confirm.folder) and (Path(confirm.folder) / "resume.pt").exists()
    outcome = run_item(later(confirm))
    assert outcome.measured["resumed_at_step"] == 5
    assert (outcome.metrics, outcome.objectives, outcome.facts) == (whole.metrics, whole.objectives, whole.facts)
    assert outcome.measured["molecules_seen"] == whole.measured["molecules_seen"]
    folders = [
        Path(item.folder) for item in (later(confirm), confirm.model_copy(update={"folder": tmp_path / "whole"}))
    ]
    for name in ("predictions.csv", "model/model.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert not (Path(confirm.folder) / "resume.pt").exists()


@pytest.mark.usefixtures("stops_are_seen_at_once")
def test_a_pruner_sees_the_same_epochs_after_a_stop(search, tmp_path, monkeypatch):
    earlier = tuple(EarlierTrial(ordinal=k, status="finished", objectives=(9.0, 1e-6, 1e-6)) for k in range(3))
    rungs = Rungs(pruner="median", options={"n_startup_trials": 1}, study="s", earlier=earlier)
    search = search.model_copy(update={"rungs": rungs})
    whole = run_item(search.model_copy(update={"folder": str(tmp_path / "whole")}))
    assert (whole.status, len(whole.objectives)) == ("pruned", 2)
    before_step(monkeypatch, 3, stop_now(search))
    assert run_item(search).cause == "preempted"
    monkeypatch.undo()
    outcome = run_item(later(search))
    assert (outcome.status, outcome.message, outcome.objectives) == ("pruned", whole.message, whole.objectives)


@pytest.mark.usefixtures("stops_are_seen_at_once")
def test_a_pretraining_that_is_asked_to_stop_goes_on_in_its_next_attempt(world, tmp_path, monkeypatch):
    item = work(world.pretrain_spec(), world.pretrain_inputs(tmp_path / "cache"), tmp_path / "uid" / "1")
    before_step(monkeypatch, 9, stop_now(item))
    assert run_item(item).cause == "preempted"
    assert not (tmp_path / "cache").exists()
    monkeypatch.undo()
    outcome = run_item(later(item))
    assert outcome.status == "finished" and outcome.measured["resumed_at_step"] == 10


def test_an_item_that_is_asked_to_stop_before_it_began_does_nothing(search, world, split, tmp_path):
    baseline = work(baseline_spec(), split[0].model_copy(update={"sealed": split[1]}), tmp_path / "baseline" / "1")
    for item in (search, baseline):
        Path(item.folder).mkdir(parents=True)
        stop_now(item)()
        outcome = run_item(item)
        assert (outcome.status, outcome.cause) == ("failed", "preempted")
        assert outcome.message == "stopped as asked before anything was done; the next attempt does it"
        assert run_item(later(item)).status == "finished"


def test_a_short_item_keeps_no_state(search, world, tmp_path, monkeypatch):
    monkeypatch.setattr(attempt_module, "save_state", lambda *_: pytest.fail("a state was written"))
    assert run_item(search).status == "finished"
    pretraining = work(world.pretrain_spec(), world.pretrain_inputs(tmp_path / "cache"), tmp_path / "uid" / "1")
    assert run_item(pretraining).status == "finished"


def test_a_state_that_cannot_be_read_is_told_and_the_item_begins_anew(search):
    whole = run_item(search)
    torn = Path(later(search).folder) / "resume.pt"
    torn.parent.mkdir()
    torn.write_bytes(b"torn")
    outcome = run_item(later(search))
    assert (outcome.metrics, outcome.measured["resumed_at_step"]) == (whole.metrics, 0)
    assert "2/resume.pt must be the state of a stopped item" in outcome.measured["refused_state"]


def test_a_lack_of_memory_that_was_overcome_is_told(search, monkeypatch):
    learn, failed = Stepper._learn, []

    def limited(stepper, batches):
        if len(batches) < 2:
            failed.append(1)
            raise MemoryError
        return learn(stepper, batches)

    monkeypatch.setattr(Stepper, "_learn", limited)
    outcome = run_item(search)
    assert outcome.status == "finished" and len(failed) == 1
    assert outcome.measured["micro_batch_halvings"] == 1
    assert outcome.message == "memory ran out, micro-batches were halved 1 time"


# ---- full disks ----


def full(monkeypatch, *names):
    """No space for files of these names any more; all, if none is named."""
    real = os.fsync

    def fsync(descriptor):
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if not names or any(f".{name}." in place for name in names):
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def leftovers(folder):
    return [file for file in Path(folder).rglob("*") if file.name.startswith(".")]


@pytest.mark.parametrize("name", ["predictions.csv", "spec.json", "settings.json"])
def test_a_full_disk_ends_the_attempt_as_preempted(confirm, monkeypatch, name):
    with monkeypatch.context() as patched:
        full(patched, name)
        outcome = run_item(confirm)
    assert (outcome.status, outcome.cause) == ("failed", "preempted")
    assert outcome.message == (
        f"no space left on the device that holds {confirm.folder}; free some, then give the same command again"
    )
    assert outcome.measured["disk_full"] is True
    assert outcome == stored(confirm.folder) and not leftovers(confirm.folder)
    assert run_item(later(confirm)).status == "finished"


def test_a_disk_too_full_for_the_result_leaves_none_but_tells_the_caller(search, monkeypatch):
    with monkeypatch.context() as patched:
        full(patched)
        outcome = run_item(search)
    assert (outcome.status, outcome.cause, outcome.metrics) == ("failed", "preempted", {})
    assert outcome.message.startswith(f"no space left on the device that holds {search.folder};")
    assert outcome.measured["disk_full"] is True and outcome.measured["wall_seconds"] > 0
    assert list(Path(search.folder).iterdir()) == []


def test_a_finished_item_whose_result_finds_no_space_is_not_finished(search, monkeypatch):
    with monkeypatch.context() as patched:
        full(patched, "result.json")
        outcome = run_item(search)
    assert (outcome.status, outcome.cause, outcome.objectives) == ("failed", "preempted", ())
    assert not (Path(search.folder) / "result.json").exists() and not leftovers(search.folder)
    assert run_item(search).status == "finished"


def test_a_full_disk_that_a_library_meets_is_told_in_our_words(search, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device", "/elsewhere")

    monkeypatch.setattr(finetune_module, "source_of", fails)
    outcome = run_item(search)
    assert (outcome.cause, outcome.measured["disk_full"]) == ("preempted", True)
    assert outcome.message.startswith(f"no space left on the device that holds {search.folder}; free some")


def test_a_baseline_sees_no_test_label_and_is_scored_on_all_parts(world, split, tmp_path, monkeypatch):
    from chembench.baselines import constant as module

    seen = {}
    plain = module.constant

    def watched(spec, train, valid, test):
        seen["test"] = test
        return plain(spec, train, valid, test)

    monkeypatch.setattr(module, "constant", watched)
    spec = baseline_spec()
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
