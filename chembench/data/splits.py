"""Training, validation and test rows of a task. The test is fixed before any search, and its labels lie apart.

A search reads the split's folder: training and validation rows, and which rows may not be learnt from. The sealed
folder with the test rows is named in confirm and baseline specifications only. Nothing in the split's folder depends on
a test label.

Axes: N molecules, M targets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptors import rdkit_version
from chembench.config import digest_of, stable_seed
from chembench.data.divisions import Ints, folds_of, gathered, group_keys, joined, shuffled, taken
from chembench.data.specs import Groups
from chembench.errors import DataError
from chembench.paths import CachePaths, built_whole, read_json, write_json
from chembench.registry import SPLITTERS

if TYPE_CHECKING:
    from chembench.data.tasks import Task

Floats = NDArray[np.float32]

SIMILARITY = 0.4
"""Of clusters, where a task does not say: with it the nearest neighbour of a test molecule in training is about as far
as 0.4 in the MoleculeNet tasks, and no cluster is too large for five folds."""
_LAYOUT = 1
"""Raised when the same task and split give other rows or files than before."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Molecules of one part of a split."""

    ids_N: Ints
    """Row numbers in the task."""
    smiles: tuple[str, ...]
    """Canonical."""
    labels_NM: Floats
    """In the task's unit, or classes; NaN where nothing was measured."""

    def __len__(self) -> int:
        return len(self.smiles)

    @property
    def digest(self) -> str:
        """Of ids, molecules and labels."""
        content = hashlib.sha256("\n".join(self.smiles).encode())
        content.update(self.ids_N.astype("<i8").tobytes())
        content.update(np.where(np.isnan(self.labels_NM), np.nan, self.labels_NM).astype("<f4").tobytes())
        return digest_of([content.hexdigest(), list(self.labels_NM.shape)])


@dataclass(frozen=True, slots=True)
class Split:
    """A prepared split of a task."""

    data: str
    """Digest of the training and validation rows with their labels."""
    test_rows: str
    """Digest of the test rows' ids."""
    sealed: str
    """Digest of the test rows with their labels."""
    digest: str
    folder: Path
    sealed_folder: Path
    index: int
    counts: dict[str, int]
    """Rows of ``train``, ``valid`` and ``test``."""
    train_sd: tuple[float, ...]
    """Standard deviation of each target's training labels, in its unit; empty for classification."""
    outer: int = 0
    """Which outer fold is the test; 0: that of the named split."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which rows are for what: a named way to divide, what it hangs on, and which of its test sets is meant."""

    name: str
    """One of `SPLITTERS`; of an outer fold, how molecules are grouped."""
    seed: int = 0
    """Of ways that follow one."""
    index: int = 0
    """0 is the way's own training and validation; i > 0 divides the same rows anew. The test is the same for all."""
    similarity: float = SIMILARITY
    """Of clusters: smallest similarity of a molecule to the centre of its cluster."""
    folds: int = 0
    """Outer folds of one repeat; 0: the one test set of the named way."""
    outer: int = 0
    """Which outer fold is the test, from 1: the folds of the first repeat, then those of the second."""

    @property
    def repeat(self) -> int:
        return (self.outer - 1) // self.folds

    @property
    def fold(self) -> int:
        return (self.outer - 1) % self.folds

    def described(self) -> dict[str, Any]:
        """As it stands in manifests and digests."""
        told: dict[str, Any] = {"name": self.name, "seed": self.seed, "index": self.index}
        if self.name == "cluster":
            told["similarity"] = self.similarity
        if self.outer:
            told |= {"outer": self.outer, "folds": self.folds, "repeat": self.repeat + 1, "fold": self.fold + 1}
        return told

    def __str__(self) -> str:
        place = f"split {self.name}, seed {self.seed}, index {self.index}"
        if self.outer:
            place += f", outer {self.outer}: fold {self.fold + 1} of {self.folds} in repeat {self.repeat + 1}"
        return place


# ---- prepared splits ----


def prepare_split(task: Task, division: Division, cache: CachePaths) -> Split:
    """A split of a task, written for training and, sealed, for the test.

    Args:
        task: prepared molecules and labels.
        division: how its rows are divided. A named way's index i > 0 re-divides its training and validation rows 8:1
            by scaffold (of clusters by cluster) with seed i. The training part of an outer fold is divided for each
            index by the fold's own groups, validation being a tenth of all molecules.
        cache: where splits are kept.

    Raises:
        UnknownNameError: if no split is called so.
        DataError: if a part is empty, or has no use for training or scores: one class, or labels that do not vary.
    """
    SPLITTERS.require(division.name)
    key: list[Any] = [division.name, division.seed, division.index]
    key += [division.described()] if division.outer or division.name == "cluster" else []
    request = cache.index(f"split-{digest_of([_LAYOUT, task.digest, *key, rdkit_version()])}")
    if request.is_file():
        answer = read_json(request)
        if cache.split(answer["split"]).is_dir() and cache.sealed(answer["sealed"]).is_dir():
            return _opened(answer["split"], answer["sealed"], cache)
    if division.outer:
        divided = _fold(task, division)
    elif division.index:
        divided = _redivided(task, prepare_split(task, replace(division, index=0), cache), division)
    else:
        divided = _divided(task, division)
    parts = {part: _labelled(task, ids) for part, ids in divided.items()}
    facts = {part: _facts(task, part, rows, division) for part, rows in parts.items()}
    sealed = _write_sealed(task, parts["test"], facts["test"], cache)
    digest = _write_split(task, parts, facts, division, cache)
    write_json(request, {"split": digest, "sealed": sealed})
    return _opened(digest, sealed, cache)


