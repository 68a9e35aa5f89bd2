"""Files of molecules: what a name in a space stands for, and the rows inside, as a stream.

A name is a path, a glob, a URL that fsspec knows, ``rdkit:<file>`` for a file that comes with RDKit, or a corpus of
`CORPORA`. ``.smi``, ``.csv`` and ``.parquet`` are read, also packed as ``.gz`` or ``.zst``, or together in a tar file,
and PubChem's ``CID-SMILES``.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from chembench.data.catalog import CORPORA
from chembench.data.downloads import Address, Progress, bring, known_sha256
from chembench.data.tar import files_in
from chembench.errors import ConfigError, DataError
from chembench.paths import full_disk_told

Format = Literal["smi", "csv", "parquet", "cid", "tar"]

_FORMATS: dict[str, Format] = {".smi": "smi", ".smiles": "smi", ".csv": "csv", ".parquet": "parquet", ".tar": "tar"}
_CID_SMILES = "cid-smiles"
"""PubChem's file of numbers and SMILES, which has no ending."""
_PACKED = (".gz", ".zst")
_SMILES_HEADERS = ("smiles", "canonical_smiles")
_BLOCK = 1 << 20
_PIN = re.compile(r"#sha256=([0-9a-f]{64})$")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
"""Protocol -> extra of ours that brings the package which fsspec reads it with."""
_REMOTE_STAMPS = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5", "sha1")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read."""

    name: str
    """As people know it; the file name of a glob's or folder's match."""
    location: str
    """Absolute path or URL."""
    sha256: str = ""
    """That the file must have, where its address names one."""
    md5_url: str = ""
    """Where the publisher keeps its MD5."""

    @property
    def is_remote(self) -> bool:
        return "://" in self.location

    @property
    def address(self) -> Address | None:
        """Of a file that is downloaded before it is read; other remote files are read as they come."""
        is_web = self.location.startswith(("http://", "https://"))
        return Address(self.location, self.sha256, self.md5_url) if is_web else None

    @property
    def format(self) -> Format:
        """What the name's ending says.

        Raises:
            ConfigError: if the ending is none that is read.
        """
        found = _format_of(self.location.partition("?")[0] if self.is_remote else self.location)
        if found is None:
            known = ", ".join(_FORMATS)
            raise ConfigError(f"a molecule file ends in {known} (also with .gz or .zst), got '{self.name}'; convert it")
        return found

    def stamp(self, folder: Path) -> tuple[str, ...] | None:
        """What changes when the file changes: checksum, size and time of change, or what the server says of it.

        Args:
            folder: of downloads.

        Returns:
            None for a file that has yet to be downloaded.
        """
        if self.address is not None:
            found = known_sha256(self.address, folder)
            return None if found is None else (self.location, found)
        if not self.is_remote:
            state = Path(self.location).stat()
            return (self.location, str(state.st_size), str(state.st_mtime_ns))
        info = _remote_info(self.location)
        return (self.location, *(f"{key}={info[key]}" for key in _REMOTE_STAMPS if info.get(key) is not None))


def _format_of(location: str) -> Format | None:
    path = Path(location.removesuffix(".tgz") + ".tar" if location.endswith(".tgz") else location)
    stem = Path(path.stem) if path.suffix in _PACKED else path
    return "cid" if stem.name.lower() == _CID_SMILES else _FORMATS.get(stem.suffix.lower())


