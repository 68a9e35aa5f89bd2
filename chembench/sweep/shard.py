"""One of several parts of a sweep, each driven on a machine of its own without a common cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from chembench.config import stable_seed
from chembench.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``of``, counted from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard written as ``1/4``.

        Raises:
            ConfigError: if it is written otherwise, or there is no such part.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(text))
        index, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= of:
            raise ConfigError(f"a shard is written as i/n with 1 <= i <= n, got '{text}'; of four machines: 1/4 to 4/4")
        return cls(index, of)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def holds(self, name: str) -> bool:
        """Whether this part holds what is called so; by its hash, so that every name belongs to exactly one part."""
        return stable_seed("shard", name) % self.of == self.index - 1

    def part_of(self, names: Iterable[str]) -> list[str]:
        """Those of a closed set of names that this part holds: as many as every other part, or one fewer."""
        kept = sorted(set(names), key=lambda name: stable_seed("shard", name))
        return kept[self.index - 1 :: self.of]
