"""A corpus as the models read it: token ids and descriptor labels, in shards that every data scale shares.

Shards hold rows of the corpus' order and are named by their content, so a larger scale adds shards and a stopped build
goes on where it was. Building needs the chemistry; reading needs numpy alone.

Axes: N molecules of the set, B of one batch, T tokens, K descriptors.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chembench.chem.descriptors import rdkit_version
from chembench.chem.pool import HERE, Pool
from chembench.config import digest_of
from chembench.data.corpora import Corpus, Part, Progress
from chembench.data.specs import LabelSpec
from chembench.data.statistics import Statistics, label_statistics, load_statistics, save_statistics
from chembench.errors import DataError
from chembench.paths import CachePaths, built_whole, read_json, write_json

if TYPE_CHECKING:
    from chembench.chem.tokens import Tokenizer

__all__ = ["ShardSet", "Shards", "build_shards", "load_statistics", "open_shards", "write_shard"]

_LAYOUT = 2
"""Raised when the files of a shard change; part of every shard's digest."""
_SIZES = ((1_024, 256), (8_192, 1_024), (131_072, 8_192))
"""Rows of a shard that starts below the first number: small scales prepare little more than they use."""
_LARGEST = 131_072
"""Rows of all later shards: few enough that thirty million molecules stay below the usual limit of open files."""
_PIECE = 2_048
"""Molecules that are labelled together, some seconds of work; of a large shard every worker takes some."""
_SCAN = 8_192
_FILES = ("tokens.npy", "offsets.npy", "labels.npy")
_CHUNK = 1 << 24
"""Bytes of a file that are summed at once."""


@dataclass(frozen=True, slots=True)
class ShardSet:
    """What `build_shards` made: everything a pre-training reads."""

    train: tuple[Path, ...]
    """Folders in corpus order, for at least the molecules asked for."""
    validation: tuple[Path, ...]
    statistics: Path
    """Folder of the label statistics."""
    labels_digest: str
    outputs: int
    """Number of descriptors."""
    names: tuple[str, ...]
    """Of the descriptors, in the order of the labels."""


_Rows = tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.float32]]
"""Token ids of molecules, where each begins and the last ends, and raw labels."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What is made of molecules; it crosses a process border."""

    tokenizer: Tokenizer
    names: tuple[str, ...]
    """Of the descriptors."""
    plain: bool
    """Whether RDKit's own calculator does everything; no value hangs on it."""

    @property
    def facts(self) -> dict[str, Any]:
        """Part of a shard's name, and of its manifest."""
        return {"tokenizer": self.tokenizer.digest, "names": self.names, "rdkit": rdkit_version()}

    def __call__(self, smiles: list[str]) -> _Rows:
        from chembench.chem.descriptors import compute

        stream, offsets = self.tokenizer.encode_many(smiles)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is masked as RDKit's own infinities are
            return stream, offsets, compute(smiles, self.names, plain=self.plain).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Job:
    """One shard of a corpus."""

    folder: Path
    part: Part
    start: int
    stop: int

    @property
    def pieces(self) -> Iterator[tuple[int, int]]:
        """First row and end of what is labelled together."""
        for start in range(self.start, self.stop, _PIECE):
            yield start, min(start + _PIECE, self.stop)


def build_shards(  # noqa: PLR0913 - the corpus, what is made of it, where, and how
    corpus: Corpus,
    tokenizer: Tokenizer,
    labels: LabelSpec,
    molecules: int,
    cache: CachePaths,
    pool: Pool = HERE,
    progress: Progress | None = None,
) -> ShardSet:
    """Token ids and labels of the first ``molecules`` training molecules and of all validation molecules.

    Args:
        corpus: prepared molecules.
        tokenizer: spells them.
        labels: descriptors and their scaling.
        molecules: training molecules that are needed.
        cache: where shards are kept; those that exist are not built again.
        pool: who computes.
        progress: told how many shards are built.

    Raises:
        DataError: if the corpus is smaller than ``molecules``, or a label is not RDKit's.
        ConfigError: if the descriptor list cannot be used.
        RunError: if a worker of ``pool`` dies; finished shards are kept.
    """
    corpus.require(molecules)
    index = cache.index(f"shards-{_request(corpus, tokenizer, labels, molecules)}")
    if index.is_file() and (found := _known(read_json(index), cache)) is not None:
        return found
    from chembench.chem.descriptors import descriptor_names, plain_is_asked

    names = descriptor_names(labels.descriptors)
    counted = min(labels.statistics_molecules, corpus.train)

    recipe = _Recipe(tokenizer, names, plain_is_asked())
    train = list(_jobs(corpus, "train", max(molecules, counted), recipe, cache))
    validation = list(_jobs(corpus, "validation", corpus.validation, recipe, cache))
    _build(corpus, [job for job in (*train, *validation) if not job.folder.is_dir()], pool, recipe, progress)
    statistics = label_statistics(_first_labels(train, counted), names, rdkit_version(), labels.clip)
    save_statistics(statistics, cache.labels(statistics.digest))
    answer = {
        "train": [job.folder.name for job in train if job.start < molecules],
        "validation": [job.folder.name for job in validation],
        "labels": statistics.digest,
        "names": list(names),
    }
    write_json(index, answer)
    known = _known(answer, cache)
    assert known is not None
    return known


