"""Bytes: what stores, opens, trashes and brings back content by its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dockreg_tx.oci.digests import Digest

#: Run by the record writer inside its transaction, in its thread: puts content back under its digest if
#: garbage collection took it since it was published. Blocks; cheap when nothing is missing.
EnsureContent = Callable[[], None]

#: Run like ``EnsureContent``: moves the bytes of a blob to the trash, durably, and returns what moves them
#: back (nothing happens, both times, when there are none).
TakeContent = Callable[["Digest"], Callable[[], None]]

#: Run after some ``TakeContent`` that are not durable by themselves: what they moved is on disk then.
SettleContent = Callable[[Sequence["Digest"]], None]


class LateContent:
    """Small content that is put in its place on the way to the transaction that records it.

    The record writer calls ``place`` before the transaction begins, in some thread; it blocks. Within the
    transaction it is called as an ``EnsureContent``, and places the content even then if nobody has.

    Args:
        place: puts the content in its place, durably, and returns its ``EnsureContent``.
    """

    def __init__(self, place: Callable[[], EnsureContent]) -> None:
        self._place = place
        self._ensure: EnsureContent | None = None

    def place(self) -> None:
        """Put the content in its place, durably. Called once; what it raises is final."""
        self._ensure = self._place()

    def __call__(self) -> None:
        """Put the content back if garbage collection took it."""
        if self._ensure is None:
            self.place()
        else:
            self._ensure()


def settled(_digests: Sequence[Digest]) -> None:
    """Do nothing: each move was durable."""


class OpenBlob(Protocol):
    """A blob open for reading; close it once."""

    size_bytes: int

    def fileno(self) -> int | None:
        """Return a descriptor that ``os.sendfile`` can read, or None when there is none."""
        ...

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return up to ``length_bytes`` from ``offset_bytes``; empty only at the end.

        Raises:
            StoreUnavailable: the disk failed.
        """
        ...

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell at once whether these bytes are in memory; samples of them are looked at.

        Where that cannot be known the answer is no.
        """
        ...

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        """Bring these bytes into memory, so that ``os.sendfile`` does not wait for the disk.

        Raises:
            StoreUnavailable: the disk failed.
        """
        ...

    def suspect(self) -> None:
        """Note that it could not be read to its end, so that the scrub looks at it soon."""
        ...

    def close(self) -> None:
        """Give up the descriptor."""
        ...


class BlobStore(Protocol):
    """Immutable content, addressed by its digest."""

    async def open(self, digest: Digest) -> OpenBlob:
        """Open a blob.

        Raises:
            BlobUnknown: there are no such bytes.
            StoreUnavailable: the disk failed.
        """
        ...

    def late(self, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put`` on the way to the transaction that records the content.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        ...

    async def put(self, digest: Digest, content: bytes) -> EnsureContent:
        """Store small content durably under ``digest``, which the caller has verified.

        Returns when file and directory entry are on disk.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; nothing is stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A blob's bytes as the disk lists them; ``modified_at`` in seconds since the epoch."""

    digest: Digest
    size_bytes: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class TrashedContent:
    """Bytes in the trash; ``name`` is theirs alone, ``taken_at`` in seconds since the epoch."""

    name: str
    digest: Digest
    size_bytes: int
    taken_at: float


class BlobTrash(Protocol):
    """Content that garbage collection took, until it is purged."""

    def take(self, digest: Digest) -> Callable[[], None]:
        """Move the bytes of a blob here, as ``TakeContent``. Blocks; only under the records' write lock.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; the bytes are where they were.
        """
        ...

    def move(self, digest: Digest) -> Callable[[], None]:
        """Do what ``take`` does, but for the wait for the disk: ``settle`` has to follow."""
        ...

    def settle(self, digests: Sequence[Digest]) -> None:
        """Make these moves durable, all at once. Blocks; under the same lock.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; the moves have to be undone.
        """
        ...

    def put_back(self, name: str) -> None:
        """Move bytes back under their digest, unless some are there. Blocks; under the same lock."""
        ...

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of the bytes that ``take`` would move, None when there are none. Blocks."""
        ...

    async def entries(self) -> list[TrashedContent]:
        """Return what is here."""
        ...

    async def purge(self, name: str) -> None:
        """Remove bytes for good; no error when there are none."""
        ...

    async def stored(self, shard: int) -> list[StoredContent]:
        """Return one part (0 to 255) of all content that is *not* here, recorded or not."""
        ...


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """A blob as one repository sees it."""

    digest: Digest
    size_bytes: int
    #: When a push last relied on it, in seconds since the epoch.
    touched_at: float = field(default=0.0, compare=False)