def _divided(task: Task, way: Division) -> dict[str, Ints]:
    smiles = task.molecules if way.name == "deepchem_scaffold" else task.canonical  # DeepChem reads what the source has
    train, valid, test = SPLITTERS.load(way.name)(smiles, way.seed, way.similarity)
    return {"train": np.sort(train), "valid": np.sort(valid), "test": np.sort(test)}


def _redivided(task: Task, first: Split, way: Division) -> dict[str, Ints]:
    """The rows of split 0 with training and validation divided anew."""
    rest = np.sort(np.concatenate([load_rows(first.folder, part).ids_N for part in ("train", "valid")]))
    keys = group_keys("cluster" if way.name == "cluster" else "scaffold", task.canonical, way.similarity)
    valid, train = taken(shuffled(gathered([keys[row] for row in rest]), way.index), len(rest) / 9)
    test_N = np.load(first.folder / "test_ids.npy", allow_pickle=False)
    return {"train": np.sort(rest[joined(train)]), "valid": np.sort(rest[joined(valid)]), "test": test_N}


def _fold(task: Task, way: Division) -> dict[str, Ints]:
    """One fold as the test, the others divided into training and validation by the same groups."""
    keys = group_keys(cast(Groups, way.name), task.canonical, way.similarity)
    test_N = folds_of(keys, way.folds, stable_seed("outer", way.seed, way.repeat))[way.fold]
    rest = np.setdiff1d(np.arange(len(keys)), test_N)
    inner = shuffled(gathered([keys[row] for row in rest]), stable_seed("inner", way.seed, way.outer, way.index))
    valid, train = taken(inner, len(keys) / 10)
    return {"train": np.sort(rest[joined(train)]), "valid": np.sort(rest[joined(valid)]), "test": test_N}


def _labelled(task: Task, ids_N: Ints) -> Rows:
    """The rows of a part that have a label at all: the others can be neither learnt from nor scored."""
    ids_N = ids_N[~np.isnan(task.labels_NM[ids_N]).all(axis=1)]
    return Rows(ids_N, tuple(task.canonical[row] for row in ids_N), task.labels_NM[ids_N])


def _facts(task: Task, part: str, rows: Rows, way: Division) -> dict[str, Any]:
    """Counts, classes and ranges of a part.

    Raises:
        DataError: if it is of no use.
    """
    from chembench.data.tasks import class_counts, value_range

    if not len(rows):
        raise DataError(f"{part} has no labelled molecule (task {task.name}, {way}); {_way_out(way)}")
    facts: dict[str, Any] = {"rows": len(rows), "missing": np.isnan(rows.labels_NM).sum(axis=0).tolist()}
    if task.kind == "regression":
        return facts | {"ranges": value_range(rows.labels_NM)} | _spread(task, part, rows, way)
    counts = class_counts(rows.labels_NM)
    useless = [target for target, (zeros, ones) in zip(task.targets, counts, strict=True) if not (zeros and ones)]
    if len(useless) == len(task.targets):
        zeros, ones = counts[0]
        raise DataError(
            f"{part} must hold both classes, target '{task.targets[0]}' has {zeros} of class 0 and {ones} of class 1 "
            f"(task {task.name}, {way}); {_way_out(way)}"
        )
    return facts | {"classes": counts, "one_class": useless}


def _way_out(way: Division) -> str:
    if way.outer:
        return "use confirm.outer_groups = 'random', fewer confirm.outer_folds, or another split_seed"
    if way.name == "cluster":
        return "use another split_seed, a higher split_similarity, or split = 'random'"
    return "use another split_seed or split = 'random', or give more molecules"


def _spread(task: Task, part: str, rows: Rows, way: Division) -> dict[str, Any]:
    if part != "train":
        return {}
    spread = []
    for target, labels_N in zip(task.targets, rows.labels_NM.T.astype(np.float64), strict=True):
        known = labels_N[~np.isnan(labels_N)]
        if known.size == 0 or np.ptp(known) == 0:
            what = f"{known.size} labels, all {known[0]:g}" if known.size else "no label"
            raise DataError(
                f"training labels must vary, target '{target}' has {what} (task {task.name}, {way}); leave it out"
            )
        spread.append(float(known.std()))
    return {"sd": spread}


