"""Room held in reserve: SQLite needs some even to delete, so that a full disk could never be emptied."""

from __future__ import annotations

import os
from contextlib import suppress

from twisted.logger import Logger

from dockreg_tx.blobs.disk import Disk, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.errors import NO_ROOM

#: At most this part of a disk is held back.
SHARE = 16
_log = Logger(namespace="dockreg.disk")


class Ballast:
    """The file ``ballast``: given up when a removal meets a full disk, made again when there is room.

    Its methods block. Any process of the root may call them.

    Args:
        layout: where.
        size_bytes: how much is wanted; 0 for none.
        spare_bytes: how much must stay free beside it before it is made (again).
        disk: the system calls.
    """

    def __init__(
        self, *, layout: RootLayout, size_bytes: int, spare_bytes: int = 0, disk: Disk | None = None
    ) -> None:
        self._path = layout.ballast
        self._root = layout.root
        self._wanted_bytes = size_bytes
        self._spare_bytes = spare_bytes
        self._disk = disk or Disk()
        #: It was given up, and is not there again yet.
        self.is_spent = False

    def fill(self) -> bool:
        """Make the file as large as it should be, if there is room; tell whether it is.

        Raises:
            StoreUnavailable: the disk failed.
        """
        with refusals():
            status = os.statvfs(self._root)
            size_bytes = min(self._wanted_bytes, status.f_blocks * status.f_frsize // SHARE)
            held_bytes = self._held_bytes()
            if held_bytes != size_bytes:
                free_bytes = status.f_bavail * status.f_frsize + held_bytes
                if size_bytes and not self._has_room(free_bytes, size_bytes):
                    return False
                self._remove()
                if size_bytes and not self._make(size_bytes):
                    return False
        self.is_spent = False
        return True

    def look(self) -> None:
        """Learn that another process made it again."""
        if self.is_spent and self._held_bytes():
            self.is_spent = False

    def _has_room(self, free_bytes: int, size_bytes: int) -> bool:
        # Once given up, it comes back late: else it would come and go with every push on a full disk.
        wanted_bytes = 2 * size_bytes if self.is_spent else size_bytes
        return free_bytes >= wanted_bytes + self._spare_bytes

    def release(self) -> bool:
        """Give the room up; False when there is none to give.

        Raises:
            StoreUnavailable: the disk failed.
        """
        with refusals():
            held_bytes = self._held_bytes()
            if not self._remove():
                return False
        self.is_spent = True
        _log.warn("the disk is full: the ballast of {size_bytes} bytes is given up", size_bytes=held_bytes)
        return True

    def _held_bytes(self) -> int:
        """Return the size of the file; blocks that a copy of the root left out do not count."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return 0
        return min(status.st_size, status.st_blocks * 512)

    def _remove(self) -> bool:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        # Only what is committed can be used again.
        self._disk.sync_directory(self._root)
        return True

    def _make(self, size_bytes: int) -> bool:
        passing = f"{self._path}.new"
        with suppress(FileNotFoundError):
            os.unlink(passing)
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            self._disk.fsync(descriptor)
            os.rename(passing, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(passing)
            if error.errno in NO_ROOM:
                return False
            raise
        finally:
            os.close(descriptor)
        self._disk.sync_directory(self._root)
        _log.info("{size_bytes} bytes are held in reserve for a full disk", size_bytes=size_bytes)
        return True
