"""Shortest paths in a block's molecules, and what is made of them: electrotopological states and Balaban's J.

Molecules of like size are laid behind each other in the last axis, so that every step of Floyd's and Warshall's
algorithm is one addition and one minimum over memory that lies together.

Axis letters: N molecules of a block, B those of a batch, I and J atoms of the largest of these, A atoms of the block.
"""

from __future__ import annotations

from inspect import signature

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem.GraphDescriptors import BertzCT

from chembench.chem.descriptor_elements import OUTER_ELECTRONS, QUANTUM_NUMBER
from chembench.chem.descriptor_graph import Block, Words, mix
from chembench.chem.descriptor_memory import Floats, Integers

Distances = NDArray[np.int16]

_BATCH = 128
_PADDING = 1.2
"""Largest molecule of a batch, as a multiple of the smallest."""
_FAR = 15_000
"""No path; two of them still fit into 16 bits."""
_SIXTHS = 6
"""Bonds are as long as the inverse of their order: whole sixths."""
_RDKITS_FAR = 1e8
_SQUARES = np.append((np.arange(_FAR) + 1.0) ** 2, np.inf)
_MOST_COMPARED = int(signature(BertzCT).parameters["cutoff"].default)
"""Nearest atoms whose distances tell atoms apart."""
_SCRAMBLED = mix(np.arange(1, _FAR + 2, dtype=np.uint64))


def electrotopological_states(block: Block) -> Floats:
    """Of each atom; shape (A,)."""
    return block.kept(electrotopological_states, lambda: _states(block))


def _states(block: Block) -> Floats:
    number_A = block.atomic_numbers
    valence_A = OUTER_ELECTRONS[number_A] - block.hydrogens
    bonded_A = block.degree_A > 0
    raw_A = 4.0 / QUANTUM_NUMBER[number_A] ** 2 * valence_A + 1
    intrinsic_A = np.divide(raw_A, block.degree_A, out=np.zeros(len(raw_A)), where=bonded_A)
    state_A = np.empty(len(number_A))
    for batch_B, hops_IJB, _ in _shortest_paths(block):
        place_IB, is_atom_IB = _places(block, batch_B, len(hops_IJB))
        value_IB = np.where(is_atom_IB, intrinsic_A[place_IB], 0.0)
        push_IB = np.zeros_like(value_IB)
        # one after the other as RDKit does it, so that not even the last bit differs
        for other_B, hops_IB in zip(value_IB, hops_IJB, strict=True):
            push_IB += (value_IB - other_B) / _SQUARES.take(hops_IB)
        state_A[place_IB[is_atom_IB]] = (push_IB + value_IB)[is_atom_IB]
    return state_A


def balaban_j(block: Block) -> Floats:
    """Balaban's J of each molecule; shape (N,)."""
    total_A, _ = distance_sums(block)
    weight_E = 1.0 / np.sqrt(total_A[block.source_E] * total_A[block.target_E])
    bonds_N = block.sum_bonds(np.ones(len(weight_E)))
    cycles_N = bonds_N - block.size_N + 2
    factor_N = np.divide(bonds_N, cycles_N, out=np.zeros(len(block)), where=cycles_N != 0)
    return factor_N * block.sum_bonds(weight_E)


def distance_sums(block: Block) -> tuple[Floats, Words]:
    """Of each atom, the sum of its distances to all others, and a number that stands for their multiset; shape (A,)."""
    return block.kept(distance_sums, lambda: _distance_sums(block))


def _distance_sums(block: Block) -> tuple[Floats, Words]:
    total_A, kind_A = np.empty(len(block.molecule_A)), np.empty(len(block.molecule_A), np.uint64)
    for batch_B, _, length_IJB in _shortest_paths(block):
        place_IB, is_atom_IB = _places(block, batch_B, len(length_IJB))
        is_far_IJB = length_IJB == _FAR
        near_IB = np.where(is_far_IJB, 0, length_IJB).sum(axis=1, dtype=np.int64) / _SIXTHS
        far_IB = is_far_IJB.sum(axis=1) - (len(length_IJB) - block.size_N[batch_B])
        total_A[place_IB[is_atom_IB]] = (near_IB + _RDKITS_FAR * far_IB)[is_atom_IB]
        if len(length_IJB) > _MOST_COMPARED:
            length_IJB = np.sort(length_IJB, axis=1)[:, :_MOST_COMPARED]
        kind_A[place_IB[is_atom_IB]] = _SCRAMBLED.take(length_IJB).sum(axis=1)[is_atom_IB]
    return total_A, kind_A


def _shortest_paths(block: Block) -> list[tuple[Integers, Distances, Distances]]:
    """Batches of molecules, with the numbers of bonds between their atoms and the lengths in sixths of a bond."""
    return block.kept(_shortest_paths, lambda: [(batch_B, *_paths(block, batch_B)) for batch_B in _batches(block)])


def _batches(block: Block) -> list[Integers]:
    batches: list[list[int]] = []
    for molecule in np.argsort(block.size_N, kind="stable").tolist():
        first = batches[-1][0] if batches and len(batches[-1]) < _BATCH else None
        if first is None or block.size_N[molecule] > _PADDING * block.size_N[first]:
            batches.append([])
        batches[-1].append(molecule)
    return [np.array(batch) for batch in batches]


def _paths(block: Block, batch_B: Integers) -> tuple[Distances, Distances]:
    size, count = int(block.size_N[batch_B].max()), len(batch_B)
    slot_N = np.full(len(block), -1)
    slot_N[batch_B] = np.arange(count)
    here = slot_N[block.molecule_E] >= 0
    slot_E, first_E = slot_N[block.molecule_E[here]], block.first_N[block.molecule_E[here]]
    row_E, column_E = block.source_E[here] - first_E, block.target_E[here] - first_E
    both = np.full((size, size, 2 * count), _FAR, np.int16)
    both[np.arange(size), np.arange(size)] = 0
    both[row_E, column_E, slot_E] = 1
    both[row_E, column_E, slot_E + count] = np.rint(_SIXTHS / block.order_E[here]).astype(np.int16)
    way = np.empty_like(both)
    for middle in range(size):
        np.add(both[:, middle, None], both[None, middle], out=way)
        np.minimum(both, way, out=both)
    return both[..., :count], both[..., count:]


def _places(block: Block, batch_B: Integers, size: int) -> tuple[Integers, NDArray[np.bool_]]:
    """Where the atoms of a batch stand in the block, and which places of the batch hold one."""
    is_atom_IB = np.arange(size)[:, None] < block.size_N[batch_B]
    return np.where(is_atom_IB, np.arange(size)[:, None] + block.first_N[batch_B], 0), is_atom_IB
