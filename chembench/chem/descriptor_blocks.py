"""Values of molecules block by block: which of them a block can hold, and what it computes of them.

What is unusual - isotopes, metals, explicit hydrogens, dummy atoms, dative or quadruple bonds, single atoms, very large
molecules, and where a value is not a finite number - is left to RDKit's own functions.

Axis letters: N molecules, M those in the block, K descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from rdkit import Chem

from chembench.chem.descriptor_graph import Block, Mask
from chembench.chem.descriptor_groups import GROUPS, Group
from chembench.chem.descriptor_memory import Floats, Memory
from chembench.chem.descriptor_plain import function_of, plain_values

_UNUSUAL = re.compile(r"[\s|~$>*]|<-|\[(?!(?:[BCNOSPFI]|Cl|Br|Si|[bcnosp])(?![a-z]))|\[[^]]*:")
"""In a SMILES: other bonds than those of a block, other elements, isotopes, atom maps, extensions."""
_LARGEST = 128
"""Atoms; the tables of distances grow with their square."""


@cache
def shared_memory() -> Memory:
    """What this process knows of atoms from the blocks before."""
    return Memory()


def block_values(smiles: Sequence[str], molecules: Sequence[Chem.Mol], names: Sequence[str]) -> tuple[Floats, Mask]:
    """Values of molecules, read from SMILES with atoms.

    Returns:
        Shape (N, K) as RDKit gives them, and which molecules RDKit's own functions computed.
    """
    values_NK = np.full((len(smiles), len(names)), np.nan)
    usual = [row for row, (text, one) in enumerate(zip(smiles, molecules, strict=True)) if _is_usual(text, one)]
    if usual:
        values_NK[usual] = _values(Block([molecules[row] for row in usual], shared_memory()), names)
    by_rdkit_N = ~np.isfinite(values_NK).all(axis=1)
    by_rdkit_N[np.setdiff1d(np.arange(len(smiles)), usual)] = True
    rows = np.flatnonzero(by_rdkit_N)
    values_NK[rows] = plain_values([smiles[row] for row in rows.tolist()], names)
    return values_NK, by_rdkit_N


def _is_usual(text: str, molecule: Chem.Mol) -> bool:
    atoms = molecule.GetNumAtoms()
    return (
        _UNUSUAL.search(text) is None
        and 1 < atoms <= _LARGEST
        and molecule.GetNumHeavyAtoms() == atoms
        and molecule.GetNumBonds() > 0
    )


def _values(block: Block, names: Sequence[str]) -> Floats:
    columns: dict[str, Floats] = {}
    for group in _needed(names):
        computed = group.compute(block).reshape(len(block), len(group.names))
        columns.update(zip(group.names, computed.T, strict=True))
    return np.stack([columns[name] for name in names], axis=1)


def _needed(names: Sequence[str]) -> list[Group]:
    groups = [group for group in GROUPS if not set(names).isdisjoint(group.names)]
    covered = {name for group in groups for name in group.names}
    return groups + [_single(name) for name in names if name not in covered]


@cache
def _single(name: str) -> Group:
    """A descriptor that RDKit computes fast, or that no group knows."""
    function = function_of(name)
    return Group((name,), lambda block: block.by_rdkit(function))
