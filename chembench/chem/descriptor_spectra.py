"""Descriptors of eigenvalues: BCUT, and the information in the characteristic polynomial.

Axis letters: N molecules, B those with the same number of atoms, I and J these atoms, A atoms of the block, Q
properties on the diagonal, C coefficients of a polynomial.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Graphs
from rdkit.ML.InfoTheory import entropy

from chembench.chem.descriptor_complexity import information
from chembench.chem.descriptor_elements import WEIGHT
from chembench.chem.descriptor_graph import Block
from chembench.chem.descriptor_memory import Floats, Integers

_characteristic_polynomial: Any = Graphs.CharacteristicPolynomial
_entropy: Any = vars(entropy)["InfoEntropy"]
_NOT_BONDED = 0.001
"""Between atoms without a bond, in Burden's matrix."""
_LARGEST_EXACT = 1e14
"""Sum of coefficients up to which RDKit's routine works with exact whole numbers; beyond, its rounding errors count."""


def bcut(block: Block) -> Floats:
    """Highest and lowest eigenvalue of Burden's matrix for mass, charge, logP and refractivity; shape (N, 8)."""
    value_QA = [
        WEIGHT[block.atomic_numbers],
        np.nan_to_num(block.charges),
        block.of_environment("logp"),
        block.of_environment("refractivity"),
    ]
    extremes_NQ = np.empty((len(block), 2 * len(value_QA)))
    for molecule_B, atom_BI, order_BIJ in _by_size(block):
        burden_BIJ = np.where(order_BIJ > 0, 1 / np.sqrt(np.maximum(order_BIJ, 1.0)), _NOT_BONDED)
        places = np.arange(burden_BIJ.shape[1])
        for column, value_A in enumerate(value_QA):
            burden_BIJ[:, places, places] = value_A[atom_BI]
            eigenvalues_BI = np.linalg.eigvalsh(burden_BIJ)
            extremes_NQ[molecule_B, 2 * column : 2 * column + 2] = eigenvalues_BI[:, [-1, 0]]
    return np.where(block.are_charged[:, None], extremes_NQ, np.nan)


def polynomial_information(block: Block) -> Floats:
    """Entropy of the coefficients' shares in bits, and that times their sum; shape (N, 2)."""
    eigenvalues_NI = np.zeros((len(block), int(block.size_N.max())))
    for molecule_B, _, order_BIJ in _by_size(block):
        size = order_BIJ.shape[1]
        eigenvalues_BI = np.linalg.eigvalsh((order_BIJ > 0).astype(float))
        eigenvalues_NI[molecule_B, :size] = eigenvalues_BI[:, _from_both_ends(size)]
    polynomial_NC = np.abs(np.rint(_polynomials(eigenvalues_NI, block.size_N)))
    molecule_G, power_G = np.nonzero(polynomial_NC)
    total_N, bits_N = information(polynomial_NC[molecule_G, power_G], molecule_G, len(block))
    values_N2 = np.stack([bits_N, bits_N * total_N], axis=1)
    for molecule in np.flatnonzero(total_N > _LARGEST_EXACT).tolist():
        values_N2[molecule] = _by_rdkit(block.molecules[molecule])
    return values_N2


def _from_both_ends(size: int) -> Integers:
    """Lowest, highest, second lowest, ...: in this order a polynomial's coefficients stay small while it grows."""
    places = np.arange(size)
    return np.where(places % 2 == 0, places // 2, size - 1 - places // 2)


def _polynomials(root_NI: Floats, size_N: Integers) -> Floats:
    """Coefficients of the polynomials with these roots, ``size_N`` of each; the leading one first; shape (N, C)."""
    order = np.argsort(-size_N, kind="stable")
    coefficient_CN = np.zeros((root_NI.shape[1] + 1, len(order)))
    coefficient_CN[0] = 1.0
    for count, root_N in enumerate(root_NI[order].T, start=1):
        going = np.count_nonzero(size_N >= count)
        coefficient_CN[1 : count + 1, :going] -= root_N[:going] * coefficient_CN[:count, :going]
    coefficient_NC = np.empty_like(coefficient_CN.T)
    coefficient_NC[order] = coefficient_CN.T
    return coefficient_NC


def _by_rdkit(molecule: Chem.Mol) -> tuple[float, float]:
    is_bond_IJ = np.equal(Chem.GetAdjacencyMatrix(molecule), 1)
    coefficients = np.abs(_characteristic_polynomial(molecule, is_bond_IJ))
    bits = _entropy(coefficients)
    return bits, sum(coefficients) * bits


def _by_size(block: Block) -> Iterator[tuple[Integers, Integers, NDArray[np.float64]]]:
    """Molecules with as many atoms each: which, the places of their atoms, and the orders of their bonds."""
    local_N = np.empty(len(block), np.intp)
    source_E, target_E = (atom - block.first_N[block.molecule_E] for atom in (block.source_E, block.target_E))
    for size in np.unique(block.size_N).tolist():
        molecule_B = np.flatnonzero(block.size_N == size)
        local_N[molecule_B] = np.arange(len(molecule_B))
        here = np.flatnonzero(block.size_N[block.molecule_E] == size)
        order_BIJ = np.zeros((len(molecule_B), size, size))
        order_BIJ[local_N[block.molecule_E[here]], source_E[here], target_E[here]] = block.order_E[here]
        yield molecule_B, block.first_N[molecule_B][:, None] + np.arange(size), order_BIJ
