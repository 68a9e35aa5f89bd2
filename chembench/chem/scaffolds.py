"""Bemis-Murcko scaffolds, as DeepChem's ``ScaffoldSplitter`` makes them."""

from __future__ import annotations

from chembench.errors import DataError


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
