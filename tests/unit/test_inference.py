import csv
import io

import numpy as np
import pytest

from chembench.errors import ConfigError, DataError
from chembench.inference import predict_table, read_molecules


class Lengths:
    """Predicts the length of each SMILES, and its number of oxygens."""

    target_names = ("length", "oxygens")

    def predict(self, smiles):
        return np.array([[len(text), text.count("O")] for text in smiles], dtype=np.float32)


def test_a_csv_keeps_its_columns():
    molecules = read_molecules("id,smiles\n7,CCO\n8,c1ccccc1\n", "in.csv", "smiles")
    assert molecules.columns == ("id", "smiles")
    assert molecules.smiles == ("CCO", "c1ccccc1")
    assert molecules.rows == (("7", "CCO"), ("8", "c1ccccc1"))


def test_a_byte_order_mark_is_no_part_of_a_column():
    assert read_molecules("\ufeffsmiles\nCCO\n", "in.csv", "smiles").columns == ("smiles",)


def test_lines_hold_a_smiles_and_a_name():
    molecules = read_molecules("CCO ethanol, absolute\n\nCC\n", "in.smi", "smiles")
    assert molecules.rows == (("CCO", "ethanol, absolute"), ("CC", ""))


@pytest.mark.parametrize(("text", "columns"), [("id,smiles\n1,CCO\n", ("id", "smiles")), ("CCO\n", ("smiles", "name"))])
def test_standard_input_is_a_csv_where_its_first_line_names_the_column(text, columns):
    molecules = read_molecules(text, "-", "smiles")
    assert molecules.columns == columns
    assert molecules.smiles == ("CCO",)


def test_a_missing_column_is_told_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"no column 'smiles' \(did you mean 'Smile'\?\), its columns are id, Smile; name"
    ):
        read_molecules("id,Smile\n1,CCO\n", "in.csv", "smiles")


@pytest.mark.parametrize("source", ["m.csv", "-"])
def test_a_value_that_no_csv_may_have_is_told(source):
    with pytest.raises(DataError, match=f"'{source}' must be a CSV, it is not: field larger than field limit"):
        read_molecules(f"smiles,name\nC,{'n' * 140_000}\n", source, "smiles")


def test_an_unknown_kind_of_file_is_refused():
    with pytest.raises(ConfigError, match=r"molecules are read from \.csv or \.smi.*got 'in\.sdf'"):
        read_molecules("x", "in.sdf", "smiles")


def test_a_ragged_row_is_told():
    with pytest.raises(DataError, match="needs 2 cells like its header, row 2 has 3"):
        read_molecules("id,smiles\n1,CCO\n2,C,C\n", "in.csv", "smiles")


@pytest.mark.parametrize(("text", "source"), [("", "in.smi"), ("smiles\n", "in.csv"), ("\n\n", "-")])
def test_a_file_without_molecules_is_refused(text, source):
    with pytest.raises(DataError, match="holds no molecule"):
        read_molecules(text, source, "smiles")


def test_every_row_comes_back_and_unreadable_ones_are_empty():
    molecules = read_molecules("id,smiles\n1,OCC\n2,nonsense\n3,\n4,C(=O)=O\n", "in.csv", "smiles")
    found = predict_table(Lengths(), molecules)
    rows = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["predicted_oxygens"] for row in rows] == ["1", "", "", "2"]
    assert [row["predicted_length"] for row in rows] == ["3", "", "", "5"]
    assert found.unreadable == ((2, "nonsense"), (3, ""))


def test_the_model_sees_canonical_smiles():
    class Keeps(Lengths):
        def predict(self, smiles):
            self.seen = smiles
            return super().predict(smiles)

    model = Keeps()
    predict_table(model, read_molecules("OCC\nC1=CC=CC=C1\n", "in.smi", "smiles"))
    assert model.seen == ["CCO", "c1ccccc1"]


def test_a_column_is_never_overwritten():
    with pytest.raises(ConfigError, match="has a column 'predicted_length' already"):
        predict_table(Lengths(), read_molecules("smiles,predicted_length\nCCO,1\n", "in.csv", "smiles"))


def test_a_file_in_which_nothing_parses_is_refused():
    with pytest.raises(DataError, match="none of the 2 SMILES parses, first 'x1'"):
        predict_table(Lengths(), read_molecules("x1\nx2\n", "in.smi", "smiles"))
