"""Blobs as read-only files, one for each digest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial

from dockreg_tx.blobs.cached import CachedFiles
from dockreg_tx.blobs.disk import Disk, OpenFile, refusal_of, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.placing import Placing
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown
from dockreg_tx.ports import Blocking, EnsureContent, LateContent, NewId


def _forget(digest: Digest) -> None:
    """Note nothing."""


class FileBlob:
    """A blob's file, open for reading."""

    def __init__(
        self,
        file: OpenFile,
        *,
        size_bytes: int,
        blocking: Blocking,
        cached: CachedFiles,
        note_suspect: Callable[[], None] = lambda: None,
    ) -> None:
        self.size_bytes = size_bytes
        self._note_suspect = note_suspect
        self._file = file
        self._blocking = blocking
        self._cached = cached

    def fileno(self) -> int | None:
        """Return the descriptor for ``os.sendfile``."""
        return self._file.fileno()

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return up to ``length_bytes`` from ``offset_bytes``; empty only at the end."""
        with self._file.use() as descriptor:
            content = self._cached.read(descriptor, offset_bytes, length_bytes)
        if content is not None:
            return content
        return await self._blocking.run(self._read_at, offset_bytes, length_bytes)

    def _read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        with refusals(), self._file.use() as descriptor:
            return os.pread(descriptor, length_bytes, offset_bytes)

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell at once whether these bytes are in memory."""
        return self._cached.holds(self._file.fileno(), offset_bytes, length_bytes)

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        """Bring these bytes into memory."""
        await self._blocking.run(self._read_ahead, offset_bytes, length_bytes)

    def _read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        with refusals(), self._file.use() as descriptor, open(os.devnull, "wb", buffering=0) as nowhere:
            # This waits for the disk, and copies nothing.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            end_bytes = offset_bytes + length_bytes
            while offset_bytes < end_bytes:
                count = os.sendfile(nowhere.fileno(), descriptor, offset_bytes, end_bytes - offset_bytes)
                if not count:
                    return
                offset_bytes += count

    def suspect(self) -> None:
        """Note that it could not be read to its end."""
        self._note_suspect()

    def close(self) -> None:
        """Give up the descriptor."""
        self._file.close()


class FileBlobStore:
    """The ``BlobStore`` under a root directory that ``initialise_root`` made.

    Args:
        layout: where the files are.
        blocking: runs every call that may wait for the disk.
        new_id: names passing files.
        disk: the system calls.
        note_suspect: told of blobs that could not be read.
    """

    def __init__(
        self,
        *,
        layout: RootLayout,
        blocking: Blocking,
        new_id: NewId,
        disk: Disk | None = None,
        note_suspect: Callable[[Digest], None] = _forget,
    ) -> None:
        self._layout = layout
        self._blocking = blocking
        self._new_id = new_id
        self._placing = Placing(layout=layout, blocking=blocking, disk=disk or Disk())
        self._cached = CachedFiles()
        self._note_suspect = note_suspect

    async def open(self, digest: Digest) -> FileBlob:
        """Open a blob.

        Raises:
            BlobUnknown: there are no such bytes.
            StoreUnavailable: the disk failed.
        """
        if not digest.supported:
            raise BlobUnknown(str(digest))
        path = self._layout.blob_path(digest)
        try:
            descriptor = self._cached.open(path)
            if descriptor is None:
                descriptor = await self._blocking.run(_open, path)
        except FileNotFoundError as error:
            raise BlobUnknown(str(digest)) from error
        return self._opened(OpenFile(descriptor), digest)

    def _opened(self, file: OpenFile, digest: Digest) -> FileBlob:
        with refusals():
            # Of an open file: this does not ask the disk.
            status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise BlobUnknown(str(digest))
        return FileBlob(
            file,
            size_bytes=status.st_size,
            blocking=self._blocking,
            cached=self._cached,
            note_suspect=partial(self._note_suspect, digest),
        )

    async def check(self) -> None:
        """Do nothing when new content can be written.

        Raises:
            StorageFull, StoreUnavailable: it cannot.
        """
        await self._blocking.run(self._check)

    def _check(self) -> None:
        with refusals():
            # A name that changes nothing: the question is whether the disk takes an entry at all.
            path = self._layout.passing_path("check", self._new_id())
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.unlink(path)

    def late(self, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put`` on the way to the transaction that records the content.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        return self._placing.late(self._new_id(), digest, content)

    async def put(self, digest: Digest, content: bytes) -> EnsureContent:
        """Store small content durably under ``digest``, which the caller has verified.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
            StorageFull, StoreUnavailable: the disk refused.
        """
        return await self._placing.put(self._new_id(), digest, content)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refusal_of(error) from error
