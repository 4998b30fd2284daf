"""Bytes that come in: request bodies, upload sessions and their staged bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from twisted.internet.interfaces import IConsumer

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports.blobs import EnsureContent, LateContent


class Body(Protocol):
    """A request body that has not been read yet; it may be taken once, by one of the two methods.

    ``length_bytes`` is None for a chunked body of unknown length.
    """

    length_bytes: int | None

    async def stream_to(self, consumer: IConsumer) -> None:
        """Feed the body to ``consumer`` as a push producer (registered streaming) until it ends.

        The consumer is unregistered at the end, in failure too. A consumer that cannot go on calls its
        producer's ``stopProducing``; then this returns early, and the rest is discarded.

        Raises:
            BodyBroken: the client went away or stalled; everything received was written to the consumer.
        """
        ...

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLarge: it has more than ``limit_bytes``; at most that much was held in memory.
            BodyBroken: as above.
        """
        ...


@runtime_checkable
class Fillable(Protocol):
    """What a consumer is, too, when a body may be put into its memory instead of being written to it."""

    def room(self) -> memoryview | None:
        """Return memory for the next bytes, valid until anything else is called; None: ``write`` them."""
        ...

    def filled(self, size_bytes: int) -> None:
        """Take the first bytes of the last ``room``, at least one."""
        ...


class UploadWriter(Protocol):
    """The one writer of an upload's bytes; holds the upload's lock until closed.

    ``offset_bytes`` is how much has been written; ``synced_bytes`` how much of it is known to be on disk.
    """

    offset_bytes: int
    synced_bytes: int

    async def append(
        self,
        body: Body,
        *,
        limit_bytes: int | None = None,
        checkpoint: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Write ``body`` at the offset, and return when every byte is written and synced.

        Args:
            body: taken with ``stream_to``; paused while too much waits for the disk.
            limit_bytes: largest total size of the upload, None for no limit.
            checkpoint: awaited with the synced offset every 64 MiB or 5 s while bytes arrive.

        Raises:
            BodyBroken: the client went away; what arrived is written and synced.
            BodyTooLarge: the limit was passed; what fits may have been written.
            StorageFull, StoreUnavailable: the disk refused; ``synced_bytes`` is still true.
        """
        ...

    async def truncate(self, offset_bytes: int) -> None:
        """Forget all bytes from ``offset_bytes`` on."""
        ...

    async def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes written: the running hash if there is one, else by re-reading."""
        ...

    async def publish(self, digest: Digest) -> EnsureContent:
        """Make the verified bytes a blob: fsync, link into place, fsync the directory.

        The upload's own file stays until ``UploadStaging.discard``, so that the returned callable can link
        it again.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; an fsync that failed is never repeated.
        """
        ...

    def close(self) -> None:
        """Release the lock; the bytes stay. May be called twice."""
        ...


class UploadStaging(Protocol):
    """Bytes of upload sessions, on the filesystem of the blobs."""

    async def open(self, upload_id: str) -> UploadWriter:
        """Become the writer of an upload, made empty if it has no bytes yet.

        The caller then aligns it with its record: ``truncate`` to the recorded offset, or take the shorter
        file's size as the truth.

        Raises:
            UploadBusy: someone else is its writer now.
            StorageFull, StoreUnavailable: the disk failed.
        """
        ...

    def whole(self, upload_id: str, digest: Digest, content: bytes) -> LateContent:
        """Return what makes the verified bytes a blob, as ``BlobStore.late``, without staging them.

        It raises ``UploadBusy``, and does nothing, when the upload has bytes already, or a writer.

        Raises:
            BlobUploadUnknown: the id cannot be one of ours.
            DigestInvalid: nothing is stored under this algorithm.
        """
        ...

    async def discard(self, upload_id: str) -> None:
        """Remove an upload's bytes; no error when there are none."""
        ...

    async def list(self) -> Sequence[str]:
        """Return the ids of all uploads that have bytes."""
        ...

    async def free_bytes(self) -> int:
        """Return how much more the disk takes; may be a second old."""
        ...


class UploadBusy(Exception):
    """Another request is writing to the upload."""


@dataclass(slots=True)
class UploadRecord:
    """An upload session; ``offset_bytes`` are on disk for certain. Times in seconds since the epoch.

    Nobody changes one; it is not frozen because making a frozen one takes three times as long.
    """

    id: str
    repository: RepositoryName
    #: The user who opened it, empty for anonymous; nobody else may touch it.
    owner: str
    offset_bytes: int
    started_at: float
    touched_at: float
    #: Digest algorithm the client announced, empty when it did not.
    algorithm: str = ""


class UploadRecords(Protocol):
    """Upload sessions; no truth about them is kept in a process."""

    async def begin_upload(self, upload: UploadRecord) -> None:
        """Record a new session, durably; nothing when it has a row."""
        ...

    async def upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, read afresh; None when it has no row, or has ended."""
        ...

    async def begun_upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, read afresh; None when it has no row.

        Raises:
            BlobUploadUnknown: it has ended.
        """
        ...

    async def set_upload_offset(self, upload_id: str, offset_bytes: int, *, now: float) -> bool:
        """Record how many bytes are on disk, durably; False when the session is gone."""
        ...

    async def end_upload(self, upload_id: str, *, now: float) -> bool:
        """End the session, whether it has a row or not; False when it had none, or had ended."""
        ...

    async def forget_ended_uploads(self, ended_before: float, limit: int) -> None:
        """Forget up to ``limit`` sessions that ended before that time."""
        ...

    async def expired_uploads(self, touched_before: float, limit: int) -> list[UploadRecord]:
        """Return sessions that nobody touched since, the oldest first."""
        ...
