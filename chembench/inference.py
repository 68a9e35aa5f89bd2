"""Predictions for a file of molecules: every row comes back, those that cannot be read with empty cells."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chembench.errors import ConfigError, DataError

LINE_SUFFIXES = (".smi", ".smiles", ".txt")


class Predicts(Protocol):
    """What predictions are made with: `chembench.training.fitted.FittedModel`, which reads canonical SMILES."""

    @property
    def target_names(self) -> tuple[str, ...]: ...

    def predict(self, smiles: list[str]) -> Any:
        """One row per molecule, one column per target, shape (N, M)."""
        ...


@dataclass(frozen=True, slots=True)
class Molecules:
    """A table that has a SMILES in each row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    smiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The rows that came in, each with its predictions."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    unreadable: tuple[tuple[int, str], ...]
    """Row number, counted from 1 without the header, and text of every SMILES that does not parse."""

    def as_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def read_molecules(text: str, source: str, smiles_column: str) -> Molecules:
    """The molecules in ``text``.

    Args:
        text: a CSV with a header, or one SMILES a line with an optional name behind it.
        source: the file's name, which decides between the two; for ``-`` the first line does: it is a CSV's header
            where it names ``smiles_column``.
        smiles_column: where a CSV keeps its SMILES.

    Raises:
        ConfigError: if the column is missing or the kind of file is unknown.
        DataError: if there is no molecule, or a row has more or fewer cells than the header.
    """
    suffix = Path(source).suffix.lower()
    if suffix == ".csv" or (source == "-" and smiles_column in _header(text)):
        try:
            molecules = _read_csv(text.lstrip("\ufeff"), source, smiles_column)
        except csv.Error as error:
            raise DataError(
                f"'{source}' must be a CSV, it is not: {error}; mend it, or give one SMILES a line"
            ) from error
    elif source == "-" or suffix in LINE_SUFFIXES:
        molecules = _read_lines(text)
    else:
        raise ConfigError(
            f"molecules are read from .csv or {', '.join(LINE_SUFFIXES)}, got '{source}'; rename it or give it as '-'"
        )
    if not molecules.rows:
        raise DataError(
            f"'{source}' holds no molecule; give a CSV with a column '{smiles_column}' or one SMILES a line"
        )
    return molecules


def _header(text: str) -> list[str]:
    try:
        return next(csv.reader([text.lstrip("\ufeff").partition("\n")[0]]), [])
    except csv.Error:
        return []


def _read_csv(text: str, source: str, smiles_column: str) -> Molecules:
    lines = [row for row in csv.reader(io.StringIO(text)) if row]
    columns = tuple(lines[0]) if lines else ()
    if smiles_column not in columns:
        near = difflib.get_close_matches(smiles_column, columns, n=1, cutoff=0.4)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ConfigError(
            f"'{source}' has no column '{smiles_column}'{hint}, its columns are {', '.join(columns) or 'none'}; "
            "name the right one with --smiles-column"
        )
    for number, row in enumerate(lines[1:], start=1):
        if len(row) != len(columns):
            raise DataError(
                f"every row of '{source}' needs {len(columns)} cells like its header, row {number} has {len(row)}; "
                "quote cells that contain a comma"
            )
    place = columns.index(smiles_column)
    rows = tuple(tuple(row) for row in lines[1:])
    return Molecules(columns, rows, tuple(row[place].strip() for row in rows))


def _read_lines(text: str) -> Molecules:
    parts = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    rows = tuple((part[0], part[1].strip() if len(part) > 1 else "") for part in parts)
    return Molecules(("smiles", "name"), rows, tuple(row[0] for row in rows))


def predict_table(model: Predicts, molecules: Molecules) -> Predictions:
    """``molecules`` with one column ``predicted_<target>`` per target, in the task's unit or as a probability.

    Raises:
        ConfigError: if the table has a column of that name already.
        DataError: if no SMILES parses.
    """
    from chembench.chem.smiles import canonical

    added = tuple(f"predicted_{name}" for name in model.target_names)
    taken = sorted(set(added) & set(molecules.columns))
    if taken:
        raise ConfigError(f"the input has a column '{taken[0]}' already, which the predictions would be; rename it")
    read = [canonical(text) if text else None for text in molecules.smiles]
    readable = [text for text in read if text is not None]
    if not readable:
        raise DataError(
            f"none of the {len(read)} SMILES parses, first '{molecules.smiles[0]}'; "
            "check that --smiles-column names the right column"
        )
    predicted_NM = iter(model.predict(readable))
    rows = tuple(
        (*row, *(_cells(next(predicted_NM)) if text is not None else [""] * len(added)))
        for row, text in zip(molecules.rows, read, strict=True)
    )
    unreadable = tuple(
        (number, text)
        for number, (text, known) in enumerate(zip(molecules.smiles, read, strict=True), start=1)
        if known is None
    )
    return Predictions((*molecules.columns, *added), rows, unreadable)


def _cells(predicted_M: Sequence[float]) -> list[str]:
    return [f"{float(value):.6g}" for value in predicted_M]
