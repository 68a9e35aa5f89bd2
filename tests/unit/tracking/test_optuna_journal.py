"""The journal is a projection: one study per task, every ended search trial once, whatever its state."""

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from chembench.paths import SweepPaths
from chembench.specs import FinetuneSpec, Outcome, TrialSpec
from chembench.sweep.ledger import SweepState
from chembench.sweep.reading import read_space
from chembench.tracking.optuna_journal import OptunaJournal

MODEL = {
    "architecture": "llama",
    "hidden": 16,
    "ffn": 40,
    "layers": 1,
    "heads": 1,
    "vocabulary": 256,
    "pad_id": 1,
    "bos_id": 0,
    "eos_id": 2,
}


def spec(seed):
    return TrialSpec(
        kind="search",
        model=MODEL,
        pretrained=None,
        descriptors=3,
        tokenizer="t",
        task="freewilson_pic50",
        task_kind="regression",
        targets=1,
        data="d",
        test_rows="r",
        finetune=FinetuneSpec(learning_rate=1e-3),
        head_seed=seed,
    )


def state_with(outcomes):
    state = SweepState(name="s", space_digest="abc")
    cell = {"architecture": "llama", "size": "w16x1", "molecules": 0, "settings": {}}
    for ordinal, fields in enumerate(outcomes):
        trial = spec(ordinal)
        params = {"method": "full", "learning_rate": 0.001, "dropout": 0.1}
        state.apply({"event": "item", "uid": trial.digest, "spec": trial.canonical(), "cell": cell, "labels": {}})
        state.apply({"event": "asked", "study": "u", "ordinal": ordinal, "uid": trial.digest, "params": params})
        if fields is None:
            continue
        state.apply({"event": "started", "uid": trial.digest, "attempt": 1})
        outcome = Outcome(uid=trial.digest, attempt=1, kind="search", **fields)
        state.apply({"event": "result", "uid": trial.digest, "again": False, "outcome": outcome.model_dump()})
    return state


@pytest.fixture
def written(tmp_path):
    state = state_with(
        [
            {"status": "finished", "metrics": {"objective": 0.5}, "objectives": (0.7, 0.5)},
            {"status": "pruned", "metrics": {"objective": 0.9}, "objectives": (0.9,)},
            {"status": "failed", "cause": "nan", "message": "no"},
            None,
        ]
    )
    paths = SweepPaths(tmp_path)
    journal = OptunaJournal(paths, read_space("full_grid_tiny"))
    journal.update(state)
    journal.update(state)
    return paths, state


def studies(paths):
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(paths.journal)))
    return optuna.get_all_study_summaries(storage), storage


def test_each_ended_trial_stands_in_it_once_with_its_state(written):
    paths, _ = written
    (summary,), storage = studies(paths)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    assert summary.study_name == "chembench/s/abc/freewilson_pic50"
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [trial.value for trial in trials] == [0.5, 0.9, None]
    assert trials[0].params == {
        "architecture": "llama",
        "size": "w16x1",
        "molecules": 0,
        "method": "full",
        "learning_rate": 0.001,
        "dropout": 0.1,
    }
    assert trials[0].intermediate_values == {1: 0.7, 2: 0.5}
    assert trials[2].user_attrs["cause"] == "nan"


def test_deleting_it_loses_nothing(written):
    paths, state = written
    before = [t.params for t in optuna.load_study(study_name=None, storage=studies(paths)[1]).trials]
    paths.journal.unlink()
    OptunaJournal(paths, read_space("full_grid_tiny")).update(state)
    assert [t.params for t in optuna.load_study(study_name=None, storage=studies(paths)[1]).trials] == before
