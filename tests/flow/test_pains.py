"""What users of Ray Tune, Optuna, MLflow and benchmarks complain about does not happen here.

One test per pain: its name says what holds instead, its docstring the pain and the threads. Most look at one sweep on
Ray whose driver was killed in mid-item and that went on. Pains that no sweep is needed for: ``unit/test_pains.py``.
"""

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flow_sweeps import Copy, Swept, asks, boards, choices
from pained_sweep import NOBODY, SPACE, killed_and_resumed, work_of
from sweep_fakes import drive, failed, finished, grid_space, swept

from chembench import cli
from chembench.api import Sweep, load_space, open_engine
from chembench.data.catalog import TASKS
from chembench.data.splits import Division, prepare_split
from chembench.data.tasks import prepare_task
from chembench.models.base import Backbone
from chembench.paths import CachePaths
from chembench.sweep.ledger import read_events
from chembench.sweep.winners import winners
from chembench.trial import run_item

pytestmark = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are found through /proc")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    with killed_and_resumed(tmp_path_factory.mktemp("pains")) as made:
        yield made


@pytest.fixture
def copy(resumed, tmp_path, monkeypatch) -> Copy:
    monkeypatch.chdir(tmp_path)
    return Copy(Swept(resumed.sweep.root, resumed.cache, [], 3, "", "", 0.0), tmp_path)


# ------------------------------------------------------------------------------------------- Ray, Optuna, MLflow


def test_a_resumed_sweep_has_all_its_history(resumed, tmp_path):
    """Restore with a searcher is broken or loses history.

    ray-project/ray#19274, #30861, #30893, #33495, #30223
    """
    before, after = resumed.killed, resumed.ended
    assert {path: after.results[path] for path in before.results} == before.results
    asked = [(study, k) for study, points in after.state.asked.items() for k in points]
    early = [(study, k) for study, points in before.state.asked.items() for k in points]
    assert 0 < len(early) < len(asked) == len(after.trials), "it was killed in the midst of its studies"

    def recorded(work):
        if work.kind == "pretrain":
            return run_item(work)  # its checkpoint may have been deleted
        return after.state.items[work.uid].outcome.model_copy(update={"attempt": work.attempt})

    cache = shutil.copytree(resumed.cache, tmp_path / "cache")
    with open_engine(load_space("full_grid_tiny", SPACE), name="undisturbed", out=tmp_path, cache_dir=cache) as engine:
        drive(engine, recorded)
    undisturbed = Sweep(tmp_path / "undisturbed")
    assert (asks(resumed.sweep), choices(resumed.sweep)) == (asks(undisturbed), choices(undisturbed))


def test_a_killed_driver_leaves_no_zombie_in_optuna(resumed):
    """RUNNING zombies in Optuna, and heartbeats that kill living trials.

    optuna/optuna#485, #2811, #6283, #6085, #6398, #6474, #4234, #5470, #3329
    """
    running = [item for item in resumed.killed.state.items.values() if item.status == "running"]
    assert running, "it was killed in mid-item"
    for seen in (resumed.killed, resumed.ended):
        assert seen.trials and all(trial.state.is_finished() for trial in seen.trials)
    assert all(item.is_final for item in resumed.ended.state.items.values())


def test_no_run_of_mlflow_stays_running_for_ever(resumed):
    """MLflow runs stay RUNNING for ever after a crash.

    NovaSky-AI/SkyRL#1516, NVIDIA-NeMo/Megatron-Bridge#3822, Lightning-AI/pytorch-lightning#12291
    """
    cut = [uid for uid, item in resumed.killed.state.items.items() if item.status == "running"]
    assert cut and {resumed.killed.runs[uid].info.status for uid in cut} == {"KILLED"}
    told = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    for uid, item in resumed.ended.state.items.items():
        info = resumed.ended.runs[uid].info
        assert info.status == told[item.status] and info.end_time >= info.start_time


def test_resuming_makes_no_second_run_and_changes_no_parameter(resumed):
    """Resume makes duplicate runs, or fails because "params are immutable".

    ludwig-ai/ludwig#1990, lightly-ai/lightly-train#334, mlflow/mlflow#7046, #7152
    """
    before, after = resumed.killed.runs, resumed.ended.runs
    assert before and before.keys() < after.keys()
    for uid, run in before.items():
        assert run.info.run_id == after[uid].info.run_id
        assert run.data.params.items() <= after[uid].data.params.items()


