"""What a space says of its corpus and its labels; on pydantic alone, so that a space is read without numpy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from chembench.config import Spec

Groups = Literal["scaffold", "cluster", "random"]
"""How molecules are grouped that may not be parted by an outer fold."""


class CorpusSpec(Spec):
    """Which molecules a sweep pre-trains on."""

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Paths, globs, URLs, ``rdkit:`` files or named corpora; relative paths start from the space's folder."""
    smiles_column: str | None = None
    """Column of CSV and Parquet files; none: ``smiles``, or the first column of a CSV file without header."""
    validation: PositiveInt
    """Molecules set aside for validation, the same for every scale."""
    max_unreadable: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Largest share of rows that RDKit may fail to read."""


class LabelSpec(Spec):
    """Which descriptors are the labels of pre-training, and how they are scaled."""

    descriptors: str = "rdkit"
    """A list by name (``rdkit``, ``paper105``), names separated by commas, or a JSON file with names."""
    statistics_molecules: PositiveInt = 10_000
    """The first training molecules, whose labels give mean and standard deviation; the same for every scale."""
    clip: PositiveFloat = 10.0
    """Largest standardised label, in standard deviations; values beyond are set to it and counted."""
