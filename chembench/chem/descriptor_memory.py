"""What is remembered from molecule to molecule: RDKit's own answers about atoms, by what decides them.

Two tables. An atom's **type** is what the atom and its bonds say by themselves (element, charge, hydrogens, kinds of
bonds, number of rings); its **environment** is its type and the types and bonds up to two bonds away. RDKit is asked
about the first atom of each kind and the answer is kept: the element of a type and which queries of a pattern it
satisfies; Crippen's contributions to an environment and its hybridisation. Crippen's patterns reach two bonds far,
branch at one atom only and so are decided by the environment. What is kept is the same whichever molecule came first.

Axis letters: A atoms of a block, T types, V environments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from chembench.chem.descriptor_smarts import atom_query

Integers = NDArray[np.intp]
Floats = NDArray[np.float64]

_MOST_ENVIRONMENTS = 2_000_000
"""More would take some 0.5 GB; then all are forgotten and learned again."""
TYPE_FIELDS = ("atomic_number", "charge", "hydrogens", "total_degree", "radicals")
ENVIRONMENT_FIELDS = ("logp", "refractivity", "logp_with_h", "refractivity_with_h", "hybridisation")


class _Rows:
    """Rows of numbers by key, in the order in which the keys were met."""

    def __init__(self, fields: int) -> None:
        self._row_of: dict[int, int] = {}
        self._values = np.empty((1024, fields))

    def __len__(self) -> int:
        return len(self._row_of)

    def find(self, keys: Iterable[int]) -> list[int]:
        """Row of each key, -1 where it is unknown."""
        return [self._row_of.get(key, -1) for key in keys]

    def add(self, key: int, values: Sequence[float]) -> None:
        row = self._row_of.setdefault(key, len(self._row_of))
        if row >= len(self._values):
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
        self._values[row] = values

    @property
    def values(self) -> Floats:
        return self._values[: len(self._row_of)]


class Memory:
    """Both tables; one for each process is enough, see `shared`."""

    def __init__(self) -> None:
        self._types = _Rows(len(TYPE_FIELDS))
        self._environments = _Rows(len(ENVIRONMENT_FIELDS))
        self._atoms: list[Chem.Atom] = []
        self._answers: dict[str, NDArray[np.bool_]] = {}

    def types(self, key_A: NDArray[np.uint64], atom: Callable[[int], Chem.Atom]) -> Integers:
        """Row of each atom's type.

        Args:
            key_A: what decides the type.
            atom: gives RDKit's atom at a place of the block; asked for new types only.
        """
        known, first, inverse = np.unique(key_A, return_index=True, return_inverse=True)
        for key, place, row in zip(known.tolist(), first.tolist(), self._types.find(known.tolist()), strict=True):
            if row < 0:
                self._types.add(key, _type_values(atom(place)))
                self._atoms.append(atom(place))
        return np.array(self._types.find(known.tolist()), np.intp)[inverse]

    def type_field(self, field: str) -> Integers:
        """A number of every type."""
        return self._types.values[:, TYPE_FIELDS.index(field)].astype(np.intp)

    def satisfies(self, smarts: str) -> NDArray[np.bool_]:
        """Which types satisfy the query of one atom; shape (T,)."""
        answers_T = self._answers.get(smarts, np.empty(0, bool))
        if len(answers_T) < len(self._atoms):
            query = atom_query(smarts)
            more = [query.Match(atom) for atom in self._atoms[len(answers_T) :]]
            answers_T = self._answers[smarts] = np.concatenate([answers_T, np.array(more, bool)])
        return answers_T

    def environments(
        self, key_A: NDArray[np.uint64], molecule_A: Integers, first_N: Integers, molecules: Sequence[Chem.Mol]
    ) -> Floats:
        """`ENVIRONMENT_FIELDS` of each atom; shape (A, fields).

        Args:
            key_A: what decides the environment.
            molecule_A: which molecule each atom belongs to.
            first_N: place of the first atom of each molecule.
            molecules: asked where one of their environments is new.
        """
        if len(self._environments) > _MOST_ENVIRONMENTS:
            self._environments = _Rows(len(ENVIRONMENT_FIELDS))
        known, first, inverse = np.unique(key_A, return_index=True, return_inverse=True)
        rows = np.array(self._environments.find(known.tolist()), np.intp)
        for molecule in np.unique(molecule_A[first[rows < 0]]).tolist():
            values = _environment_values(molecules[molecule])
            start = int(first_N[molecule])
            for key, row in zip(key_A[start : start + len(values)].tolist(), values, strict=True):
                self._environments.add(key, row)
        if (rows < 0).any():
            rows = np.array(self._environments.find(known.tolist()), np.intp)
        return self._environments.values[rows[inverse]]


def _type_values(atom: Chem.Atom) -> tuple[int, ...]:
    return (
        atom.GetAtomicNum(),
        atom.GetFormalCharge(),
        atom.GetTotalNumHs(),
        atom.GetTotalDegree(),
        atom.GetNumRadicalElectrons(),
    )


def _environment_values(molecule: Chem.Mol) -> list[tuple[float, ...]]:
    count = molecule.GetNumAtoms()
    whole = Chem.AddHs(molecule)
    totals = [list(pair) for pair in rdMolDescriptors._CalcCrippenContribs(whole)]
    for hydrogen in range(count, whole.GetNumAtoms()):
        heavy = whole.GetAtomWithIdx(hydrogen).GetNeighbors()[0].GetIdx()
        totals[heavy] = [a + b for a, b in zip(totals[heavy], totals[hydrogen], strict=True)]
    bare: Any = rdMolDescriptors._CalcCrippenContribs(molecule)
    return [(*bare[i], *totals[i], int(atom.GetHybridization())) for i, atom in enumerate(molecule.GetAtoms())]