def test_runs_of_rays_workers_are_nested_under_their_sweep(resumed):
    """Nesting of MLflow runs does not work with Ray's workers or Optuna's callback.

    ray-project/ray#19978, #19909, #36257; optuna/optuna#5148, optuna/optuna-integration#153;
    mlflow/mlflow#2194, #15802, #7809
    """
    for seen in (resumed.killed, resumed.ended):
        parents = {run.info.experiment_id: run.info.run_id for uid, run in seen.runs.items() if ":" in uid}
        items = {uid: run for uid, run in seen.runs.items() if ":" not in uid}
        assert len(parents) == 2 and items.keys() >= {uid for uid, item in seen.state.items.items() if item.attempt}
        for run in items.values():
            assert run.data.tags["mlflow.parentRunId"] == parents[run.info.experiment_id]
    assert items.keys() == resumed.ended.state.items.keys()


def test_a_space_grows_with_its_history_and_changes_under_another_name(copy, resumed, capsys):
    """A search space cannot be changed later: ValueError in the midst of a study.

    optuna/optuna#2328, #2199, #2275, #372
    """
    before, asked = copy.files(), asks(copy.sweep)
    other = [*SPACE, "finetune.learning_rate={choice=[1e-3, 1e-2]}"]
    assert cli.run(["resume", "pained", "--set", other[-1]]) == 2
    assert "finetune.learning_rate" in capsys.readouterr().err and copy.files() == before
    with open_engine(load_space("full_grid_tiny", other), name="other", cache_dir=resumed.cache) as engine:
        assert engine.ask() is not None and engine.state.asked.keys() == asked.keys()
    more = load_space("full_grid_tiny", [*SPACE, "search.trials=9"])
    with open_engine(more, name="pained", cache_dir=resumed.cache) as engine:
        assert len(engine.state.items) > len(resumed.ended.state.items)
    for study, points in asks(copy.sweep).items():
        assert len(points) > len(asked[study]) and {k: points[k] for k in asked[study]} == asked[study]


def test_pruned_and_nan_are_told_from_complete(resumed):
    """Schedulers fight searchers: a stopped trial counts as COMPLETE, one with NaN stays RUNNING.

    ray-project/ray#5459, #15283, #44256, #32634
    """
    by_rate: dict[float, list[Any]] = {}
    for trial in resumed.ended.trials:
        by_rate.setdefault(trial.params["learning_rate"], []).append(trial)
    assert {rate: {trial.state.name for trial in trials} for rate, trials in by_rate.items()} == {
        1e-3: {"COMPLETE"},
        10.0: {"PRUNED"},
        1e30: {"FAIL"},
    }
    for trial in by_rate[10.0]:
        assert trial.value == trial.intermediate_values[1] > 50 and len(trial.intermediate_values) == 1
    assert {trial.user_attrs["cause"] for trial in by_rate[1e30]} == {"nan"}


def test_checkpoints_do_not_fill_the_disk(resumed):
    """Checkpoints fill the disk.

    ray-project/ray#4287, #9865, #30506, #23688; huggingface/transformers#12729; mlflow/mlflow#17240, #7794
    """
    state = resumed.ended.state
    (winner,) = winners(state).values()
    needed = {state.items[winner].spec.pretrained} - {None}
    assert len(state.openings) == 2, "another cell was confirmed too"
    assert [path.parents[1].name for path in resumed.sweep.paths.trials.glob("*/*/model")] == [winner]
    assert {path.name for path in CachePaths(resumed.cache).pretrained("x").parent.glob("[!.]*")} == needed
    assert not [*resumed.sweep.root.rglob("resume.pt"), *resumed.sweep.root.rglob("checkpoint*")]


# ------------------------------------------------------------------------------------------- machines and errors


