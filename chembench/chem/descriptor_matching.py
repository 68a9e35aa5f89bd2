"""Matches of SMARTS patterns in all molecules of a block at once.

A match grows atom by atom, as in any substructure search, but all matches of the block grow together: they are the
columns of a table, one row each, and a step is a handful of numpy calls.

Axis letters: A atoms of a block, N molecules, X partial matches, D neighbours of an atom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from chembench.chem.descriptor_graph import Block, Mask, mix
from chembench.chem.descriptor_memory import Floats, Integers
from chembench.chem.descriptor_smarts import Pattern, PatternError, Step, Test, compile_pattern, environment, split


class Query:
    """A pattern of RDKit's, searched in blocks; by RDKit itself where a block cannot answer it.

    Args:
        molecule: the pattern.
    """

    def __init__(self, molecule: Chem.Mol) -> None:
        self._molecule = molecule
        self._pattern = _compiled(molecule)
        parts = Counter(split(Chem.MolToSmarts(molecule), "."))
        self._parts = [(_compiled(Chem.MolFromSmarts(smarts)), times) for smarts, times in parts.items()]

    def counts(self, block: Block) -> Floats:
        """Matches that differ in their atoms, of each molecule; shape (N,)."""
        if self._pattern is None:
            return self._by_rdkit(block, lambda molecule: len(molecule.GetSubstructMatches(self._molecule)))
        return _counts(block, self._pattern)

    def found(self, block: Block) -> Mask:
        """Which molecules have a match; shape (N,)."""
        if self._pattern is None:
            return self._by_rdkit(block, lambda molecule: molecule.HasSubstructMatch(self._molecule)) > 0
        found_N = np.zeros(len(block), bool)
        found_N[block.molecule_A[_matches(block, self._pattern)[0]]] = True
        return found_N

    def first_atoms(self, block: Block) -> Mask:
        """Which atoms stand first in a match; shape (A,)."""
        assert self._pattern is not None
        return _first_atoms(block, self._pattern)[:-1]

    def _by_rdkit(self, block: Block, search: Callable[[Chem.Mol], float]) -> Floats:
        """Asks RDKit about molecules that hold enough matches of each part that is known to blocks."""
        possible_N = np.ones(len(block), bool)
        for pattern, times in self._parts:
            if pattern is not None:
                possible_N &= _counts(block, pattern) >= times
        value_N = np.zeros(len(block))
        for molecule in np.flatnonzero(possible_N).tolist():
            value_N[molecule] = search(block.molecules[molecule])
        return value_N


def _compiled(molecule: Chem.Mol) -> Pattern | None:
    try:
        return compile_pattern(molecule)
    except PatternError:
        return None


def _counts(block: Block, pattern: Pattern) -> Floats:
    columns = _matches(block, pattern)
    if len(columns) > 1:
        # a set of atoms has a sum of scrambled numbers of its own
        sums_X = np.sum([mix(column.astype(np.uint64) + np.uint64(1)) for column in columns], axis=0)
        _, first = np.unique(sums_X, return_index=True)
        return np.bincount(block.molecule_A[columns[0][first]], minlength=len(block)).astype(np.float64)
    return np.bincount(block.molecule_A[columns[0]], minlength=len(block)).astype(np.float64)


def _matches(block: Block, pattern: Pattern) -> list[Integers]:
    """All matches; one array for each atom of the pattern, in an order of its own except that one match is one row."""
    return [column for _, column in sorted(_placed(block, pattern), key=lambda pair: pair[0])]


def _placed(block: Block, pattern: Pattern) -> list[tuple[int, Integers]]:
    masks = [_mask(block, test, *degrees) for test, degrees in zip(pattern.tests, pattern.degrees, strict=True)]
    totals = [np.count_nonzero(mask) for mask in masks]
    start = int(np.argmin(totals))
    columns = [np.flatnonzero(masks[start])]
    if not totals[start]:
        return [(atom, columns[0]) for atom in range(len(masks))]
    steps = pattern.steps(start)
    for step in steps:
        columns = _grown(block, columns, step, masks[step.atom])
    return list(zip([start, *(step.atom for step in steps)], columns, strict=True))


def _grown(block: Block, columns: list[Integers], step: Step, mask: Mask) -> list[Integers]:
    atom_AD, kind_AD = block.neighbours
    parent_X = columns[step.parent]
    # take with an axis is ten times faster than an index, and nonzero is slow in two dimensions
    near_XD = atom_AD.take(parent_X, axis=0)
    good_XD = mask.take(near_XD) & step.bond_K.take(kind_AD.take(parent_X, axis=0))
    flat = np.flatnonzero(good_XD)
    row, new_X = flat // near_XD.shape[1], near_XD.ravel().take(flat)
    columns = [column.take(row) for column in columns]
    others = [column != new_X for place, column in enumerate(columns) if place != step.parent]
    columns.append(new_X)
    if others:
        kept = np.logical_and.reduce(others)
        columns = [column[kept] for column in columns]
    for place, bond_K in step.closures:
        kept = _are_bonded(block, columns[-1], columns[place], bond_K)
        columns = [column[kept] for column in columns]
    return columns


def _are_bonded(block: Block, first_X: Integers, second_X: Integers, bond_K: NDArray[np.bool_]) -> Mask:
    atom_AD, kind_AD = block.neighbours
    is_second_XD = atom_AD.take(first_X, axis=0) == second_X[:, None]
    found: Mask = (is_second_XD & bond_K.take(kind_AD.take(first_X, axis=0))).any(axis=1)
    return found


def _mask(block: Block, test: Test, degree: int, ring_degree: int) -> Mask:
    """Atoms that satisfy ``test`` and have bonds enough; shape (A + 1,), False at the end for places without atom."""

    def compute() -> Mask:
        enough_A = (block.degree_A >= degree) & (block.ring_degree_A >= ring_degree)
        mask: Mask = _truth(block, test) & np.append(enough_A, False)
        return mask

    return block.kept((test, degree, ring_degree), compute)


def _truth(block: Block, test: Test) -> Mask:
    return block.kept(test, lambda: _judged(block, test))


def _judged(block: Block, test: Test) -> Mask:
    if test.kind == "atom":
        return np.append(block.memory.satisfies(test.smarts)[block.type_A], False)
    if test.kind == "environment":
        return _first_atoms(block, environment(test.smarts))
    if test.kind == "not":
        return np.append(~_truth(block, test.parts[0])[:-1], False)
    join = np.logical_and if test.kind == "and" else np.logical_or
    joined: Mask = join.reduce([_truth(block, part) for part in test.parts])
    return joined


def _first_atoms(block: Block, pattern: Pattern) -> Mask:
    mask = np.zeros(len(block.molecule_A) + 1, bool)
    mask[_matches(block, pattern)[0]] = True
    return mask
