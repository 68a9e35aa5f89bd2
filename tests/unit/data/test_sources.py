import gzip

import pyarrow
import pyarrow.parquet
import pytest

from chembench.data.sources import open_bytes, resolve, resolve_file, sha256_of, smiles_cells
from chembench.errors import ConfigError, DataError


def cells(tmp_path, name, column=None):
    return list(smiles_cells(resolve_file(name, tmp_path), column))


def test_an_rdkit_name_is_a_file_inside_its_data_folder(tmp_path):
    assert cells(tmp_path, "rdkit:NCI/first_5K.smi")[0] == "CC1=CC(=O)C=CC1=O"


def test_an_rdkit_name_cannot_leave_the_data_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"stays inside RDKit's data folder, got 'rdkit:../Contrib/x.smi'"):
        resolve(["rdkit:../Contrib/x.smi"], tmp_path)
    with pytest.raises(ConfigError, match="stays inside"):
        resolve(["rdkit:/etc/passwd"], tmp_path)


def test_an_rdkit_name_without_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no file 'rdkit:NCI/none.smi' comes with this RDKit"):
        resolve(["rdkit:NCI/none.smi"], tmp_path)


def test_a_missing_file_is_told_with_the_folder_it_was_looked_for_in(tmp_path):
    with pytest.raises(DataError, match=f"no file 'none.smi' in {tmp_path}; correct the name"):
        resolve(["none.smi"], tmp_path)


def test_an_unknown_ending_is_told_before_anything_is_read(tmp_path):
    (tmp_path / "a.sdf.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"ends in .smi, .* got 'a.sdf.gz'; convert it"):
        resolve(["a.sdf.gz"], tmp_path)


def test_a_glob_names_its_files_in_order(tmp_path):
    for name in ("b.smi", "a.smi", "c.csv"):
        (tmp_path / name).write_text("C\n")
    assert [s.name for s in resolve(["*.smi"], tmp_path)] == ["a.smi", "b.smi"]
    assert [s.name for s in resolve([str(tmp_path / "*.smi")], tmp_path / "elsewhere")] == ["a.smi", "b.smi"]
    with pytest.raises(DataError, match=r"a task is one file, '\*.smi' matches 2"):
        resolve_file("*.smi", tmp_path)


def test_a_url_is_read_through_fsspec(tmp_path):
    import fsspec

    with fsspec.open("memory://molecules/a.smi", "w") as file:
        file.write("CCO ethanol\n")
    assert cells(tmp_path, "memory://molecules/a.smi") == ["CCO"]
    assert [s.name for s in resolve(["memory://molecules/*.smi"], tmp_path)] == ["a.smi"]
    assert len(resolve_file("memory://molecules/a.smi", tmp_path).stamp()) > 1
    with pytest.raises(DataError, match=r"no file at 'memory://molecules/b.smi'"):
        cells(tmp_path, "memory://molecules/b.smi")
    with pytest.raises(DataError, match="no file matches"):
        resolve(["memory://molecules/x*.smi"], tmp_path)


def test_an_unknown_protocol_is_told(tmp_path):
    with pytest.raises(DataError, match=r"'nosuch://a.smi' cannot be read"):
        cells(tmp_path, "nosuch://a.smi")


def test_a_smi_file_gives_the_first_word_of_each_line(tmp_path):
    (tmp_path / "a.smi").write_text("CCO\tethanol\n\n  CC ethane\n")
    assert cells(tmp_path, "a.smi") == ["CCO", "CC"]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_packed_files_are_unpacked(tmp_path, ending):
    content = b"CCO\nCC\n"
    path = tmp_path / f"a.smi.{ending}"
    if ending == "gz":
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(pyarrow.compress(content, "zstd", asbytes=True))
    assert cells(tmp_path, path.name) == ["CCO", "CC"]
    with open_bytes(resolve_file(path.name, tmp_path)) as file:
        assert file.read() == content
    assert len(sha256_of(resolve_file(path.name, tmp_path))) == 64


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.smi.gz").write_bytes(gzip.compress(b"CCO\n" * 1000)[:30])
    with pytest.raises(DataError, match=r"'a.smi.gz' cannot be read: "):
        cells(tmp_path, "a.smi.gz")


def test_a_csv_is_read_by_the_column_named(tmp_path):
    (tmp_path / "a.csv").write_text('id,Structure\n1,"CCO"\n2,\n')
    assert cells(tmp_path, "a.csv", "Structure") == ["CCO", ""]


def test_a_missing_column_is_told_with_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("id,Structure\n1,CCO\n")
    with pytest.raises(DataError, match=r"'a.csv' has no column 'structure'; did you mean 'Structure'\? it has: id, S"):
        cells(tmp_path, "a.csv", "structure")


def test_a_column_called_smiles_is_found_in_any_case(tmp_path):
    (tmp_path / "a.csv").write_text("id,SMILES\n1,CCO\n")
    assert cells(tmp_path, "a.csv") == ["CCO"]


def test_a_csv_without_header_is_told_by_its_first_cell(tmp_path):
    (tmp_path / "a.csv").write_text('"CCO","one"\n"CC","two"\n')
    assert cells(tmp_path, "a.csv") == ["CCO", "CC"]
    assert len(cells(tmp_path, "rdkit:Pains/test_data/wehi_mols.csv")) == 10_000


def test_a_csv_whose_column_cannot_be_told_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("structure,id\nCCO,1\n")
    with pytest.raises(DataError, match=r"no column 'smiles' and its first row is no molecule .* corpus.smiles_column"):
        cells(tmp_path, "a.csv")


def test_a_parquet_file_is_read_by_column(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "smiles": ["CCO", None]}), tmp_path / "a.parquet")
    assert cells(tmp_path, "a.parquet") == ["CCO", ""]
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet.gz").write_bytes(packed)
    assert cells(tmp_path, "b.parquet.gz", "smiles") == ["CCO", ""]


def test_a_parquet_file_without_smiles_column_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"mol": ["CCO"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'a.parquet' has no column 'smiles'; name the column .*\['mol'\]"):
        cells(tmp_path, "a.parquet")
