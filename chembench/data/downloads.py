"""Large files from the web: whole or not there, and going on from where an earlier attempt ended.

A file lies under its address (``<folder>/<host>/<path>``), where people can put it by hand as well. Beside it stands a
record, ``<file>.json``: address, size, SHA-256 and what the server called this version. The record stays valid when the
file is deleted, so that a prepared corpus is found without the file it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from chembench.config import digest_of
from chembench.errors import DataError
from chembench.paths import full_disk_told, is_disk_full, read_json, write_json

Progress = Callable[[str], None]

_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before each new attempt; any that brings something starts the list anew."""
_TIMEOUT_SECONDS = 60.0
_BLOCK = 1 << 20
_TELL_BYTES = 64 << 20
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416


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
    with full_disk_told(folder), _alone(file, say):
        if known_sha256(address, folder) is None or not file.is_file():
            made_with = {} if file.is_file() else _download(address, file, say, waits)
            _keep_record(address, file, made_with)
    _check_pin(address, file)
    return file


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


# ---- the download ----


def _download(address: Address, file: Path, say: Progress, waits: tuple[float, ...]) -> dict[str, Any]:
    """Bring ``file``; return what the server said of it."""
    md5 = _published_md5(address.md5_url, waits) if address.md5_url else ""
    part, mark = file.with_name(f".{file.name}.part"), file.with_name(f".{file.name}.part.json")
    _again(address.url, waits, lambda: _receive(address.url, part, mark, say), lambda: _size(part))
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


def _published_md5(url: str, waits: tuple[float, ...]) -> str:
    answers = []

    def receive() -> bool:
        with _open(urllib.request.Request(url)) as response:
            answers.append(response.read(_BLOCK).decode(errors="replace"))
        return True

    _again(url, waits, receive, lambda: 0)
    if not (found := re.match(r"[0-9a-fA-F]{32}\b", answers[-1])):
        raise DataError(f"{url} must begin with an MD5, it begins with {answers[-1][:40]!r}; try again later")
    return found.group().lower()


def _again(url: str, waits: tuple[float, ...], attempt: Callable[[], bool], size: Callable[[], int]) -> None:
    """Try until ``attempt`` says that all has come; give up when attempts in a row bring nothing."""
    in_vain = 0
    while True:
        before, reason = size(), "the connection ended early"
        try:
            if attempt():
                return
        except urllib.error.HTTPError as error:
            if error.code not in _TEMPORARY:
                raise DataError(f"no file at {url} (HTTP {error.code} {error.reason}); correct the address") from error
            reason = f"HTTP {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if is_disk_full(error):
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        in_vain = 1 if size() > before else in_vain + 1
        if in_vain > len(waits):
            raise DataError(
                f"{url} cannot be had ({reason}), {size():,} bytes of it are here; "
                f"give the same command again, it goes on from there, or put the file into the data folder"
            )
        time.sleep(waits[in_vain - 1])


def _receive(url: str, part: Path, mark: Path, say: Progress) -> bool:
    """Add what is missing to ``part``; say whether that is all."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    version = read_json(mark)["version"] if part.is_file() and mark.is_file() else ""
    if version:
        # only of the same version: otherwise the server sends the new one from its start
        request.add_header("Range", f"bytes={_size(part)}-")
        request.add_header("If-Range", version)
    try:
        with _open(request) as response:
            _refuse_page(url, response)
            if response.status != http.client.PARTIAL_CONTENT:
                _start_anew(part, mark, response)
            total = _total(response, _size(part))
            _copy(response, part, total, say)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{_size(part)}":
            return True  # it ended between the last byte and the checks
        part.unlink(missing_ok=True)
        return False
    return total is None or _size(part) == total


def _open(request: urllib.request.Request) -> Any:
    # an opener of its own, because urlopen keeps the proxies that it saw first
    request.add_header("User-Agent", "chembench")
    return urllib.request.build_opener().open(request, timeout=_TIMEOUT_SECONDS)


def _refuse_page(url: str, response: Any) -> None:
    if response.headers.get_content_type() == "text/html":
        raise DataError(f"{url} answers with a web page where a file of molecules is due; correct the address")


def _start_anew(part: Path, mark: Path, response: Any) -> None:
    """Forget what came before, and note the version that comes now; without one the next attempt starts anew too."""
    part.unlink(missing_ok=True)
    tag = response.headers.get("ETag", "")
    is_strong = tag and not tag.startswith("W/")
    write_json(mark, {"version": tag if is_strong else response.headers.get("Last-Modified", "")})
    part.touch()


def _total(response: Any, have: int) -> int | None:
    """Bytes of the whole file, as far as the server tells.

    Raises:
        DataError: if what it sends does not go on where ``part`` ends.
    """
    if response.status == http.client.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            raise http.client.HTTPException(f"asked for byte {have}, got {response.headers.get('Content-Range')!r}")
        return None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)


def _copy(response: Any, part: Path, total: int | None, say: Progress) -> None:
    done = _size(part)
    step = max(_TELL_BYTES, (total or 0) // 20)
    of_all = f" of {total / 1e6:,.0f}" if total else ""
    with part.open("ab") as file:
        while block := response.read(_BLOCK):
            file.write(block)
            if done // step != (done := done + len(block)) // step:
                say(f"download: {done / 1e6:,.0f}{of_all} MB of {part.name.removeprefix('.').removesuffix('.part')}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
