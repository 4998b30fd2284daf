"""What moves in from elsewhere, and who records it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports.manifests import NewManifest


@dataclass(frozen=True, slots=True)
class MovedBlob:
    """A blob that another registry left to one of its repositories; its bytes are in the store."""

    repository: RepositoryName
    digest: Digest
    size_bytes: int
    #: Whether the bytes were hashed on their way.
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that another registry left; its manifest was moved before it."""

    repository: RepositoryName
    tag: Tag
    digest: Digest


MovedContent = MovedBlob | NewManifest | MovedTag


class MoveVerdict(StrEnum):
    """What became of content that was moved in."""

    NEW = "new"
    #: It was here already.
    PRESENT = "present"
    #: A tag that somebody changed here, or a blob in quarantine: it stays as it is.
    KEPT = "kept"
    #: It contradicts what is recorded, or its manifest is not here.
    REFUSED = "refused"


class MoveRecords(Protocol):
    """Records of what other registries leave; only the command asks for it."""

    async def move_in(
        self,
        contents: Sequence[MovedContent],
        *,
        ensure: Callable[[Digest], None],
        is_enough: Callable[[], bool],
        now: float,
    ) -> list[MoveVerdict]:
        """Record content whose bytes are stored, in one transaction, journal first.

        Args:
            contents: in order; a tag after its manifest.
            ensure: puts bytes back that garbage collection took meanwhile. Blocks.
            is_enough: asked after each; True ends the transaction early, for others wait for the lock.
            now: seconds since the epoch.

        Returns:
            A verdict for each that was looked at, in order, of the first one at least.

        Raises:
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...


class SourceUnreadable(Exception):
    """A file of the other registry cannot be read; the text says which and why."""


class MovedBytes(Protocol):
    """Brings bytes that others left into the store; everything here blocks."""

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a stored blob, None when there is none."""
        ...

    def read(self, digest: Digest, limit_bytes: int) -> bytes | None:
        """Return a stored blob's bytes, cut one byte above the limit; None when there are none."""
        ...

    def bring(self, source: str, digest: Digest, *, verify: bool) -> None:
        """Make the file ``source`` a blob, unless there is one of this digest.

        Raises:
            SourceUnreadable: the file cannot be read.
            DigestMismatch: with ``verify``, its bytes are others.
            StorageFull, StoreUnavailable: our disk refuses.
        """
        ...

    def receive(self, pieces: Iterable[bytes], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store bytes that arrive in pieces; ``expected`` is what they must hash to, None: to anything.

        Raises:
            DigestMismatch: they hash to something else.
            StorageFull, StoreUnavailable: our disk refuses.
        """
        ...

    def sync(self) -> None:
        """Return when everything brought so far is on disk."""
        ...

    def ensure(self, digest: Digest) -> None:
        """Bring a blob of the present batch again if garbage collection took it since."""
        ...

    def forget_sources(self) -> None:
        """Begin the next batch."""
        ...
