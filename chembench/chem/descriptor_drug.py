"""The quantitative estimate of drug-likeness (Bickerton 2012), from RDKit's patterns and parameters.

Axis letters: N molecules, A atoms of the block, P properties.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import QED, rdMolDescriptors

from chembench.chem.descriptor_counts import molecular_weight
from chembench.chem.descriptor_graph import Block
from chembench.chem.descriptor_matching import Query
from chembench.chem.descriptor_memory import Floats, Integers
from chembench.chem.descriptor_surfaces import crippen_sums

_PARAMETERS = np.array([QED.adsParameters[name] for name in QED.QEDproperties._fields])
_WEIGHTS = np.array(QED.WEIGHT_MEAN)


def drug_likeness(block: Block) -> Floats:
    """Shape (N,)."""
    desirability_NP = _desirability(np.stack(_properties(block), axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_N: Floats = (_WEIGHTS * np.log(desirability_NP)).sum(axis=1) / _WEIGHTS.sum()
    return np.exp(mean_N)


def _desirability(value_NP: Floats) -> Floats:
    a, b, c, d, e, f, most = _PARAMETERS.T
    rise_NP = 1 + np.exp(-(value_NP - c + d / 2) / e)
    fall_NP = 1 + np.exp(-(value_NP - c - d / 2) / f)
    result: Floats = (a + b / rise_NP * (1 - 1 / fall_NP)) / most
    return result


def _properties(block: Block) -> list[Floats]:
    """In the order of ``QED.QEDproperties``."""
    acceptors, alerts, _ = _queries()
    return [
        molecular_weight(block),
        crippen_sums(block)[:, 0],
        np.sum([query.counts(block) for query in acceptors], axis=0),
        block.by_rdkit(rdMolDescriptors.CalcNumHBD),
        block.by_rdkit(rdMolDescriptors.CalcTPSA),
        block.by_rdkit(rdMolDescriptors.CalcNumRotatableBonds if _default_is_strict() else _strictly_rotatable),
        _aromatic_rings(block),
        np.sum([query.found(block) for query in alerts], axis=0),
    ]


@cache
def _default_is_strict() -> bool:
    """Whether the definition that RDKit was compiled with is the strict one, in which amides do not turn."""
    amide, loose = Chem.MolFromSmiles("CCC(=O)NCC"), rdMolDescriptors.NumRotatableBondsOptions.NonStrict
    default = rdMolDescriptors.CalcNumRotatableBonds(amide)
    return default == _strictly_rotatable(amide) != rdMolDescriptors.CalcNumRotatableBonds(amide, loose)


def _strictly_rotatable(molecule: Chem.Mol) -> int:
    return rdMolDescriptors.CalcNumRotatableBonds(molecule, rdMolDescriptors.NumRotatableBondsOptions.Strict)


@cache
def _queries() -> tuple[list[Query], list[Query], Query]:
    acceptors, alerts = ([Query(pattern) for pattern in group] for group in (QED.Acceptors, QED.StructuralAlerts))
    return acceptors, alerts, Query(QED.AliphaticRings)


def _aromatic_rings(block: Block) -> Floats:
    """Independent rings of what is left when `QED.AliphaticRings` are cut out."""
    *_, aliphatic = _queries()
    left_A = ~aliphatic.first_atoms(block)
    left_E = left_A[block.source_E] & left_A[block.target_E]
    bonds_N = block.sum_bonds(left_E)
    parts_N = block.sum_atoms(_is_lowest(block, left_E) & left_A)
    return bonds_N - block.sum_atoms(left_A) + parts_N


def _is_lowest(block: Block, left_E: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which atoms have the lowest number of all that they are connected with."""
    places = np.arange(len(block.molecule_A))
    label_A: Integers = places
    source_E, target_E = block.source_E[left_E], block.target_E[left_E]
    while True:
        lower_A = label_A.copy()
        np.minimum.at(lower_A, source_E, label_A[target_E])
        lower_A = lower_A[lower_A]
        if (lower_A == label_A).all():
            return np.equal(label_A, places)
        label_A = lower_A
