"""The journal is a projection: one study per task, every ended search trial once, whatever its state."""

import json
import re

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from chembench.paths import SweepPaths
from chembench.specs import FinetuneSpec, Outcome, TrialSpec
from chembench.sweep.reading import read_space, space_from
from chembench.sweep.state import SweepState
from chembench.tracking.optuna_journal import OptunaJournal, journal_problem, write_journal

SPACE = read_space("full_grid_tiny")

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
    journal = OptunaJournal(paths, SPACE)
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


def trials_of(paths):
    return [
        (t.state.name, t.value, t.params) for t in optuna.load_study(study_name=None, storage=studies(paths)[1]).trials
    ]


def test_deleting_it_loses_nothing(written):
    paths, state = written
    before = trials_of(paths)
    paths.journal.unlink()
    OptunaJournal(paths, SPACE).update(state)
    assert trials_of(paths) == before


def test_a_space_read_from_the_ledger_rebuilds_it(written):
    paths, state = written
    before = trials_of(paths)
    paths.journal.unlink()
    header = json.loads(json.dumps(SPACE.as_data()))
    assert write_journal(paths, space_from(header), state) == 3
    assert trials_of(paths) == before
    assert [path.name for path in paths.root.iterdir()] == ["optuna.journal"]


def test_a_trial_that_is_retried_takes_the_place_of_its_failure(written):
    paths, state = written
    journal = OptunaJournal(paths, SPACE)
    journal.update(state)
    failed = spec(2).digest
    state.apply({"event": "retried", "uid": failed})
    journal.update(state)
    assert [name for name, *_ in trials_of(paths)] == ["COMPLETE", "PRUNED"]
    state.apply({"event": "started", "uid": failed, "attempt": 2})
    outcome = Outcome(uid=failed, attempt=2, kind="search", status="finished", metrics={"objective": 0.1})
    state.apply({"event": "result", "uid": failed, "again": False, "outcome": outcome.model_dump()})
    journal.update(state)
    assert [(name, value) for name, value, _ in trials_of(paths)][2] == ("COMPLETE", 0.1)


@pytest.mark.parametrize("damage", ["deleted", "cut", "overwritten"])
def test_damage_while_a_driver_works_is_made_good_with_the_next_trial(tmp_path, damage):
    paths, journal = SweepPaths(tmp_path), OptunaJournal(SweepPaths(tmp_path), SPACE)
    outcomes = [{"status": "finished", "metrics": {"objective": 0.5}}] * 3
    journal.update(state_with(outcomes[:2]))
    hurt(paths.journal, damage)
    journal.update(state_with(outcomes))
    assert len(trials_of(paths)) == 3


def hurt(file, damage):
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    if damage == "overwritten":
        file.write_bytes(b"\0" * len(content) + b"\n")


@pytest.mark.parametrize("damage", ["deleted", "cut", "overwritten"])
def test_what_differs_from_the_ledger_is_told(written, damage):
    paths, state = written
    assert journal_problem(paths, SPACE, state) is None
    hurt(paths.journal, damage)
    told = {
        "deleted": "it is not there",
        "cut": "it holds|holds .* trials|cannot be read",
        "overwritten": "cannot be read",
    }
    assert re.search(told[damage], journal_problem(paths, SPACE, state))
    write_journal(paths, SPACE, state)
    assert journal_problem(paths, SPACE, state) is None
    later = state_with([{"status": "finished", "metrics": {"objective": 0.5}, "objectives": (0.7, 0.5)}] * 3)
    assert "holds 3 trials, 1 of them as in the ledger" in journal_problem(paths, SPACE, later)


def test_a_journal_that_cannot_be_written_is_told_once_and_raises_nothing(tmp_path):
    paths, told = SweepPaths(tmp_path), []
    paths.journal.mkdir()
    journal = OptunaJournal(paths, SPACE, told.append)
    for _ in range(2):
        journal.update(state_with([{"status": "finished", "metrics": {"objective": 0.5}}]))
    (line,) = told
    assert "not written for optuna-dashboard: optuna failed in '_update' with" in line
    assert "`chembench sync` writes them all" in line


def test_the_lock_that_a_killed_writer_left_is_not_waited_for(written):
    paths, state = written
    lock = paths.journal.with_name("optuna.journal.lock")
    lock.symlink_to(paths.journal)
    write_journal(paths, SPACE, state)
    lock.symlink_to(paths.journal)
    OptunaJournal(paths, SPACE).update(state)
    assert not lock.is_symlink()
    assert len(trials_of(paths)) == 3