def brought(source: Source, folder: Path, progress: Progress | None = None) -> Source:
    """``source`` as it can be read: a file of the web is downloaded into ``folder`` if it is not there.

    Raises:
        DataError: if it cannot be had, or is not what it must be.
        DiskFullError: if no space is left.
    """
    return source if source.address is None else Source(source.name, str(bring(source.address, folder, progress)))


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
    if name in CORPORA:
        return [Source(Path(known.url).name, known.url, md5_url=known.md5_url) for known in CORPORA[name].files]
    if "://" in name:
        return _resolve_url(name)
    path = base.resolve() / Path(name).expanduser()
    if path.is_file():
        return [Source(name, str(path))]
    matches = [p for p in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if p.is_file()]
    if not matches:
        near = difflib.get_close_matches(name, CORPORA, n=1)
        hint = f"did you mean the corpus '{near[0]}'?" if near else "correct the name or write an absolute path"
        raise DataError(f"no file '{name}' in {base.resolve()}; {hint}")
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
    if pin := _PIN.search(name):
        source = Source(name[: pin.start()], name[: pin.start()], pin[1])
        if source.address is None:
            raise ConfigError(f"#sha256= stands behind http and https addresses, got '{name}'; leave it out")
        return [source]
    if name.startswith(("http://", "https://")) and not any(mark in name for mark in "*["):
        return [Source(name, name)]
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
    except ImportError as error:
        extra = _EXTRAS.get(name.partition("://")[0])
        way_out = f"pip install 'chembench-sweeps[{extra}]'" if extra else "install it"
        raise DataError(f"'{name}' needs a package that is not installed here ({error}); {way_out}") from error
    except (OSError, EOFError, ValueError, csv.Error, zlib.error, tarfile.TarError) as error:
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
    location = source.location.partition("?")[0] if source.is_remote else source.location
    with _open_packed(source) as file, _unpacked(file, location) as content:
        yield content


@contextmanager
def _unpacked(file: Any, location: str) -> Iterator[BinaryIO]:
    ending = Path(location).suffix
    if ending in (".gz", ".tgz"):
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
        while block := file.read(_BLOCK):
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

    A ``.smi`` file has none but the first word of each line, ``CID-SMILES`` none but the second. A table is asked for
    ``column``; where none is named, a column called ``smiles`` is taken, and a CSV file without header whose first cell
    is a molecule is read by its first column. The files in a tar file are read one after the other.

    Raises:
        DataError: if the file is damaged or the column cannot be told.
    """
    with open_bytes(source) as file:
        yield from _cells(file, source.format, column, source.name)


def _cells(file: BinaryIO, form: Format, column: str | None, name: str) -> Iterator[str]:
    if form == "smi":
        return _words(file, 0)
    if form == "cid":
        return _words(file, 1)
    if form == "csv":
        return _csv_cells(file, column, name)
    return _tar_cells(file, column, name) if form == "tar" else _parquet_cells(file, column, name)


def _words(file: BinaryIO, place: int) -> Iterator[str]:
    """One word of each line that is not blank; a first line that names it is left out."""
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace") as text:
        lines = (words for line in text if (words := line.split(maxsplit=place + 1)))
        for number, words in enumerate(lines):
            word = words[place] if place < len(words) else ""
            if number or word.lower() not in _SMILES_HEADERS:
                yield word


def _tar_cells(file: BinaryIO, column: str | None, name: str) -> Iterator[str]:
    is_empty = True
    for path, packed in files_in(file):
        form = _format_of(path)
        # names with a leading dot are notes of the machine that packed it
        if form not in (None, "tar") and not Path(path).name.startswith("."):
            is_empty = False
            with _unpacked(packed, path) as content:
                yield from _cells(content, form, column, f"{name}/{path}")
    if is_empty:
        raise DataError(f"a tar file holds {', '.join(_FORMATS)}, '{name}' holds none of them; unpack and convert it")


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
    with open_parquet(file) as table:
        columns = list(table.schema_arrow.names)
        place = _smiles_column(columns, column, name)
        if place is None:
            shown = columns[:12]
            raise DataError(f"'{name}' has no column 'smiles'; name the column with corpus.smiles_column: {shown}")
        for batch in table.iter_batches(columns=[columns[place]]):
            yield from (str(cell or "") for cell in batch.column(0).to_pylist())


@contextmanager
def open_parquet(file: BinaryIO) -> Iterator[Any]:
    """A Parquet file that can be read by columns; one that is packed is unpacked to disk, as its end is read first."""
    import pyarrow.parquet

    # a GzipFile says that it can be sought in, which unpacks all of it for every step back
    if file.seekable() and not isinstance(file, gzip.GzipFile):
        yield pyarrow.parquet.ParquetFile(file)
        return
    with full_disk_told(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(file, unpacked, _BLOCK)
        yield pyarrow.parquet.ParquetFile(unpacked)
