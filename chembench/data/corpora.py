"""Unlabelled molecules for pre-training, in one order that every scale and every machine shares.

The order is that of a keyed hash of the canonical SMILES: the first N training molecules are a random sample of the
corpus, and of each larger N (nested prefixes). Validation molecules are the first of a second hash, so that membership
depends on the set of molecules alone, never on files, their order, or how many molecules are trained on.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chembench.chem.descriptors import rdkit_version
from chembench.chem.pool import HERE, Pool
from chembench.config import digest_of
from chembench.data.downloads import downloads_in
from chembench.data.sources import Source, brought, resolve, smiles_cells
from chembench.data.specs import CorpusSpec
from chembench.errors import DataError
from chembench.paths import (
    CachePaths,
    built_whole,
    default_data_dir,
    read_json,
    working_folder,
    write_json,
    written_whole,
)

Part = Literal["train", "validation"]
Progress = Callable[[str], None]
"""Told one line about what is done, now and then."""

_CHUNK = 2_000
"""Rows that are read together, and travel together to another process."""
_TELL_ROWS = 100_000
_BUCKETS = 256
_STRIDE = 1024
"""Every how many lines a byte offset is kept, so that a late shard is not found by reading the file from its start."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared corpus: canonical, unique, ordered, divided."""

    digest: str
    """Of the content: the training molecules in order, and the validation molecules."""
    folder: Path
    train: int
    """Training molecules."""
    validation: int
    """Validation molecules."""
    unreadable: int
    """Rows that RDKit cannot read; they are listed in ``unreadable_list``."""
    duplicates: int
    """Rows that repeat a molecule."""
    unreadable_list: Path

    def smiles(self, part: Part, start: int, stop: int) -> list[str]:
        """Canonical SMILES of the molecules ``start`` to ``stop`` of ``part``, in corpus order."""
        offsets = np.load(self.folder / f"{part}.offsets.npy", allow_pickle=False)
        with (self.folder / f"{part}.smi").open("rb") as file:
            file.seek(int(offsets[start // _STRIDE]) if start // _STRIDE < len(offsets) else 0, 0)
            lines = islice(file, start % _STRIDE, start % _STRIDE + stop - start)
            return [line.decode().rstrip("\n") for line in lines]

    def require(self, molecules: int) -> None:
        """Make sure that ``molecules`` can be trained on.

        Raises:
            DataError: if the corpus is smaller.
        """
        if molecules > self.train:
            raise DataError(
                f"corpus has {self.train:,} training molecules, the space asks for {molecules:,}; "
                f"lower grid.molecules or add files"
            )


def prepare_corpus(
    spec: CorpusSpec,
    cache: CachePaths,
    base: Path | None = None,
    pool: Pool = HERE,
    progress: Progress | None = None,
    data_dir: Path | None = None,
) -> Corpus:
    """The corpus that ``spec`` describes; built if the cache does not hold it yet.

    Files of the web are downloaded first. Once the corpus is prepared they may be deleted: the records beside them
    are enough to find it again.

    Args:
        spec: files and sizes.
        cache: where the corpus is kept.
        base: folder that relative paths start from; none: the current one.
        pool: who reads the molecules.
        progress: told how much is downloaded and how many rows are read, now and then.
        data_dir: downloads lie in it; none: `default_data_dir`.

    Raises:
        DataError: if a file is missing or damaged, too many rows cannot be read, or nothing is left to train on.
        ConfigError: if a name in ``spec.files`` cannot be used.
        DiskFullError: if no space is left.
        RunError: if a worker of ``pool`` dies.
    """
    sources = resolve(spec.files, base or Path.cwd())
    downloads = downloads_in(data_dir or default_data_dir())
    if (known := _known(_request(spec, sources, downloads), cache)) is not None:
        return known
    files = [brought(source, downloads, progress) for source in sources]
    request = _request(spec, sources, downloads)  # with the checksums of what was brought
    assert request is not None
    return _known(request, cache) or _build(spec, files, cache, request, _reader(spec, files, pool, progress))


def open_corpus(digest: str, cache: CachePaths) -> Corpus:
    """A corpus that was prepared before, by its digest.

    Raises:
        DataError: if the cache holds it no longer.
    """
    folder = cache.corpus(digest)
    try:
        manifest = read_json(folder / "manifest.json")
        counts = {name: manifest[name] for name in ("digest", "train", "validation", "unreadable", "duplicates")}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the corpus must lie in the cache, {folder} holds none ({type(error).__name__}); "
            "chembench audit SPACE.toml, with the sweep's own space.toml, prepares it anew"
        ) from error
    return Corpus(folder=folder, unreadable_list=_unreadable_list(cache, f"corpus-{digest}"), **counts)


def _request(spec: CorpusSpec, sources: Sequence[Source], downloads: Path) -> str | None:
    """What the answer is kept under; none while a file has never been downloaded."""
    stamps = [source.stamp(downloads) for source in sources]
    return None if None in stamps else f"corpus-{digest_of([spec.canonical(), stamps, rdkit_version()])}"


def _known(request: str | None, cache: CachePaths) -> Corpus | None:
    if request is None or not cache.index(request).is_file():
        return None
    answer = read_json(cache.index(request))
    folder = cache.corpus(answer["digest"])
    return (
        Corpus(folder=folder, unreadable_list=_unreadable_list(cache, request), **answer) if folder.is_dir() else None
    )


def _unreadable_list(cache: CachePaths, request: str) -> Path:
    return cache.index_list(request, "unreadable")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one file that follow each other; they cross a process border."""

    source: str
    first: int
    """Number of the first row in its file."""
    cells: list[str]


_Read = Generator[tuple[_Rows, list[str | None]]]
"""Rows, and their canonical SMILES."""


def _reader(spec: CorpusSpec, sources: Sequence[Source], pool: Pool, progress: Progress | None) -> _Read:
    say = progress or (lambda _: None)
    done = told = 0
    with closing(pool.map(_canonical, _rows(spec, sources))) as done_rows:
        for rows, found in done_rows:
            yield rows, found
            done += len(found)
            if done - told >= _TELL_ROWS:
                told = done
                say(f"corpus: {done:,} rows read")
    if done > told:
        say(f"corpus: {done:,} rows read")


def _rows(spec: CorpusSpec, sources: Sequence[Source]) -> Iterator[_Rows]:
    for source in sources:
        cells, first = smiles_cells(source, spec.smiles_column), 1
        while chunk := list(islice(cells, _CHUNK)):
            yield _Rows(source.name, first, chunk)
            first += len(chunk)


def _canonical(rows: _Rows) -> list[str | None]:
    from chembench.chem.smiles import canonical_many

    return canonical_many(rows.cells)


def _build(spec: CorpusSpec, sources: Sequence[Source], cache: CachePaths, request: str, read: _Read) -> Corpus:
    parent = cache.corpus("any").parent
    unreadable_list = _unreadable_list(cache, request)
    with closing(read), working_folder(parent, "building") as work:
        rows, unreadable = _fill_buckets(read, work, unreadable_list)
        _check_readable(spec, rows, unreadable, unreadable_list)
        unique, held_out = _merge_buckets(work, spec.validation)
        if unique <= spec.validation:
            raise DataError(
                f"corpus has {unique:,} distinct molecules, corpus.validation takes {spec.validation:,} of them and "
                f"leaves none to train on; lower corpus.validation or add files"
            )
        checksums = _write_parts(work, held_out)
        answer: dict[str, Any] = {
            "digest": digest_of(checksums),
            "train": unique - len(held_out),
            "validation": len(held_out),
            "unreadable": unreadable,
            "duplicates": rows - unreadable - unique,
        }
        with built_whole(cache.corpus(answer["digest"])) as folder:
            for part in ("train", "validation"):
                for name in (f"{part}.smi", f"{part}.offsets.npy"):
                    (work / name).rename(folder / name)
            origin = {"sources": [s.name for s in sources], "rdkit": rdkit_version(), "sha256": checksums}
            write_json(folder / "manifest.json", answer | origin)
    write_json(cache.index(request), answer)
    return Corpus(folder=cache.corpus(answer["digest"]), unreadable_list=unreadable_list, **answer)


def _fill_buckets(read: _Read, work: Path, unreadable_list: Path) -> tuple[int, int]:
    """Spread the readable molecules over files by hash, so that no more than one file's content is ever in memory."""
    rows = unreadable = 0
    with ExitStack() as stack:
        part = stack.enter_context(written_whole(unreadable_list))
        refused = stack.enter_context(part.open("w"))
        buckets = [stack.enter_context(_bucket(work, n).open("w")) for n in range(_BUCKETS)]
        for chunk, found in read:
            rows += len(found)
            for row, (raw, smiles) in enumerate(zip(chunk.cells, found, strict=True), start=chunk.first):
                if smiles is None:
                    unreadable += 1
                    refused.write(f"{chunk.source}:{row}\t{raw}\n")
                else:
                    buckets[_order(smiles)[0]].write(f"{smiles}\n")
    return rows, unreadable


def _check_readable(spec: CorpusSpec, rows: int, unreadable: int, unreadable_list: Path) -> None:
    if rows == 0:
        raise DataError(f"corpus files hold no molecule: {', '.join(spec.files)}; add files")
    if unreadable > spec.max_unreadable * rows:
        raise DataError(
            f"{unreadable:,} of {rows:,} corpus rows ({unreadable / rows:.1%}) are no molecules that RDKit can read, "
            f"corpus.max_unreadable is {spec.max_unreadable:.1%}; see {unreadable_list}"
        )


def _merge_buckets(work: Path, validation: int) -> tuple[int, list[str]]:
    """Write the unique molecules in hash order; return their number and the first ``validation`` of the second hash."""
    unique = 0
    first: list[tuple[int, str]] = []
    with (work / "ordered").open("w") as ordered:
        for n in range(_BUCKETS):
            molecules = sorted(set(_bucket(work, n).read_text().splitlines()), key=_order)
            _bucket(work, n).unlink()
            unique += len(molecules)
            for smiles in molecules:
                ordered.write(f"{smiles}\n")
                push = heapq.heappush if len(first) < validation else heapq.heappushpop
                push(first, (-_validation_rank(smiles), smiles))
    return unique, [smiles for _, smiles in sorted(first, reverse=True)]


def _write_parts(work: Path, held_out: list[str]) -> dict[str, str]:
    members = frozenset(held_out)
    with (work / "ordered").open() as ordered:
        lines = (line.rstrip("\n") for line in ordered)
        return {
            "train": _write_part(work, "train", (smiles for smiles in lines if smiles not in members)),
            "validation": _write_part(work, "validation", held_out),
        }


def _write_part(work: Path, part: Part, molecules: Iterable[str]) -> str:
    checksum, position, offsets = hashlib.sha256(), 0, []
    with (work / f"{part}.smi").open("wb") as file:
        for row, smiles in enumerate(molecules):
            if row % _STRIDE == 0:
                offsets.append(position)
            line = f"{smiles}\n".encode()
            checksum.update(line)
            position += file.write(line)
    np.save(work / f"{part}.offsets.npy", np.array(offsets, dtype=np.int64))
    return checksum.hexdigest()


def _bucket(work: Path, number: int) -> Path:
    return work / f"bucket-{number:03d}"


def _order(smiles: str) -> bytes:
    return hashlib.blake2b(smiles.encode(), digest_size=16, key=b"chembench order").digest()


def _validation_rank(smiles: str) -> int:
    key = b"chembench validation"
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=16, key=key).digest(), "big")
