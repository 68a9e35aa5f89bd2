"""The rows of a task as its source has them: DeepChem's MoleculeNet loaders, RDKit's example series, own tables.

Axes: N molecules, M targets.
"""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.data.catalog import FREE_WILSON, TaskDef
from chembench.data.downloads import downloads_in
from chembench.data.sources import (
    Source,
    brought,
    column_of,
    csv_rows,
    open_bytes,
    open_parquet,
    resolve_file,
    sha256_of,
)
from chembench.errors import DataError

Floats = NDArray[np.float64]

_MISSING = frozenset(("", "nan", "na", "n/a", "null", "none"))
_TRUTH = {"true": "1", "false": "0"}


@dataclass(frozen=True, slots=True)
class RawRows:
    """The readable rows of a source, in its order, and the others."""

    smiles: tuple[str, ...]
    """As written in the source."""
    canonical: tuple[str, ...]
    labels_NM: Floats
    """NaN where nothing was measured."""
    unreadable: tuple[str, ...]
    """SMILES that RDKit cannot read."""


def raw_files(definition: TaskDef, data_dir: Path, base: Path) -> tuple[Source, ...]:
    """The files that the task is read from; none if DeepChem has yet to download its own.

    Raises:
        DataError: if an own file is missing, or cannot be downloaded.
    """
    if definition.source == FREE_WILSON:
        return _free_wilson_files()
    assert definition.file is not None, "checked by TaskDef"
    if definition.source == "file":
        return (brought(resolve_file(definition.file, base), downloads_in(data_dir)),)
    path = data_dir / definition.file
    return (Source(definition.file, str(path)),) if path.is_file() else ()


def checksum(files: Sequence[Source]) -> str:
    """SHA-256 of each file, joined."""
    return "+".join(sha256_of(file) for file in files)


def read_rows(definition: TaskDef, data_dir: Path, base: Path) -> RawRows:
    """The rows of a task; a raw file of DeepChem's that is missing is downloaded into ``data_dir``.

    Raises:
        DataError: if a file cannot be had or read, or a label cannot be used.
    """
    if definition.source.startswith("deepchem:"):
        return _from_deepchem(definition, data_dir)
    files = raw_files(definition, data_dir, base)
    read = _from_free_wilson if definition.source == FREE_WILSON else _from_table
    smiles, labels_NM = read(definition, files)
    return _readable(smiles, labels_NM)


def _readable(smiles: Sequence[str], labels_NM: Floats) -> RawRows:
    from chembench.chem.smiles import canonical_many

    found = canonical_many(smiles)
    kept_N = np.array([new is not None for new in found], dtype=bool)
    return RawRows(
        smiles=tuple(raw.strip() for raw, new in zip(smiles, found, strict=True) if new),
        canonical=tuple(new for new in found if new),
        labels_NM=labels_NM[kept_N],
        unreadable=tuple(raw for raw, new in zip(smiles, found, strict=True) if not new),
    )


# ---- own tables ----


def _from_table(definition: TaskDef, files: Sequence[Source]) -> tuple[list[str], Floats]:
    (file,) = files
    wanted = (definition.smiles, *definition.targets)
    if file.format not in ("csv", "parquet"):
        raise DataError(f"a task is a CSV or Parquet file with labels, got '{file.name}'; convert it")
    columns = _csv_columns(file, wanted) if file.format == "csv" else _parquet_columns(file, wanted)
    labels_NM = np.column_stack([_numbers(columns[target], target, definition) for target in definition.targets])
    return columns[definition.smiles], labels_NM


def _csv_columns(file: Source, wanted: Sequence[str]) -> dict[str, list[str]]:
    with open_bytes(file) as content:
        rows = csv_rows(content)
        header = [name.strip() for name in next(rows, [])]
        places = {name: column_of(header, name, file.name) for name in wanted}
        columns: dict[str, list[str]] = {name: [] for name in wanted}
        for row in rows:
            for name, place in places.items():
                columns[name].append(row[place] if place < len(row) else "")
    return columns


def _parquet_columns(file: Source, wanted: Sequence[str]) -> dict[str, list[str]]:
    with open_bytes(file) as content, open_parquet(content) as table:
        for name in wanted:
            column_of(list(table.schema_arrow.names), name, file.name)
        cells = table.read(columns=list(dict.fromkeys(wanted))).to_pydict()
    return {name: ["" if cell is None else str(cell) for cell in column] for name, column in cells.items()}


def _numbers(cells: Sequence[str], target: str, definition: TaskDef) -> Floats:
    """One column of labels; NaN where a cell is empty."""
    values_N = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        text = cell.strip().lower()
        if text not in _MISSING:
            values_N[row] = _number(_TRUTH.get(text, text), row, target, definition)
    return values_N


