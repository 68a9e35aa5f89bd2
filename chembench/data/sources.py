"""Files of molecules: what a name in a space stands for, and the rows inside, as a stream.

A name is a path, a glob, a URL that fsspec knows, or ``rdkit:<file>`` for a file that comes with RDKit.
``.smi``, ``.csv`` and ``.parquet`` are read, also packed as ``.gz`` or ``.zst``.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from chembench.errors import ConfigError, DataError

Format = Literal["smi", "csv", "parquet"]

_FORMATS: dict[str, Format] = {".smi": "smi", ".smiles": "smi", ".csv": "csv", ".parquet": "parquet"}
_PACKED = (".gz", ".zst")
_SMILES_HEADERS = ("smiles", "canonical_smiles")
_REMOTE_STAMPS = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5", "sha1")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read."""

    name: str
    """As people know it; the file name of a glob's or folder's match."""
    location: str
    """Absolute path or URL."""

    @property
    def is_remote(self) -> bool:
        return "://" in self.location

    @property
    def format(self) -> Format:
        """What the name's ending says.

        Raises:
            ConfigError: if the ending is none that is read.
        """
        path = Path(self.location.partition("?")[0] if self.is_remote else self.location)
        suffix = Path(path.stem).suffix if path.suffix in _PACKED else path.suffix
        if suffix.lower() not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise ConfigError(f"a molecule file ends in {known} (also with .gz or .zst), got '{self.name}'; convert it")
        return _FORMATS[suffix.lower()]

    def stamp(self) -> tuple[str, ...]:
        """What changes when the file changes: size and time of change, or what the server says of it."""
        if not self.is_remote:
            state = Path(self.location).stat()
            return (self.location, str(state.st_size), str(state.st_mtime_ns))
        info = _remote_info(self.location)
        return (self.location, *(f"{key}={info[key]}" for key in _REMOTE_STAMPS if info.get(key) is not None))


def resolve(files: Sequence[str], base: Path) -> tuple[Source, ...]:
    """The files that ``files`` name, in the order written; the matches of a glob are sorted.

    Args:
        files: names as in a space.
        base: folder that relative paths start from.

    Raises:
        ConfigError: if an ``rdkit:`` name leaves RDKit's data folder, or an ending is unknown.
        DataError: if a name matches no file.
    """
    sources = [source for name in files for source in _resolve_one(name, base)]
    for source in sources:
        source.format  # noqa: B018 - raises now, not after hours of reading the files before it
    return tuple(sources)


def resolve_file(name: str, base: Path) -> Source:
    """The one file called ``name``.

    Raises:
        DataError: if several files match.
    """
    sources = resolve([name], base)
    if len(sources) != 1:
        raise DataError(f"a task is one file, '{name}' matches {len(sources)}; name one of them")
    return sources[0]


def _resolve_one(name: str, base: Path) -> list[Source]:
    if name.startswith("rdkit:"):
        return [Source(name, str(_inside_rdkit(name)))]
    if "://" in name:
        return _resolve_url(name)
    path = base.resolve() / Path(name).expanduser()
    if path.is_file():
        return [Source(name, str(path))]
    matches = [p for p in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if p.is_file()]
    if not matches:
        raise DataError(f"no file '{name}' in {base.resolve()}; correct the name or write an absolute path")
    return [Source(match.name, str(match)) for match in matches]


def _inside_rdkit(name: str) -> Path:
    from rdkit import RDConfig

    root = Path(RDConfig.RDDataDir).resolve()
    path = (root / name.removeprefix("rdkit:")).resolve()
    if not path.is_relative_to(root):
        raise ConfigError(f"an rdkit: file stays inside RDKit's data folder, got '{name}'; write a plain path instead")
    if not path.is_file():
        raise DataError(f"no file '{name}' comes with this RDKit; look into {root}")
    return path


def _resolve_url(name: str) -> list[Source]:
    with _told_as_data_error(name):
        import fsspec

        system, path = fsspec.core.url_to_fs(name)
        if not any(mark in path for mark in "*["):
            return [Source(name, name)]
        matches = sorted(system.glob(path))
    if not matches:
        raise DataError(f"no file matches '{name}'; correct the address")
    return [Source(Path(match).name, system.unstrip_protocol(match)) for match in matches]


@contextmanager
def _told_as_data_error(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"no file at '{name}' ({error}); correct the address or download it yourself") from error
    except (OSError, EOFError, ImportError, ValueError, csv.Error, zlib.error) as error:
        raise DataError(f"'{name}' cannot be read: {error}; check the file, the address and the network") from error


