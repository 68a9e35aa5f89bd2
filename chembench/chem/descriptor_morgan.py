"""How many different Morgan environments a molecule has, from one pass for all radii.

RDKit's generator is followed to the bit: its hashes, which environments it drops because they hold the same bonds as
one before, and that dropped atoms fall silent.

Axis letters: N molecules, A atoms of the block, E bonds in both directions, D neighbours of an atom, W words of 64
bonds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptor_graph import Block, Words, mix
from chembench.chem.descriptor_memory import Floats
from chembench.chem.descriptor_smarts import BOND_TYPES

RADII = (1, 2, 3)
_BOND_CODE = np.repeat([int(kind) for kind in BOND_TYPES], 2).astype(np.uint64)
_NOBODY = np.uint64(2**64 - 1)
_SHIFT = np.uint64(32)

Codes = NDArray[np.uint32]


def environment_density(block: Block) -> Floats:
    """Different environments up to each radius, for each atom of the molecule; shape (N, radii)."""
    code_A = block.invariant_A.astype(np.uint32)
    rounds = [(block.molecule_A, code_A)]
    alive_A = block.degree_A > 0
    bonds_AW = np.zeros((len(code_A) + 1, _words(block)), np.uint64)
    seen = np.array([_NOBODY])
    for layer in range(max(RADII)):
        code_A = np.where(alive_A, _hashed(block, layer, code_A), np.uint32(0))
        bonds_AW = _spread(block, bonds_AW, alive_A)
        kept, seen = _new_environments(block, bonds_AW, code_A, np.flatnonzero(alive_A), seen)
        alive_A = np.zeros(len(alive_A), bool)
        alive_A[kept] = True
        rounds.append((block.molecule_A[kept], code_A[kept]))
    return _distinct(block, rounds) / block.size_N[:, None]


def _distinct(block: Block, rounds: list[tuple[NDArray[np.intp], Codes]]) -> Floats:
    molecule, code = (np.concatenate(part) for part in zip(*rounds, strict=True))
    layer = np.repeat(np.arange(len(rounds)), [len(codes) for _, codes in rounds])
    _, first = np.unique(molecule.astype(np.uint64) << _SHIFT | code, return_index=True)
    counts = [np.bincount(molecule[first[layer[first] <= radius]], minlength=len(block)) for radius in RADII]
    return np.stack(counts, axis=1).astype(np.float64)


def _combine(seed: Codes, value: Codes) -> Codes:
    """Boost's, which RDKit's hashes are made of."""
    total: Codes = value + np.uint32(0x9E3779B9) + (seed << np.uint32(6)) + (seed >> np.uint32(2))
    return seed ^ total


def _hashed(block: Block, layer: int, code_A: Codes) -> Codes:
    """Of each atom, its code and the sorted codes of its neighbours."""
    atom_AD, kind_AD = (table[:-1] for table in block.neighbours)
    pair_AD = _BOND_CODE.take(kind_AD, mode="clip") << _SHIFT | np.append(code_A, np.uint32(0)).take(atom_AD)
    pair_AD[atom_AD == len(code_A)] = _NOBODY
    pair_AD.sort(axis=1)
    hash_A = _combine(np.full(len(code_A), layer, np.uint32), code_A)
    for pair_A in pair_AD.T:
        bond_A, other_A = (pair_A >> _SHIFT).astype(np.uint32), pair_A.astype(np.uint32)
        both_A = _combine(_combine(np.zeros(len(pair_A), np.uint32), bond_A), other_A)
        hash_A = np.where(pair_A == _NOBODY, hash_A, _combine(hash_A, both_A))
    return hash_A


def _words(block: Block) -> int:
    return int(np.bincount(block.molecule_E).max()) // 2 // 64 + 1


def _bond_bits(block: Block) -> Words:
    """The bond of each place for neighbours, as one bit among those of its molecule; shape (A + 1, D, W)."""
    forth = np.flatnonzero(block.source_E < block.target_E)
    back = block.find_bonds(block.target_E[forth], block.source_E[forth])
    per_molecule_N = np.bincount(block.molecule_E[forth], minlength=len(block))
    local = np.arange(len(forth)) - (np.cumsum(per_molecule_N) - per_molecule_N)[block.molecule_E[forth]]
    bits_EW = np.zeros((len(block.source_E) + 1, _words(block)), np.uint64)
    for bond in (forth, back):
        bits_EW[bond, local // 64] = np.uint64(1) << (local % 64).astype(np.uint64)
    return bits_EW[block.bond_places]


def _spread(block: Block, bonds_AW: Words, alive_A: NDArray[np.bool_]) -> Words:
    """Bonds of an atom's environment, with those around its neighbours; of the atoms that are alive."""
    atom_AD, _ = block.neighbours
    own_ADW = block.kept(_bond_bits, lambda: _bond_bits(block))
    wider_AW = bonds_AW | np.bitwise_or.reduce(bonds_AW.take(atom_AD, axis=0) | own_ADW, axis=1)
    return np.where(np.append(alive_A, False)[:, None], wider_AW, bonds_AW)


def _new_environments(
    block: Block, bonds_AW: Words, code_A: Codes, alive: NDArray[np.intp], seen: Words
) -> tuple[NDArray[np.intp], Words]:
    """Atoms whose environment no atom had before, of several with the same the one with the lowest code."""
    name = mix(block.molecule_A[alive].astype(np.uint64))
    for word in range(bonds_AW.shape[1]):
        name = mix(name ^ bonds_AW[alive, word])
    order = np.lexsort((code_A[alive], name))
    name = name[order]
    is_first = np.append(True, name[1:] != name[:-1])
    is_new = is_first & (seen[np.searchsorted(seen, name)] != name)
    return alive[order[is_new]], np.sort(np.concatenate([seen, name[is_new]]))
