import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from web_files import WebFiles, served

from chembench.data.catalog import TASKS, TaskDef
from chembench.data.tasks import prepare_task
from chembench.errors import DataError
from chembench.paths import CachePaths


def task_of(tmp_path, cache, text, name="mine.csv", **fields):
    (tmp_path / name).write_text(text)
    given = {"name": "mine", "kind": "regression", "targets": ("y",), "file": name, **fields}
    return prepare_task(TaskDef(**given), tmp_path / "raw", cache, tmp_path)


def test_an_own_csv_is_a_task(tmp_path, cache):
    text = "id,mol,y,z\n1,OCC ,1.5,9\n2,CC,,8\n3,bad,3,7\n4,C1CC1,nan,-2e3\n"
    task = task_of(tmp_path, cache, text, smiles="mol", targets=("y", "z"), unit="mg", max_unreadable=0.3)
    assert (task.name, task.kind, task.targets, task.unit, task.rows) == ("mine", "regression", ("y", "z"), "mg", 3)
    assert task.molecules == ("OCC", "CC", "C1CC1")
    assert task.canonical == ("CCO", "CC", "C1CC1")
    assert task.labels_NM.dtype == np.float32
    np.testing.assert_array_equal(task.labels_NM, [[1.5, 9], [np.nan, 8], [np.nan, -2000]])
    assert task.unreadable == 1 and task.unreadable_list.read_text() == "bad\n"
    manifest = task.manifest
    assert manifest["missing"] == [2, 0] and manifest["ranges"] == [[1.5, 1.5], [-2000, 9]]
    assert len(manifest["raw_sha256"]) == 64


def test_an_own_parquet_is_a_task(tmp_path, cache):
    table = pyarrow.table({"smiles": ["CCO", "CC", "C"], "y": [True, None, False], "z": [0.5, 1.5, None]})
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")
    definition = TaskDef(name="mine", kind="classification", targets=("y",), file="mine.parquet")
    np.testing.assert_array_equal(prepare_task(definition, tmp_path, cache, tmp_path).labels_NM, [[1], [np.nan], [0]])
    other = definition.model_copy(update={"targets": ("z",), "kind": "regression"})
    np.testing.assert_array_equal(prepare_task(other, tmp_path, cache, tmp_path).labels_NM, [[0.5], [1.5], [np.nan]])


def test_the_second_call_reads_the_cache(tmp_path, cache, monkeypatch):
    text = "smiles,y\nCCO,1\nCC,2\n"
    first = task_of(tmp_path, cache, text)
    monkeypatch.setattr("chembench.data.tasks.read_rows", lambda *_: pytest.fail("the file is read again"))
    second = task_of(tmp_path, cache, text)
    assert second.digest == first.digest and second.molecules == first.molecules


def test_a_changed_file_makes_another_task(tmp_path, cache):
    first = task_of(tmp_path, cache, "smiles,y\nCCO,1\nCC,2\n")
    assert task_of(tmp_path, cache, "smiles,y\nCCO,1\nCC,3\n").digest != first.digest
    assert task_of(tmp_path, cache, "smiles,y,other\nCCO,1,0\nCC,2,0\n").digest == first.digest


def test_a_cut_makes_classes(tmp_path, cache):
    task = task_of(tmp_path, cache, "smiles,y\nC,6.5\nCC,6.49\nCCC,\n", kind="classification", cut=6.5)
    np.testing.assert_array_equal(task.labels_NM, [[1], [0], [np.nan]])
    assert task.manifest["classes"] == [[1, 1]]


def test_missing_labels_are_read_as_0_in_paper_mode_only(tmp_path, cache):
    text = "smiles,y\nC,1\nCC,\n"
    np.testing.assert_array_equal(task_of(tmp_path, cache, text, mask_missing=False).labels_NM, [[1], [0]])
    np.testing.assert_array_equal(task_of(tmp_path, cache, text).labels_NM, [[1], [np.nan]])


def test_a_sample_is_the_same_molecules_in_their_order(tmp_path, cache, molecules):
    text = "smiles,y\n" + "".join(f"{smiles},{row}\n" for row, smiles in enumerate(molecules))
    task = task_of(tmp_path, cache, text, max_rows=20)
    rows = task.labels_NM[:, 0].astype(int).tolist()
    assert len(rows) == 20 and rows == sorted(rows)
    assert list(task.molecules) == [molecules[row] for row in rows]
    assert set(task_of(tmp_path, cache, text, max_rows=10).molecules) < set(task.molecules)
    assert rows != list(range(20))


