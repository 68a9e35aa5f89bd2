"""Descriptors that count atoms, rings and groups.

Axis letters: N molecules, A atoms of the block, R rings, M members of all rings.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from rdkit.Chem import Fragments

from chembench.chem.descriptor_elements import COMMON_MASS, ELECTRON_MASS, OUTER_ELECTRONS, WEIGHT
from chembench.chem.descriptor_graph import Block, Mask, sums
from chembench.chem.descriptor_matching import Query
from chembench.chem.descriptor_memory import Floats

FRAGMENTS = tuple(name for name, _ in Fragments.fns)


def fragments(block: Block) -> Floats:
    """Of each functional group of RDKit's, how many; shape (N, groups)."""
    return np.stack([query.counts(block) for query in _fragment_queries()], axis=1)


@cache
def _fragment_queries() -> list[Query]:
    return [Query(count.__defaults__[1]) for _, count in Fragments.fns]


def molecular_weight(block: Block) -> Floats:
    """Average weight, hydrogens included; shape (N,)."""
    return block.sum_atoms(WEIGHT[block.atomic_numbers] + WEIGHT[1] * block.hydrogens)


def weights(block: Block) -> Floats:
    """Average weight, that without hydrogens, exact mass; shape (N, 3)."""
    heavy_N = block.sum_atoms(WEIGHT[block.atomic_numbers])
    exact_A = COMMON_MASS[block.atomic_numbers] + COMMON_MASS[1] * block.hydrogens
    exact_N = block.sum_atoms(exact_A - ELECTRON_MASS * block.of_type("charge"))
    return np.stack([molecular_weight(block), heavy_N, exact_N], axis=1)


def electrons(block: Block) -> Floats:
    """Valence electrons and unpaired ones; shape (N, 2)."""
    valence_A = OUTER_ELECTRONS[block.atomic_numbers] - block.of_type("charge") + block.hydrogens
    return np.stack([block.sum_atoms(valence_A), block.sum_atoms(block.of_type("radicals"))], axis=1)


def atoms(block: Block) -> Floats:
    """Heavy atoms, hetero atoms, N and O, hydrogens at these, share of carbons with four neighbours; shape (N, 5)."""
    number_A = block.atomic_numbers
    is_polar_A, is_carbon_A = (number_A == 7) | (number_A == 8), number_A == 6
    carbons_N = block.sum_atoms(is_carbon_A)
    saturated_N = block.sum_atoms(is_carbon_A & (block.of_type("total_degree") == 4))
    columns = [
        block.size_N,
        block.sum_atoms(~is_carbon_A),
        block.sum_atoms(is_polar_A),
        block.sum_atoms(is_polar_A * block.hydrogens),
        np.divide(saturated_N, carbons_N, out=np.zeros(len(block)), where=carbons_N > 0),
    ]
    return np.stack(columns, axis=1)


RINGS = (
    *[
        f"Num{kind}{what}"
        for kind in ("Aliphatic", "Aromatic", "Saturated")
        for what in ("Carbocycles", "Heterocycles", "Rings")
    ],
    "NumHeterocycles",
    "RingCount",
)


def rings(block: Block) -> Floats:
    """`RINGS`; shape (N, 11)."""
    order_M = block.order_E[block.bond_M]
    count = len(block.ring_size_R)

    def every(true_M: Mask) -> Mask:
        all_R: Mask = sums(block.ring_M, true_M, count) == block.ring_size_R
        return all_R

    is_aromatic_R, is_saturated_R = every(order_M == 1.5), every(order_M == 1)
    is_carbon_R = every(block.atomic_numbers[block.atom_M] == 6)
    kinds = [
        kind_R & what_R
        for kind_R in (~is_aromatic_R, is_aromatic_R, is_saturated_R)
        for what_R in (is_carbon_R, ~is_carbon_R, np.ones(count, bool))
    ]
    kinds += [~is_carbon_R, np.ones(count, bool)]
    counts = [sums(block.ring_molecule_R, kind_R, len(block)) for kind_R in kinds]
    return np.stack(counts, axis=1)