def _write_sealed(task: Task, rows: Rows, facts: dict[str, Any], cache: CachePaths) -> str:
    digest = digest_of([_LAYOUT, list(task.targets), rows.digest])
    with built_whole(cache.sealed(digest)) as folder:
        _write_rows(folder, "test", rows)
        manifest = {"targets": list(task.targets), "parts": {"test": facts}, "digests": {"test": rows.digest}}
        write_json(folder / "manifest.json", manifest)
    return digest


def _write_split(
    task: Task, parts: dict[str, Rows], facts: dict[str, Any], division: Division, cache: CachePaths
) -> str:
    """Write what a search may read: of the test only which rows it is."""
    digests = {part: parts[part].digest for part in ("train", "valid")}
    data, test_rows = digest_of(digests), digest_of(parts["test"].ids_N.tolist())
    digest = digest_of([_LAYOUT, task.name, task.kind, list(task.targets), division.described(), data, test_rows])
    manifest = division.described() | {
        "task": task.name,
        "kind": task.kind,
        "targets": list(task.targets),
        "unit": task.unit,
        "data": data,
        "test_rows": test_rows,
        "digests": digests,
        "row_ids": {part: digest_of(rows.ids_N.tolist()) for part, rows in parts.items()},
        "counts": {part: len(rows) for part, rows in parts.items()},
        "parts": {part: facts[part] for part in digests},
    }
    with built_whole(cache.split(digest)) as folder:
        for part in digests:
            _write_rows(folder, part, parts[part])
        np.save(folder / "test_ids.npy", parts["test"].ids_N)
        write_json(folder / "manifest.json", manifest)
    return digest


def open_split(digest: str, sealed: str, cache: CachePaths) -> Split:
    """A split that was prepared before, by its digests.

    Raises:
        DataError: if the cache holds it no longer.
    """
    try:
        return _opened(digest, sealed, cache)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the split must lie in the cache, {cache.split(digest)} holds none ({type(error).__name__}); "
            "chembench audit SPACE.toml, with the sweep's own space.toml, prepares it anew"
        ) from error


def _opened(digest: str, sealed: str, cache: CachePaths) -> Split:
    manifest = read_json(cache.split(digest) / "manifest.json")
    return Split(
        data=manifest["data"],
        test_rows=manifest["test_rows"],
        sealed=sealed,
        digest=digest,
        folder=cache.split(digest),
        sealed_folder=cache.sealed(sealed),
        index=manifest["index"],
        outer=manifest.get("outer", 0),
        counts=manifest["counts"],
        train_sd=tuple(manifest["parts"]["train"].get("sd", ())),
    )


def _write_rows(folder: Path, part: str, rows: Rows) -> None:
    (folder / f"{part}.txt").write_text("".join(f"{smiles}\n" for smiles in rows.smiles))
    np.savez(folder / f"{part}.npz", ids=rows.ids_N, labels=rows.labels_NM)


def load_rows(folder: Path | str, part: Literal["train", "valid"]) -> Rows:
    """Training or validation rows from a split's folder.

    Raises:
        DataError: if they are missing, or are not what was prepared.
    """
    return _read_rows(Path(folder), part)


def load_test_ids(folder: Path | str) -> Ints:
    """Row numbers of the test from a split's folder, which says nothing of their labels.

    Raises:
        DataError: if they are missing, or are not what was prepared.
    """
    try:
        expected = read_json(Path(folder) / "manifest.json")["test_rows"]
        ids_N: Ints = np.load(Path(folder) / "test_ids.npy", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no test rows ({error!r}); prepare the split again") from error
    if digest_of(ids_N.tolist()) != expected:
        raise DataError(f"test rows in {folder} are not those that were prepared; remove the folder and prepare again")
    return ids_N


def load_sealed(folder: Path | str) -> Rows:
    """Test rows from a sealed folder; confirm trials and baselines alone call this.

    Raises:
        DataError: if they are missing, or are not what was prepared.
    """
    return _read_rows(Path(folder), "test")


def _read_rows(folder: Path, part: str) -> Rows:
    try:
        expected = read_json(folder / "manifest.json")["digests"][part]
        smiles = tuple((folder / f"{part}.txt").read_text().splitlines())
        with np.load(folder / f"{part}.npz", allow_pickle=False) as arrays:
            rows = Rows(arrays["ids"], smiles, arrays["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no {part} rows ({error!r}); prepare the split again") from error
    if rows.digest != expected:
        raise DataError(
            f"{part} rows in {folder} are not those that were prepared; remove the folder and prepare again"
        )
    return rows
