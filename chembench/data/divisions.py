"""Ways to divide molecules into training, validation and test. No label is looked at.

Every way but DeepChem's makes groups that stay whole, puts them in an order that follows the seed, and fills the parts
in that order: groups of one scaffold, of one cluster of similar molecules, or of one molecule.

Axes: N molecules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from chembench.config import stable_seed
from chembench.data.specs import Groups

Ints = NDArray[np.int64]
Parts = tuple[Ints, Ints, Ints]
"""Rows of training, validation and test."""
Keys = tuple[str | int, ...]
"""One key for each molecule; those with the same key stay together."""


def deepchem_scaffold(smiles: Sequence[str], seed: int, similarity: float) -> Parts:
    """80/10/10 by scaffold exactly as DeepChem's ``ScaffoldSplitter``: the commonest scaffolds train.

    Args:
        smiles: as the source writes them, which is what DeepChem reads.
        seed: not used; there is one such split.
        similarity: not used.
    """
    groups = gathered(group_keys("scaffold", tuple(smiles), similarity))
    groups.sort(key=lambda rows: (len(rows), rows[0]), reverse=True)
    train_cutoff, valid_cutoff = 0.8 * len(smiles), (0.8 + 0.1) * len(smiles)
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    for rows in groups:
        if len(train) + len(rows) <= train_cutoff:
            train += rows
        elif len(train) + len(valid) + len(rows) <= valid_cutoff:
            valid += rows
        else:
            test += rows
    return as_rows(train), as_rows(valid), as_rows(test)


def seeded_scaffold(smiles: Sequence[str], seed: int, similarity: float) -> Parts:
    """80/10/10 with each scaffold in one part, in an order that follows ``seed``.

    Test and validation take scaffolds at random as long as these fit; so a scaffold of more than a tenth of the
    molecules always trains, and the parts are at most a tenth.
    """
    return _divided(group_keys("scaffold", tuple(smiles), similarity), seed)


def cluster_split(smiles: Sequence[str], seed: int, similarity: float) -> Parts:
    """80/10/10 with each cluster of similar molecules in one part, in an order that follows ``seed``.

    Args:
        smiles: canonical.
        seed: of the order.
        similarity: smallest Tanimoto similarity of a molecule's ECFP4 to the centre of its cluster.
    """
    return _divided(group_keys("cluster", tuple(smiles), similarity), seed)


def random_split(smiles: Sequence[str], seed: int, similarity: float) -> Parts:
    """80/10/10 at random; rows with the same SMILES stay together."""
    return _divided(group_keys("random", tuple(smiles), similarity), seed)


def _divided(keys: Keys, seed: int) -> Parts:
    tenth = len(keys) / 10
    test, rest = taken(shuffled(gathered(keys), seed), tenth)
    valid, rest = taken(rest, tenth)
    return joined(rest), joined(valid), joined(test)


def folds_of(keys: Keys, folds: int, seed: int) -> list[Ints]:
    """Every row in exactly one of ``folds`` parts, groups whole, in an order that follows ``seed``.

    Each group goes to the part that holds fewest rows, those of more than half a part first. So parts are of like size
    as far as whole groups allow: one scaffold of 30 % of the molecules makes a part of 30 %.

    Args:
        keys: of the groups.
        folds: how many parts.
        seed: of the order of the groups, and of the parts among equals.
    """
    groups = shuffled(gathered(keys), seed)
    groups.sort(key=lambda rows: 2 * len(rows) * folds <= len(keys))  # stable: each half keeps its order
    order = np.random.default_rng(stable_seed("folds", seed)).permutation(folds)
    parts: list[list[int]] = [[] for _ in range(folds)]
    for rows in groups:
        min((parts[place] for place in order), key=len).extend(rows)
    return [as_rows(sorted(rows)) for rows in parts]


@lru_cache(maxsize=2)
def group_keys(groups: Groups, smiles: tuple[str, ...], similarity: float) -> Keys:
    """What tells the groups of molecules apart; the last two answers are kept, as clusters take long.

    Args:
        groups: how molecules are grouped; ``random`` leaves only equal SMILES together.
        smiles: one per molecule.
        similarity: of clusters.
    """
    if groups == "random":
        return smiles
    if groups == "cluster":
        from chembench.chem.clusters import butina

        return tuple(butina(smiles, similarity))
    from chembench.chem.scaffolds import murcko

    return tuple(murcko(text) for text in smiles)


def gathered(keys: Sequence[str | int]) -> list[list[int]]:
    """Rows with the same key, in order of their first."""
    groups: dict[str | int, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def shuffled(groups: list[list[int]], seed: int) -> list[list[int]]:
    """The groups in an order that follows ``seed``."""
    order = np.random.default_rng(stable_seed("split", seed)).permutation(len(groups))
    return [groups[place] for place in order]


def taken(groups: list[list[int]], size: float) -> tuple[list[list[int]], list[list[int]]]:
    """The first groups that fit into ``size`` rows together, and the others."""
    kept: list[list[int]] = []
    others: list[list[int]] = []
    count = 0
    for rows in groups:
        fits = count + len(rows) <= size
        count += len(rows) if fits else 0
        (kept if fits else others).append(rows)
    return kept, others


def joined(groups: Sequence[Sequence[int]]) -> Ints:
    """The rows of all groups, in their order."""
    return as_rows([row for rows in groups for row in rows])


def as_rows(rows: Sequence[int]) -> Ints:
    """Row numbers as an array."""
    return np.array(rows, dtype=np.int64)