def _request(corpus: Corpus, tokenizer: Tokenizer, labels: LabelSpec, molecules: int) -> str:
    path = Path(labels.descriptors)
    listed = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    parts = [_LAYOUT, corpus.digest, tokenizer.digest, labels.canonical(), listed, molecules, rdkit_version()]
    return digest_of(parts)


def _known(answer: dict[str, Any], cache: CachePaths) -> ShardSet | None:
    train = tuple(cache.shard(name) for name in answer["train"])
    validation = tuple(cache.shard(name) for name in answer["validation"])
    statistics = cache.labels(answer["labels"])
    if not all(folder.is_dir() for folder in (*train, *validation, statistics)):
        return None
    names = tuple(answer["names"])
    return ShardSet(train, validation, statistics, answer["labels"], len(names), names)


def _jobs(corpus: Corpus, part: Part, rows: int, recipe: _Recipe, cache: CachePaths) -> Iterator[_Job]:
    available = corpus.train if part == "train" else corpus.validation
    facts, start = recipe.facts, 0
    while start < min(rows, available):
        size = next((size for below, size in _SIZES if start < below), _LARGEST)
        stop = min(start + size, available)
        what = [_LAYOUT, corpus.digest, part, start, stop, *facts.values()]
        yield _Job(cache.shard(digest_of(what)), part, start, stop)
        start = stop


def _build(corpus: Corpus, missing: Sequence[_Job], pool: Pool, recipe: _Recipe, progress: Progress | None) -> None:
    """Write one shard after the other, whose pieces come from ``pool`` in that order."""
    pieces = (corpus.smiles(job.part, *piece) for job in missing for piece in job.pieces)
    with closing(pool.map(recipe, pieces)) as done:
        for number, job in enumerate(missing, start=1):
            rows = _joined([next(done)[1] for _ in job.pieces])
            where = {"corpus": corpus.digest, "part": job.part, "start": job.start, "stop": job.stop}
            with built_whole(job.folder) as folder:
                write_shard(folder, *rows, where | recipe.facts)
            if progress is not None:
                count = f"{job.stop - job.start:,} molecules in this one"
                progress(f"labels: {number:,} of {len(missing):,} shards, {count}")


def _joined(pieces: Sequence[_Rows]) -> _Rows:
    streams, offsets, labels = zip(*pieces, strict=True)
    first = np.cumsum([0, *(len(stream) for stream in streams)])
    starts = [offsets[:-1] + start for offsets, start in zip(offsets, first, strict=False)]
    return np.concatenate(streams), np.concatenate([*starts, first[-1:]]), np.concatenate(labels)


def write_shard(
    folder: Path,
    stream: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    labels_NK: NDArray[np.float32],
    manifest: Mapping[str, Any],
) -> None:
    """Fill an empty folder with the files of a shard.

    Args:
        folder: which exists.
        stream: token ids of all molecules, one after the other.
        offsets: where each molecule begins in the stream, and the end of the last; shape (N + 1,).
        labels_NK: raw descriptors.
        manifest: ``corpus``, ``part``, ``start``, ``stop``, ``names`` and ``tokenizer``.
    """
    np.save(folder / "tokens.npy", stream)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "labels.npy", labels_NK)
    write_json(folder / "manifest.json", {**manifest, "crc32": _checksums(folder)})


