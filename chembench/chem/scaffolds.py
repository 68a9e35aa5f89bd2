"""Bemis-Murcko scaffolds, as DeepChem's ``ScaffoldSplitter`` makes them."""

from __future__ import annotations

from functools import lru_cache

from chembench.errors import DataError

KEPT = 100_000
"""Molecules whose scaffold is kept in memory: the folds of one task ask for the same ones again and again."""


@lru_cache(maxsize=KEPT)
def murcko(smiles: str) -> str:
    """The rings of a molecule and what links them, as SMILES without chirality; empty for a molecule without rings.

    Raises:
        DataError: if RDKit cannot read ``smiles``.

    Reference:
        Bemis and Murcko, J. Med. Chem. 1996, 39, 2887-2893. doi:10.1021/jm9602928
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise DataError(f"a scaffold needs a SMILES that RDKit can read, got {smiles!r}; drop the molecule before")
        return str(MurckoScaffoldSmiles(mol=molecule, includeChirality=False))  # type: ignore[no-untyped-call]
