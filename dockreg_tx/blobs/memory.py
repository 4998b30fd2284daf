"""Blobs and uploads in memory, with the same promises (but durability): for tests and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from dockreg_tx.blobs.buffers import Buffers
from dockreg_tx.blobs.consumer import Checkpoint, Transfer
from dockreg_tx.blobs.crowd import Crowd
from dockreg_tx.blobs.disk import Part
from dockreg_tx.blobs.layout import is_upload_id
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import BlobUnknown, BlobUploadUnknown, DigestInvalid, StoreUnavailable
from dockreg_tx.ports import (
    Body,
    EnsureContent,
    LateContent,
    Now,
    StoredContent,
    TrashedContent,
    UploadBusy,
)


class MemoryBlob:
    """A blob in memory, open for reading."""

    def __init__(self, content: bytes) -> None:
        self.size_bytes = len(content)
        self._content: bytes | None = content

    def fileno(self) -> int | None:
        """Return None: there is no file."""
        return None

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return up to ``length_bytes`` from ``offset_bytes``; empty only at the end."""
        if self._content is None:
            raise StoreUnavailable("the file is closed: its request has ended")
        return self._content[offset_bytes : offset_bytes + length_bytes]

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        """Return True: all is in memory."""
        return True

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        """Do nothing but fail when it is closed."""
        await self.read_at(offset_bytes, 0)

    def suspect(self) -> None:
        """Do nothing: memory can be read."""

    def close(self) -> None:
        """Give up the content."""
        self._content = None


class MemoryBlobStore:
    """The ``BlobStore`` in a dict; ``contents`` may be changed by tests, as garbage collection would."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    async def open(self, digest: Digest) -> MemoryBlob:
        """Open a blob.

        Raises:
            BlobUnknown: there are no such bytes.
        """
        if digest not in self.contents:
            raise BlobUnknown(str(digest))
        return MemoryBlob(self.contents[digest])

    async def put(self, digest: Digest, content: bytes) -> EnsureContent:
        """Store content under ``digest``, which the caller has verified."""
        _check_supported(digest)
        return self.place(digest, content)

    def late(self, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put``."""
        _check_supported(digest)
        return LateContent(lambda: self.place(digest, content))

    def place(self, digest: Digest, content: bytes) -> EnsureContent:
        """Store content here and now."""

        def ensure() -> None:
            self.contents.setdefault(digest, content)

        if len(self.contents.get(digest, b"")) != len(content):
            self.contents[digest] = content
        ensure()
        return ensure


def _check_supported(digest: Digest) -> None:
    if not digest.supported:
        raise DigestInvalid("unsupported digest algorithm: use sha256 or sha512", {"digest": str(digest)})


