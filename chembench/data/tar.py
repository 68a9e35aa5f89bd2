"""The files in a tar file, as a stream that does not go back. One that is cut off or damaged is an error."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO


class _Header(tarfile.TarInfo):
    """What stands before a file in a tar file; Python takes one that is damaged or lacking for the end of all files."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # zeros, which are the proper end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}, where a file or the end is due") from error


class _Member(io.RawIOBase):
    """A file in a tar file that is read as it comes; Python's own object for it cannot say that it cannot be sought."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read: bytes = self._content.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)


def files_in(tar: BinaryIO) -> Iterator[tuple[str, io.BufferedReader]]:
    """Name and content of each file in ``tar``; a content is read before the next one is asked for.

    Raises:
        tarfile.TarError: if ``tar`` is damaged, or ends before its end.
    """
    with tarfile.open(fileobj=tar, mode="r|", tarinfo=_Header) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, io.BufferedReader(_Member(archive.extractfile(member)))
