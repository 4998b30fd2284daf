"""The one writer of an upload's file, from its first byte to the blob.

A published upload and its blob are one inode, so from then on it is only read; whoever must write to it again
gets a copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.blobs.buffers import Buffers
from dockreg_tx.blobs.consumer import Checkpoint, Transfer
from dockreg_tx.blobs.crowd import MIB, Crowd
from dockreg_tx.blobs.disk import BLOB_MODE, UPLOAD_MODE, Disk, OpenFile, Part, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.running import Hasher, KeptState, KeptStates, RunningHash
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import BlobUploadUnknown, DigestInvalid, StoreUnavailable
from dockreg_tx.ports import Blocking, Body, EnsureContent

#: A re-read gives its thread back this often, so that one large upload does not own the pool.
_REREAD_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Places:
    """What the writers of one staging directory share."""

    layout: RootLayout
    blocking: Blocking
    clock: IReactorTime
    disk: Disk
    kept: KeptStates
    buffers: Buffers
    crowd: Crowd


class FileUploadWriter:
    """The one writer of an upload's file; ``FileUploadStaging.open`` makes it."""

    def __init__(self, upload_id: str, file: OpenFile, status: os.stat_result, *, places: Places) -> None:
        self.offset_bytes = status.st_size
        self.synced_bytes = 0
        self._id = upload_id
        self._path = places.layout.upload_path(upload_id)
        self._file = file
        self._places = places
        self._run = places.blocking.run
        self._disk = places.disk
        self._running: RunningHash | None = None
        self._is_entry_synced = False
        self._is_published = status.st_nlink > 1 or not status.st_mode & 0o200
        self._is_lost = False
        self._is_dropped = False
        self._is_closed = False

    async def begin(self, kept: KeptState | None, algorithm: str) -> None:
        """Find out what is on disk: what this process synced last, else by syncing now."""
        if kept is not None:
            self._running = kept.running
            self.synced_bytes = self.offset_bytes
            self._is_entry_synced = True
        elif self.offset_bytes:
            await self.sync()
        self._restart_hash(algorithm)

    def _restart_hash(self, algorithm: str) -> None:
        if self.offset_bytes == 0:
            self._running = RunningHash(algorithm, hashlib.new(algorithm))

    # Writing.

    async def append(
        self, body: Body, *, limit_bytes: int | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Write ``body`` at the offset, and return when every byte is written and synced."""
        self._check_usable()
        transfer = Transfer(
            self,
            clock=self._places.clock,
            limit_bytes=limit_bytes,
            checkpoint=checkpoint,
            buffers=self._places.buffers,
            crowd=self._places.crowd,
        )
        await transfer.run(body)

    async def write_batch(self, parts: Sequence[Part]) -> None:
        """Write and hash one batch at the offset; called by the transfer, never twice at once.

        Raises:
            StorageFull, StoreUnavailable: the offset has not moved.
        """
        if self._is_published:
            await self._unshare(self.offset_bytes)
        # While a thread works on it, and after a failure, nobody knows what the hash stands for.
        running, self._running = self._running, None
        await self._run(self._write_and_hash, parts, self.offset_bytes, running)
        if not self._is_dropped:  # by a sync that went on beside this
            self.offset_bytes += sum(map(len, parts))
            self._running = running

    def _write_and_hash(self, parts: Sequence[Part], offset_bytes: int, running: RunningHash | None) -> None:
        with refusals(), self._file.use() as descriptor:
            try:
                self._disk.write_all(descriptor, parts, offset_bytes)
            except OSError:
                # Gives the space of a half-written batch back, and keeps file and offset equal.
                with suppress(OSError):
                    os.ftruncate(descriptor, offset_bytes)
                raise
        if running is not None:
            for part in parts:
                running.hasher.update(part)

    async def sync(self) -> None:
        """Bring everything before the present offset, and the file's name, to disk.

        Raises:
            StorageFull, StoreUnavailable: the upload is dropped, for its pages are lost and the next fsync
                would say that all is well.
        """
        offset_bytes = self.offset_bytes
        if self._is_entry_synced and self.synced_bytes == offset_bytes:
            return
        try:
            await self._run(self._sync, not self._is_entry_synced)
        except StoreUnavailable:
            self._drop_if_lost()
            raise
        self._is_entry_synced = True
        self.synced_bytes = max(self.synced_bytes, offset_bytes)

    def _sync(self, with_entry: bool) -> None:
        with refusals(), self._file.use() as descriptor, self._no_second_chance():
            self._disk.fdatasync(descriptor)
            if with_entry:
                self._disk.sync_directory(self._places.layout.uploads)

    @contextmanager
    def _no_second_chance(self) -> Iterator[None]:
        """Note a failing fsync: the kernel tells it once, and drops the pages."""
        try:
            yield
        except OSError:
            self._is_lost = True
            raise

    def _drop_if_lost(self) -> None:
        if not self._is_lost:  # the request had ended, or a link was refused
            return
        self._is_dropped = True
        self._running = None
        self.offset_bytes = self.synced_bytes = 0
        with suppress(OSError):
            os.unlink(self._path)

    def _check_usable(self) -> None:
        if self._is_closed or self._is_dropped:
            raise StoreUnavailable("the upload cannot go on: its bytes were lost; start again")

    async def truncate(self, offset_bytes: int) -> None:
        """Forget the bytes from ``offset_bytes`` on, and the running hash; past the end nothing changes."""
        self._check_usable()
        if offset_bytes >= self.offset_bytes:
            return
        algorithm = self._running.algorithm if self._running else "sha256"
        self._running = None
        if self._is_published:
            await self._unshare(offset_bytes)
        else:
            await self._run(self._truncate, offset_bytes)
        self.offset_bytes = offset_bytes
        self.synced_bytes = min(self.synced_bytes, offset_bytes)
        self._restart_hash(algorithm)

    def _truncate(self, offset_bytes: int) -> None:
        with refusals(), self._file.use() as descriptor:
            os.ftruncate(descriptor, offset_bytes)

    async def _unshare(self, keep_bytes: int) -> None:
        """Go on with a copy: the present file is, or was, a blob."""
        shared = self._file
        self._file = await self._run(self._copy, keep_bytes)
        shared.close()
        self._is_published = self._is_entry_synced = False
        self.synced_bytes = keep_bytes

    def _copy(self, keep_bytes: int) -> OpenFile:
        passing = self._places.layout.passing_path("copy", self._id)
        with refusals(), self._file.use() as source:
            with suppress(FileNotFoundError):
                os.unlink(passing)
            copy = OpenFile(os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, UPLOAD_MODE))
            try:
                # Nobody can know the name yet, so this cannot fail for being locked.
                fcntl.flock(copy.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._disk.copy(source, copy.fileno(), keep_bytes)
                self._disk.fdatasync(copy.fileno())
                self._disk.replace(passing, self._path)
            except OSError:
                copy.close()
                with suppress(OSError):
                    os.unlink(passing)
                raise
        return copy

    # Finishing.

    async def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes written: the running hash if there is one, else by re-reading.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
            StoreUnavailable: the file cannot be read.
        """
        self._check_usable()
        if algorithm not in ALGORITHMS:
            raise DigestInvalid(
                "unsupported digest algorithm: use sha256 or sha512", {"algorithm": algorithm}
            )
        if self._running is None or self._running.algorithm != algorithm:
            self._running = await self._reread(algorithm)
        return Digest(algorithm, self._running.hasher.hexdigest())

    async def _reread(self, algorithm: str) -> RunningHash:
        running = RunningHash(algorithm, hashlib.new(algorithm))
        for start_bytes in range(0, self.offset_bytes, _REREAD_BYTES):
            end_bytes = min(self.offset_bytes, start_bytes + _REREAD_BYTES)
            await self._run(self._hash_range, running.hasher, start_bytes, end_bytes)
        return running

    def _hash_range(self, hasher: Hasher, start_bytes: int, end_bytes: int) -> None:
        with refusals(), self._file.use() as descriptor:
            while start_bytes < end_bytes:
                content = os.pread(descriptor, min(MIB, end_bytes - start_bytes), start_bytes)
                if not content:
                    raise StoreUnavailable("the upload's file is shorter than it was; start again")
                hasher.update(content)
                start_bytes += len(content)

    async def publish(self, digest: Digest) -> EnsureContent:
        """Make the verified bytes a blob: fsync, link into place, fsync the directory.

        Raises:
            BlobUploadUnknown: the upload was discarded meanwhile.
            DigestInvalid: nothing is stored under this algorithm.
            StorageFull, StoreUnavailable: the disk refused; after a failed fsync the upload is dropped.
        """
        self._check_usable()
        target = self._places.layout.blob_path(digest)
        size_bytes = self.offset_bytes
        self._is_published = True
        try:
            status, inode = await self._run(self._sync_and_place, target, size_bytes)
        except StoreUnavailable:
            self._drop_if_lost()
            raise
        self.synced_bytes = size_bytes

        def ensure() -> None:
            with refusals():
                if not self._disk.still_placed(target, inode):
                    self._place(target, size_bytes, status)

        return ensure

    def _sync_and_place(self, target: str, size_bytes: int) -> tuple[os.stat_result, int | None]:
        with refusals(), self._file.use() as descriptor:
            os.fchmod(descriptor, BLOB_MODE)
            with self._no_second_chance():
                self._disk.fsync(descriptor)
            status = os.fstat(descriptor)
            return status, self._place(target, size_bytes, status)

    def _place(self, target: str, size_bytes: int, status: os.stat_result) -> int | None:
        """Link what was hashed and synced, and nothing else, whatever lies under the upload's name by now."""
        with refusals():
            try:
                present = os.stat(self._path, follow_symlinks=False)
                if not os.path.samestat(present, status) or present.st_size != size_bytes:
                    raise BlobUploadUnknown(self._id)
                passing = self._places.layout.passing_path("place", self._id)
                return self._disk.place(self._path, target, size_bytes=size_bytes, passing=passing)
            except FileNotFoundError as error:
                if os.path.exists(self._path):
                    raise
                raise BlobUploadUnknown(self._id) from error

    def close(self) -> None:
        """Release the lock, once no thread uses the file; the bytes stay. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        is_clean = self.synced_bytes == self.offset_bytes and self._is_entry_synced
        if is_clean and not self._is_dropped and self._file.fileno() >= 0:
            self._places.kept.keep(
                self._id, self._file.fileno(), size_bytes=self.offset_bytes, running=self._running
            )
        self._file.close()
