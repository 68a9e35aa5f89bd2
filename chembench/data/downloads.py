"""Large files from the web: whole or not there, and going on from where an earlier attempt ended.

A file lies under its address (``<folder>/<host>/<path>``), where people can put it by hand as well. Beside it stands a
record, ``<file>.json``: address, size, SHA-256 and what the server called this version. The record stays valid when the
file is deleted, so that a prepared corpus is found without the file it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from chembench.config import digest_of
from chembench.errors import DataError
from chembench.paths import full_disk_told, read_json, write_json

Progress = Callable[[str], None]

_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before each new attempt; any that brings something starts the list anew."""


@dataclass(frozen=True, slots=True)
class Address:
    """One file on the web."""

    url: str
    sha256: str = ""
    """That the file must have, if it is known."""
    md5_url: str = ""
    """Where the publisher keeps the MD5 of the present version, if it does."""

    def file(self, folder: Path) -> Path:
        """Where the file lies below ``folder``."""
        parts = urlsplit(self.url)
        names = [name for name in PurePosixPath(unquote(parts.path)).parts if name not in ("/", "..")]
        if not names:
            raise DataError(f"an address ends in the name of a file, '{self.url}' does not; correct it")
        if parts.query:  # the ending must stay, it says what the file holds
            names[-1] = f"{digest_of(parts.query)}-{names[-1]}"
        return folder.joinpath(parts.netloc.rpartition("@")[2], *names)


def downloads_in(data_dir: Path) -> Path:
    """Where all such files lie in the folder of raw data."""
    return data_dir / "downloads"


def known_sha256(address: Address, folder: Path) -> str | None:
    """Checksum of the file that was brought, which may be gone by now; none if it never was, or was replaced since."""
    file = address.file(folder)
    if not _record(file).is_file():
        return None
    record = read_json(_record(file))
    if file.is_file() and _stamp(file) != record["stamp"]:
        return None
    return str(record["sha256"])


def bring(address: Address, folder: Path, progress: Progress | None = None, waits: tuple[float, ...] = _WAITS) -> Path:
    """The file at ``address``, below ``folder``; downloaded if it is not there.

    Args:
        address: of the file.
        folder: of all such files.
        progress: told how much has come, now and then.
        waits: seconds before each new attempt that follows one which brought nothing.

    Raises:
        DataError: if it cannot be had, is a web page, or has another checksum than it must.
        DiskFullError: if no space is left.
    """
    say = progress or (lambda _: None)
    file = address.file(folder)
    if not _is_here(address, folder):
        try:
            with full_disk_told(folder), _alone(file, say):
                if not _is_here(address, folder):
                    made_with = {} if file.is_file() else _download(address, file, say, waits)
                    _keep_record(address, file, made_with)
        except OSError as error:
            raise DataError(f"downloads lie in {folder}, which cannot be written ({error}); choose another") from error
    _check_pin(address, file)
    return file


def _is_here(address: Address, folder: Path) -> bool:
    return known_sha256(address, folder) is not None and address.file(folder).is_file()


@contextmanager
def _alone(file: Path, say: Progress) -> Iterator[None]:
    """Let one process of this machine at a time bring ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"download: another process brings {file.name}, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep_record(address: Address, file: Path, made_with: dict[str, Any]) -> None:
    what = {"url": address.url.partition("?")[0], "sha256": _sum(file, "sha256"), "stamp": _stamp(file)}
    write_json(_record(file), what | made_with)


def _record(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _stamp(file: Path) -> list[int]:
    state = file.stat()
    return [state.st_size, state.st_mtime_ns]


def _sum(file: Path, algorithm: str) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()


def _check_pin(address: Address, file: Path) -> None:
    found = read_json(_record(file))["sha256"]
    if address.sha256 not in ("", found):
        raise DataError(
            f"{file} must have the SHA-256 {address.sha256} that its address names, it has {found}; "
            f"delete the file and its .json to download it again, or correct the address"
        )


def _download(address: Address, file: Path, say: Progress, waits: tuple[float, ...]) -> dict[str, Any]:
    """Bring ``file``; return what the server said of it."""
    from chembench.data.web import fetch, published_md5  # http and ssl, which most commands do without

    say(f"download: {address.url.partition('?')[0]}")
    md5 = published_md5(address.md5_url, waits) if address.md5_url else ""
    part, mark = file.with_name(f".{file.name}.part"), file.with_name(f".{file.name}.part.json")
    fetch(address.url, part, mark, say, waits)
    if md5 and (found := _sum(part, "md5")) != md5:
        part.unlink()
        raise DataError(
            f"{address.url} must have the MD5 {md5} that its publisher names, what came has {found} and was deleted; "
            f"give the same command again"
        )
    version = read_json(mark)["version"]
    part.replace(file)
    mark.unlink()
    return {"version": version, "md5": md5}
