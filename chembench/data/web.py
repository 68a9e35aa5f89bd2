"""One file over HTTP, in as many attempts as it takes.

What came of an earlier attempt is continued by Range, but only of the same version (If-Range): ``mark``, beside the
part, keeps what the server called it.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chembench.errors import DataError
from chembench.paths import read_json, write_json

_TIMEOUT_SECONDS = 60.0
_BLOCK = 1 << 20
_TELL_BYTES = 64 << 20
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416


class _NetworkError(Exception):
    """What may go better another time."""


def fetch(url: str, part: Path, mark: Path, say: Callable[[str], None], waits: tuple[float, ...]) -> None:
    """Add to ``part`` what it lacks of the file at ``url``.

    Args:
        url: of the file.
        part: holds the bytes that came, which may be none.
        mark: holds the version that they belong to.
        say: told how much has come, now and then.
        waits: seconds before each new attempt that follows one which brought nothing.

    Raises:
        DataError: if it cannot be had, or is a web page.
        OSError: if ``part`` or ``mark`` cannot be used; that is not tried again.
    """
    _again(url, waits, lambda: _receive(url, part, mark, say), lambda: _size(part))


def published_md5(url: str, waits: tuple[float, ...]) -> str:
    """The first word of the small file at ``url``.

    Raises:
        DataError: if it cannot be had, or does not begin with an MD5.
    """
    answers = []

    def receive() -> bool:
        with _open(urllib.request.Request(url)) as response:
            answers.append(_read(response).decode(errors="replace"))
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
        except (http.client.InvalidURL, UnicodeError) as error:
            raise DataError(
                f"'{url}' is no address of the web ({error}); correct it, a blank is written %20"
            ) from error
        except _NetworkError as error:
            reason = str(error)
        in_vain = 1 if size() > before else in_vain + 1
        if in_vain > len(waits):
            raise DataError(
                f"{url} cannot be had ({reason}), {size():,} bytes of it are here; "
                f"give the same command again, it goes on from there, or put the file into the data folder"
            )
        time.sleep(waits[in_vain - 1])


def _receive(url: str, part: Path, mark: Path, say: Callable[[str], None]) -> bool:
    """Add what is missing to ``part``; say whether that is all."""
    try:
        with _answer(url, part, mark) as response:
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


def _answer(url: str, part: Path, mark: Path) -> Any:
    """What the server sends when it is asked for what ``part`` lacks, or for all of it where its version is gone."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    version = read_json(mark)["version"] if part.is_file() and mark.is_file() else ""
    if version:
        # only of the same version: otherwise the server sends the new one from its start
        request.add_header("Range", f"bytes={_size(part)}-")
        request.add_header("If-Range", version)
    response = _open(request)
    if not version or response.status != http.client.PARTIAL_CONTENT or _is_of(response, version):
        return response
    # there are servers that know Range and not If-Range
    response.close()
    part.unlink()
    return _answer(url, part, mark)


def _is_of(response: Any, version: str) -> bool:
    """Whether ``response`` is part of ``version``, as far as it tells."""
    header = "ETag" if version.startswith('"') else "Last-Modified"
    return bool(response.headers.get(header, version).removeprefix("W/") == version)


def _open(request: urllib.request.Request) -> Any:
    # an opener of its own, because urlopen keeps the proxies that it saw first
    request.add_header("User-Agent", "chembench")
    with _network_faults_told():
        return urllib.request.build_opener().open(request, timeout=_TIMEOUT_SECONDS)


def _read(response: Any) -> bytes:
    with _network_faults_told():
        return bytes(response.read(_BLOCK))


@contextmanager
def _network_faults_told() -> Iterator[None]:
    """Tell faults of the network from those of the files that lie here, which are an `OSError` too."""
    try:
        yield
    except (urllib.error.HTTPError, http.client.InvalidURL):
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _NetworkError(str(getattr(error, "reason", error)) or type(error).__name__) from error


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
        _NetworkError: if what it sends does not go on where ``part`` ends.
    """
    if response.status == http.client.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            raise _NetworkError(f"asked for byte {have}, got {response.headers.get('Content-Range')!r}")
        return None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)


def _copy(response: Any, part: Path, total: int | None, say: Callable[[str], None]) -> None:
    done = _size(part)
    step = max(_TELL_BYTES, (total or 0) // 20)
    of_all = f" of {total / 1e6:,.0f}" if total else ""
    with part.open("ab") as file:
        while block := _read(response):
            file.write(block)
            if done // step != (done := done + len(block)) // step:
                say(f"download: {done / 1e6:,.0f}{of_all} MB of {part.name.removeprefix('.').removesuffix('.part')}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
