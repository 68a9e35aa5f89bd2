"""Predictions from the command line; what needs no sweep stands with the command itself."""

import sys

import numpy as np
import pytest

from chembench import api, cli


class Lengths:
    target_names = ("length",)

    def predict(self, smiles):
        return np.array([[len(text)] for text in smiles], dtype=np.float32)


class View:
    def predictor(self, task=None, uid=None):
        assert task == "delaney"
        return Lengths()


@pytest.fixture
def a_sweep(monkeypatch):
    monkeypatch.setattr(api, "open_sweep", lambda name, out="sweeps": View())


@pytest.mark.usefixtures("a_sweep")
def test_predictions_go_to_the_terminal_and_unreadable_rows_are_listed(capsys, tmp_path):
    (tmp_path / "in.csv").write_text("id,smiles\n1,CCO\n2,bad1\n")
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "in.csv"]) == 0
    told = capsys.readouterr()
    assert told.out == "id,smiles,predicted_length\n1,CCO,3\n2,bad1,\n"
    assert told.err.splitlines() == [
        "1 of 2 SMILES do not parse; their predictions are empty:",
        "  row 2: 'bad1'",
    ]


@pytest.mark.usefixtures("a_sweep")
def test_predictions_are_written_to_a_file(capsys, tmp_path):
    (tmp_path / "in.smi").write_text("CCO a\n" + "x\n" * 12)
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "in.smi", "--output", "out.csv"]) == 0
    told = capsys.readouterr()
    assert (tmp_path / "out.csv").read_text().splitlines()[:3] == ["smiles,name,predicted_length", "CCO,a,3", "x,,"]
    assert told.out == ""
    assert told.err.splitlines()[-1] == "  and 2 more"


@pytest.mark.usefixtures("a_sweep")
def test_molecules_are_read_from_standard_input(capsys, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("CCO\n"))
    assert cli.run(["predict", "s", "--task", "delaney", "--input", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "CCO,,3"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe\x00", "it is not UTF-8 text")])
def test_an_input_that_cannot_be_read_is_refused(content, reason, capsys, tmp_path):
    if content is not None:
        (tmp_path / "in.csv").write_bytes(content)
    assert cli.run(["predict", "s", "--task", "t", "--input", "in.csv"]) == 2
    assert f"got 'in.csv': {reason}" in capsys.readouterr().err


def test_predict_never_writes_over_its_input(tmp_path, capsys):
    molecules = tmp_path / "molecules.smi"
    molecules.write_text("CCO\n")
    code = cli.run(["predict", "any", "--input", str(molecules), "--output", str(molecules)])
    assert code == 2
    assert "--output must be another file than --input" in capsys.readouterr().err
    assert molecules.read_text() == "CCO\n"
