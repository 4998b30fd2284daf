"""Tar archives of strangers, read in one pass: nothing is unpacked, and nothing in them is believed."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

#: An archive of images has some members for each layer.
MEMBERS_LIMIT = 200_000
#: Extended headers hold long names; the reader takes them into memory whole.
HEADER_LIMIT_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
_HEADERS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)
_GZIP = b"\x1f\x8b"


class ArchiveRefused(Exception):
    """The archive is damaged, hostile, or holds no image; one line that says which."""


class Peekable(Protocol):
    """A stream whose beginning can be looked at."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to so many bytes."""
        ...

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes that the next read will return too."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; a ``link_target`` makes it a link to another entry, without bytes."""

    name: str
    size_bytes: int
    link_target: str
    _file: IO[bytes] | None

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes; only before the next member is asked for."""
        while self._file is not None:
            with _refusals():
                piece = self._file.read(PIECE_BYTES)
            if not piece:
                return
            yield piece

    def read(self, limit_bytes: int) -> bytes:
        """Return the bytes.

        Raises:
            ArchiveRefused: there are more than ``limit_bytes``.
        """
        if self.size_bytes > limit_bytes:
            raise ArchiveRefused(f"{self.name} in the archive is longer than {limit_bytes} bytes")
        return b"".join(self.pieces())


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers that would fill the memory; the library asks these methods for each kind of entry."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > HEADER_LIMIT_BYTES:
            raise ArchiveRefused("the archive has a header of more than 1 MiB")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        return super()._proc_member(archive)  # type: ignore[misc] # not in typeshed

    def _refuse_sparse(self, *arguments: object) -> None:
        raise ArchiveRefused("the archive has sparse files, which archives of images never have")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def members(file: Peekable) -> Iterator[Member]:
    """Yield the files and links of a tar, plain or gzipped, in their order.

    Raises:
        ArchiveRefused: it is no archive, is cut short, or has a path that leads out of it.
    """
    with _refusals():
        plain = gzip.GzipFile(fileobj=cast("IO[bytes]", file)) if file.peek(2)[:2] == _GZIP else file
        stream = cast("IO[bytes]", plain)
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=PIECE_BYTES, tarinfo=_BoundedTarInfo, errorlevel=1
        ) as archive:
            for number, info in enumerate(archive):
                if number >= MEMBERS_LIMIT:
                    raise ArchiveRefused(f"the archive has more than {MEMBERS_LIMIT} members")
                # The library keeps every member it has seen.
                archive.members = []  # type: ignore[attr-defined] # not in typeshed
                if not info.isdir():
                    yield _member(archive, info)


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if ".." in info.name.split("/"):
        raise _leads_out(info.name)
    name = safe_path(info.name)
    if info.issym():
        return Member(name, 0, safe_path(posixpath.join(posixpath.dirname(name), info.linkname)), None)
    if info.islnk():
        return Member(name, 0, safe_path(info.linkname), None)
    if not info.isreg():
        raise ArchiveRefused(f"{name[:200]!a} in the archive is neither file nor link")
    return Member(name, info.size, "", archive.extractfile(info))


def safe_path(text: str) -> str:
    """Return a path within the archive, in its shortest form.

    Raises:
        ArchiveRefused: it is absolute or leads out of the archive.
    """
    path = posixpath.normpath(text)
    if not text or posixpath.isabs(path) or path == ".." or path.startswith("../") or not path.isprintable():
        raise _leads_out(text)
    return path


def _leads_out(text: str) -> ArchiveRefused:
    return ArchiveRefused(f"the archive has the path {text[:200]!a}, which leads out of it")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RecursionError, ValueError) as error:
        raise ArchiveRefused(f"this is no tar archive, or it is damaged: {error}") from error


class Counted(io.BufferedIOBase):
    """A stream that tells how much of it was read."""

    def __init__(self, file: Peekable, progress: Any) -> None:
        self._file = file
        self._progress = progress

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to so many bytes."""
        piece = self._file.read(-1 if size is None else size)
        self._progress(len(piece))
        return piece

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes that the next read will return too."""
        return self._file.peek(size)
