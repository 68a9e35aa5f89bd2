"""SMARTS patterns taken apart: what each atom and bond asks for, and in which order a match grows.

RDKit reads the patterns and judges every atom and bond (`judge_atom`, `judge_bond`); what is left to us is the logic
of recursive parts, ``[N;X3;!$(N-C=O)]``, and the order of the search.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

BOND_ORDERS = (1.0, 1.5, 2.0, 3.0)
"""Of the bonds that a block may hold; a bond's kind is twice the place in this table, plus one in a ring."""
BOND_TYPES = (Chem.BondType.SINGLE, Chem.BondType.AROMATIC, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
"""RDKit's names for them."""
_BOND_EXAMPLES = ("CC", "C1CC1", "c1ccccc1", "c1ccccc1", "C=C", "C1=CCC1", "C#C", "C1#CCCCCCC1")
"""A bond of each kind, the first of each molecule; aromatic bonds outside of rings do not exist."""
_ATOM_QUERIES = frozenset(
    "AtomOr AtomAnd AtomNull AtomType AtomAtomicNum AtomFormalCharge AtomInNRings AtomInRing AtomIsAromatic "
    "AtomIsAliphatic AtomHCount AtomIsotope AtomExplicitDegree AtomTotalDegree AtomTotalValence".split()
)
"""Questions whose answer follows from an atom's type, see `descriptor_memory`."""


class PatternError(ValueError):
    """A pattern asks for something that blocks of molecules cannot answer."""


@dataclass(frozen=True)
class Test:
    """A condition on an atom: ``kind`` is ``atom``, ``environment``, ``not``, ``and`` or ``or``."""

    kind: str
    smarts: str
    parts: tuple[Test, ...] = ()


@dataclass(frozen=True)
class Step:
    """One atom more in a match."""

    atom: int
    """Of the pattern."""
    parent: int
    """Place, in the order of growth, of the atom it is reached from."""
    bond_K: NDArray[np.bool_]
    """Which kinds of bond lead to it."""
    closures: tuple[tuple[int, NDArray[np.bool_]], ...]
    """Atoms matched before, by place, that it must be bonded to as well, and by which kinds."""


@dataclass(frozen=True)
class Pattern:
    """A connected pattern."""

    smarts: str
    tests: tuple[Test, ...]
    """Of each atom."""
    degrees: tuple[tuple[int, int], ...]
    """Bonds of each atom, and how many of them lie in rings."""
    bonds: tuple[tuple[int, int, NDArray[np.bool_]], ...]

    @cached_property
    def _orders(self) -> dict[int, tuple[Step, ...]]:
        return {}

    def steps(self, start: int) -> tuple[Step, ...]:
        """The growth of a match from the atom ``start``; atoms that close rings come first."""
        if start not in self._orders:
            self._orders[start] = tuple(self._grow(start))
        return self._orders[start]

    def _grow(self, start: int) -> Iterator[Step]:
        placed = [start]
        while len(placed) < len(self.tests):
            reached: dict[int, list[tuple[int, NDArray[np.bool_]]]] = {}
            for first, second, bond_K in self.bonds:
                for here, there in ((first, second), (second, first)):
                    if here in placed and there not in placed:
                        reached.setdefault(there, []).append((placed.index(here), bond_K))
            atom = max(reached, key=lambda one: (len(reached[one]), max(place for place, _ in reached[one])))
            links = sorted(reached[atom], key=lambda link: -link[0])
            yield Step(atom, links[0][0], links[0][1], tuple(links[1:]))
            placed.append(atom)


def compile_pattern(query: Chem.Mol) -> Pattern:
    """A pattern from RDKit's own.

    Raises:
        PatternError: if it has several fragments, or asks for something else than atom types and bond kinds.
    """
    smarts = Chem.MolToSmarts(query)
    if len(Chem.GetMolFrags(query)) != 1:
        raise PatternError(f"{smarts} has several fragments")
    Chem.FastFindRings(query)
    tests = tuple(_test_of(atom) for atom in query.GetAtoms())
    degrees = tuple((a.GetDegree(), sum(bond.IsInRing() for bond in a.GetBonds())) for a in query.GetAtoms())
    bonds = tuple((b.GetBeginAtomIdx(), b.GetEndAtomIdx(), judge_bond(b)) for b in query.GetBonds())
    return Pattern(smarts, tests, degrees, bonds)


@cache
def environment(smarts: str) -> Pattern:
    """The pattern of a recursive part."""
    return compile_pattern(_read(smarts))


@cache
def atom_query(smarts: str) -> Chem.Atom:
    """RDKit's query of one atom."""
    atom = _read(smarts).GetAtomWithIdx(0)
    if unknown := set(re.findall(r"[A-Z]\w+", atom.DescribeQuery())) - _ATOM_QUERIES:
        raise PatternError(f"{smarts} asks for {', '.join(sorted(unknown))}")
    return atom


def judge_bond(query: Chem.Bond) -> NDArray[np.bool_]:
    """Which kinds of bond a query accepts."""
    if query.GetBondDir() != Chem.BondDir.NONE:
        raise PatternError("a bond asks for a direction")
    return np.array([query.Match(bond) for bond in _bond_examples()] + [False])


@cache
def _bond_examples() -> tuple[Chem.Bond, ...]:
    return tuple(Chem.MolFromSmiles(smiles).GetBondWithIdx(0) for smiles in _BOND_EXAMPLES)


def _read(smarts: str) -> Chem.Mol:
    query = Chem.MolFromSmarts(smarts)
    if query is None:
        raise PatternError(f"{smarts} cannot be read")
    return query


def _test_of(atom: Chem.Atom) -> Test:
    smarts = atom.GetSmarts()
    if "$" not in smarts:
        atom_query(smarts)
        return Test("atom", smarts)
    return _logic(smarts[1:-1])


def _logic(text: str) -> Test:
    """The condition that stands between brackets: ``;`` binds weakest, then ``,``, then ``&``, then ``!``."""
    for sign, kind in ((";", "and"), (",", "or"), ("&", "and")):
        pieces = split(text, sign)
        if len(pieces) > 1:
            return Test(kind, text, tuple(_logic(piece) for piece in pieces))
    if text.startswith("!"):
        return Test("not", text, (_logic(text[1:]),))
    if text.startswith("$("):
        environment(text[2:-1])
        return Test("environment", text[2:-1])
    # alone between brackets an H would be hydrogen, not a count of hydrogens
    smarts = f"[*&{text}]"
    atom_query(smarts)
    return Test("atom", smarts)


def split(text: str, sign: str) -> list[str]:
    """Pieces of ``text`` between those ``sign`` that stand in no parentheses or brackets."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == sign and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces
