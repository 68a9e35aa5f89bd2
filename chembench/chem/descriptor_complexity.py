"""Bertz' complexity: the information in how a molecule's atoms and connections fall into classes.

Axis letters: N molecules, A atoms of the block, E bonds in both directions, P connections, G groups of like things.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chembench.chem.descriptor_distances import distance_sums
from chembench.chem.descriptor_graph import Block, Words, mix, sums
from chembench.chem.descriptor_memory import Floats, Integers

Connections = tuple[Words, Floats, Integers]
"""Of each connection: its kind, its weight and one of its atoms."""


def bertz_complexity(block: Block) -> Floats:
    """Bertz' complexity of each molecule; shape (N,).

    Connections - pairs of bonds at one atom, and those within a multiple bond - are counted by the classes of their
    atoms; atoms with the same distances to all others are of one class.
    """
    parts = list(zip(*_connections(block), strict=True))
    kind_P, weight_P, atom_P = (np.concatenate(part) for part in parts)
    _, first_G, group_P = np.unique(kind_P, return_index=True, return_inverse=True)
    total_N, bits_N = information(sums(group_P, weight_P, len(first_G)), block.molecule_A[atom_P[first_G]], len(block))
    connections_N = total_N * (bits_N + np.log2(np.where(total_N > 0, total_N, 1.0)))
    element_G, count_G = np.unique(block.molecule_A * 128 + block.atomic_numbers, return_counts=True)
    atoms_N, bits_N = information(count_G.astype(float), element_G // 128, len(block))
    return atoms_N * bits_N + connections_N


def _connections(block: Block) -> Iterator[Connections]:
    _, kind_A = distance_sums(block)
    class_A = mix(kind_A + mix(block.molecule_A.astype(np.uint64)))
    hinge_A = mix(class_A)
    once_E = np.flatnonzero((block.source_E < block.target_E) & (block.order_E > 1))
    source_E, order_E = block.source_E[once_E], block.order_E[once_E]
    yield mix(class_A[source_E] + class_A[block.target_E[once_E]]), order_E * (order_E - 1) / 2, source_E
    first_A = np.cumsum(block.degree_A) - block.degree_A
    for second in range(1, int(block.degree_A.max())):
        atom = np.flatnonzero(block.degree_A > second)
        for first in range(second):
            one, other = first_A[atom] + first, first_A[atom] + second
            ends = class_A[block.target_E[one]] + class_A[block.target_E[other]]
            yield mix(ends) + hinge_A[atom], block.order_E[one] * block.order_E[other], atom


def information(count_G: Floats, molecule_G: Integers, molecules: int) -> tuple[Floats, Floats]:
    """Sum of the counts of each molecule, and the entropy of their shares in bits; both of shape (N,)."""
    # by size, so that the last bit does not hang on the order of the groups
    order = np.lexsort((count_G, molecule_G))
    count_G, molecule_G = count_G[order], molecule_G[order]
    total_N = sums(molecule_G, count_G, molecules)
    share_G = count_G / total_N[molecule_G]
    return total_N, sums(molecule_G, -share_G * np.log2(share_G), molecules)