def _number(text: str, row: int, target: str, definition: TaskDef) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.inf
    if not np.isfinite(value):
        raise DataError(
            f"labels must be numbers or empty, got {text!r} in data row {row + 1} of column '{target}' "
            f"(task {definition.name}); correct or empty the cell"
        )
    if definition.kind == "classification" and definition.cut is None and value not in (0.0, 1.0):
        raise DataError(
            f"classes must be 0, 1 or empty, got {text!r} in data row {row + 1} of column '{target}' "
            f"(task {definition.name}); correct the cell, or set cut to make classes of measurements"
        )
    return value


# ---- RDKit's example series ----


def _free_wilson_files() -> tuple[Source, ...]:
    from rdkit import RDConfig

    folder = Path(RDConfig.RDContribDir) / "FreeWilson" / "data"
    files = tuple(Source(name, str(folder / name)) for name in ("CHEMBL2321810.smi", "CHEMBL2321810_act.csv"))
    for file in files:
        if not Path(file.location).is_file():
            raise DataError(f"this RDKit comes without {file.location}; install rdkit from the package index (pip)")
    return files


def _from_free_wilson(definition: TaskDef, files: Sequence[Source]) -> tuple[list[str], Floats]:
    """Molecules and activities of CHEMBL2321810, joined by name, in the order of the molecules."""
    molecules, activities = files
    columns = _csv_columns(activities, ("Name", *definition.targets))
    values_NM = np.column_stack([_numbers(columns[target], target, definition) for target in definition.targets])
    row_of = {name: row for row, name in enumerate(columns["Name"])}
    lines = [line.split() for line in Path(molecules.location).read_text().splitlines() if line.strip()]
    without = [name for _, name in lines if name not in row_of]
    if without:
        raise DataError(f"{activities.name} has no activity of molecule {without[0]}; install rdkit again")
    return [smiles for smiles, _ in lines], values_NM[[row_of[name] for _, name in lines]]


# ---- DeepChem ----


def _from_deepchem(definition: TaskDef, data_dir: Path) -> RawRows:
    assert definition.file is not None, "checked by TaskDef"
    raw = data_dir / definition.file
    with tempfile.TemporaryDirectory() as temporary:
        # a download that breaks off must not be taken for the file next time, so it goes elsewhere first
        folder = data_dir if raw.is_file() else Path(temporary)
        rows = _load_moleculenet(definition, folder, Path(temporary))
        if not raw.is_file() and (folder / definition.file).is_file():
            data_dir.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / definition.file, raw)
    return rows


def _load_moleculenet(definition: TaskDef, folder: Path, save_dir: Path) -> RawRows:
    load, featurizer = _deepchem_parts(definition)
    try:
        with _quiet():
            targets, (dataset,), _ = load(
                featurizer=featurizer,
                splitter=None,
                transformers=[],
                reload=False,
                data_dir=str(folder),
                save_dir=str(save_dir),
            )
            smiles, values_NT, weights_NT = list(map(str, dataset.ids)), np.array(dataset.y), np.array(dataset.w)
            shutil.rmtree(dataset.data_dir, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"DeepChem cannot get {definition.file} of task {definition.name} ({error}); "
            f"put the file into the data folder (--data-dir, CHEMBENCH_DATA_DIR)"
        ) from error
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"DeepChem cannot read {definition.file} of task {definition.name} ({error!r}); "
            f"replace the file by MoleculeNet's own"
        ) from error
    columns = [column_of(list(targets), target, definition.source) for target in definition.targets]
    labels_NM = np.where(weights_NT == 0, np.nan, values_NT)[:, columns]
    assert len(smiles) == len(featurizer.canonical), "the loader keeps what the featurizer keeps"
    raw = tuple(text.strip() for text in smiles)
    return RawRows(raw, tuple(featurizer.canonical), labels_NM, tuple(featurizer.refused))


def _deepchem_parts(definition: TaskDef) -> tuple[Callable[..., Any], Any]:
    """The loader, and a featurizer that keeps what RDKit can read and remembers the rest."""
    try:
        with _quiet():
            import deepchem
    except ImportError as error:
        raise DataError(
            f"task {definition.name} comes through DeepChem, which cannot be imported here ({error}); use Python 3.11, "
            f"or give its file as a task of your own: [task.NAME] with file, smiles, targets and kind"
        ) from error
    from chembench.chem.smiles import canonical_many

    class Readable(deepchem.feat.Featurizer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.canonical: list[str] = []
            self.refused: list[str] = []

        def featurize(self, datapoints: Any, **_: Any) -> list[NDArray[np.uint8]]:
            raw = [str(point) for point in datapoints]
            found = canonical_many(raw)
            self.canonical += [new for new in found if new is not None]
            self.refused += [text for text, new in zip(raw, found, strict=True) if new is None]
            return [np.zeros(0 if new is None else 1, np.uint8) for new in found]

    name = definition.source.removeprefix("deepchem:")
    load = getattr(deepchem.molnet, name, None)
    if load is None:
        raise DataError(f"DeepChem {deepchem.__version__} has no loader '{name}' (task {definition.name}); correct it")
    return load, Readable()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what DeepChem prints, logs and warns: it speaks of optional packages, not of the data."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
