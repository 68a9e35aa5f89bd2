import json

import numpy as np
import pytest

from chembench.chem.scaffolds import murcko
from chembench.data.catalog import TaskDef
from chembench.data.divisions import deepchem_scaffold, random_split, seeded_scaffold
from chembench.data.splits import Division, load_rows, load_sealed, load_test_ids, prepare_split
from chembench.data.tasks import prepare_task
from chembench.errors import DataError, UnknownNameError
from chembench.paths import CachePaths

RINGS = [f"{'C' * a}C1{'C' * r}1{'O' * b}" for r in range(2, 32) for a in range(4) for b in range(1, 3)]
"""240 molecules in 30 scaffolds of 8."""


def labels(count, kind="regression"):
    values = np.arange(count) * 7 % 50 / 5.0
    return values.round(2) if kind == "regression" else (values > 5).astype(int)


def task_of(folder, cache, values, kind="regression", smiles=RINGS):
    folder.mkdir(exist_ok=True)
    values = values if isinstance(values, dict) else {"y": values}
    rows = [",".join(["smiles", *values])]
    rows += [",".join([smiles[i], *(str(column[i]) for column in values.values())]) for i in range(len(smiles))]
    (folder / "task.csv").write_text("\n".join(rows))
    definition = TaskDef(name="mine", kind=kind, targets=tuple(values), file="task.csv")
    return prepare_task(definition, folder, cache, folder)


def assert_partition(parts, count):
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))


@pytest.mark.parametrize("divide", [deepchem_scaffold, seeded_scaffold])
def test_a_scaffold_stays_in_one_part(divide):
    parts = divide(RINGS, 3, 0.4)
    assert_partition(parts, 240)
    assert [len(part) for part in parts] == [192, 24, 24]
    train, valid, test = ({murcko(RINGS[row]) for row in part} for part in parts)
    assert not (train & valid or train & test or valid & test)


@pytest.mark.parametrize("divide", [seeded_scaffold, random_split])
def test_the_division_follows_its_seed(divide):
    one, again, other = (divide(RINGS, seed, 0.4) for seed in (1, 1, 2))
    assert [part.tolist() for part in one] == [part.tolist() for part in again]
    assert set(one[2].tolist()) != set(other[2].tolist())


def test_deepchem_has_one_scaffold_split():
    assert deepchem_scaffold(RINGS, 1, 0.4)[2].tolist() == deepchem_scaffold(RINGS, 2, 0.4)[2].tolist()