def test_what_runs_out_of_memory_is_not_tried_again_as_it_was(resumed, tmp_path, monkeypatch):
    """Out of memory: the same doomed configuration is repeated for ever.

    ray-project/ray#11782, #33423; niznik-dev/cruijff_kit#254; chemprop/chemprop#1402
    """
    forward, tried = Backbone.forward, []

    def with_room_for(tokens):
        def limited(backbone, ids_BT, mask_BT):
            tried.append(ids_BT.numel())
            if ids_BT.numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(backbone, ids_BT, mask_BT)

        monkeypatch.setattr(Backbone, "forward", limited)

    work = work_of(resumed, tmp_path / "halved", "search")
    with_room_for(500)
    outcome = run_item(work)
    assert outcome.status == "finished", outcome.message
    assert 1 <= outcome.measured["micro_batch_halvings"] <= 3
    recorded = resumed.ended.state.items[work.uid].outcome
    assert outcome.metrics["objective"] == pytest.approx(recorded.metrics["objective"], rel=0.05)
    tried.clear()
    with_room_for(1)
    outcome = run_item(work.model_copy(update={"folder": str(tmp_path / "doomed")}))
    assert (outcome.status, outcome.cause) == ("failed", "oom")
    assert len(tried) == 4 and tried == sorted(tried, reverse=True)
    space = grid_space(search__replacements=1)
    state, works = swept(space, tmp_path, lambda w: failed(w, "oom") if w.kind == "search" else finished(w))
    assert {work.attempt for work in works} == {1}
    assert all(len({point.uid for point in points.values()}) == 4 for points in state.asked.values())


def test_as_many_items_run_at_once_as_were_allowed(resumed):
    """The limit of concurrency is ignored, or everything runs one after the other.

    ray-project/ray#63770, #36080, #40652, #14770
    """
    running, most = set(), 0
    for _, event in read_events(resumed.sweep.paths.ledger):
        if event["event"] == "started":
            running.add(event["uid"])
        elif event["event"] in ("result", "lost"):
            running.discard(event["uid"])
        most = max(most, len(running))
    assert most == 2


def test_a_failure_is_told_by_its_own_cause_and_without_noise(resumed):
    """The true error is hidden behind Ray's, the terminal is full of spam.

    ray-project/ray#19077, #36854; chemprop/chemprop#1129, #1123
    """
    failures = resumed.sweep.failed("nan")
    assert resumed.status == 3 and failures and not resumed.sweep.failed("bug")
    lines = resumed.ended.told.splitlines()
    at = lines.index(f"failed: {len(failures)} items, 1 different cause")
    told = f"the first, in {len(failures)} items: nan: the training loss must stay finite, it is nan at optimiser step"
    assert lines[at + 1].startswith(told)
    assert "error.txt (chembench/training/loop.py:" in lines[at + 2]
    under_ray = [trial for trial in failures if resumed.killed.state.items[trial.uid].status == "failed"]
    assert under_ray, "one failed before the driver was killed"
    for trial in under_ray:
        trace = trial.paths.error.read_text()
        assert "chembench/training/loop.py" in trace and "ray" not in trace.lower().replace("array", "")
    for seen in (resumed.killed, resumed.ended):
        assert "Traceback" not in seen.told and "(pid=" not in seen.told and "ray." not in seen.told


def test_a_sweep_joins_no_cluster_that_it_was_not_told_to_join(resumed):
    """It attached to the wrong cluster: one that a variable or a file of Ray names.

    ray-project/ray#26678, #60991; ratt-ru/pfb-imaging#254
    """
    places = resumed.killed.state.header["places"]
    assert (places["runner"], places["ray_address"]) == ("ray", "local")
    assert len(resumed.killed.results) >= 4, f"it worked although RAY_ADDRESS was {NOBODY}"


# -------------------------------------------------------------------------------------------------------- science