def _remote_info(url: str) -> dict[str, Any]:
    with _told_as_data_error(url):
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
        return dict(system.info(path))


@contextmanager
def _open_packed(source: Source) -> Iterator[Any]:
    with _told_as_data_error(source.name):
        if source.is_remote:
            import fsspec

            with fsspec.open(source.location, "rb") as file:
                yield file
        else:
            with Path(source.location).open("rb") as file:
                yield file


@contextmanager
def open_bytes(source: Source) -> Iterator[BinaryIO]:
    """The content of ``source``, unpacked. Only reading belongs into the block: its errors are told as damage.

    Raises:
        DataError: if it cannot be opened or is damaged.
    """
    with _open_packed(source) as file:
        ending = Path(source.location.partition("?")[0]).suffix
        if ending == ".gz":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(BinaryIO, unpacked)
        elif ending == ".zst":
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as unpacked:
                yield unpacked
        else:
            yield file


def sha256_of(source: Source) -> str:
    """Checksum of the file as it lies there, packed or not."""
    digest = hashlib.sha256()
    with _open_packed(source) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def column_of(columns: Sequence[str], wanted: str, file: str) -> int:
    """Place of the column ``wanted``.

    Raises:
        DataError: if there is none; the nearest name is suggested.
    """
    if wanted in columns:
        return list(columns).index(wanted)
    near = difflib.get_close_matches(wanted, columns, n=1) or [c for c in columns if c.lower() == wanted.lower()]
    hint = f"did you mean '{near[0]}'? " if near else ""
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    raise DataError(f"'{file}' has no column '{wanted}'; {hint}it has: {shown}")


def smiles_cells(source: Source, column: str | None) -> Iterator[str]:
    """The SMILES of each row of ``source``, as written there.

    A ``.smi`` file has none but the first word of each line. A table is asked for ``column``; where none is named, a
    column called ``smiles`` is taken, and a CSV file without header whose first cell is a molecule is read by its
    first column.

    Raises:
        DataError: if the file is damaged or the column cannot be told.
    """
    with open_bytes(source) as file:
        if source.format == "smi":
            yield from _first_words(file)
        elif source.format == "csv":
            yield from _csv_cells(file, column, source.name)
        else:
            yield from _parquet_cells(file, column, source.name)


def _first_words(file: BinaryIO) -> Iterator[str]:
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace") as text:
        for line in text:
            words = line.split(maxsplit=1)
            if words:
                yield words[0]


def csv_rows(file: BinaryIO) -> Iterator[list[str]]:
    """The rows of a CSV file that are not blank."""
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="") as text:
        yield from (row for row in csv.reader(text) if row)


def _csv_cells(file: BinaryIO, column: str | None, name: str) -> Iterator[str]:
    rows = csv_rows(file)
    first = next(rows, None)
    if first is None:
        return
    place = _smiles_column(first, column, name)
    if place is None:
        from chembench.chem.smiles import canonical

        if not canonical(first[0]):
            raise DataError(
                f"'{name}' has no column 'smiles' and its first row is no molecule ({first[0]!r}); "
                f"name the column with corpus.smiles_column"
            )
        yield first[0]
        place = 0
    for row in rows:
        yield row[place] if place < len(row) else ""


def _smiles_column(columns: Sequence[str], wanted: str | None, name: str) -> int | None:
    if wanted is not None:
        return column_of(columns, wanted, name)
    lower = [column.strip().lower() for column in columns]
    return next((lower.index(known) for known in _SMILES_HEADERS if known in lower), None)


def _parquet_cells(file: BinaryIO, column: str | None, name: str) -> Iterator[str]:
    table = open_parquet(file)
    columns = list(table.schema_arrow.names)
    place = _smiles_column(columns, column, name)
    if place is None:
        raise DataError(f"'{name}' has no column 'smiles'; name the column with corpus.smiles_column: {columns[:12]}")
    for batch in table.iter_batches(columns=[columns[place]]):
        yield from (str(cell or "") for cell in batch.column(0).to_pylist())


def open_parquet(file: BinaryIO) -> Any:
    """A Parquet file that can be read by columns; a packed or remote one is held in memory."""
    import pyarrow
    import pyarrow.parquet

    if isinstance(file, io.BufferedReader):
        return pyarrow.parquet.ParquetFile(file)
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.read()))
