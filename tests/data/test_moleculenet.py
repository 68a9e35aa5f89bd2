"""Real MoleculeNet files through DeepChem's loaders: row counts, labels, and DeepChem's own scaffold split."""

import csv
import gzip
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from chembench.chem.smiles import canonical
from chembench.data.divisions import deepchem_scaffold
from chembench.data.splits import Division, prepare_split
from chembench.data.tasks import TASKS, prepare_task
from chembench.errors import DataError
from chembench.paths import CachePaths

DATA = Path(os.environ.get("CHEMBENCH_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
RAW = DATA / "moleculenet"
ROWS = {
    "bace_regression": (1513, 0),
    "delaney": (1128, 0),
    "lipo": (4200, 0),
    "freesolv": (642, 0),
    "bace_classification": (1513, 0),
    "tox21": (7823, 8),
    "tox21_sr_p53": (7823, 8),
    "bbbp": (2039, 11),
    "clintox": (1480, 4),
    "sider": (1427, 0),
    "hiv": (41120, 7),
}

pytestmark = pytest.mark.skipif(find_spec("deepchem") is None, reason="DeepChem has no release for this Python")
needs_files = pytest.mark.skipif(
    not (RAW / "bace.csv").is_file(),
    reason=f"needs the MoleculeNet files in {RAW}; set CHEMBENCH_TEST_DATA to the folder above it",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return CachePaths(tmp_path_factory.mktemp("cache"))


@needs_files
@pytest.mark.parametrize("name", ROWS)
def test_every_task_has_the_rows_that_rdkit_can_read(name, cache, capfd):
    task = prepare_task(TASKS[name], RAW, cache)
    assert (task.rows, task.unreadable) == ROWS[name]
    assert task.labels_NM.shape == (task.rows, len(TASKS[name].targets))
    assert len(task.molecules) == len(task.canonical) == task.rows
    assert len(task.unreadable_list.read_text().splitlines()) == task.unreadable
    assert capfd.readouterr() == ("", ""), "DeepChem's noise is held back"


@needs_files
def test_missing_labels_are_never_read_as_0(cache):
    task = prepare_task(TASKS["tox21"], RAW, cache)
    with gzip.open(RAW / "tox21.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if canonical(row["smiles"])]
    empty_NM = np.array([[row[target] == "" for target in task.targets] for row in rows])
    np.testing.assert_array_equal(np.isnan(task.labels_NM), empty_NM)
    assert empty_NM.sum() > 16_000


@needs_files
@pytest.mark.parametrize("name", ["delaney", "bace_classification", "lipo", "bbbp"])
def test_the_scaffold_split_is_deepchems(name, cache):
    import deepchem

    task = prepare_task(TASKS[name], RAW, cache)
    blank = np.zeros(task.rows)
    dataset = deepchem.data.NumpyDataset(X=blank, y=blank, w=blank, ids=np.array(task.molecules, dtype=object))
    expected = deepchem.splits.ScaffoldSplitter().split(dataset)
    found = deepchem_scaffold(task.molecules, 0, 0.4)
    assert [part.tolist() for part in found] == [list(map(int, part)) for part in expected]


@needs_files
def test_a_rare_class_is_counted_in_every_part(cache):
    task = prepare_task(TASKS["tox21_sr_p53"], RAW, cache)
    split = prepare_split(task, Division("random", 0, 0), cache)
    assert sum(split.counts.values()) == 7823 - 1056


@needs_files
def test_deepchem_is_not_imported_again(cache):
    first = prepare_task(TASKS["delaney"], RAW, cache)
    code = f"""
import sys
from pathlib import Path
from chembench.data.tasks import TASKS, prepare_task
from chembench.paths import CachePaths
task = prepare_task(TASKS["delaney"], Path({str(RAW)!r}), CachePaths(Path({str(cache.root)!r})))
print(task.digest, len(task.molecules), "deepchem" in sys.modules, "rdkit.Chem" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [first.digest, "1128", "False", "False"]


def test_a_failed_download_is_told_with_the_file_and_its_place(tmp_path, monkeypatch):
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
    text = "DeepChem cannot get delaney-processed.csv of task delaney .*put the file into the data folder"
    with pytest.raises(DataError, match=text):
        prepare_task(TASKS["delaney"], tmp_path / "raw", CachePaths(tmp_path / "cache"))
    assert not (tmp_path / "raw").exists()


def test_a_download_is_kept_in_the_data_folder(tmp_path, monkeypatch):
    import deepchem

    def served(url, dest_dir, name=None):
        Path(dest_dir, Path(url).name).write_text(
            "smiles,measured log solubility in mols per litre\nCCO,1.0\nCC,2.0\nc1ccccc1,-3.0\n"
        )

    monkeypatch.setattr(deepchem.utils.data_utils, "download_url", served)
    task = prepare_task(TASKS["delaney"], tmp_path / "raw", CachePaths(tmp_path / "cache"))
    assert task.labels_NM[:, 0].tolist() == [1, 2, -3]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["delaney-processed.csv"]


def test_a_file_that_is_not_the_loaders_is_told(tmp_path):
    (tmp_path / "delaney-processed.csv").write_text("mol,solubility\nCCO,1\n")
    with pytest.raises(
        DataError, match=r"DeepChem cannot read delaney-processed.csv of task delaney .*replace the file"
    ):
        prepare_task(TASKS["delaney"], tmp_path, CachePaths(tmp_path / "cache"))
