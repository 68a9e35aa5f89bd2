"""What nodes do with molecules in tests of a preparation that is spread over them."""

import os
import time
from pathlib import Path

from chembench.errors import DataError, UnknownNameError


def where(number: int) -> int:
    """The process that does it, after a while."""
    time.sleep(0.1)
    return os.getpid()


def doubled(number: int, folder: Path) -> int:
    """Twice the number; who works on the third waits until it is let go, and tells who it is."""
    if number == 2:
        (folder / "pid").write_text(str(os.getpid()))
        while not (folder / "go").exists():
            time.sleep(0.02)
    return 2 * number


def refused(number: int) -> int:
    raise DataError(f"{number} cannot be read; drop it")


def unknown(number: int) -> int:
    raise UnknownNameError("descriptor", "MolWeight", ["MolWt"])


def slow(number: int) -> int:
    time.sleep(1)
    return number


def broken(number: int) -> int:
    raise ZeroDivisionError(f"{number} is\nnothing")


def died(number: int) -> int:
    os._exit(1)
