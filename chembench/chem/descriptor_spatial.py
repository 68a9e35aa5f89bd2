"""The spacial score (Krzyzanowski 2023).

Axis letters: N molecules, A atoms of the block, E bonds in both directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem.SpacialScore import _SpacialScore

from chembench.chem.descriptor_graph import Block, Mask
from chembench.chem.descriptor_memory import Floats, Integers

_HYBRIDISATION = np.array(
    [_SpacialScore._hybridisations[value] for _, value in sorted(Chem.HybridizationType.values.items())]
)
_find_centres: Any = Chem.FindMolChiralCenters
_SP3 = int(Chem.HybridizationType.SP3)
_SMALLEST_RING_WITH_TRANS = 8
"""Double bonds in smaller rings have one form."""


def spacial_score(block: Block) -> Floats:
    """Shape (N,)."""
    hybridisation_A = _HYBRIDISATION[block.of_environment("hybridisation").astype(np.intp)]
    is_aliphatic_ring_A = (block.rings_A > 0) & ~block.memory.satisfies("a")[block.type_A]
    score_A = hybridisation_A * (1 + _is_stereo(block)) * (1 + is_aliphatic_ring_A) * block.degree_A**2
    return block.sum_atoms(score_A) / block.size_N


def _is_stereo(block: Block) -> Mask:
    """Atoms that are stereo centres or stand at a double bond with two forms, whether the form is given or not."""
    stereo_A = np.zeros(len(block.molecule_A), bool)
    with_bond_N, with_centre_N = np.zeros(len(block), bool), np.zeros(len(block), bool)
    bonds = np.flatnonzero(_possible_bonds(block))
    with_bond_N[block.molecule_E[bonds]] = True
    with_centre_N[block.molecule_A[_possible_centres(block)]] = True
    copies = {}
    for molecule in np.flatnonzero(with_bond_N | with_centre_N).tolist():
        copies[molecule] = copy = Chem.Mol(block.molecules[molecule])
        if with_bond_N[molecule]:
            Chem.FindPotentialStereoBonds(copy)
        if with_centre_N[molecule]:
            stereo_A[block.first_N[molecule] + _centres(copy)] = True
    for bond in bonds.tolist():
        molecule = int(block.molecule_E[bond])
        ends = block.source_E[bond], block.target_E[bond]
        places = (int(end - block.first_N[molecule]) for end in ends)
        if copies[molecule].GetBondBetweenAtoms(*places).GetStereo() != Chem.BondStereo.STEREONONE:
            stereo_A[list(ends)] = True
    return stereo_A


def _centres(molecule: Chem.Mol) -> Integers:
    found = _find_centres(molecule, includeUnassigned=True, includeCIP=False, useLegacyImplementation=False)
    return np.array([atom for atom, _ in found], np.intp)


def _possible_bonds(block: Block) -> Mask:
    """Double bonds that may have two forms, once each: not at the end of a chain nor in a small ring."""
    large_N = np.zeros(len(block), bool)
    large_N[block.ring_molecule_R[block.ring_size_R >= _SMALLEST_RING_WITH_TRANS]] = True
    is_inside_E = (block.degree_A[block.source_E] > 1) & (block.degree_A[block.target_E] > 1)
    is_free_E = ~block.is_ring_E | large_N[block.molecule_E]
    possible_E: Mask = (block.order_E == 2) & is_inside_E & is_free_E & (block.source_E < block.target_E)
    return possible_E


def _possible_centres(block: Block) -> Mask:
    """Atoms that RDKit may call a centre: what ``isAtomPotentialStereoAtom`` (FindStereo.cpp) lets through.

    Of tetrahedral ones, those with two equal atoms at the end of a chain are left out.
    """
    number_A, degree_A, hydrogens_A = block.atomic_numbers, block.degree_A, block.hydrogens
    in_triangle_A = np.zeros(len(number_A), bool)
    in_triangle_A[block.atom_M[block.ring_size_R[block.ring_M] == 3]] = True
    is_pyramid_A = (number_A == 7) & (block.of_environment("hybridisation") == _SP3)
    is_pyramid_A &= in_triangle_A | (block.ring_degree_A == 3)
    is_special_A = np.isin(number_A, (16, 34)) | is_pyramid_A
    possible_A: Mask = (degree_A == 4) | (degree_A == 3) & ((hydrogens_A == 1) | is_special_A)
    possible_A |= np.isin(number_A, (15, 33)) & (degree_A > 1)
    end = np.flatnonzero(degree_A[block.target_E] == 1)
    types = int(block.type_A.max()) + 1
    kind = np.sort(block.source_E[end] * types + block.type_A[block.target_E[end]])
    possible_A[kind[1:][kind[1:] == kind[:-1]] // types] = False
    is_other_A = (block.of_type("total_degree") >= 4) & ((degree_A != 4) | (hydrogens_A > 0))
    possible_A |= is_other_A & ((number_A >= 12) | (number_A == 4))
    return possible_A
