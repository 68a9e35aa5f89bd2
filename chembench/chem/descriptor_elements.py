"""What RDKit's periodic table says, by atomic number."""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem.EState import EState
from rdkit.Chem.rdMolDescriptors import CalcExactMolWt

_quantum_number: Any = EState.GetPrincipleQuantumNumber
_TABLE = Chem.GetPeriodicTable()
_NUMBERS = range(119)

OUTER_ELECTRONS = np.array([_TABLE.GetNOuterElecs(number) for number in _NUMBERS])
WEIGHT = np.array([_TABLE.GetAtomicWeight(number) for number in _NUMBERS])
"""Of the natural mixture of isotopes."""
COMMON_MASS = np.array([_TABLE.GetMostCommonIsotopeMass(number) for number in _NUMBERS])
"""Of the isotope that is met most often."""
BOND_RADIUS = np.array([_TABLE.GetRb0(number) for number in _NUMBERS])
ELECTRON_MASS = CalcExactMolWt(Chem.MolFromSmiles("[Li]")) - CalcExactMolWt(Chem.MolFromSmiles("[Li+]"))
"""As RDKit takes it off for a charge."""
QUANTUM_NUMBER = np.array([_quantum_number(number) for number in _NUMBERS])
"""Of the outermost shell."""
