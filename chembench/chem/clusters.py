"""Clusters of similar molecules: Taylor-Butina on ECFP4, in memory that grows with the molecules and not their square.

Two passes instead of lists of neighbours: the first counts them, the second finds those of each centre again.

Axes: N molecules, W words of 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from chembench.chem.fingerprints import ecfp4
from chembench.errors import ConfigError

_CHUNK = 2048
"""Molecules whose unpacked fingerprints are held at a time."""
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def butina(smiles: Sequence[str], similarity: float) -> list[int]:
    """Cluster number of each molecule, 0 being the largest neighbourhood.

    Every member of a cluster is at least so similar to its centre. The same clusters as RDKit's
    ``Butina.ClusterData`` without reordering. Time grows with the square of the molecules: the 41,120
    of HIV take 32 s of one core and 40 MiB.

    Args:
        smiles: one SMILES per molecule.
        similarity: smallest Tanimoto similarity of two neighbours' ECFP4, above 0 and at most 1.

    Raises:
        DataError: if a SMILES cannot be read.
        ConfigError: if ``similarity`` is out of its range.

    Reference:
        Butina, J. Chem. Inf. Comput. Sci. 1999, 39, 747-750. doi:10.1021/ci9803381
    """
    if not 0 < similarity <= 1:
        raise ConfigError(f"similarity of neighbours must be above 0 and at most 1, got {similarity:g}; try 0.4")
    fingerprints = _Fingerprints(_packed(smiles))
    neighbours_N = _neighbours(fingerprints, similarity)
    clusters_N = np.full(len(smiles), -1, dtype=np.int64)
    free = np.arange(len(smiles))
    left = fingerprints
    found = 0
    for centre in np.lexsort((np.arange(len(smiles)), neighbours_N))[::-1]:
        if clusters_N[centre] >= 0:
            continue
        members = np.array([centre])
        if neighbours_N[centre]:
            is_taken_N = clusters_N[free] >= 0
            if 2 * is_taken_N.sum() > len(free):  # what is taken need not be compared with
                free = free[~is_taken_N]
                left = fingerprints.of(free)
            near = free[left.similarities(fingerprints.words_NW[centre]) >= similarity]
            members = near[clusters_N[near] < 0]
        clusters_N[members] = found
        found += 1
    return [int(number) for number in clusters_N]


class _Fingerprints:
    """Packed bits, also column by column, which a comparison of one with all reads in order."""

    def __init__(self, words_NW: Words) -> None:
        self.words_NW = words_NW
        self._columns_WN = np.ascontiguousarray(words_NW.T)
        self._sizes_N = np.bitwise_count(words_NW).sum(axis=1, dtype=np.int32)

    def of(self, rows: Ints) -> _Fingerprints:
        return _Fingerprints(self.words_NW[rows])

    def similarities(self, words_W: Words, start: int = 0) -> npt.NDArray[np.float64]:
        """Tanimoto similarity of one fingerprint to all from row ``start`` on."""
        shared_N = np.zeros(len(self._sizes_N) - start, dtype=np.uint16)
        for word, column_N in zip(words_W, self._columns_WN, strict=True):
            if word:
                shared_N += np.bitwise_count(column_N[start:] & word)
        own = int(np.bitwise_count(words_W).sum(dtype=np.int32))
        similarities_N: npt.NDArray[np.float64] = shared_N / (self._sizes_N[start:] + own - shared_N)
        return similarities_N


def _packed(smiles: Sequence[str]) -> Words:
    chunks = [
        np.packbits(ecfp4(smiles[start : start + _CHUNK]), axis=1).view(np.uint64)
        for start in range(0, len(smiles), _CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.zeros((0, 1), dtype=np.uint64)


def _neighbours(fingerprints: _Fingerprints, similarity: float) -> Ints:
    """How many other molecules are at least so similar to each; every pair is compared once."""
    counts_N = np.zeros(len(fingerprints.words_NW), dtype=np.int64)
    for row, words_W in enumerate(fingerprints.words_NW):
        is_near_N = fingerprints.similarities(words_W, row + 1) >= similarity
        counts_N[row] += is_near_N.sum()
        counts_N[row + 1 :] += is_near_N
    return counts_N
