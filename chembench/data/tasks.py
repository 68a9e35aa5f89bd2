"""Labelled molecules of a task, converted once, so that DeepChem and the raw file are not read again.

Axes: N molecules, M targets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptors import rdkit_version
from chembench.config import digest_of
from chembench.data.catalog import TASKS, TaskDef
from chembench.data.readers import RawRows, checksum, raw_files, read_rows
from chembench.errors import DataError
from chembench.paths import CachePaths, built_whole, read_json, write_json, written_whole
from chembench.specs import TaskKind

__all__ = ["TASKS", "Task", "TaskDef", "class_counts", "prepare_task", "value_range"]

_LAYOUT = 1
"""Raised when the same definition and file give other rows than before."""


@dataclass(frozen=True)
class Task:
    """A prepared task; its arrays are read when they are first asked for."""

    name: str
    kind: TaskKind
    targets: tuple[str, ...]
    unit: str
    digest: str
    """Of definition and content."""
    folder: Path
    rows: int
    note: str
    unreadable: int
    """Rows that RDKit cannot read; they are left out and listed in ``unreadable_list``."""
    unreadable_list: Path

    @cached_property
    def molecules(self) -> tuple[str, ...]:
        """SMILES as written in the source."""
        return tuple((self.folder / "molecules.txt").read_text().splitlines())

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """Canonical SMILES."""
        return tuple((self.folder / "canonical.txt").read_text().splitlines())

    @cached_property
    def labels_NM(self) -> NDArray[np.float32]:  # noqa: N802 - axes
        """Labels in the task's unit, or classes 0 and 1; NaN where nothing was measured."""
        labels_NM: NDArray[np.float32] = np.load(self.folder / "labels.npy", allow_pickle=False)
        return labels_NM

    @property
    def manifest(self) -> dict[str, Any]:
        """Counts, classes or ranges, and where the rows come from."""
        found: dict[str, Any] = read_json(self.folder / "manifest.json")
        return found


def prepare_task(definition: TaskDef, data_dir: Path, cache: CachePaths, base: Path | None = None) -> Task:
    """The task that ``definition`` describes; converted if the cache does not hold it yet.

    Args:
        definition: which molecules and labels.
        data_dir: where MoleculeNet's raw files lie or are downloaded to.
        cache: where the converted task is kept.
        base: folder that relative paths of own files start from; none: the current one.

    Raises:
        DataError: if the file cannot be had, lacks a column, or holds labels that cannot be used; if too many rows
            cannot be read.
    """
    base = base or Path.cwd()
    files = raw_files(definition, data_dir, base)
    rows = None
    if not files:
        rows = read_rows(definition, data_dir, base)
        files = raw_files(definition, data_dir, base)
        if not files:
            raise DataError(
                f"DeepChem's {definition.source} left no {definition.file} in {data_dir} (task {definition.name}); "
                f"correct the task's file"
            )
    raw = checksum(files)
    request = _request(definition, raw)
    index = cache.index(request)
    if index.is_file():
        digest = read_json(index)["digest"]
        if cache.task(digest).is_dir():
            return _opened(cache, request, digest)
    rows = rows or read_rows(definition, data_dir, base)
    _check_readable(definition, rows, cache.index_list(request, "unreadable"))
    digest = _convert(definition, rows, raw, cache)
    write_json(index, {"digest": digest})
    return _opened(cache, request, digest)


def _request(definition: TaskDef, raw_checksum: str) -> str:
    return f"task-{digest_of([_LAYOUT, definition.canonical(), raw_checksum, rdkit_version()])}"


def open_task(definition: TaskDef, digest: str, cache: CachePaths) -> Task:
    """A task that was prepared before, by its digest; its raw file is not needed.

    Raises:
        DataError: if the cache holds it no longer.
    """
    try:
        raw = read_json(cache.task(digest) / "manifest.json")["raw_sha256"]
        return _opened(cache, _request(definition, raw), digest)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"task {definition.name} must lie in the cache, {cache.task(digest)} holds none ({type(error).__name__}); "
            "chembench audit SPACE.toml, with the sweep's own space.toml, prepares it anew"
        ) from error


def _opened(cache: CachePaths, request: str, digest: str) -> Task:
    folder = cache.task(digest)
    manifest = read_json(folder / "manifest.json")
    return Task(
        name=manifest["name"],
        kind=manifest["kind"],
        targets=tuple(manifest["targets"]),
        unit=manifest["unit"],
        digest=digest,
        folder=folder,
        rows=manifest["rows"],
        note=manifest["note"],
        unreadable=manifest["unreadable"],
        unreadable_list=cache.index_list(request, "unreadable"),
    )


