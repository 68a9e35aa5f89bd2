"""When two molecules are the same: InChIKeys, and a cheap filter that finds which of many can share one.

The first 14 characters of an InChIKey stand for composition and connections, the rest for stereo, isotopes and charge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from chembench.chem.pool import Progress, map_chunks

CONNECTIVITY = 14
"""Characters of an InChIKey that do without stereo, isotopes and charge."""

_CHUNK = 1_000
_ATOM = re.compile(r"\[\d*([A-Z][a-z]?|[a-z]{1,2})[^\]]*\]|(Br|Cl|[BCNOPSFIbcnops])")
_KEPT_TOGETHER = frozenset((6, 7, 8, 9, 15, 16, 17, 35, 53))
"""Elements whose bonds InChI never cuts; it cuts those of metals, and what is between is not relied on."""
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT = np.uint64(31)
_ROUNDS = 3


def inchikeys(smiles: Sequence[str], processes: int = 1, progress: Progress | None = None) -> list[str]:
    """The standard InChIKey of each molecule; empty where InChI cannot be made, as with dummy atoms.

    Args:
        smiles: that RDKit can read.
        processes: how many work at it; more than one are spawned.
        progress: called with the molecules done and in all after each chunk.

    Raises:
        ConfigError: if ``processes`` is below 1.
        RunError: if a worker process dies.

    Reference:
        Heller et al., InChI, the IUPAC International Chemical Identifier, J. Cheminform. 2015, 7, 23.
    """
    return [key for keys in map_chunks(_keys, smiles, _CHUNK, processes, progress) for key in keys]


def _keys(smiles: Sequence[str]) -> list[str]:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return [_key(Chem.MolFromSmiles(text)) for text in smiles]


def _key(molecule: object) -> str:
    from rdkit import Chem

    return str(Chem.MolToInchiKey(molecule)) if molecule is not None else ""  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every molecule must have that shares an InChIKey, or its first 14 characters, with one of a set."""

    compositions: frozenset[str]
    skeletons: frozenset[int]

    @classmethod
    def of(cls, smiles: Iterable[str]) -> Wanted:
        """What is common to the molecules of ``smiles`` and any other of the same key."""
        molecules = list(smiles)
        return cls(frozenset(map(composition, molecules)), frozenset(map(skeleton, molecules)))


def keys_of_candidates(wanted: Wanted, smiles: Sequence[str]) -> list[tuple[int, str]]:
    """Place and InChIKey of each molecule that can share a key with a wanted one; all others share none.

    Composition is counted in the text (10 us a molecule), connections on the graph (0.1 ms); InChI takes 0.4 ms.
    """
    near = [place for place, text in enumerate(smiles) if composition(text) in wanted.compositions]
    near = [place for place in near if skeleton(smiles[place]) in wanted.skeletons]
    return list(zip(near, _keys([smiles[place] for place in near]), strict=True))


def candidate_finder(wanted: Wanted) -> partial[list[tuple[int, str]]]:
    """`keys_of_candidates` for these, as a function that crosses a process border."""
    return partial(keys_of_candidates, wanted)


def composition(smiles: str) -> str:
    """How many atoms of each element but hydrogen stand in a SMILES, as a text."""
    counts: dict[str, int] = {}
    for bracketed, plain in _ATOM.findall(smiles):
        element = (bracketed or plain).capitalize()
        if element != "H":
            counts[element] = counts.get(element, 0) + 1
    return " ".join(f"{element}{counts[element]}" for element in sorted(counts))


def skeleton(smiles: str) -> int:
    """A number that depends on the heavy atoms and which of them are bonded, and on nothing else.

    Of molecules with other than the common non-metals it depends on the atoms alone, as InChI may cut their bonds.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None:
        return 0
    elements_A = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.uint64)
    is_heavy_A = elements_A > 1
    hashes_A = _mixed(elements_A[is_heavy_A])
    if _KEPT_TOGETHER.issuperset(elements_A[is_heavy_A].tolist()):
        bonded_AA = Chem.GetAdjacencyMatrix(molecule).astype(np.uint64)[is_heavy_A][:, is_heavy_A]
        for _ in range(_ROUNDS):
            hashes_A = _mixed(hashes_A + _MIX[0] * (bonded_AA @ hashes_A))
    return int(_mixed(hashes_A).sum(dtype=np.uint64))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values + _MIX[0]) * _MIX[1]
    return (values ^ (values >> _SHIFT)) * _MIX[2]
