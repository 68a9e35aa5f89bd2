"""Circular fingerprints: the features of the control that every board shows.

Axes: N molecules, K bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chembench.errors import DataError

if TYPE_CHECKING:
    from rdkit import Chem

BITS = 2048
RADIUS = 2
KEPT = 50_000
"""Molecules whose bits are kept in memory, at 0.4 kB each."""


def ecfp4(smiles: Sequence[str]) -> npt.NDArray[np.uint8]:
    """ECFP4 of each molecule: Morgan fingerprints of radius 2, folded to 2,048 bits.

    Args:
        smiles: one SMILES per molecule.

    Returns:
        0 or 1, shape (molecules, 2048).

    Raises:
        DataError: if a SMILES cannot be read.

    Reference:
        Rogers and Hahn, J. Chem. Inf. Model. 2010, 50, 742. doi:10.1021/ci100050t
    """
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    bits_NK = np.zeros((len(smiles), BITS), dtype=np.uint8)
    for row, text in enumerate(smiles):
        bits_NK[row] = generator.GetFingerprintAsNumPy(_molecule(text, row))
    return bits_NK


def _molecule(text: str, row: int | None = None) -> Chem.Mol:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None or not text:
        raise DataError(
            f"a fingerprint needs a SMILES that RDKit can read, {'got' if row is None else f'row {row} is'} {text!r}; "
            "remove or correct this molecule"
        )
    return molecule


def nearest(queries: Sequence[str], references: Sequence[str]) -> npt.NDArray[np.float64]:
    """Largest Tanimoto similarity of each query to any reference, on ECFP4.

    Args:
        queries: one SMILES per molecule.
        references: at least one.

    Returns:
        0 (no bit in common with any) to 1 (the same bits), shape (queries,).

    Raises:
        DataError: if a SMILES cannot be read, or there is no reference.
    """
    from rdkit.DataStructs import BulkTanimotoSimilarity

    if not references:
        raise DataError("a nearest neighbour needs a molecule to be near to, there is none; give references")
    known = [_kept(text) for text in references]
    found = np.empty(len(queries))
    for row, text in enumerate(queries):
        found[row] = max(BulkTanimotoSimilarity(_kept(text), known))
    return found


@lru_cache(maxsize=KEPT)
def _kept(text: str) -> Any:
    """The bit vector of a molecule; the folds of one task ask for the same molecules again and again."""
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS).GetFingerprint(_molecule(text))