def test_the_random_split_keeps_equal_molecules_together():
    smiles = ["C" * (row // 2 + 1) for row in range(200)]
    parts = random_split(smiles, 0, 0.4)
    assert_partition(parts, 200)
    assert [len(part) for part in parts] == [160, 20, 20]
    train, valid, test = ({smiles[row] for row in part} for part in parts)
    assert not (train & valid or train & test or valid & test)


def test_rows_come_back_as_they_were(tmp_path, cache):
    task = task_of(tmp_path, cache, labels(240))
    split = prepare_split(task, Division("scaffold", 0, 0), cache)
    rows = load_rows(split.folder, "train")
    assert split.counts == {"train": 192, "valid": 24, "test": 24}
    assert len(rows) == 192 and rows.ids_N.dtype == np.int64 and rows.labels_NM.dtype == np.float32
    for ids, smiles, values in zip(rows.ids_N, rows.smiles, rows.labels_NM, strict=True):
        assert smiles == task.canonical[ids] and values == task.labels_NM[ids]
    sealed = load_sealed(split.sealed_folder)
    assert sealed.ids_N.tolist() == np.load(split.folder / "test_ids.npy").tolist()
    assert split.train_sd == pytest.approx((float(rows.labels_NM.std()),), rel=1e-5)
    assert prepare_split(task, Division("scaffold", 0, 0), cache) == split


def test_a_later_index_keeps_the_test_and_divides_the_rest_by_scaffold(tmp_path, cache):
    task = task_of(tmp_path, cache, labels(240))
    splits = [prepare_split(task, Division("deepchem_scaffold", 0, index), cache) for index in range(3)]
    assert len({split.test_rows for split in splits}) == len({split.sealed for split in splits}) == 1
    assert len({split.data for split in splits}) == len({split.digest for split in splits}) == 3
    for split in splits:
        train, valid = load_rows(split.folder, "train"), load_rows(split.folder, "valid")
        assert (len(train), len(valid)) == (192, 24)
        assert not {murcko(s) for s in train.smiles} & {murcko(s) for s in valid.smiles}
        assert_partition((train.ids_N, valid.ids_N, load_sealed(split.sealed_folder).ids_N), 240)


def test_nothing_a_search_reads_depends_on_a_test_label(tmp_path):
    one_cache, other_cache = CachePaths(tmp_path / "1"), CachePaths(tmp_path / "2")
    values = labels(240)
    one = prepare_split(task_of(tmp_path / "a", one_cache, values), Division("scaffold", 0, 0), one_cache)
    poisoned = values.copy()
    poisoned[load_sealed(one.sealed_folder).ids_N] = -99
    other = prepare_split(task_of(tmp_path / "b", other_cache, poisoned), Division("scaffold", 0, 0), other_cache)
    assert (one.data, one.test_rows, one.digest) == (other.data, other.test_rows, other.digest)
    assert one.sealed != other.sealed
    files = sorted(path.name for path in one.folder.iterdir())
    assert files == ["manifest.json", "test_ids.npy", "train.npz", "train.txt", "valid.npz", "valid.txt"]
    for name in files:
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_a_training_label_changes_the_data_digest_and_not_the_test(tmp_path, cache):
    values = labels(240)
    one = prepare_split(task_of(tmp_path / "a", cache, values), Division("scaffold", 0, 0), cache)
    changed = values.copy()
    changed[load_rows(one.folder, "valid").ids_N[0]] = -99
    other = prepare_split(task_of(tmp_path / "b", cache, changed), Division("scaffold", 0, 0), cache)
    assert one.data != other.data and one.sealed == other.sealed and one.test_rows == other.test_rows


def test_changed_rows_are_refused(tmp_path, cache):
    split = prepare_split(task_of(tmp_path, cache, labels(240)), Division("scaffold", 0, 0), cache)
    for folder, part in ((split.sealed_folder, "test"), (split.folder, "valid")):
        with np.load(folder / f"{part}.npz") as arrays:
            np.savez(folder / f"{part}.npz", ids=arrays["ids"], labels=arrays["labels"] + 1)
    with pytest.raises(DataError, match=r"test rows in .* are not those that were prepared; remove the folder"):
        load_sealed(split.sealed_folder)
    with pytest.raises(DataError, match=r"valid rows in .* are not those that were prepared"):
        load_rows(split.folder, "valid")


def test_nothing_in_a_folder_is_unpickled(tmp_path, cache):
    split = prepare_split(task_of(tmp_path, cache, labels(240)), Division("scaffold", 0, 0), cache)
    np.savez(split.folder / "train.npz", ids=np.array([object()]), labels=np.zeros((1, 1)))
    with pytest.raises(DataError, match=r"holds no train rows .*allow_pickle.*; prepare the split again"):
        load_rows(split.folder, "train")


def test_a_folder_without_rows_is_told(tmp_path):
    with pytest.raises(DataError, match=r"holds no test rows .*; prepare the split again"):
        load_sealed(tmp_path)


def test_rows_without_any_label_are_left_out(tmp_path, cache):
    values = ["" if row % 5 == 0 else value for row, value in enumerate(labels(240))]
    split = prepare_split(task_of(tmp_path, cache, values), Division("scaffold", 0, 0), cache)
    assert sum(split.counts.values()) == 192
    assert not np.isnan(load_rows(split.folder, "train").labels_NM).any()


def test_an_unknown_split_is_told(tmp_path, cache):
    with pytest.raises(UnknownNameError, match=r"unknown split 'scafold'. Did you mean 'scaffold'"):
        prepare_split(task_of(tmp_path, cache, labels(240)), Division("scafold", 0, 0), cache)


def test_an_empty_part_is_an_error(tmp_path, cache):
    task = task_of(tmp_path, cache, labels(100), smiles=["C" * (n + 1) for n in range(100)])
    with pytest.raises(
        DataError, match=r"has no labelled molecule .task mine, split scaffold, seed 0, index 0.; use another"
    ):
        prepare_split(task, Division("scaffold", 0, 0), cache)
    assert prepare_split(task, Division("random", 0, 0), cache).counts == {"train": 80, "valid": 10, "test": 10}


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_one_class_in_any_part_of_a_single_target_task_is_an_error(tmp_path, cache, part):
    values = labels(240, "classification")
    where = dict(zip(("train", "valid", "test"), seeded_scaffold(RINGS, 0, 0.4), strict=True))
    values[where[part]] = 1
    task = task_of(tmp_path, cache, values, "classification")
    text = f"{part} must hold both classes, target 'y' has 0 of class 0 and {len(where[part])} of class 1 .*split_seed"
    with pytest.raises(DataError, match=text):
        prepare_split(task, Division("scaffold", 0, 0), cache)


def test_one_class_of_one_of_several_targets_is_recorded(tmp_path, cache):
    values = labels(240, "classification")
    single = values.copy()
    _, valid, test = seeded_scaffold(RINGS, 0, 0.4)
    single[valid] = 0
    single[test] = 1
    task = task_of(tmp_path, cache, {"y": values, "z": single}, "classification")
    split = prepare_split(task, Division("scaffold", 0, 0), cache)
    manifest = json.loads((split.folder / "manifest.json").read_text())
    assert manifest["parts"]["valid"]["one_class"] == ["z"] and manifest["parts"]["train"]["one_class"] == []
    assert set(manifest["parts"]) == {"train", "valid"}
    assert json.loads((split.sealed_folder / "manifest.json").read_text())["parts"]["test"]["one_class"] == ["z"]
    assert split.train_sd == ()


def test_targets_without_both_classes_everywhere_are_an_error(tmp_path, cache):
    values = labels(240, "classification")
    _, _, test = seeded_scaffold(RINGS, 0, 0.4)
    values[test] = 1
    task = task_of(tmp_path, cache, {"y": values, "z": values}, "classification")
    with pytest.raises(DataError, match="test must hold both classes"):
        prepare_split(task, Division("scaffold", 0, 0), cache)


def test_training_labels_that_do_not_vary_are_an_error(tmp_path, cache):
    values = labels(240)
    train, _, _ = seeded_scaffold(RINGS, 0, 0.4)
    values[train] = 2.5
    with pytest.raises(
        DataError, match=r"training labels must vary, target 'y' has 192 labels, all 2.5 .*; leave it out"
    ):
        prepare_split(task_of(tmp_path, cache, values), Division("scaffold", 0, 0), cache)


def test_test_rows_are_read_without_their_labels(tmp_path, cache):
    task = task_of(tmp_path, cache, labels(240))
    split = prepare_split(task, Division("random"), cache)
    assert set(load_test_ids(split.folder).tolist()) == set(load_sealed(split.sealed_folder).ids_N.tolist())
    np.save(split.folder / "test_ids.npy", load_test_ids(split.folder)[:-1])
    with pytest.raises(DataError, match=r"test rows in .* are not those that were prepared; remove the folder"):
        load_test_ids(split.folder)
    (split.folder / "test_ids.npy").unlink()
    with pytest.raises(DataError, match=r"holds no test rows .*; prepare the split again"):
        load_test_ids(split.folder)
