"""Uploads as files beside the blobs, one writer at a time by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.blobs.buffers import Buffers
from dockreg_tx.blobs.crowd import Crowd
from dockreg_tx.blobs.disk import UPLOAD_MODE, Disk, OpenFile, refusals
from dockreg_tx.blobs.layout import RootLayout, is_upload_id
from dockreg_tx.blobs.placing import Placing
from dockreg_tx.blobs.running import KeptStates
from dockreg_tx.blobs.writer import FileUploadWriter, Places
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import Blocking, LateContent, UploadBusy

#: How old the answer to "how much is free" may be.
FREE_SPACE_AGE_SECONDS = 1.0


class FileUploadStaging:
    """The ``UploadStaging`` under a root directory that ``initialise_root`` made.

    Args:
        layout: where the files are.
        blocking: runs every call that may wait for the disk.
        clock: times the checkpoints.
        disk: the system calls.
    """

    def __init__(
        self, *, layout: RootLayout, blocking: Blocking, clock: IReactorTime, disk: Disk | None = None
    ) -> None:
        self._layout = layout
        self._blocking = blocking
        self._clock = clock
        self._free_asked_at: float | None = None
        self._free_bytes = 0
        self._kept = KeptStates()
        self._places = Places(layout, blocking, clock, disk or Disk(), self._kept, Buffers(), Crowd())
        self._placing = Placing(layout=layout, blocking=blocking, disk=disk or Disk())

    async def open(self, upload_id: str, *, algorithm: str = "sha256") -> FileUploadWriter:
        """Become the writer of an upload, made empty if it has no bytes yet.

        Args:
            upload_id: names the file.
            algorithm: of the digest that will probably be asked for.

        Raises:
            BlobUploadUnknown: the id cannot be one of ours.
            UploadBusy: someone else is its writer now, here or in another process.
            StorageFull, StoreUnavailable: the disk failed.
        """
        path = self._layout.upload_path(upload_id)
        file, status = await self._blocking.run(_open_locked, path)
        writer = FileUploadWriter(upload_id, file, status, places=self._places)
        try:
            await writer.begin(self._kept.take(upload_id, status), algorithm)
        except BaseException:
            writer.close()
            raise
        return writer

    def whole(self, upload_id: str, digest: Digest, content: bytes) -> LateContent:
        """Return what makes the verified bytes a blob; ``UploadBusy`` when the upload has bytes, or a writer.

        Raises:
            BlobUploadUnknown: the id cannot be one of ours.
            DigestInvalid: nothing is stored under this algorithm.
        """
        return self._placing.late_upload(upload_id, digest, content)

    async def discard(self, upload_id: str) -> None:
        """Remove an upload's bytes; no error when there are none."""
        if is_upload_id(upload_id):
            self._kept.forget(upload_id)
            await self._blocking.run(_unlink, self._layout.upload_path(upload_id))

    async def list(self) -> Sequence[str]:
        """Return the ids of all uploads that have bytes, sorted."""
        return [name for name in await self._blocking.run(self._names, True) if is_upload_id(name)]

    async def free_bytes(self) -> int:
        """Return how much more the disk takes; asked of it at most once a second.

        Raises:
            StoreUnavailable: the disk does not say.
        """
        now = self._clock.seconds()
        if self._free_asked_at is None or now - self._free_asked_at >= FREE_SPACE_AGE_SECONDS:
            self._free_bytes = await self._blocking.run(self._ask_free_bytes)
            self._free_asked_at = now
        return self._free_bytes

    def _ask_free_bytes(self) -> int:
        with refusals():
            status = os.statvfs(self._layout.uploads)
        return status.f_bavail * status.f_frsize

    async def sweep(self) -> None:
        """Remove the passing files that a crash left; only for the holder of the root's exclusive lock."""
        for name in await self._blocking.run(self._names, False):
            if name.startswith("."):
                await self._blocking.run(_unlink, os.path.join(self._layout.uploads, name))

    def _names(self, are_files: bool) -> Sequence[str]:
        """Return the names of all regular files, or of all that can be unlinked; directories are not ours."""
        with refusals(), os.scandir(self._layout.uploads) as entries:
            return sorted(
                entry.name
                for entry in entries
                if (
                    entry.is_file(follow_symlinks=False)
                    if are_files
                    else not entry.is_dir(follow_symlinks=False)
                )
            )


def _unlink(path: str) -> None:
    with refusals(), suppress(FileNotFoundError):
        os.unlink(path)


def _open_locked(path: str) -> tuple[OpenFile, os.stat_result]:
    """Open and lock the file that has this name, made if there is none; the kernel ends the lock with us.

    Raises:
        UploadBusy: another open file holds the lock.
    """
    with refusals():
        while True:
            file = OpenFile(_open(path))
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.close()
                raise UploadBusy("another request is writing to the upload") from error
            status = os.fstat(file.fileno())
            # Between open and lock the name may have been removed, or given to a copy.
            with suppress(FileNotFoundError):
                if os.path.samestat(status, os.stat(path, follow_symlinks=False)):
                    return file, status
            file.close()


def _open(path: str) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, UPLOAD_MODE)
    except PermissionError:
        # A published one, read-only by now.
        return os.open(path, os.O_RDONLY | flags)
