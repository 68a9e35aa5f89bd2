"""Folders and files behind an fsspec URL, whole or not there at all.

A key holds pushes, each in a folder of its own, and a marker that names one of them and is written last::

    <url>/<key>/whole.json        {"push": "3f…", "files": {"settings.json": 412, …}}
    <url>/<key>/3f…/settings.json

So whoever reads a key sees one push from its first file to its last, also while another is under way or was killed.
Credentials come from the environment, as each file system of fsspec reads them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from chembench.errors import ChembenchError, ConfigError, DiskFullError, StorageError
from chembench.paths import built_whole, is_disk_full, written_whole

MARKER = "whole.json"
_TRIES = 5
"""How often a file that is replaced under our hands is taken up again."""


class Storage:
    """What one URL holds; safe to use from several threads and machines."""

    def __init__(self, url: str) -> None:
        """Find the file system of ``url``; nothing is read or written yet.

        Raises:
            ConfigError: if no file system is known for it, its package is missing, or the URL holds a password.
        """
        self.url = whole_url(url)
        self._system, self._root = _opened(self.url)

    def require_apart(self, folders: Iterable[Path]) -> None:
        """Refuse a local folder that lies in one of ``folders``, or holds one; what it keeps would mix with theirs.

        Raises:
            ConfigError: naming that one.
        """
        from fsspec.implementations.local import LocalFileSystem

        if not isinstance(self._system, LocalFileSystem):
            return
        own = Path(self._root).resolve()
        for folder in (folder.resolve() for folder in folders):
            if own.is_relative_to(folder) or folder.is_relative_to(own):
                raise ConfigError(
                    f"storage '{self.url}' must lie apart from sweeps and caches, it shares {folder} with one; "
                    "give --storage a folder of its own"
                )

    def check(self) -> None:
        """Write, read and remove a small file, so that a wrong address or a missing right is told before any work.

        Raises:
            ConfigError: if one of them fails, or the bucket does not exist.
            DiskFullError: if no space is left there.
        """
        key = f"probe-{secrets.token_hex(8)}"
        sent = json.dumps({"push": key, "files": {}}).encode()
        bucket = self._root.partition("/")[0]  # nothing where paths start with a slash
        try:
            with self._told("be written and read"):
                if bucket and not self._system.exists(bucket):
                    raise ConfigError(f"storage '{self.url}' must lie in a bucket that exists; make it, or correct it")
                self._put(f"{key}/{MARKER}", sent)
                found = self._system.cat_file(self._at(f"{key}/{MARKER}"))
                self.remove(key)
                is_gone = not self.has(key)
        except StorageError as error:
            raise ConfigError(
                f"storage '{self.url}' cannot be written and read: {_reason(error.__cause__ or error)}; "
                "correct --storage, or the credentials in the environment"
            ) from error
        if found != sent or not is_gone:
            raise ConfigError(
                f"storage '{self.url}' must give back what was written and forget what was removed, it does not; "
                "choose another with --storage"
            )

    def has(self, key: str) -> bool:
        """Whether a whole push lies under ``key``."""
        return self._marker(key) is not None

    def push_folder(self, local: Path, key: str, leave_out: Collection[str] = ()) -> None:
        """Send the files of a folder; where ``key`` is whole already nothing is sent.

        Args:
            local: the folder; nobody writes to it meanwhile.
            key: where it will lie.
            leave_out: names of files at its top that are not sent; hidden files never are.

        Raises:
            StorageError: if that fails; ``key`` is then as it was.
        """
        if self.has(key):
            return
        files = {
            str(path.relative_to(local)): path
            for path in sorted(local.rglob("*"))
            if path.is_file() and not _is_left_out(path.relative_to(local), leave_out)
        }
        push = self._send(key, files)
        if self.has(key):  # another machine was faster
            self._drop(f"{key}/{push}")
        else:
            self._mark(key, push, files)

    def push_file(self, local: Path, key: str) -> None:
        """Send a file in place of what lies under ``key``; if it is replaced meanwhile, the newer one is sent.

        Raises:
            StorageError: if that fails; what lay under ``key`` is still there.
            FileNotFoundError: if there is no such file.
        """
        before = self._marker(key)
        for _ in range(_TRIES):
            stamp = _stamp(local)
            push = self._send(key, {local.name: local})
            if _stamp(local) == stamp:
                break
            self._drop(f"{key}/{push}")
        else:
            raise StorageError(f"storage '{self.url}' cannot be sent {local}, it changes all the time; try again later")
        self._mark(key, push, {local.name: local})
        if before is not None:
            self._drop(f"{key}/{before['push']}")

    def pull_folder(self, key: str, local: Path) -> None:
        """Bring the folder under ``key`` to ``local``, whole; a folder that is there already is left as it is.

        Raises:
            StorageError: if ``key`` holds nothing whole, or it cannot be read.
            DiskFullError: if no space is left here.
        """
        if local.is_dir():
            return

        def fetch(marker: Mapping[str, Any]) -> None:
            with built_whole(local) as part:
                self._fetch(key, marker, {name: part / name for name in marker["files"]})

        self._pull(key, fetch)

    def pull_file(self, key: str, local: Path) -> None:
        """Bring the file under ``key`` to ``local``, whole, in place of what is there.

        Raises:
            StorageError: if ``key`` holds nothing whole, or it cannot be read.
            DiskFullError: if no space is left here.
        """

        def fetch(marker: Mapping[str, Any]) -> None:
            (name,) = marker["files"]
            with written_whole(local) as part:
                self._fetch(key, marker, {name: part})

        self._pull(key, fetch)

    def remove(self, key: str) -> None:
        """Forget everything under ``key``; the marker goes first, so that nobody sees a part of it."""
        with self._told("be written"):
            for place in (f"{key}/{MARKER}", key):
                self._drop(place)

    # ------------------------------------------------------------------------------------------------- one push

    def _send(self, key: str, files: Mapping[str, Path]) -> str:
        push = secrets.token_hex(8)
        with self._told("be written"):
            for name, path in files.items():
                self._upload(path, self._at(f"{key}/{push}/{name}"))
        return push

    def _upload(self, local: Path, place: str) -> None:
        try:
            self._system.put_file(str(local), place)
        except FileNotFoundError:  # where folders must be made before files; object stores know none
            self._system.makedirs(self._system._parent(place), exist_ok=True)
            self._system.put_file(str(local), place)

    def _mark(self, key: str, push: str, files: Mapping[str, Path]) -> None:
        sizes = {name: path.stat().st_size for name, path in files.items()}
        with self._told("be written"):
            self._put(f"{key}/{MARKER}", json.dumps({"push": push, "files": sizes}).encode())

    def _put(self, name: str, content: bytes) -> None:
        """Write a small file at once; object stores do so by themselves, a folder by renaming."""
        from fsspec.implementations.local import LocalFileSystem

        if isinstance(self._system, LocalFileSystem):
            with written_whole(Path(self._at(name))) as part:
                part.write_bytes(content)
        else:
            self._system.pipe_file(self._at(name), content)

    def _marker(self, key: str) -> dict[str, Any] | None:
        """What lies under ``key``; none if nothing does, or its marker is not written to its end yet."""
        with self._told("be read"):
            self._system.invalidate_cache()  # some remember for a while what was there, and what was not
            try:
                marker = json.loads(self._system.cat_file(self._at(f"{key}/{MARKER}")))
            except (FileNotFoundError, ValueError):
                return None
        if not (isinstance(marker, dict) and marker.keys() >= {"push", "files"}):
            raise StorageError(f"storage '{self.url}' must hold what chembench wrote, {key}/{MARKER} is not; remove it")
        return marker

    def _pull(self, key: str, fetch: Callable[[Mapping[str, Any]], None]) -> None:
        for _ in range(_TRIES):
            marker = self._marker(key)
            if marker is None:
                raise StorageError(f"storage '{self.url}' must hold {key}, it does not; give the sweep's command again")
            try:
                with self._told("be read"):
                    return fetch(marker)
            except StorageError:
                if self._marker(key) == marker:  # it was not replaced by a newer push meanwhile
                    raise
        raise StorageError(f"storage '{self.url}' replaces {key} all the time; try again later")

    def _fetch(self, key: str, marker: Mapping[str, Any], targets: Mapping[str, Path]) -> None:
        for name, target in targets.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise StorageError(f"storage '{self.url}' must name files inside {key}, got '{name}'; remove {key}")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._system.get_file(self._at(f"{key}/{marker['push']}/{name}"), str(target))
            size = target.stat().st_size if target.is_file() else 0
            if size != marker["files"][name]:
                raise StorageError(
                    f"storage '{self.url}' must give {marker['files'][name]} bytes of {key}/{name}, "
                    f"it gives {size}; remove {key} there, it will be made again"
                )

    def _drop(self, name: str) -> None:
        self._system.invalidate_cache()
        try:
            self._system.rm(self._at(name), recursive=True)
        except FileNotFoundError:
            return

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except ChembenchError:
            raise
        except Exception as error:  # each file system has errors of its own, which share no base
            if is_disk_full(error):
                raise DiskFullError(
                    f"no space is left at storage '{self.url}'; free some, then give the same command again"
                ) from error
            text = f"storage '{self.url}' cannot {what}: {_reason(error)}; mend that, then give the same command again"
            raise StorageError(text) from error


def whole_url(url: str) -> str:
    """``url`` as every machine reads it: a plain path becomes a URL.

    Raises:
        ConfigError: if it is empty or a relative path, which means another place elsewhere, or holds a password.
    """
    kind, _, place = url.rpartition("://")
    if not place or (kind in ("", "file", "local") and not Path(place).expanduser().is_absolute()):
        raise ConfigError(
            f"a storage must be a URL such as s3://bucket/folder or an absolute path such as {Path.cwd() / 'between'}, "
            f"got '{url}'; correct --storage"
        )
    if not kind:
        return f"file://{Path(url).expanduser().resolve()}"
    if urlsplit(url).password is not None:
        raise ConfigError("a storage URL is kept in the sweep's records, this one holds a password; leave it out")
    return url.rstrip("/")


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"storage '{url}' needs a package that is not installed here ({error}); install it"
        ) from error
    except ValueError as error:
        text = (
            f"storage '{url}' must be a URL that fsspec knows ({error}), such as s3://bucket/folder or a local folder"
        )
        raise ConfigError(text) from error
    except Exception as error:
        raise ConfigError(f"storage '{url}' cannot be reached ({error}); correct --storage") from error
    return system, root.rstrip("/")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _is_left_out(name: Path, leave_out: Collection[str]) -> bool:
    return name.parts[0] in leave_out or any(part.startswith(".") for part in name.parts)


def _stamp(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