def test_a_missing_column_is_told_with_the_nearest(tmp_path, cache):
    with pytest.raises(
        DataError, match=r"'mine.csv' has no column 'pIC50'; did you mean 'pic50'\? it has: smiles, pic50"
    ):
        task_of(tmp_path, cache, "smiles,pic50\nC,1\n", targets=("pIC50",))
    with pytest.raises(DataError, match="has no column 'smiles'"):
        task_of(tmp_path, cache, "mol,y\nC,1\n")


def test_too_many_unreadable_rows_are_an_error_that_names_the_list(tmp_path, cache):
    with pytest.raises(
        DataError, match=r"1 of 3 rows of task mine \(33.3%\) hold no molecule .* is 5.0%; see "
    ) as error:
        task_of(tmp_path, cache, "smiles,y\nC,1\nCC,2\nbad,3\n")
    assert Path(str(error.value).split("see ")[1]).read_text() == "bad\n"


def test_a_class_other_than_0_and_1_is_refused(tmp_path, cache):
    with pytest.raises(
        DataError, match=r"classes must be 0, 1 or empty, got '2' in data row 2 of column 'y' .task mine"
    ):
        task_of(tmp_path, cache, "smiles,y\nC,1\nCC,2\nCCC,0\n", kind="classification")


@pytest.mark.parametrize("cell", ["high", "inf"])
def test_a_label_that_is_no_number_is_refused(tmp_path, cache, cell):
    with pytest.raises(DataError, match=f"labels must be numbers or empty, got '{cell}' in data row 2 of column 'y'"):
        task_of(tmp_path, cache, f"smiles,y\nC,1\nCC,{cell}\n")


def test_a_target_without_labels_is_refused(tmp_path, cache):
    with pytest.raises(DataError, match="target 'z' of task mine has no label at all; leave it out of targets"):
        task_of(tmp_path, cache, "smiles,y,z\nC,1,\nCC,2,\n", targets=("y", "z"))


def test_an_empty_table_is_refused(tmp_path, cache):
    with pytest.raises(DataError, match="task mine has no molecule; give a file with rows"):
        task_of(tmp_path, cache, "smiles,y\n")


def test_a_file_without_labels_is_refused(tmp_path, cache):
    with pytest.raises(DataError, match=r"a task is a CSV or Parquet file with labels, got 'mine.smi'"):
        task_of(tmp_path, cache, "C 1\n", name="mine.smi")
    with pytest.raises(DataError, match=r"a task is a CSV or Parquet file with labels, got 'mine.tar.gz'"):
        task_of(tmp_path, cache, "", name="mine.tar.gz")


def test_a_table_of_the_web_is_downloaded_into_the_data_folder(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for web in served(WebFiles({"/mine.csv": b"smiles,y\nCCO,1\nCC,2\n"})):
        definition = TaskDef(name="mine", kind="regression", targets=("y",), file=f"{web.url}/mine.csv")
        task = prepare_task(definition, tmp_path / "raw", cache, tmp_path)
        prepare_task(definition, tmp_path / "raw", CachePaths(tmp_path / "other"), tmp_path)
    assert task.rows == 2 and len(web.asked) == 1
    assert len(list((tmp_path / "raw" / "downloads").rglob("mine.csv"))) == 1


def test_a_missing_file_is_told(tmp_path, cache):
    with pytest.raises(DataError, match=r"no file 'none.csv' in"):
        prepare_task(
            TaskDef(name="mine", kind="regression", targets=("y",), file="none.csv"), tmp_path, cache, tmp_path
        )


def test_the_embedded_series_is_joined_by_name(tmp_path, cache):
    values = prepare_task(TASKS["freewilson_pic50"], tmp_path, cache)
    classes = prepare_task(TASKS["freewilson_active"], tmp_path, cache)
    assert values.rows == classes.rows == 1017
    assert values.molecules[0] == "O=S(=O)(Nc1cccs1)c2ccc(Oc3ccccc3c4ccccc4)c(c2)C#N"
    assert values.labels_NM[0, 0] == np.float32(5.48)
    np.testing.assert_array_equal(classes.labels_NM == 1, values.labels_NM >= 6.5)
    assert classes.manifest["classes"] == [[525, 492]]
    assert values.note == "one congeneric series, demonstration"


def test_without_deepchem_its_tasks_are_told(tmp_path, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepchem", None)
    (tmp_path / "delaney-processed.csv").write_text("smiles\nC\n")
    with pytest.raises(DataError, match=r"task delaney comes through DeepChem, which cannot be imported here .* 3.11"):
        prepare_task(TASKS["delaney"], tmp_path, cache)
