"""A fitted model is served from SMILES, from MLflow alone."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
from tracked_sweep import CONFIRM, FakeSweep, trial

from chembench.chem.tokens import SmilesTokenizer
from chembench.errors import DataError
from chembench.models.base import build_pretraining_model
from chembench.models.heads import full
from chembench.models.sizes import resolve
from chembench.tracking.mlflow_sync import sync
from chembench.tracking.pyfunc import read_smiles, requirements
from chembench.training.fitted import FittedModel
from chembench.training.targets import Scaling


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A small model with random weights and two targets."""
    folder = tmp_path_factory.mktemp("fitted")
    tokenizer = SmilesTokenizer()
    tokenizer.save(folder / "tokenizer")
    ids = {"pad_id": tokenizer.pad_id, "bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
    model = resolve("roberta", "w32x1", vocabulary=len(tokenizer.vocabulary), max_length=64, pooling="default", **ids)
    spec = trial("confirm").model_copy(update={"model": model, "targets": 2, "tokenizer": tokenizer.digest})
    network = full(build_pretraining_model(model, spec.descriptors, 0, 0.0), spec).eval()
    scaling = Scaling("regression", np.array([1.0, -2.0]), np.array([2.0, 0.5]))
    return FittedModel(spec, ("logS", "logP"), "log", scaling, network, folder / "tokenizer")


@pytest.fixture
def served(tmp_path, empty_database, fitted):
    """A finished sweep whose winner was logged; the client's view of its run."""
    sweep = FakeSweep(tmp_path / "sweeps" / "tiny")
    (tmp_path / "sweeps" / "mlflow.db").write_bytes(empty_database.read_bytes())
    sweep.add(CONFIRM, task="solubility", unit="roberta/solubility", pretrain_seed=0, split=0, head_seed=0)
    sweep.start(CONFIRM)
    fitted.save(sweep.paths.run(CONFIRM.digest, 1).model)
    sweep.end(CONFIRM, metrics={"objective": 0.5, "valid/rmse": 1.5, "test/rmse": 1.6})
    sweep.finish()
    report = sync(sweep.paths.root, None, final=True)
    assert report.unsent == 0, report.message
    return sweep


def logged_models(sweep):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.paths.root.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny/regression").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`chembench.trial_uid` = '{CONFIRM.digest}'")
    return run, client.search_logged_models([experiment])


SERVE = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
table = pandas.DataFrame({"id": ["a", "b"], "smiles": ["OCC", "c1ccccc1"]})
found = [mlflow.pyfunc.load_model(uri).predict(given)
         for uri, given in ((sys.argv[2], table), (sys.argv[3], ["OCC", "c1ccccc1"]))]
print(json.dumps([[list(f.columns), f.values.tolist()] for f in found]))
"""


def test_the_winner_is_served_from_a_table_or_a_list_in_a_process_of_its_own(served, fitted, tmp_path):
    run, (model,) = logged_models(served)
    assert run.data.tags["chembench.model"] == model.model_uri
    assert run.data.tags["chembench.winner_of"] == "solubility"
    uri = f"sqlite:///{served.paths.root.parent / 'mlflow.db'}"
    command = [sys.executable, "-c", SERVE, uri, model.model_uri, f"runs:/{run.info.run_id}/solubility"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    expected = fitted.predict(["CCO", "c1ccccc1"])
    for columns, rows in json.loads(done.stdout.splitlines()[-1]):
        assert columns == ["logS", "logP"]
        np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_a_winner_is_logged_once(served):
    for forget in (False, True):
        if forget:
            served.paths.sent.unlink()
        assert sync(served.paths.root, None, final=True).unsent == 0
        _, models = logged_models(served)
        assert len(models) == 1


def test_a_damaged_model_is_told_and_everything_else_sent(tmp_path, empty_database):
    sweep = FakeSweep(tmp_path / "sweeps" / "tiny")
    (tmp_path / "sweeps" / "mlflow.db").write_bytes(empty_database.read_bytes())
    sweep.add(CONFIRM, task="solubility", unit="roberta/solubility", pretrain_seed=0, split=0, head_seed=0)
    sweep.start(CONFIRM)
    sweep.paths.run(CONFIRM.digest, 1).model.mkdir()
    sweep.end(CONFIRM, metrics={"objective": 0.5})
    sweep.finish()
    report = sync(sweep.paths.root, None, final=True)
    assert (report.sent, report.unsent) == (1, 1)
    assert "settings.json" in report.message
    _, models = logged_models(sweep)
    assert not models


def test_smiles_are_read_by_name_or_as_a_plain_sequence():
    for given in (["C", "CC"], np.array(["C", "CC"]), np.array([["C"], ["CC"]]), pandas.Series(["C", "CC"])):
        assert read_smiles(given) == ["C", "CC"]
    assert read_smiles("CC") == ["CC"]
    assert read_smiles(pandas.DataFrame({"id": ["x"], "smiles": ["C"]})) == ["C"]
    with pytest.raises(DataError, match="read from a column 'smiles', the table has id, SMILES; rename it"):
        read_smiles(pandas.DataFrame({"id": ["x"], "SMILES": ["C"]}))
    with pytest.raises(DataError, match="number 1 is nan; leave it out"):
        read_smiles(["C", float("nan")])


def test_molecules_that_do_not_parse_are_refused():
    from chembench.chem.smiles import all_canonical

    assert all_canonical(["OCC"]) == ["CCO"]
    with pytest.raises(DataError, match="1 of 2 are not, first number 1 'not one'; leave them out"):
        all_canonical(["C", "not one"])


def test_requirements_are_pinned():
    assert {entry.partition("==")[0] for entry in requirements()} >= {"torch", "transformers", "rdkit"}
    assert all("==" in entry and "+" not in entry for entry in requirements())
