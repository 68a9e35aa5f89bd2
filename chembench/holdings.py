"""What lies in the folders of sweeps and in their cache, and how large it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chembench.errors import ConfigError
from chembench.paths import CachePaths, SweepPaths, builder_of

What = Literal["part", "register", "rerun", "input", "state", "model", "checkpoint", "records"]
INPUTS = ("corpora", "tokenizers", "shards", "labels", "tasks", "splits", "sealed")
"""Folders of a cache that hold prepared inputs, each named by its digest."""

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LARGEST = 2**63
_RERUN = re.compile(r"rerun-[0-9]+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``20GB`` or ``1.5GiB``.

    Raises:
        ConfigError: if it is written otherwise.
    """
    found = _SIZE.fullmatch(str(text))
    size = float(found[1]) * _UNITS.get(found[2], -1) if found else -1
    if not 0 <= size < _LARGEST:
        raise ConfigError(f"a size is a number and one of {', '.join(_UNITS)}, such as 20GB or 500MiB, got '{text}'")
    return int(size)


def size_text(size: int) -> str:
    """A size as people write it: ``20.4 GB``, ``312 kB``."""
    name = next((name for name in ("TB", "GB", "MB", "kB") if size >= _UNITS[name]), "B")
    number = size / _UNITS[name]
    return f"{number:.1f} {name}" if name in ("TB", "GB") else f"{number:.0f} {name}"


@dataclass(frozen=True, slots=True)
class Thing:
    """Something on disk that is kept or deleted as a whole."""

    what: What
    path: Path
    bytes: int
    digest: str = ""
    """Uid of the item it belongs to, or digest of its content."""
    attempt: int = 0


def sweep_things(paths: SweepPaths) -> list[Thing]:
    """Everything in a sweep's folder; what is not told apart counts as records."""
    tried = [thing for folder in _folders(paths.trials) for thing in attempt_things(paths, folder.name)]
    parts = [Thing("part", part, size_of(part)) for part in parts_in(paths.root)]
    records = size_of(paths.root) - sum(thing.bytes for thing in tried)
    return [*parts, *tried, Thing("records", paths.root, records)]


def attempt_things(paths: SweepPaths, uid: str) -> list[Thing]:
    """Models and states that the attempts at one item left, and what it left when it was repeated."""
    things: list[Thing] = []
    for place in _folders(paths.trials / uid):
        if _RERUN.fullmatch(place.name):
            things.append(Thing("rerun", place, size_of(place), uid))
        elif place.name.isdecimal():
            run = paths.run(uid, int(place.name))
            told_apart: list[tuple[What, Path]] = [("model", run.model), ("state", run.resume)]
            things += [
                Thing(what, path, size_of(path), uid, int(place.name)) for what, path in told_apart if path.exists()
            ]
    return things


def cache_things(cache: CachePaths) -> Iterator[Thing]:
    """Every prepared input and checkpoint in a cache."""
    for kind in INPUTS:
        yield from (Thing("input", path, size_of(path), path.name) for path in _visible(cache.root / kind))
    for path in _visible(cache.pretrained("any").parent):
        yield Thing("checkpoint", path, size_of(path), path.name)


def cache_parts(cache: CachePaths) -> Iterator[Thing]:
    """What some process builds in a cache, or has left unfinished."""
    made = (cache.pretrained("any").parent, cache.index("any").parent, cache.register, cache.work)
    for place in (*(cache.root / kind for kind in INPUTS), *made):
        yield from (Thing("part", part, size_of(part)) for part in parts_in(place))


def checkpoints(cache: CachePaths, digests: Iterable[str]) -> list[Thing]:
    """Those of the checkpoints that lie in ``cache``."""
    places = [cache.pretrained(digest) for digest in sorted(set(digests))]
    return [Thing("checkpoint", place, size_of(place), place.name) for place in places if place.is_dir()]


def parts_in(place: Path) -> Iterator[Path]:
    """Files and folders in ``place`` that some process builds or has left unfinished."""
    for root, folders, files in os.walk(place):
        parts = [name for name in (*folders, *files) if builder_of(Path(name))]
        yield from (Path(root, name) for name in sorted(parts))
        folders[:] = sorted(set(folders) - set(parts))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; parts inside it do not count."""
    if not path.is_dir():
        return _bytes(path)
    total = 0
    for root, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not builder_of(Path(name))]
        total += sum(_bytes(Path(root, name)) for name in files if not builder_of(Path(name)))
    return total


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:  # its writer was faster
        return 0


def _visible(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("*") if not path.name.startswith("."))


def _folders(place: Path) -> list[Path]:
    return [path for path in _visible(place) if path.is_dir()]