def _check_readable(definition: TaskDef, rows: RawRows, listed: Path) -> None:
    with written_whole(listed) as part:
        part.write_text("".join(f"{smiles}\n" for smiles in rows.unreadable))
    bad, total = len(rows.unreadable), len(rows.unreadable) + len(rows.smiles)
    if bad > definition.max_unreadable * total:
        raise DataError(
            f"{bad:,} of {total:,} rows of task {definition.name} ({bad / total:.1%}) hold no molecule that RDKit can "
            f"read, max_unreadable is {definition.max_unreadable:.1%}; see {listed}"
        )
    if not rows.smiles:
        raise DataError(f"task {definition.name} has no molecule; give a file with rows")


def _convert(definition: TaskDef, rows: RawRows, raw_checksum: str, cache: CachePaths) -> str:
    kept = _sample(rows.canonical, definition.max_rows)
    molecules = [rows.smiles[row] for row in kept]
    canonical = [rows.canonical[row] for row in kept]
    labels_NM = _labels(definition, rows.labels_NM)[kept]
    content = hashlib.sha256("\n".join([*molecules, *canonical]).encode() + labels_NM.tobytes()).hexdigest()
    shown = {key: getattr(definition, key) for key in ("name", "kind", "unit", "note")}
    shown["targets"] = list(definition.targets)
    digest = digest_of([_LAYOUT, shown, content])
    facts = {"classes": class_counts(labels_NM)} if definition.kind == "classification" else {}
    manifest = shown | {
        "rows": len(kept),
        "missing": np.isnan(labels_NM).sum(axis=0).tolist(),
        "ranges": value_range(labels_NM),
        "duplicates": len(canonical) - len(set(canonical)),
        "unreadable": len(rows.unreadable),
        "raw_sha256": raw_checksum,
        "rdkit": rdkit_version(),
        **facts,
    }
    with built_whole(cache.task(digest)) as folder:
        (folder / "molecules.txt").write_text("".join(f"{smiles}\n" for smiles in molecules))
        (folder / "canonical.txt").write_text("".join(f"{smiles}\n" for smiles in canonical))
        np.save(folder / "labels.npy", labels_NM)
        write_json(folder / "manifest.json", manifest)
    return digest


def _sample(canonical: tuple[str, ...], size: int | None) -> list[int]:
    """Rows that are kept, in their order; a sample is chosen by the molecules' hashes."""
    if size is None or size >= len(canonical):
        return list(range(len(canonical)))
    by_hash = sorted(range(len(canonical)), key=lambda row: hashlib.blake2b(canonical[row].encode()).digest())
    return sorted(by_hash[:size])


def _labels(definition: TaskDef, values_NM: NDArray[np.float64]) -> NDArray[np.float32]:
    missing_NM = np.isnan(values_NM)
    if missing_NM.all(axis=0).any():
        target = definition.targets[int(missing_NM.all(axis=0).argmax())]
        raise DataError(f"target '{target}' of task {definition.name} has no label at all; leave it out of targets")
    if definition.cut is not None:
        values_NM = np.where(missing_NM, np.nan, values_NM >= definition.cut)
    if definition.kind == "classification":
        wrong_NM = ~missing_NM & (values_NM != 0) & (values_NM != 1)
        if wrong_NM.any():
            row, column = map(int, np.argwhere(wrong_NM)[0])
            raise DataError(
                f"classes must be 0, 1 or empty, got {values_NM[row, column]:g} in readable row {row + 1} of column "
                f"'{definition.targets[column]}' (task {definition.name}); correct it, or set cut to make classes"
            )
    if not definition.mask_missing:
        values_NM = np.where(missing_NM, 0.0, values_NM)
    return np.where(np.isnan(values_NM), np.nan, values_NM).astype(np.float32)


def class_counts(labels_NM: NDArray[np.float32]) -> list[list[int]]:
    """How many molecules of class 0 and of class 1 each target has, shape (targets, 2)."""
    return [[int((labels_NM[:, m] == c).sum()) for c in (0, 1)] for m in range(labels_NM.shape[1])]


def value_range(labels_NM: NDArray[np.float32]) -> list[list[float] | None]:
    """Smallest and largest label of each target; none where nothing was measured."""
    measured = [column[~np.isnan(column)] for column in labels_NM.T]
    return [[float(values.min()), float(values.max())] if values.size else None for values in measured]
