"""Descriptors by RDKit's own functions, one molecule and one descriptor at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from rdkit import Chem
from rdkit.Chem import Descriptors

from chembench.chem.descriptor_memory import Floats

Descriptor = Callable[[Chem.Mol], float]

_FAILURES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What RDKit's descriptors raise for a molecule they are not defined on; its C++ errors derive from these."""


def function_of(name: str) -> Descriptor:
    """RDKit's function, NaN where it raises."""
    function = dict(Descriptors.descList)[name]

    def defined(molecule: Chem.Mol) -> float:
        try:
            return float(function(molecule))
        except _FAILURES:
            return math.nan

    return defined


def plain_values(smiles: Sequence[str], names: Sequence[str]) -> Floats:
    """RDKit's values of molecules that it can read, each read afresh; shape (molecules, descriptors)."""
    functions = [function_of(name) for name in names]
    values = np.empty((len(smiles), len(names)))
    for row, text in enumerate(smiles):
        molecule = Chem.MolFromSmiles(text)
        values[row] = [function(molecule) for function in functions]
    return values
