"""Bytes that other registries leave, brought under our root: linked, cloned or copied."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum

from dockreg_tx.blobs.disk import BLOB_MODE, Disk, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestMismatch, StorageFull, StoreUnavailable
from dockreg_tx.ports import NewId, SourceUnreadable

PIECE_BYTES = 1024 * 1024
#: ioctl(2) FICLONE: the same extents under another inode, on btrfs, XFS and others.
_FICLONE = 0x40049409
#: What says that a way does not work between these two places, or not for this user; then the next is tried.
_NO_WAY = frozenset(
    {
        errno.EXDEV,
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EINVAL,
        errno.EMLINK,
        errno.ENOSYS,
    }
)


class Way(StrEnum):
    """How a file comes under our root; ``LINK`` and ``REFLINK`` copy no bytes."""

    LINK = "link"
    REFLINK = "reflink"
    COPY = "copy"


class FileMoving:
    """Brings files into ``blobs/``; used by one thread.

    Args:
        layout: of a root that is ready.
        new_id: names passing files.
        ways: tried in order for each file.
        floor_bytes: how much must stay free.
        disk: the system calls.
    """

    def __init__(
        self,
        *,
        layout: RootLayout,
        new_id: NewId,
        ways: Sequence[Way] = tuple(Way),
        floor_bytes: int = 0,
        disk: Disk | None = None,
    ) -> None:
        self._layout = layout
        self._new_id = new_id
        self._ways = list(ways)
        self._floor_bytes = floor_bytes
        self._disk = disk or Disk()
        #: Where the bytes of the present batch came from.
        self._sources: dict[Digest, str] = {}
        self._is_dirty = False
        #: How many files came which way.
        self.counts: Counter[Way] = Counter()

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a blob's file, None when there is none."""
        with refusals():
            try:
                return os.stat(self._layout.blob_path(digest)).st_size
            except FileNotFoundError:
                return None

    def read(self, digest: Digest, limit_bytes: int) -> bytes | None:
        """Return a blob's bytes, at most ``limit_bytes`` and one; None when there are none."""
        with refusals():
            try:
                with open(self._layout.blob_path(digest), "rb") as file:
                    return file.read(limit_bytes + 1)
            except FileNotFoundError:
                return None

    def pieces(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob's bytes; nothing when there are none."""
        with suppress(SourceUnreadable):
            yield from _pieces(self._layout.blob_path(digest))

    def bring(self, source: str, digest: Digest, *, verify: bool) -> None:
        """Make the file ``source`` a blob, unless there is one of this digest; on disk after ``sync``.

        Raises:
            SourceUnreadable: the source is.
            DigestMismatch: with ``verify`` or a copy, when the bytes are others.
            StorageFull, StoreUnavailable: our disk refuses, or none of the ways works.
        """
        self._sources[digest] = source
        if self.size_of(digest) is None:
            self._bring(source, digest, verify=verify)

    def _bring(self, source: str, digest: Digest, *, verify: bool) -> None:
        if verify:
            check(source, digest)
        target = self._layout.blob_path(digest)
        for way in list(self._ways):
            try:
                self._go(way, source, target, digest)
            except OSError as error:
                if error.errno not in _NO_WAY:
                    with refusals():
                        raise
                refused = error
                if error.errno != errno.EMLINK and len(self._ways) > 1:
                    # It will not work for the next file either.
                    self._ways.remove(way)
                continue
            self.counts[way] += 1
            self._is_dirty = True
            return
        raise StoreUnavailable(
            f"{source} cannot become part of {self._layout.root} as a {way}: {refused.strerror}; "
            "try another --mode"
        )

    def _go(self, way: Way, source: str, target: str, digest: Digest) -> None:
        if way is Way.LINK:
            with suppress(FileExistsError):
                self._disk.link(source, target)
            return
        with self._passing() as (path, descriptor):
            if way is Way.REFLINK:
                _clone(source, descriptor)
            else:
                self._write(descriptor, _pieces(source), digest)
            with suppress(FileExistsError):
                self._disk.link(path, target)

    def receive(self, pieces: Iterable[bytes], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store bytes that arrive in pieces as a blob; on disk after ``sync``.

        Args:
            pieces: the bytes.
            expected: what they must hash to; None takes what they hash to under sha256.

        Returns:
            Digest and length.

        Raises:
            DigestMismatch: they hash to something else.
            StorageFull, StoreUnavailable: the disk refuses.
        """
        with refusals(), self._passing() as (path, descriptor):
            digest, size_bytes = self._write(descriptor, pieces, expected)
            with suppress(FileExistsError):
                self._disk.link(path, self._layout.blob_path(digest))
        self._is_dirty = True
        return digest, size_bytes

    def _write(self, descriptor: int, pieces: Iterable[bytes], expected: Digest | None) -> tuple[Digest, int]:
        hasher = hashlib.new("sha256" if expected is None else expected.algorithm)
        size_bytes = 0
        for piece in pieces:
            self._check_room(len(piece))
            self._disk.write_all(descriptor, [piece], size_bytes)
            hasher.update(piece)
            size_bytes += len(piece)
        digest = Digest(hasher.name, hasher.hexdigest())
        if expected is not None and digest != expected:
            raise DigestMismatch(str(expected), str(digest))
        return digest, size_bytes

    def _check_room(self, wanted_bytes: int) -> None:
        status = os.statvfs(self._layout.uploads)
        if status.f_bavail * status.f_frsize < self._floor_bytes + wanted_bytes:
            raise StorageFull

    @contextmanager
    def _passing(self) -> Iterator[tuple[str, int]]:
        path = self._layout.passing_path("move", self._new_id())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, BLOB_MODE)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(path)

    def sync(self) -> None:
        """Return when everything brought so far is on disk.

        One call for the whole filesystem: thousands of files in hundreds of directories would each wait.

        Raises:
            StorageFull, StoreUnavailable: the disk refuses.
        """
        if self._is_dirty:
            with refusals():
                sync_filesystem(self._layout.blobs)
        self._is_dirty = False

    def ensure(self, digest: Digest) -> None:
        """Bring a blob again that garbage collection took since; for the recording transaction."""
        if self.size_of(digest) is not None:
            return
        source = self._sources.get(digest)
        if source is None:
            raise StoreUnavailable(f"{digest} was collected while it was moved in: run the command again")
        self._bring(source, digest, verify=False)
        with refusals():
            self._disk.sync_directory(self._layout.shard_dir(digest))

    def forget_sources(self) -> None:
        """Begin the next batch."""
        self._sources.clear()


def check(source: str, digest: Digest) -> None:
    """Read a file and return when it is what its digest says.

    Raises:
        SourceUnreadable: it cannot be read.
        DigestMismatch: it is something else.
    """
    hasher = hashlib.new(digest.algorithm)
    for piece in _pieces(source):
        hasher.update(piece)
    found = Digest(digest.algorithm, hasher.hexdigest())
    if found != digest:
        raise DigestMismatch(str(digest), str(found))


def sync_filesystem(path: str) -> None:
    """Bring everything on the filesystem of ``path`` to disk; only syncfs(2) does that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceUnreadable(f"{path}: it is no file")
    return descriptor


def _clone(source: str, target: int) -> None:
    descriptor = _open(source)
    try:
        fcntl.ioctl(target, _FICLONE, descriptor)
    finally:
        os.close(descriptor)


def _pieces(path: str) -> Iterator[bytes]:
    with open(_open(path), "rb", buffering=0) as file:
        while True:
            try:
                piece = file.read(PIECE_BYTES)
            except OSError as error:
                raise SourceUnreadable(f"{path}: {error.strerror}") from error
            if not piece:
                return
            yield piece