def _checksums(folder: Path) -> dict[str, int]:
    """File of a shard -> CRC-32 of its bytes (measured: 4 GB/s; a pre-training reads them many times)."""
    found = {}
    for name in _FILES:
        found[name] = 0
        with (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                found[name] = zlib.crc32(chunk, found[name])
    return found


def _first_labels(jobs: Sequence[_Job], rows: int) -> NDArray[np.float32]:
    needed = [job for job in jobs if job.start < rows]
    for job in needed:
        _manifest(job.folder)  # it may have been built long ago
    labels = [np.load(job.folder / "labels.npy", mmap_mode="r", allow_pickle=False) for job in needed]
    return np.concatenate([labels_NK[: rows - job.start] for job, labels_NK in zip(needed, labels, strict=True)])


class Shards:
    """Tokens and labels of N molecules, read from disk where they are asked for.

    Args:
        folders: of the shards, in corpus order.
        statistics: how labels are scaled.
        rows: molecules that are offered.
    """

    def __init__(self, folders: Sequence[Path], statistics: Statistics, rows: int) -> None:
        opened = [_open_shard(folder) for folder in folders]
        self.statistics = statistics
        self._tokens = [tokens for tokens, _, _ in opened]
        self._offsets = [offsets for _, offsets, _ in opened]
        self._labels = [labels_NK for _, _, labels_NK in opened]
        self._first_S = np.cumsum([0, *(len(offsets) - 1 for offsets in self._offsets)])
        self.lengths_N: NDArray[np.int32] = np.concatenate([np.diff(o).astype(np.int32) for o in self._offsets])[:rows]
        """Tokens of each molecule, start and end token included, before any truncation."""
        self._longest_read = 0

    def __len__(self) -> int:
        return len(self.lengths_N)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the descriptors."""
        return self.statistics.names

    def tokens(
        self, indices_B: NDArray[np.integer], pad_id: int, max_length: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
        """Ids of some molecules, padded on the right to the longest of them, and their lengths.

        A molecule longer than ``max_length`` is cut there and keeps its last token, which ends a sequence.
        """
        self._longest_read = max_length
        lengths_B = np.minimum(self.lengths_N[indices_B], max_length)
        ids_BT = np.full((len(lengths_B), int(lengths_B.max(initial=0))), pad_id, np.uint16)
        shard_B = self._shards_of(indices_B)
        within_B = indices_B - self._first_S[shard_B]
        places = zip(shard_B.tolist(), within_B.tolist(), lengths_B.tolist(), strict=True)
        for row, (shard, within, length) in enumerate(places):
            tokens, offsets = self._tokens[shard], self._offsets[shard]
            start = offsets[within]
            ids_BT[row, :length] = tokens[start : start + length]
            ids_BT[row, length - 1] = tokens[offsets[within + 1] - 1]
        return ids_BT, lengths_B

    @property
    def truncated(self) -> int:
        """Molecules of the whole set that `tokens` cuts, at the length it was last asked for."""
        return int((self.lengths_N > self._longest_read).sum()) if self._longest_read else 0

    def labels(self, indices_B: NDArray[np.integer]) -> NDArray[np.float32]:
        """Standardised labels of some molecules, shape (B, K), clipped; NaN where a descriptor is not defined."""
        return self.statistics.standardise(self._raw(np.asarray(indices_B)))

    @property
    def clipped(self) -> int:
        """Labels of the whole set that lie beyond the clip bounds."""
        return self._faults[0]

    @property
    def masked(self) -> int:
        """Labels of the whole set that are NaN or infinite, and so left out of the loss."""
        return self._faults[1]

    @cached_property
    def _faults(self) -> tuple[int, int]:
        chunks = (np.arange(start, min(start + _SCAN, len(self))) for start in range(0, len(self), _SCAN))
        counts = [self.statistics.count_faults(self._raw(chunk)) for chunk in chunks]
        return sum(clipped for clipped, _ in counts), sum(masked for _, masked in counts)

    def _shards_of(self, indices_B: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.searchsorted(self._first_S, indices_B, side="right") - 1

    def _raw(self, indices_B: NDArray[np.integer]) -> NDArray[np.float32]:
        shard_B = self._shards_of(indices_B)
        raw_BK = np.empty((len(indices_B), len(self.names)), np.float32)
        for shard in np.unique(shard_B):
            here_B = shard_B == shard
            raw_BK[here_B] = self._labels[shard][indices_B[here_B] - self._first_S[shard]]
        return raw_BK


def _open_shard(folder: Path) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32]]:
    tokens, offsets, labels_NK = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES)
    return np.asarray(tokens), np.asarray(offsets), np.asarray(labels_NK)


def open_shards(folders: Sequence[Path | str], statistics_folder: Path | str, rows: int | None = None) -> Shards:
    """The first ``rows`` molecules of shards that follow each other; all of them if none is given.

    Args:
        folders: of the shards, in corpus order.
        statistics_folder: with the label statistics.
        rows: molecules to offer.

    Raises:
        DataError: if a folder holds no shard, or not as it was built, the shards do not follow each other or were made
            for other labels, or they hold fewer molecules than ``rows``.
    """
    statistics = load_statistics(Path(statistics_folder))
    paths = [Path(folder) for folder in folders]
    end, corpora = 0, set()
    for path in paths:
        manifest = _manifest(path)
        corpora.add((manifest["corpus"], manifest["part"], manifest["tokenizer"]))
        if manifest["start"] != end or len(corpora) > 1:
            raise DataError(
                f"shards must follow each other from row 0 in one corpus, {path} starts at row {manifest['start']} "
                f"where row {end} is due; pass them as they were built"
            )
        if tuple(manifest["names"]) != statistics.names:
            raise DataError(f"{path} and {statistics_folder} hold other descriptors; prepare the inputs again")
        end = manifest["stop"]
    if end < (rows if rows is not None else 1):
        raise DataError(f"shards hold {end:,} molecules, {rows or 1:,} are asked for; build more shards")
    return Shards(paths, statistics, end if rows is None else rows)


def _manifest(folder: Path) -> dict[str, Any]:
    """What a shard is, whose files are as they were built."""
    try:
        manifest: dict[str, Any] = read_json(folder / "manifest.json")
        due, found = manifest["crc32"], _checksums(folder)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no shard ({error!r}); prepare the inputs again") from error
    for name in _FILES:
        if found[name] != due[name]:
            raise DataError(
                f"{folder / name} must be as it was built, CRC-32 {due[name]:08x}, it has {found[name]:08x}; "
                "delete the folder, it will be built again"
            )
    return manifest
