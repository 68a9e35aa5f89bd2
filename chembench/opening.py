"""Finds a sweep on disk."""

from __future__ import annotations

import errno
from pathlib import Path

from chembench.errors import ConfigError
from chembench.handles import Sweep
from chembench.paths import SweepPaths


def open_sweep(path_or_name: str | Path, out: str | Path = "sweeps") -> Sweep:
    """A sweep by folder, or by name under ``out``.

    Raises:
        ConfigError: if there is none.
    """
    for root in (Path(path_or_name), Path(out) / str(path_or_name)):
        if is_sweep(root):
            return Sweep(root.resolve())
    raise ConfigError(
        f"no sweep '{path_or_name}', neither as a folder nor under {out}/; see the folders there, or --out"
    )


def is_sweep(root: Path) -> bool:
    """Whether a folder is that of a sweep; a text that can be no folder is none."""
    try:
        return SweepPaths(root).ledger.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
