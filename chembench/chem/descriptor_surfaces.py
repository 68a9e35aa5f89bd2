"""Descriptors that add up an atom's share of the surface or another property: VSA families, logP, partial charges.

Axis letters: N molecules, A atoms of the block, K bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit.Chem import BondType, MolSurf
from rdkit.Chem.EState import EState_VSA

from chembench.chem.descriptor_distances import electrotopological_states
from chembench.chem.descriptor_elements import BOND_RADIUS
from chembench.chem.descriptor_graph import Block, sums
from chembench.chem.descriptor_memory import Floats
from chembench.chem.descriptor_smarts import BOND_TYPES

_FACTORS: Any = MolSurf.bondScaleFacts
if not isinstance(_FACTORS, dict):  # RDKit 2025.9 has a list
    _FACTORS = dict(zip((BondType.AROMATIC, BondType.SINGLE, BondType.DOUBLE, BondType.TRIPLE), _FACTORS, strict=True))
_SHORTENING = np.array([_FACTORS[kind] for kind in BOND_TYPES])


def surfaces(block: Block) -> Floats:
    """Labute's approximation of each atom's surface; shape (A,)."""
    return block.kept(surfaces, lambda: _surfaces(block))


def _surfaces(block: Block) -> Floats:
    radius_A = BOND_RADIUS[block.atomic_numbers]
    here_E, there_E = radius_A[block.source_E], radius_A[block.target_E]
    length_E = here_E + there_E - _SHORTENING[block.kind_E // 2]
    hidden_A = block.sum_neighbours(_hidden(here_E, there_E, length_E))
    hidden_A += _hidden(radius_A, BOND_RADIUS[1], radius_A + BOND_RADIUS[1])
    free_A: Floats = np.pi * radius_A * (4 * radius_A - hidden_A)
    return free_A


def _hidden(here_X: Floats, there_X: Floats, length_X: Floats) -> Floats:
    """What a sphere of the radius ``here`` loses to one of ``there``, at the length of a bond that RDKit bounds."""
    length_X = np.minimum(np.maximum(np.abs(here_X - there_X), length_X), here_X + there_X)
    lost_X: Floats = there_X**2 - (here_X - length_X) ** 2 / length_X
    return lost_X


def surface_by_logp(block: Block) -> Floats:
    """SlogP_VSA."""
    return _binned(block, MolSurf.logpBins, block.of_environment("logp"), surfaces(block))


def surface_by_refractivity(block: Block) -> Floats:
    """SMR_VSA."""
    return _binned(block, MolSurf.mrBins, block.of_environment("refractivity"), surfaces(block))


def surface_by_charge(block: Block) -> Floats:
    """PEOE_VSA."""
    binned_NK = _binned(block, MolSurf.chgBins, block.charges, surfaces(block))
    return np.where(block.are_charged[:, None], binned_NK, np.nan)


def surface_by_state(block: Block) -> Floats:
    """EState_VSA."""
    states_A = electrotopological_states(block)
    return _binned(block, EState_VSA.estateBins, states_A, surfaces(block))


def state_by_surface(block: Block) -> Floats:
    """VSA_EState."""
    states_A = electrotopological_states(block)
    return _binned(block, EState_VSA.vsaBins, surfaces(block), states_A)


def _binned(block: Block, edges: Sequence[float], value_A: Floats, added_A: Floats) -> Floats:
    bins = len(edges) + 1
    place_A = block.molecule_A * bins + np.searchsorted(edges, value_A, side="right")
    return sums(place_A, added_A, len(block) * bins).reshape(-1, bins)


def crippen_sums(block: Block) -> Floats:
    """MolLogP and MolMR; shape (N, 2)."""
    fields = ("logp_with_h", "refractivity_with_h")
    return np.stack([block.sum_atoms(block.of_environment(field)) for field in fields], axis=1)


def state_extremes(block: Block) -> Floats:
    """Highest and lowest electrotopological state, then of their sizes; shape (N, 4)."""
    states_A = electrotopological_states(block)
    return np.concatenate([_extremes(block, states_A), _extremes(block, np.abs(states_A))], axis=1)


def charge_extremes(block: Block) -> Floats:
    """Highest and lowest partial charge, then the larger and the smaller of their sizes; shape (N, 4)."""
    pair_N2 = _extremes(block, block.charges)
    size_N2 = np.abs(pair_N2)
    return np.stack([*pair_N2.T, size_N2.max(axis=1), size_N2.min(axis=1)], axis=1)


def _extremes(block: Block, value_A: Floats) -> Floats:
    highest_N = np.maximum.reduceat(value_A, block.first_N)
    return np.stack([highest_N, np.minimum.reduceat(value_A, block.first_N)], axis=1)
