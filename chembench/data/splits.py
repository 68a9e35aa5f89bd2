"""Training, validation and test rows of a task. The test is fixed before any search, and its labels lie apart.

A search reads the split's folder: training and validation rows, and which rows may not be learnt from. The sealed
folder with the test rows is named in confirm and baseline specifications only. Nothing in the split's folder depends on
a test label.

Axes: N molecules, M targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptors import rdkit_version
from chembench.config import digest_of, stable_seed
from chembench.errors import DataError
from chembench.paths import CachePaths, built_whole, read_json, write_json
from chembench.registry import SPLITTERS

if TYPE_CHECKING:
    from chembench.data.tasks import Task

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Parts = tuple[Ints, Ints, Ints]
"""Rows of training, validation and test."""

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


# ---- ways to divide ----


def deepchem_scaffold(smiles: Sequence[str], labels_NM: Floats, seed: int) -> Parts:
    """80/10/10 by scaffold exactly as DeepChem's ``ScaffoldSplitter``: the commonest scaffolds train.

    Args:
        smiles: as the source writes them, which is what DeepChem reads.
        labels_NM: not used.
        seed: not used; there is one such split.
    """
    groups = _groups(_scaffolds(smiles))
    groups.sort(key=lambda rows: (len(rows), rows[0]), reverse=True)
    train_cutoff, valid_cutoff = 0.8 * len(smiles), (0.8 + 0.1) * len(smiles)
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    for rows in groups:
        if len(train) + len(rows) <= train_cutoff:
            train += rows
        elif len(train) + len(valid) + len(rows) <= valid_cutoff:
            valid += rows
        else:
            test += rows
    return _ints(train), _ints(valid), _ints(test)


def seeded_scaffold(smiles: Sequence[str], labels_NM: Floats, seed: int) -> Parts:
    """80/10/10 with each scaffold in one part, in an order that follows ``seed``.

    Test and validation take scaffolds at random as long as these fit; so a scaffold of more than a tenth of the
    molecules always trains, and the parts are at most a tenth.
    """
    return _divide(_scaffolds(smiles), seed)


def random_split(smiles: Sequence[str], labels_NM: Floats, seed: int) -> Parts:
    """80/10/10 at random; rows with the same SMILES stay together."""
    return _divide(smiles, seed)


def _divide(keys: Sequence[str], seed: int) -> Parts:
    groups = _shuffled(_groups(keys), seed)
    tenth = len(keys) / 10
    test, rest = _take(groups, tenth)
    valid, rest = _take(rest, tenth)
    return _ints(_joined(rest)), _ints(valid), _ints(test)


def _take(groups: list[list[int]], size: float) -> tuple[list[int], list[list[int]]]:
    """The first groups that fit into ``size`` rows together, and the others."""
    taken: list[int] = []
    others = []
    for rows in groups:
        if len(taken) + len(rows) <= size:
            taken += rows
        else:
            others.append(rows)
    return taken, others


def _groups(keys: Sequence[str]) -> list[list[int]]:
    """Rows with the same key, in order of their first."""
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _joined(groups: list[list[int]]) -> list[int]:
    return [row for rows in groups for row in rows]


def _shuffled(groups: list[list[int]], seed: int) -> list[list[int]]:
    order = np.random.default_rng(stable_seed("split", seed)).permutation(len(groups))
    return [groups[place] for place in order]


def _scaffolds(smiles: Sequence[str]) -> list[str]:
    from chembench.chem.scaffolds import murcko

    return [murcko(text) for text in smiles]


def _ints(rows: Sequence[int]) -> Ints:
    return np.array(rows, dtype=np.int64)


# ---- prepared splits ----


def prepare_split(task: Task, name: str, seed: int, index: int, cache: CachePaths) -> Split:
    """The split ``name`` of a task, written for training and, sealed, for the test.

    Args:
        task: prepared molecules and labels.
        name: one of `SPLITTERS`.
        seed: of splits that follow one.
        index: 0 is the named split's own training and validation; i > 0 re-divides them 8:1 by scaffold with seed i.
            The test is the same for every index.
        cache: where splits are kept.

    Raises:
        UnknownNameError: if no split is called ``name``.
        DataError: if a part is empty, or has no use for training or scores: one class, or labels that do not vary.
    """
    SPLITTERS.require(name)
    request = cache.index(f"split-{digest_of([_LAYOUT, task.digest, name, seed, index, rdkit_version()])}")
    if request.is_file():
        answer = read_json(request)
        if cache.split(answer["split"]).is_dir() and cache.sealed(answer["sealed"]).is_dir():
            return _opened(answer["split"], answer["sealed"], cache)
    where = f"task {task.name}, split {name}, seed {seed}, index {index}"
    if index:
        divided = _redivided(task, prepare_split(task, name, seed, 0, cache), index)
    else:
        divided = _divided(task, name, seed)
    parts = {part: _labelled(task, ids) for part, ids in divided.items()}
    facts = {part: _facts(task, part, rows, where) for part, rows in parts.items()}
    sealed = _write_sealed(task, parts["test"], facts["test"], cache)
    digest = _write_split(task, parts, facts, {"name": name, "seed": seed, "index": index}, cache)
    write_json(request, {"split": digest, "sealed": sealed})
    return _opened(digest, sealed, cache)


def _divided(task: Task, name: str, seed: int) -> dict[str, Ints]:
    smiles = task.molecules if name == "deepchem_scaffold" else task.canonical  # DeepChem reads what the source writes
    train, valid, test = SPLITTERS.load(name)(smiles, task.labels_NM, seed)
    return {"train": np.sort(train), "valid": np.sort(valid), "test": np.sort(test)}


def _redivided(task: Task, first: Split, index: int) -> dict[str, Ints]:
    """The rows of split 0 with training and validation divided anew."""
    rest = np.sort(np.concatenate([load_rows(first.folder, part).ids_N for part in ("train", "valid")]))
    groups = _shuffled(_groups(_scaffolds([task.canonical[row] for row in rest])), index)
    valid, train = _take(groups, len(rest) / 9)
    test_N = np.load(first.folder / "test_ids.npy", allow_pickle=False)
    return {"train": np.sort(rest[_ints(_joined(train))]), "valid": np.sort(rest[_ints(valid)]), "test": test_N}


def _labelled(task: Task, ids_N: Ints) -> Rows:
    """The rows of a part that have a label at all: the others can be neither learnt from nor scored."""
    ids_N = ids_N[~np.isnan(task.labels_NM[ids_N]).all(axis=1)]
    return Rows(ids_N, tuple(task.canonical[row] for row in ids_N), task.labels_NM[ids_N])


def _facts(task: Task, part: str, rows: Rows, where: str) -> dict[str, Any]:
    """Counts, classes and ranges of a part.

    Raises:
        DataError: if it is of no use.
    """
    from chembench.data.tasks import class_counts, value_range

    if not len(rows):
        raise DataError(f"{part} has no labelled molecule ({where}); use split = 'random', or give more molecules")
    facts: dict[str, Any] = {"rows": len(rows), "missing": np.isnan(rows.labels_NM).sum(axis=0).tolist()}
    if task.kind == "regression":
        return facts | {"ranges": value_range(rows.labels_NM)} | _spread(task, part, rows, where)
    counts = class_counts(rows.labels_NM)
    useless = [target for target, (zeros, ones) in zip(task.targets, counts, strict=True) if not (zeros and ones)]
    if len(useless) == len(task.targets):
        zeros, ones = counts[0]
        raise DataError(
            f"{part} must hold both classes, target '{task.targets[0]}' has {zeros} of class 0 and {ones} of class 1 "
            f"({where}); choose another split or split_seed"
        )
    return facts | {"classes": counts, "one_class": useless}


def _spread(task: Task, part: str, rows: Rows, where: str) -> dict[str, Any]:
    if part != "train":
        return {}
    spread = []
    for target, labels_N in zip(task.targets, rows.labels_NM.T.astype(np.float64), strict=True):
        known = labels_N[~np.isnan(labels_N)]
        if known.size == 0 or np.ptp(known) == 0:
            what = f"{known.size} labels, all {known[0]:g}" if known.size else "no label"
            raise DataError(f"training labels must vary, target '{target}' has {what} ({where}); leave it out")
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
    task: Task, parts: dict[str, Rows], facts: dict[str, Any], division: dict[str, Any], cache: CachePaths
) -> str:
    """Write what a search may read: of the test only which rows it is."""
    digests = {part: parts[part].digest for part in ("train", "valid")}
    data, test_rows = digest_of(digests), digest_of(parts["test"].ids_N.tolist())
    digest = digest_of([_LAYOUT, task.name, task.kind, list(task.targets), division, data, test_rows])
    manifest = division | {
        "task": task.name,
        "kind": task.kind,
        "targets": list(task.targets),
        "unit": task.unit,
        "data": data,
        "test_rows": test_rows,
        "digests": digests,
        "counts": {part: len(rows) for part, rows in parts.items()},
        "parts": {part: facts[part] for part in digests},
    }
    with built_whole(cache.split(digest)) as folder:
        for part in digests:
            _write_rows(folder, part, parts[part])
        np.save(folder / "test_ids.npy", parts["test"].ids_N)
        write_json(folder / "manifest.json", manifest)
    return digest


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