def test_a_board_ranks_no_method_that_lacks_a_replicate(copy, tmp_path):
    """Boards mislead: missing tasks skipped or ranked, seeds chosen, a scaffold split that ignores its seed.

    embeddings-benchmark/mteb#4263, #1921, #5117; KANO#26; deepchem/deepchem#4517, #3370, #4544;
    shenwanxiang/ChemBench#1; MolCLR#15, #23; MolBERT#7; Uni-Mol#147
    """
    confirmed = copy.sweep.trials(kind="confirm")
    assert Counter(t.labels["head_seed"] for t in confirmed) == {0: 2, 1: 2}
    assert len({(row.data, row.split) for row in copy.sweep.rows() if row.kind == "confirm"}) == 1
    best = boards(copy.sweep)["regression"][0]
    lost = next(t.uid for t in confirmed if t.cell.name == best["method"])

    def without_one(event):
        if event["event"] == "result" and event["uid"] == lost:
            event["outcome"].update(status="failed", cause="oom", message="it broke", metrics={})
        return event

    copy.rewrite(without_one)
    *ranked, apart = boards(copy.sweep)["regression"]
    assert best["method"] not in {line["method"] for line in ranked}
    assert (apart["method"], apart["status"], apart["score"]) == (best["method"], "incomplete", None)
    assert apart["reason"] == "confirm: 1 failed (oom), 1 finished"
    cache, task = CachePaths(tmp_path / "cache"), TASKS["freewilson_pic50"]
    prepared = prepare_task(task, tmp_path, cache)
    one, again, other = (prepare_split(prepared, Division("scaffold", seed, 0), cache).test_rows for seed in (1, 1, 2))
    assert one == again != other


def test_the_test_is_not_tuned_on(resumed, tmp_path):
    """Hyper-parameters were chosen by the test set.

    chemprop/chemprop#415, #396; maxpumperla/hyperas#193
    """
    searched, confirm = (work_of(resumed, tmp_path / kind, kind) for kind in ("search", "confirm"))
    sealed = Path(confirm.inputs.sealed)
    aside = sealed.rename(tmp_path / "locked away")
    try:
        assert run_item(searched).metrics == resumed.ended.state.items[searched.uid].outcome.metrics
        assert (failure := run_item(confirm)).status == "failed" and "no test rows" in failure.message
    finally:
        aside.rename(sealed)
    kinds = {uid: item.kind for uid, item in resumed.ended.state.items.items()}
    scores = {
        kinds[uid] for uid, run in resumed.ended.runs.items() if any(k.startswith("test/") for k in run.data.metrics)
    }
    assert scores == {"confirm", "baseline"}
    events = [event["event"] for _, event in read_events(resumed.sweep.paths.ledger)]
    assert Counter(events)["opened"] == Counter(events)["chosen"] == 2


def test_a_recipe_is_judged_over_several_seeds(resumed):
    """No trial of several seeds: one lucky seed wins.

    ray-project/ray#6994, optuna/optuna#433
    """
    state = resumed.ended.state
    for unit, choice in state.choices.items():
        scores: dict[str, list[float]] = {}
        for item in state.rescores.get(unit, ()):
            scores.setdefault(str(item.labels["ordinal"]), []).append(item.outcome.metrics["objective"])
        assert choice["rescored"] == {k: pytest.approx(np.mean(two)) for k, two in scores.items() if len(two) == 2}
        assert not scores or choice["rescored"][str(choice["ordinal"])] == min(choice["rescored"].values())
    assert any(choice["rescored"] for choice in state.choices.values())
    assert len(resumed.ended.trials) == sum(map(len, state.asked.values())), "a seed is no trial of the study"
    for line in boards(resumed.sweep)["regression"]:
        own = [
            r.metrics["test_rmse"] for r in resumed.sweep.rows() if r.kind == "confirm" and r.method == line["method"]
        ]
        if line["group"] != "baseline":
            assert (line["replicates"], line["score"]) == (2, pytest.approx(np.mean(own)))
            assert line["score_low"] < line["score"] < line["score_high"] and line["varies"] == "head seed"


def test_the_best_model_is_at_hand_and_is_the_one_that_was_scored(resumed):
    """The best model is hard to get, or the wrong checkpoint is loaded.

    huggingface/transformers#10550, #16683
    """
    (winner,) = winners(resumed.ended.state).values()
    trial = resumed.sweep.trial(winner)
    objectives = trial.outcome.objectives
    assert trial.outcome.metrics["best_epoch"] == 1 + objectives.index(min(objectives))
    with trial.predictions.open() as file:
        lines = [line for line in csv.DictReader(file) if line["part"] == "test"]
    predicted = resumed.sweep.predictor().predict([line["smiles"] for line in lines])[:, 0]
    assert predicted == pytest.approx([float(line["predicted"]) for line in lines], rel=1e-5)
    errors = predicted - np.array([float(line["measured"]) for line in lines])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(trial.outcome.metrics["test/rmse"], rel=1e-5)
