"""Small content on its way to its place: written, synced and linked in one trip to a thread."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from dockreg_tx.blobs.disk import BLOB_MODE, Disk, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import Blocking, EnsureContent, LateContent, UploadBusy


class Placing:
    """Puts content under its digest.

    Args:
        layout: where the files are.
        blocking: runs every call that may wait for the disk.
        disk: the system calls.
    """

    def __init__(self, *, layout: RootLayout, blocking: Blocking, disk: Disk) -> None:
        self._layout = layout
        self._blocking = blocking
        self._disk = disk

    async def put(self, name: str, digest: Digest, content: bytes) -> EnsureContent:
        """Store content durably under ``digest``, which the caller has verified.

        Args:
            name: for passing files, nobody else's.
            digest: of the content.
            content: all of it.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
            StorageFull, StoreUnavailable: the disk refused.
        """
        target = self._layout.blob_path(digest)
        return await self._blocking.run(self._placed, name, target, content)

    def late(self, name: str, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put`` does; raises ``DigestInvalid`` at once."""
        return LateContent(partial(self._placed, name, self._layout.blob_path(digest), content))

    def late_upload(self, upload_id: str, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put`` does, but raises ``UploadBusy`` when the upload has a file."""
        staged, target = self._layout.upload_path(upload_id), self._layout.blob_path(digest)

        def place() -> EnsureContent:
            if os.path.lexists(staged):
                raise UploadBusy("the upload has bytes already")
            return self._placed(upload_id, target, content)

        return LateContent(place)

    def _placed(self, name: str, target: str, content: bytes) -> EnsureContent:
        return self._ensure(name, target, content, self._place(name, target, content))

    def _ensure(self, name: str, target: str, content: bytes, inode: int | None) -> EnsureContent:
        def ensure() -> None:
            with refusals():
                if not self._disk.still_placed(target, inode):
                    self._place(name, target, content)

        return ensure

    def _place(self, name: str, target: str, content: bytes) -> int | None:
        passing = self._layout.passing_path("put", name)
        with refusals():
            descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, BLOB_MODE)
            try:
                self._disk.write_all(descriptor, [content], 0)
                # When this fails the file is dropped: the kernel forgets the error and the data with it, so a
                # second fsync would lie.
                self._disk.fsync(descriptor)
                return self._disk.place(
                    passing,
                    target,
                    size_bytes=len(content),
                    passing=self._layout.passing_path("place", name),
                )
            finally:
                os.close(descriptor)
                with suppress(OSError):
                    os.unlink(passing)
