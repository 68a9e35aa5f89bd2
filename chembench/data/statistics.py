"""Mean and spread of each descriptor, fixed once per corpus, and what standardised labels are made with.

RDKit's descriptors have tails that no mean survives (Ipc reaches 4e20), and are undefined for some molecules. So values
that are NaN or infinite are left out, each descriptor is clipped to its own 0.1 and 99.9 percentile, and mean
and standard deviation are those of what remains. A descriptor that does not vary then - among them groups that fewer
than one molecule in a thousand has - gets the standard deviation 1 and is listed.

Axes: N molecules, B of one batch, K descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.config import digest_of, round_float
from chembench.errors import DataError
from chembench.paths import built_whole, read_json, write_json

PERCENTILES = (0.1, 99.9)
_FLAT = 1e-7
"""Standard deviation, as a share of the mean's size, below which float32 labels do not vary."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How raw labels become standardised ones; numbers are rounded to 6 digits, which the digest covers."""

    names: tuple[str, ...]
    mean_K: NDArray[np.float64]
    sd_K: NDArray[np.float64]
    clip: float
    """Bound of standardised labels, in standard deviations."""
    constant: tuple[str, ...]
    """Descriptors that do not vary among the molecules counted; their standard deviation is set to 1."""
    molecules: int
    """How many were counted."""
    rdkit: str

    @property
    def digest(self) -> str:
        """Of descriptor list, RDKit version, statistics and clip bound."""
        return digest_of(self.as_data())

    def as_data(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "names": list(self.names),
            "mean": self.mean_K.tolist(),
            "sd": self.sd_K.tolist(),
            "clip": self.clip,
            "constant": list(self.constant),
            "molecules": self.molecules,
            "percentiles": list(PERCENTILES),
            "rdkit": self.rdkit,
        }

    def standardise(self, raw_BK: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised, clipped labels; NaN where the raw one is NaN or infinite."""
        return np.clip(self._scaled(raw_BK), -self.clip, self.clip).astype(np.float32)

    def count_faults(self, raw_BK: NDArray[np.float32]) -> tuple[int, int]:
        """How many labels are clipped, and how many are masked."""
        scaled_BK = self._scaled(raw_BK)
        return int((np.abs(scaled_BK) > self.clip).sum()), int(np.isnan(scaled_BK).sum())

    def _scaled(self, raw_BK: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled_BK: NDArray[np.float64] = (_finite(raw_BK) - self.mean_K) / self.sd_K
        return scaled_BK


def _finite(raw_BK: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.where(np.isfinite(raw_BK), raw_BK.astype(np.float64), np.nan)


def label_statistics(
    labels_NK: NDArray[np.float32], names: Sequence[str], rdkit_version: str, clip: float
) -> Statistics:
    """Statistics of raw labels, as described at the top of this file.

    Args:
        labels_NK: raw values, NaN and infinite where undefined.
        names: of the descriptors.
        rdkit_version: that computed them.
        clip: bound of standardised labels, in standard deviations.
    """
    values_NK = _finite(labels_NK)
    mean_K, sd_K, constant = np.zeros(len(names)), np.ones(len(names)), []
    for column, name in enumerate(names):
        known = values_NK[~np.isnan(values_NK[:, column]), column]
        if known.size:
            known = np.clip(known, *np.percentile(known, PERCENTILES))
            mean_K[column] = round_float(float(known.mean()))
        spread = float(known.std()) if known.size else 0.0
        if spread > _FLAT * max(1.0, abs(mean_K[column])):
            sd_K[column] = round_float(spread)
        else:
            constant.append(name)
    return Statistics(tuple(names), mean_K, sd_K, clip, tuple(constant), len(labels_NK), rdkit_version)


def save_statistics(statistics: Statistics, folder: Path) -> None:
    """Write ``statistics`` into ``folder``; one that exists holds the same and is left."""
    if not folder.is_dir():
        with built_whole(folder) as part:
            write_json(part / "statistics.json", statistics.as_data())


def load_statistics(folder: Path | str) -> Statistics:
    """The statistics in ``folder``.

    Raises:
        DataError: if it holds none, or they are malformed.
    """
    file = Path(folder) / "statistics.json"
    try:
        data = read_json(file)
        return Statistics(
            names=tuple(data["names"]),
            mean_K=np.array(data["mean"], np.float64),
            sd_K=np.array(data["sd"], np.float64),
            clip=float(data["clip"]),
            constant=tuple(data["constant"]),
            molecules=int(data["molecules"]),
            rdkit=str(data["rdkit"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} holds no label statistics ({error!r}); prepare the inputs again") from error
