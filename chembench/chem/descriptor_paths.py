"""Descriptors of paths: the connectivity indices Chi and the shape indices Kappa.

Axis letters: N molecules, A atoms of the block, X paths of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rdkit.Chem import rdMolDescriptors

from chembench.chem.descriptor_elements import OUTER_ELECTRONS
from chembench.chem.descriptor_graph import Block, Mask, sums
from chembench.chem.descriptor_memory import Floats, Integers


def chi(block: Block) -> Floats:
    """Chi0, Chi1, then Chi0 to Chi4 with valences (n), then with Hall's and Kier's (v); shape (N, 12)."""
    with np.errstate(divide="ignore"):
        weight_A = np.where(block.degree_A > 0, 1 / np.sqrt(block.degree_A), 0.0)
    product_E = np.sqrt(1.0 / (block.degree_A[block.source_E] * block.degree_A[block.target_E]))
    columns = [block.sum_atoms(weight_A), block.sum_bonds(product_E)]
    paths = _all_paths(block)
    for weight_A in _valence_weights(block):
        columns += [block.sum_atoms(weight_A), block.sum_bonds(weight_A[block.source_E] * weight_A[block.target_E])]
        columns += [length.sums(block, weight_A) for length in paths]
    return np.stack(columns, axis=1)


def _valence_weights(block: Block) -> tuple[Floats, Floats]:
    number_A = block.atomic_numbers
    outer_A = OUTER_ELECTRONS[number_A]
    valence_A = (outer_A - block.hydrogens).astype(float)
    inner_A = np.where(number_A > 10, number_A - outer_A - 1, 1)
    return _inverse_root(valence_A), _inverse_root(valence_A / inner_A)


def _inverse_root(value_A: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value_A != 0, 1.0 / np.sqrt(value_A), 0.0)


def kappa(block: Block) -> Floats:
    """Kappa1, Kappa2, Kappa3 and Phi; shape (N, 4)."""
    alpha_N = np.array([rdMolDescriptors.CalcHallKierAlpha(molecule) for molecule in block.molecules])
    size_N = block.size_N
    bonds_N = block.sum_bonds(np.ones(len(block.source_E)))
    two_N, three_N, _ = (length.sums(block, None) for length in _all_paths(block))
    first_N = _ratio((size_N + alpha_N) * (size_N + alpha_N - 1) ** 2, bonds_N + alpha_N)
    second_N = _ratio((size_N + alpha_N - 1) * (size_N + alpha_N - 2) ** 2, two_N + alpha_N)
    less_N = np.where(size_N % 2 == 1, 1, 2)
    third_N = _ratio((size_N + alpha_N - less_N) * (size_N + alpha_N - 3) ** 2, three_N + alpha_N)
    return np.stack([first_N, second_N, third_N, first_N * second_N / size_N], axis=1)


def _ratio(above_N: Floats, below_N: Floats) -> Floats:
    square_N = below_N**2
    return np.divide(above_N, square_N, out=np.zeros(len(above_N)), where=square_N != 0)


@dataclass(frozen=True)
class _Paths:
    """Paths with the same number of bonds, as RDKit counts them: closed ones are counted as well.

    Args:
        atoms: one array of atoms for each place of the path.
        share_X: of each path, one over the number of times that its set of bonds is listed.
    """

    atoms: tuple[Integers, ...]
    share_X: Floats

    def sums(self, block: Block, weight_A: Floats | None) -> Floats:
        """Sum over the paths of each molecule of the product of their atoms' weights, 1 if there are none."""
        value_X = self.share_X
        if weight_A is not None:
            extended_A = np.append(weight_A, 1.0)
            value_X = value_X * np.prod([extended_A.take(atom_X) for atom_X in self.atoms], axis=0)
        return sums(block.molecule_A[self.atoms[0]], value_X, len(block))


def _all_paths(block: Block) -> tuple[_Paths, _Paths, _Paths]:
    """Paths of two, three and four bonds."""
    return block.kept(_all_paths, lambda: _listed(block))


def _listed(block: Block) -> tuple[_Paths, _Paths, _Paths]:
    nothing = len(block.molecule_A)
    open2, _ = _extended(block, (block.source_E, block.target_E))
    open3, closed3 = _extended(block, open2)
    open4, closed4 = _extended(block, open3)
    # a triangle is listed from three atoms in two directions, as is a square from four; its first atom counts once
    triangle = closed3[3] == closed3[0]
    rings3 = tuple(column[triangle] for column in closed3[:3])
    square = closed4[4] == closed4[0]
    rings4 = tuple(column[square] for column in closed4[:4])
    # a triangle with a tail is listed in two directions; the atom where it closes counts twice, as in RDKit
    tailed = tuple(column[closed4[4] == closed4[1]] for column in closed4)
    return (
        _Paths(open2, np.full(len(open2[0]), 1 / 2)),
        _joined([(open3, 1 / 2), (rings3, 1 / 6)], nothing),
        _joined([(open4, 1 / 2), (rings4, 1 / 8), (tailed, 1 / 2)], nothing),
    )


def _joined(parts: list[tuple[tuple[Integers, ...], float]], nothing: int) -> _Paths:
    places = max(len(atoms) for atoms, _ in parts)
    padded = [(*atoms, *[np.full(len(atoms[0]), nothing)] * (places - len(atoms))) for atoms, _ in parts]
    share_X = np.concatenate([np.full(len(atoms[0]), share) for atoms, share in parts])
    return _Paths(tuple(np.concatenate(column) for column in zip(*padded, strict=True)), share_X)


def _extended(block: Block, path: tuple[Integers, ...]) -> tuple[tuple[Integers, ...], tuple[Integers, ...]]:
    """Paths with one bond more: those that meet a new atom, and those that come back to one but the last but one."""
    last_X = path[-1]
    count_X = block.degree_A[last_X]
    row = np.repeat(np.arange(len(last_X)), count_X)
    start_A = np.cumsum(block.degree_A) - block.degree_A
    bond = np.arange(len(row)) - np.repeat(np.cumsum(count_X) - count_X - start_A[last_X], count_X)
    longer = (*(column.take(row) for column in path), block.target_E[bond])
    is_back = longer[-1] == longer[-3]
    met: Mask = np.zeros(len(row), bool)
    for column in longer[:-3]:
        met |= column == longer[-1]
    keep, close = np.flatnonzero(~is_back & ~met), np.flatnonzero(met)
    return tuple(column.take(keep) for column in longer), tuple(column.take(close) for column in longer)
