"""A block of molecules as one graph, so that one numpy call works on all of them.

Axis letters: N molecules, A atoms of all molecules, E bonds of all molecules, each once in either direction and sorted
by its first atom, D places for neighbours, R rings, M members of all rings.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors, rdPartialCharges

from chembench.chem.descriptor_memory import ENVIRONMENT_FIELDS, Floats, Integers, Memory
from chembench.chem.descriptor_smarts import BOND_ORDERS

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]
Result = TypeVar("Result")

NO_BOND = 2 * len(BOND_ORDERS)
"""Kind of bond of a place for neighbours that is empty."""
_CODES = np.full(2 * 8 + 1, -1, np.int8)
_CODES[[int(2 * order) for order in BOND_ORDERS]] = range(len(BOND_ORDERS))


def mix(values: Words) -> Words:
    """Scrambled bits (splitmix64): sums of such values tell multisets apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def sums(group_X: Integers, value_X: NDArray[Any], groups: int) -> Floats:
    """Sum of the values of each group, in their order; shape (groups,)."""
    return np.bincount(group_X, weights=value_X, minlength=groups).astype(np.float64, copy=False)


class Block:
    """Molecules without atoms of hydrogen or dummies, whose bonds are single, aromatic, double or triple.

    Args:
        molecules: N of them, each with one bond at least.
        memory: what is known from earlier blocks.
    """

    def __init__(self, molecules: Sequence[Chem.Mol], memory: Memory) -> None:
        self.molecules = molecules
        self.memory = memory
        self.size_N = np.array([molecule.GetNumAtoms() for molecule in molecules], np.intp)
        self.first_N = np.concatenate([[0], np.cumsum(self.size_N)[:-1]])
        self.molecule_A = np.repeat(np.arange(len(molecules)), self.size_N)
        self._read_bonds()
        self._read_rings()
        self._read_types()
        self._kept: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.molecules)

    def kept(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """What ``compute`` gives, computed when it is first asked for under ``key``."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast(Result, self._kept[key])

    def _read_bonds(self) -> None:
        flat = np.concatenate([Chem.GetAdjacencyMatrix(one, useBO=True).ravel() for one in self.molecules])
        place_E = np.flatnonzero(flat)
        start_N = np.cumsum(self.size_N**2) - self.size_N**2
        self.molecule_E = np.searchsorted(start_N, place_E, side="right") - 1
        row_E, column_E = np.divmod(place_E - start_N[self.molecule_E], self.size_N[self.molecule_E])
        self.source_E = row_E + self.first_N[self.molecule_E]
        self.target_E = column_E + self.first_N[self.molecule_E]
        self.order_E = flat[place_E]
        self.degree_A = np.bincount(self.source_E, minlength=len(self.molecule_A))

    def _read_rings(self) -> None:
        rings = [molecule.GetRingInfo().AtomRings() for molecule in self.molecules]
        sizes = [len(ring) for found in rings for ring in found]
        self.ring_size_R = np.array(sizes, np.intp)
        self.ring_molecule_R = np.repeat(np.arange(len(self)), [len(found) for found in rings])
        local_M = np.array([atom for found in rings for ring in found for atom in ring], np.intp)
        self.ring_M = np.repeat(np.arange(len(sizes)), self.ring_size_R)
        self.atom_M = local_M + self.first_N[self.ring_molecule_R[self.ring_M]]
        after_M = np.roll(self.atom_M, -1)
        last_R = np.cumsum(self.ring_size_R) - 1
        after_M[last_R] = self.atom_M[last_R - self.ring_size_R + 1]
        self.bond_M = self.find_bonds(self.atom_M, after_M)
        count = np.bincount(self.bond_M, minlength=len(self.source_E))
        self.is_ring_E = (count + np.bincount(self.find_bonds(after_M, self.atom_M), minlength=len(count))) > 0
        self.rings_A = np.bincount(self.atom_M, minlength=len(self.molecule_A))
        self.ring_degree_A = np.bincount(self.source_E[self.is_ring_E], minlength=len(self.molecule_A))

    def find_bonds(self, source_X: Integers, target_X: Integers) -> Integers:
        """Places along E of bonds that exist."""
        atoms = len(self.molecule_A)
        return np.searchsorted(self.source_E * atoms + self.target_E, source_X * atoms + target_X)

    def _read_types(self) -> None:
        code_E = _CODES[(2 * self.order_E).astype(np.intp)].astype(np.intp)
        self.kind_E = 2 * code_E + self.is_ring_E
        self.invariant_A = np.array(
            [one for molecule in self.molecules for one in rdMolDescriptors.GetConnectivityInvariants(molecule)],
            np.uint64,
        )
        bonds_A = np.bincount(self.source_E, weights=np.left_shift(1, 4 * code_E), minlength=len(self.molecule_A))
        small_A = bonds_A.astype(np.uint64) << np.uint64(8) | self.rings_A.astype(np.uint64)
        self.type_key_A: Words = self.invariant_A << np.uint64(32) | small_A
        self.type_A = self.memory.types(self.type_key_A, self.atom)

    def atom(self, place: int) -> Chem.Atom:
        """RDKit's atom at a place along A."""
        molecule = int(self.molecule_A[place])
        return self.molecules[molecule].GetAtomWithIdx(int(place - self.first_N[molecule]))

    def of_type(self, field: str) -> Integers:
        """A number that an atom's type decides, see `TYPE_FIELDS`; shape (A,)."""
        return self.memory.type_field(field)[self.type_A]

    @cached_property
    def atomic_numbers(self) -> Integers:
        """Shape (A,)."""
        return self.of_type("atomic_number")

    @cached_property
    def hydrogens(self) -> Integers:
        """Of each atom, all of them implicit; shape (A,)."""
        return self.of_type("hydrogens")

    @cached_property
    def _environments(self) -> Floats:
        key_A = mix(self.type_key_A)
        for _ in range(2):
            key_A = mix(key_A + self._sum_words(mix(key_A[self.target_E] + self.kind_E.astype(np.uint64))))
        return self.memory.environments(key_A, self.molecule_A, self.first_N, self.molecules)

    def of_environment(self, field: str) -> Floats:
        """A number that an atom and what is two bonds away decide, see `ENVIRONMENT_FIELDS`; shape (A,)."""
        return self._environments[:, ENVIRONMENT_FIELDS.index(field)]

    def _sum_words(self, value_E: Words) -> Words:
        """Sum over the bonds of each atom, modulo 2**64; shape (A,)."""
        total = np.append(np.zeros(1, np.uint64), np.cumsum(value_E, dtype=np.uint64))
        end_A = np.cumsum(self.degree_A)
        sums_A: Words = total[end_A] - total[end_A - self.degree_A]
        return sums_A

    def sum_neighbours(self, value_E: Floats) -> Floats:
        """Sum over the bonds of each atom; shape (A,)."""
        return sums(self.source_E, value_E, len(self.molecule_A))

    def sum_atoms(self, value_A: NDArray[Any]) -> Floats:
        """Sum over the atoms of each molecule; shape (N,)."""
        return sums(self.molecule_A, value_A, len(self))

    def sum_bonds(self, value_E: NDArray[Any]) -> Floats:
        """Sum over the bonds of each molecule, each counted once; shape (N,)."""
        once_E = self.source_E < self.target_E
        return sums(self.molecule_E[once_E], value_E[once_E], len(self))

    def by_rdkit(self, function: Callable[[Chem.Mol], float]) -> Floats:
        """What a function of RDKit's says of each molecule; shape (N,)."""
        return self.kept(function, lambda: np.array([function(molecule) for molecule in self.molecules], float))

    @cached_property
    def bond_places(self) -> Integers:
        """Places along E of each atom's bonds; shape (A + 1, D), the empty places hold E."""
        bonds = len(self.source_E)
        place_AD = np.full((len(self.molecule_A) + 1, int(self.degree_A.max())), bonds)
        slot_E = np.arange(bonds) - (np.cumsum(self.degree_A) - self.degree_A)[self.source_E]
        place_AD[self.source_E, slot_E] = np.arange(bonds)
        return place_AD

    @cached_property
    def neighbours(self) -> tuple[Integers, Integers]:
        """Atoms next to each atom and the kinds of the bonds; shape (A + 1, D), the empty places hold A."""
        atom_E, kind_E = np.append(self.target_E, len(self.molecule_A)), np.append(self.kind_E, NO_BOND)
        return atom_E.take(self.bond_places), kind_E.take(self.bond_places)

    @cached_property
    def charges(self) -> Floats:
        """Gasteiger's partial charges; shape (A,)."""
        texts = []
        for molecule in self.molecules:
            rdPartialCharges.ComputeGasteigerCharges(molecule)
            Chem.CreateAtomDoublePropertyList(molecule, "_GasteigerCharge")
            texts.append(molecule.GetProp("atom.dprop._GasteigerCharge"))
        return np.array(" ".join(texts).split(), float)

    @cached_property
    def are_charged(self) -> Mask:
        """Which molecules have partial charges, Gasteiger's parameters lack some atoms; shape (N,)."""
        missing_N: Mask = self.sum_atoms(~np.isfinite(self.charges)) > 0
        return ~missing_N
