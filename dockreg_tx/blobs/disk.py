"""The system calls that durability rests on, and what their refusals mean to a client."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType

from dockreg_tx.oci.errors import NO_ROOM, StorageFull, StoreUnavailable

#: Published content is never written again, not even by us.
BLOB_MODE = 0o440
UPLOAD_MODE = 0o640
#: Linux takes at most 1,024 parts in one call (IOV_MAX).
_PARTS_LIMIT = 512
#: What one call writes. The kernel takes memory for the page cache in blocks as large as the write; blocks of
#: 1 MiB a virtual machine may have to get from its host, at ten times the price of the copy.
WRITE_BYTES = 128 * 1024

Part = bytes | bytearray | memoryview


class _Refusals:
    """What ``refusals`` returns; a class, since a generator costs more than most calls within it."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise what an ``OSError`` means."""
        if isinstance(error, OSError):
            raise refusal_of(error) from error


_REFUSALS = _Refusals()


def refusals() -> AbstractContextManager[None]:
    """Turn what the operating system refuses into what the registry answers.

    Raises:
        StorageFull: no space, inodes or quota left, or a file that must not grow.
        StoreUnavailable: any other ``OSError``; its message names no path.
    """
    return _REFUSALS


def refusal_of(error: OSError) -> StoreUnavailable:
    """Return what the registry answers for what the operating system refused."""
    if error.errno in NO_ROOM:
        return StorageFull(error.errno)
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    return StoreUnavailable(f"the registry's disk refused: {reason}; try again later")


class Disk:
    """System calls by name; tests replace single ones to record them, to fail, or to write short."""

    def pwritev(self, descriptor: int, parts: Sequence[memoryview], offset_bytes: int) -> int:
        """Write some of ``parts``; returns how many bytes."""
        return os.pwritev(descriptor, parts, offset_bytes)

    def fsync(self, descriptor: int) -> None:
        """Wait until data and metadata are on disk."""
        os.fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """Wait until data and size are on disk."""
        os.fdatasync(descriptor)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        os.link(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename ``source`` over ``target``."""
        os.replace(source, target)

    def write_all(self, descriptor: int, parts: Sequence[Part], offset_bytes: int) -> None:
        """Write everything: near a full disk a write is short before the next one is refused."""
        views = deque(piece for part in parts for piece in _pieces(part))
        while views:
            written = self.pwritev(descriptor, _first_of(views), offset_bytes)
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset_bytes += written
            while views and written >= len(views[0]):
                written -= len(views.popleft())
            if written:
                views[0] = views[0][written:]

    def copy(self, source: int, target: int, size_bytes: int) -> None:
        """Copy the first ``size_bytes`` of one file to the beginning of an empty one."""
        copied_bytes = 0
        while copied_bytes < size_bytes:
            sent_bytes = os.sendfile(target, source, copied_bytes, size_bytes - copied_bytes)
            if sent_bytes == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            copied_bytes += sent_bytes

    def sync_directory(self, path: str) -> None:
        """Wait until a directory's entries are on disk; without it a power cut undoes link and rename."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(descriptor)
        finally:
            os.close(descriptor)

    def place(self, source: str, target: str, *, size_bytes: int, passing: str) -> int | None:
        """Link the synced file ``source`` to ``target`` and sync the directory.

        A target of the same size is kept, for it was verified when it was placed; one of another size is
        damaged and replaced, by way of the name ``passing``.

        Returns:
            What to give to ``still_placed``.
        """
        is_new = True
        try:
            self.link(source, target)
        except FileExistsError:
            is_new = False
            if os.stat(target).st_size != size_bytes:
                with suppress(FileNotFoundError):
                    os.unlink(passing)
                self.link(source, passing)
                self.replace(passing, target)
        # Kept or not: whoever placed it may not have come to its own fsync yet.
        try:
            self.sync_directory(os.path.dirname(target))
        except OSError:
            # Else the next push of the same would find it, and a second fsync would say that all is well.
            if is_new:
                with suppress(OSError):
                    os.unlink(target)
            raise
        return self._inode(target)

    def still_placed(self, target: str, inode: int | None) -> bool:
        """Tell whether a blob is in its place for good, some time after ``place`` put it there.

        Garbage collection may have taken it; and if another push has replaced it since, its entry may not be
        on disk yet, and is synced here.
        """
        present = self._inode(target)
        if present is not None and present != inode:
            self.sync_directory(os.path.dirname(target))
            present = self._inode(target)
        return present is not None

    def _inode(self, path: str) -> int | None:
        try:
            return os.stat(path).st_ino
        except FileNotFoundError:
            return None


class OpenFile:
    """A descriptor that threads use and the reactor closes: it lives until its last user is done.

    Were it closed at once, its number could already mean another file to a thread that is about to write.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def fileno(self) -> int:
        """Return the number, -1 once closed."""
        return self._descriptor

    @contextmanager
    def use(self) -> Iterator[int]:
        """Keep the descriptor open within the block.

        Raises:
            StoreUnavailable: it was closed before.
        """
        with self._lock:
            if self._closing:
                raise StoreUnavailable("the file is closed: its request has ended")
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_idle()

    def close(self) -> None:
        """Close as soon as nobody uses it. May be called twice."""
        with self._lock:
            self._closing = True
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and not self._users and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        # A cancelled request drops what its thread has just opened.
        self.close()


def _pieces(part: Part) -> Iterator[memoryview]:
    view = memoryview(part)
    for start_bytes in range(0, len(view), WRITE_BYTES):
        yield view[start_bytes : start_bytes + WRITE_BYTES]


def _first_of(views: Sequence[memoryview]) -> list[memoryview]:
    """Return as many of the first as one call writes, at least one."""
    taken: list[memoryview] = []
    room_bytes = WRITE_BYTES
    for view in views:
        room_bytes -= len(view)
        if taken and (room_bytes < 0 or len(taken) == _PARTS_LIMIT):
            break
        taken.append(view)
    return taken
