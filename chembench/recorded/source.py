"""A recorded file: what it is called, its bytes, and how an item of a replay names its place in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from chembench.errors import DataError

Form = Literal["csv", "jsonl"]
"""``csv``: a table of scores; ``jsonl``: a finished sweep with its curves."""
SHORT = 16
"""Hex digits of a file's SHA-256 that stand in the specification of each item."""


@dataclass(frozen=True)
class Recording:
    """One recorded file, whole."""

    name: str
    """What a person calls it: the name of the file, or of the sweep."""
    form: Form
    content: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def place(self, key: str) -> str:
        """What stands in a specification: where the result is to be looked up, and in which file alone.

        Args:
            key: the uid of an item, or the key of a row.
        """
        return f"{key}@{self.sha256[:SHORT]}"

    @property
    def words(self) -> str:
        """For boards and trackers: that nothing of it was measured by the sweep itself."""
        return f"replayed from {self.name} (SHA-256 {self.sha256[:SHORT]})"

    def text(self) -> str:
        """The content as text.

        Raises:
            DataError: if it is no UTF-8; the line is named.
        """
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self.name}, line {line}: a recorded file must be UTF-8 text, byte {error.start} is not; "
                "save it as UTF-8"
            ) from error


def read_recording(file: Path, name: str | None = None) -> Recording:
    """A recorded file, its form told by its ending.

    Args:
        file: ``.csv`` or ``.jsonl``.
        name: what it is called; the file's own name if not given.

    Raises:
        DataError: if it cannot be read, or has another ending.
    """
    forms: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl"}
    form = forms.get(file.suffix.lower())
    if form is None:
        raise DataError(f"a recorded file ends in .csv or .jsonl, got '{file.name}'; rename it, or give a sweep")
    try:
        return Recording(name or file.name, form, file.read_bytes())
    except OSError as error:
        raise DataError(
            f"a recorded file must be readable, {file} is not ({error.strerror}); correct the path"
        ) from error


def key_and_sum(place: str) -> tuple[str, str]:
    """The two parts of `Recording.place`."""
    key, _, short = place.rpartition("@")
    return key, short