class MemoryTrash:
    """The ``BlobTrash`` of a ``MemoryBlobStore``; ``taken`` maps names to what they are of and hold.

    Args:
        blobs: where content comes from.
        now: notes when it came.
    """

    def __init__(self, *, blobs: MemoryBlobStore, now: Now) -> None:
        self.taken: dict[str, tuple[TrashedContent, bytes]] = {}
        self._blobs = blobs
        self._now = now

    def take(self, digest: Digest) -> Callable[[], None]:
        """Move the bytes of a blob here, and return what moves them back."""
        content = self._blobs.contents.pop(digest, None)
        if content is None:
            return lambda: None
        name = f"{digest.encoded}.{len(self.taken)}"
        self.taken[name] = (TrashedContent(name, digest, len(content), self._now()), content)
        return lambda: self.put_back(name)

    def move(self, digest: Digest) -> Callable[[], None]:
        """Do the same."""
        return self.take(digest)

    def settle(self, digests: Sequence[Digest]) -> None:
        """Do nothing: memory has nothing to settle."""

    def put_back(self, name: str) -> None:
        """Move bytes back under their digest, unless some are there."""
        entry, content = self.taken.pop(name)
        self._blobs.contents.setdefault(entry.digest, content)

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of the bytes that ``take`` would move."""
        content = self._blobs.contents.get(digest)
        return None if content is None else len(content)

    async def entries(self) -> list[TrashedContent]:
        """Return what is here."""
        return [entry for entry, _ in self.taken.values()]

    async def purge(self, name: str) -> None:
        """Remove bytes for good."""
        self.taken.pop(name, None)

    async def stored(self, shard: int) -> list[StoredContent]:
        """Return the blobs whose encoded digest begins with ``shard``; all are as old as the epoch."""
        return [
            StoredContent(digest, len(content), 0.0)
            for digest, content in self._blobs.contents.items()
            if digest.encoded.startswith(f"{shard:02x}")
        ]


class MemoryUploadWriter:
    """The one writer of an upload in memory."""

    def __init__(self, upload_id: str, staging: MemoryUploadStaging, content: bytearray) -> None:
        self.offset_bytes = self.synced_bytes = len(content)
        self._id = upload_id
        self._staging = staging
        self._content = content
        self._is_closed = False

    async def append(
        self, body: Body, *, limit_bytes: int | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Write ``body`` at the offset, and return when every byte is written."""
        self._check_usable()
        transfer = Transfer(
            self,
            clock=self._staging.clock,
            limit_bytes=limit_bytes,
            checkpoint=checkpoint,
            buffers=Buffers(),
            crowd=Crowd(),
        )
        await transfer.run(body)

    async def write_batch(self, parts: Sequence[Part]) -> None:
        """Take one batch."""
        for part in parts:
            self._content += part
        self.offset_bytes = len(self._content)

    async def sync(self) -> None:
        """Count everything as safe."""
        self.synced_bytes = self.offset_bytes

    async def truncate(self, offset_bytes: int) -> None:
        """Forget all bytes from ``offset_bytes`` on; does nothing at or past the end."""
        self._check_usable()
        del self._content[offset_bytes:]
        self.offset_bytes = self.synced_bytes = len(self._content)

    async def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes written.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        self._check_usable()
        if algorithm not in ALGORITHMS:
            raise DigestInvalid(
                "unsupported digest algorithm: use sha256 or sha512", {"algorithm": algorithm}
            )
        return Digest.of(bytes(self._content), algorithm)

    async def publish(self, digest: Digest) -> EnsureContent:
        """Make the verified bytes a blob.

        Raises:
            BlobUploadUnknown: the upload was discarded meanwhile.
            DigestInvalid: nothing is stored under this algorithm.
        """
        self._check_usable()
        content = bytes(self._content)

        def ensure() -> None:
            if digest not in self._staging.blobs.contents:
                self._check_present()
                self._staging.blobs.contents[digest] = content

        self._check_present()
        await self._staging.blobs.put(digest, content)
        return ensure

    def _check_present(self) -> None:
        if self._staging.contents.get(self._id) is not self._content:
            raise BlobUploadUnknown(self._id)

    def _check_usable(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the upload cannot go on: its bytes were lost; start again")

    def close(self) -> None:
        """Release the lock; the bytes stay. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._staging.release(self._content)


class MemoryUploadStaging:
    """The ``UploadStaging`` in a dict, publishing into a ``MemoryBlobStore``.

    Args:
        blobs: where published uploads go.
        clock: times the checkpoints; without one only their size counts.
    """

    def __init__(self, *, blobs: MemoryBlobStore, clock: IReactorTime | None = None) -> None:
        self.blobs = blobs
        self.clock = clock or Clock()
        self.contents: dict[str, bytearray] = {}
        self._written: list[bytearray] = []
        self.room_bytes = 1 << 40

    async def open(self, upload_id: str, *, algorithm: str = "sha256") -> MemoryUploadWriter:
        """Become the writer of an upload, made empty if it has no bytes yet.

        Raises:
            BlobUploadUnknown: the id cannot be one of ours.
            UploadBusy: someone else is its writer now.
        """
        if not is_upload_id(upload_id):
            raise BlobUploadUnknown(upload_id)
        content = self.contents.setdefault(upload_id, bytearray())
        if any(content is written for written in self._written):
            raise UploadBusy("another request is writing to the upload")
        self._written.append(content)
        return MemoryUploadWriter(upload_id, self, content)

    def whole(self, upload_id: str, digest: Digest, content: bytes) -> LateContent:
        """Return what makes the verified bytes a blob; ``UploadBusy`` when the upload has bytes."""
        _check_supported(digest)

        def place() -> EnsureContent:
            if upload_id in self.contents:
                raise UploadBusy("the upload has bytes already")
            return self.blobs.place(digest, content)

        return LateContent(place)

    def release(self, content: bytearray) -> None:
        """Let the next writer in."""
        self._written = [written for written in self._written if written is not content]

    async def discard(self, upload_id: str) -> None:
        """Remove an upload's bytes; no error when there are none."""
        self.contents.pop(upload_id, None)

    async def list(self) -> Sequence[str]:
        """Return the ids of all uploads that have bytes, sorted."""
        return sorted(self.contents)

    async def free_bytes(self) -> int:
        """Return ``room_bytes``, which a test may set."""
        return self.room_bytes
