"""What garbage collection asks of the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports.blobs import BlobRecord, EnsureContent, SettleContent, TakeContent, settled


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What counts as old, in seconds since the epoch: touched, or put in the trash, before these."""

    touched_before: float
    trashed_before: float


@dataclass(frozen=True, slots=True)
class UntaggedManifest:
    """A manifest that no tag points at."""

    repository: RepositoryName
    digest: Digest
    size_bytes: int
    pushed_at: float


class Verdict(StrEnum):
    """What became of a blob that garbage collection looked at."""

    REMOVED = "removed"
    KEPT = "kept"
    #: The disk refused to move it; its record stays.
    FAILED = "failed"


class CollectRecords(Protocol):
    """Garbage collection: content that nothing needs.

    A blob is dead when no manifest names it, it is no manifest itself, no trash that can be restored needs
    it, and both its last touch and every link to it are older than the cutoff. Pages are in a fixed order.
    """

    async def dead_blobs(self, cutoff: Cutoff, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
        """Return a page of dead blobs; ``after`` is the last one of the page before."""
        ...

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Remove those that are still dead, with their links, in one transaction that moves the bytes too.

        Args:
            digests: candidates.
            cutoff: as for ``dead_blobs``; asked again here, where nobody else writes.
            take: moves the bytes of one; undone when the transaction is.
            settle: makes the moves durable, before any record goes; when it fails, all are moved back.
            is_enough: asked after each blob; True ends the transaction early, for others wait for the lock.

        Returns:
            A verdict for each digest looked at, in order, of the first one at least.
        """
        ...

    async def unknown_content(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that no blob is recorded for, and no manifest names: a row alone may be lost."""
        ...

    async def collect_orphans(
        self,
        digests: Sequence[Digest],
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Move the bytes of those, in one transaction as ``collect_blobs``."""
        ...

    async def restore_content(self, digest: Digest, *, put_back: EnsureContent) -> bool:
        """Call ``put_back`` under the write lock if a blob is recorded and good; False when none is."""
        ...

    async def untagged_manifests(
        self, before: float, after: UntaggedManifest | None, limit: int
    ) -> list[UntaggedManifest]:
        """Return a page of manifests pushed before this that no tag points at."""
        ...

    async def collect_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        before: float,
        now: float,
        by: str,
        dry_run: bool = False,
    ) -> bool:
        """Remove a manifest that has been without a tag since ``before``; False when something keeps it.

        ``dry_run`` only tells. Kept are children of what is kept, its subject, and what refers to it.
        """
        ...

    async def empty_trash(self, before: float) -> None:
        """Forget deleted tags and manifests that were put in the trash before this."""
        ...

    async def last_collection(self) -> float | None:
        """Return when garbage was last collected, None for never."""
        ...

    async def note_collection(self, now: float) -> None:
        """Record that garbage is being collected."""
        ...

    async def compact_journal(self, minimum_bytes: int) -> bool:
        """Put a snapshot in the place of a journal longer than this; False when it was not worth it."""
        ...
