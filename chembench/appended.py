"""Files that grow by one JSON line at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chembench.paths import full_disk_told


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one JSON line to ``path``, or nothing.

    Raises:
        DiskFullError: if no space is left.
    """
    line = json.dumps(value, sort_keys=True, allow_nan=False) + "\n"
    with full_disk_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a") as file:
                file.write(line)
        except OSError:
            if path.exists():
                os.truncate(path, before)
            raise
