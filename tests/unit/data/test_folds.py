"""Ways to divide real molecules, and the outer folds that are made of them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chembench.chem.clusters import butina
from chembench.chem.scaffolds import murcko
from chembench.data.catalog import TaskDef
from chembench.data.divisions import cluster_split, folds_of, group_keys, random_split, seeded_scaffold
from chembench.data.splits import Division, load_rows, load_sealed, prepare_split
from chembench.data.tasks import prepare_task
from chembench.errors import DataError
from chembench.paths import CachePaths

WAYS = {"scaffold": seeded_scaffold, "cluster": cluster_split, "random": random_split}


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """A regression task and a classification task on 300 molecules of the NCI, in a cache of their own."""
    from rdkit import RDConfig

    from chembench.chem.smiles import canonical_many

    folder = tmp_path_factory.mktemp("screened")
    file = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
    smiles = [line.split()[0] for line in file.read_text().splitlines()]
    kept = [text for text in canonical_many(smiles[:330]) if text is not None][:300]
    lines = [f"{text},{row * 7 % 50 / 5},{row * 7 % 50 > 25:d}" for row, text in enumerate(kept)]
    (folder / "assay.csv").write_text("\n".join(["smiles,value,active", *lines]))
    cache = CachePaths(folder / "cache")
    tasks = {
        kind: prepare_task(TaskDef(name=kind, kind=kind, targets=(target,), file="assay.csv"), folder, cache, folder)
        for kind, target in (("regression", "value"), ("classification", "active"))
    }
    return tasks, cache


def keys_of(task, groups):
    return np.array(group_keys(groups, task.canonical, 0.4))


def ids_of(split):
    train, valid = (load_rows(split.folder, part).ids_N.tolist() for part in ("train", "valid"))
    return train, valid, load_sealed(split.sealed_folder).ids_N.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_no_group_is_in_two_parts(screened, way):
    task = screened[0]["regression"]
    keys = keys_of(task, way)
    parts = WAYS[way](task.canonical, 3, 0.4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(300))
    train, valid, test = (set(keys[rows].tolist()) for rows in parts)
    assert not (train & valid or train & test or valid & test)
    assert all(20 <= len(part) <= 30 for part in parts[1:])


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides_the_parts(screened, way):
    smiles = screened[0]["regression"].canonical
    one, again, other = ([part.tolist() for part in WAYS[way](smiles, seed, 0.4)] for seed in (1, 1, 2))
    assert one == again
    for part, elsewhere in zip(one[1:], other[1:], strict=True):
        assert len(set(part) & set(elsewhere)) < 0.7 * len(part)


def test_groups_are_scaffolds_clusters_and_molecules(screened):
    smiles = screened[0]["regression"].canonical
    assert list(keys_of(screened[0]["regression"], "scaffold")) == [murcko(text) for text in smiles]
    assert list(keys_of(screened[0]["regression"], "cluster")) == butina(smiles, 0.4)
    assert list(keys_of(screened[0]["regression"], "random")) == list(smiles)


@pytest.mark.parametrize("way", WAYS)
def test_each_repeat_tests_every_molecule_once_with_groups_whole(screened, way):
    task, cache = screened[0]["regression"], screened[1]
    keys = keys_of(task, way)
    for repeat in range(2):
        tested = []
        for fold in range(5):
            split = prepare_split(task, Division(way, 0, 0, 0.4, 5, repeat * 5 + fold + 1), cache)
            assert split.outer == repeat * 5 + fold + 1
            train, valid, test = ids_of(split)
            assert sorted([*train, *valid, *test]) == list(range(300))
            one, other, third = (set(keys[rows].tolist()) for rows in (train, valid, test))
            assert not (one & other or one & third or other & third)
            assert 20 <= len(valid) <= 30
            tested += test
        assert sorted(tested) == list(range(300))


@pytest.mark.parametrize("way", WAYS)
def test_repeats_and_seeds_divide_differently(screened, way):
    task, cache = screened[0]["regression"], screened[1]

    def tests(seed, repeat):
        folds = [prepare_split(task, Division(way, seed, 0, 0.4, 5, repeat * 5 + fold + 1), cache) for fold in range(5)]
        return {frozenset(ids_of(split)[2]) for split in folds}

    assert tests(0, 0) == tests(0, 0)
    alone = 1 if way == "scaffold" else 0  # molecules without a ring are more than a fold, and a fold of their own
    assert len(tests(0, 0) & tests(0, 1)) == len(tests(0, 0) & tests(1, 0)) == alone


def test_more_repeats_leave_the_first_folds_as_they_are(screened, tmp_path):
    task = screened[0]["regression"]
    alone = prepare_split(task, Division("random", 0, 0, 0.4, 5, 2), CachePaths(tmp_path))
    assert alone.digest == prepare_split(task, Division("random", 0, 0, 0.4, 5, 2), screened[1]).digest


def test_an_outer_fold_is_another_split_than_the_named_one(screened):
    task, cache = screened[0]["regression"], screened[1]
    named, outer = (
        prepare_split(task, Division("random"), cache),
        prepare_split(task, Division("random", 0, 0, 0.4, 5, 1), cache),
    )
    assert (named.outer, outer.outer) == (0, 1)
    assert len({named.digest, outer.digest}) == len({named.sealed, outer.sealed}) == 2


def test_a_later_index_of_a_fold_keeps_its_test_and_its_groups(screened):
    task, cache = screened[0]["regression"], screened[1]
    keys = keys_of(task, "cluster")
    splits = [prepare_split(task, Division("cluster", 0, index, 0.4, 5, 3), cache) for index in range(3)]
    assert len({split.test_rows for split in splits}) == len({split.sealed for split in splits}) == 1
    assert len({split.data for split in splits}) == 3
    for split in splits:
        train, valid, _ = ids_of(split)
        assert not set(keys[train].tolist()) & set(keys[valid].tolist())


def test_a_later_index_of_a_cluster_split_keeps_clusters_whole(screened):
    task, cache = screened[0]["regression"], screened[1]
    keys = keys_of(task, "cluster")
    train, valid, _ = ids_of(prepare_split(task, Division("cluster", 0, 1), cache))
    assert not set(keys[train].tolist()) & set(keys[valid].tolist())


def test_the_similarity_of_clusters_counts(screened):
    task, cache = screened[0]["regression"], screened[1]
    close, far = (prepare_split(task, Division("cluster", 0, 0, similarity), cache) for similarity in (0.7, 0.3))
    assert close.test_rows != far.test_rows and close.digest != far.digest
    same = [prepare_split(task, Division("random", 0, 0, similarity), cache).digest for similarity in (0.7, 0.3)]
    assert same[0] == same[1]


def test_a_manifest_says_how_and_into_what(screened):
    task, cache = screened[0]["classification"], screened[1]
    split = prepare_split(task, Division("cluster", 4, 0, 0.4, 5, 7), cache)
    told = json.loads((split.folder / "manifest.json").read_text())
    division = {
        "name": "cluster",
        "seed": 4,
        "index": 0,
        "similarity": 0.4,
        "outer": 7,
        "folds": 5,
        "repeat": 2,
        "fold": 2,
    }
    assert {key: told[key] for key in division} == division
    assert told["counts"] == {
        part: len(ids) for part, ids in zip(("train", "valid", "test"), ids_of(split), strict=True)
    }
    assert set(told["row_ids"]) == {"train", "valid", "test"} and len(set(told["row_ids"].values())) == 3
    assert told["row_ids"]["test"] == split.test_rows
    assert all(sum(told["parts"][part]["classes"][0]) == told["counts"][part] for part in ("train", "valid"))
    sealed = json.loads((split.sealed_folder / "manifest.json").read_text())
    assert sum(sealed["parts"]["test"]["classes"][0]) == told["counts"]["test"]
    value = prepare_split(screened[0]["regression"], Division("random"), cache)
    low, high = json.loads((value.folder / "manifest.json").read_text())["parts"]["train"]["ranges"][0]
    assert 0 <= low < high < 10


def test_a_group_of_more_than_a_fold_makes_a_fold_of_its_own():
    keys = ["benzene"] * 40 + [f"ring {row // 3}" for row in range(60)]
    for seed in range(5):
        folds = folds_of(keys, 5, seed)
        sizes = sorted(map(len, folds))
        assert sizes == [15, 15, 15, 15, 40] and set(max(folds, key=len).tolist()) == set(range(40))


def test_folds_are_of_like_size(screened):
    keys = group_keys("cluster", screened[0]["regression"].canonical, 0.4)
    largest = max(Counter(keys).values())
    for seed in range(5):
        sizes = [len(rows) for rows in folds_of(keys, 5, seed)]
        assert max(sizes) - min(sizes) <= largest


def test_a_fold_without_molecules_is_an_error(tmp_path, cache):
    rows = [f"C1CCCCC1{'C' * size},{size}" for size in range(40)]
    (tmp_path / "one.csv").write_text("\n".join(["smiles,y", *rows]))
    definition = TaskDef(name="one", kind="regression", targets=("y",), file="one.csv")
    task = prepare_task(definition, tmp_path, cache, tmp_path)
    text = (
        r"has no labelled molecule \(task one, split scaffold, seed 0, index 0, outer 1: fold 1 of 2 in repeat 1\); "
        "use confirm.outer_groups = 'random', fewer confirm.outer_folds, or another split_seed"
    )
    with pytest.raises(DataError, match=text):
        prepare_split(task, Division("scaffold", 0, 0, 0.4, 2, 1), cache)
    with pytest.raises(DataError, match="use another split_seed, a higher split_similarity, or split = 'random'"):
        prepare_split(task, Division("cluster", 0, 0, 0.1), cache)


def test_a_fold_of_one_class_is_an_error(tmp_path, cache):
    rows = [f"C1CCCCC1{'C' * size},{size > 0:d}" for size in range(40)]
    (tmp_path / "one.csv").write_text("\n".join(["smiles,y", *rows]))
    definition = TaskDef(name="one", kind="classification", targets=("y",), file="one.csv")
    task = prepare_task(definition, tmp_path, cache, tmp_path)
    text = (
        "must hold both classes, target 'y' has 0 of class 0 and .* fold 1 of 5 in repeat 1.; use confirm.outer_groups"
    )
    with pytest.raises(DataError, match=text):
        prepare_split(task, Division("random", 0, 0, 0.4, 5, 1), cache)
