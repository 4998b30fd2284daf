"""What is asked of the records by those who look after them: scrub, verify, backup, ``blob why``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports.blobs import EnsureContent, TakeContent


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A blob, whatever repository it is in; one in quarantine counts as missing."""

    digest: Digest
    size_bytes: int
    is_quarantined: bool


@dataclass(frozen=True, slots=True)
class BlobUse:
    """One thing that holds a blob; ``at`` is when it began to, in seconds since the epoch.

    ``kind``: "touched" (a push relied on it), "linked" (a repository), "manifest" (it is one), "trash", or
    what a manifest names it as; ``digest`` is that manifest's, ``tags`` its tags, separated by spaces.
    """

    kind: str
    repository: str
    digest: str
    tags: str
    at: float


class InspectRecords(Protocol):
    """What verification asks and repairs."""

    async def recorded_blobs(self, after: str, limit: int) -> list[RecordedBlob]:
        """Return a page of all blobs, by the text of their digest."""
        ...

    async def quarantine_blob(self, digest: Digest, *, take: TakeContent) -> bool:
        """Count a blob as missing until it is pushed again, and move its bytes; False when it is so already.

        Raises:
            StorageFull, StoreUnavailable, or what ``take`` raises: nothing changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScrubState:
    """How far a pass of the scrub got; times in seconds since the epoch, ``ended_at`` None till its end."""

    began_at: float
    ended_at: float | None = None
    #: The text of the last digest that was checked.
    cursor: str = ""
    checked: int = 0
    damaged: int = 0

    def after(self, digest: Digest, *, is_damaged: bool) -> ScrubState:
        """Return the state when this blob was checked."""
        return ScrubState(self.began_at, None, str(digest), self.checked + 1, self.damaged + is_damaged)

    def end(self, now: float, *, damaged: int) -> ScrubState:
        """Return the state at the end, with so much more damage."""
        return ScrubState(self.began_at, now, self.cursor, self.checked, self.damaged + damaged)


class HealRecords(Protocol):
    """What healing asks and repairs."""

    async def revive_blob(self, digest: Digest, *, ensure: EnsureContent) -> bool:
        """Count a blob in quarantine as good again, for its bytes are back; False when it is not there."""
        ...

    async def manifest_copy(self, digest: Digest) -> bytes | None:
        """Return the bytes of a manifest that a row holds, None when none does."""
        ...


class ScrubRecords(InspectRecords, HealRecords, Protocol):
    """What the scrub asks and repairs beside that."""

    async def recorded_blob(self, digest: Digest) -> RecordedBlob | None:
        """Return one blob, None when none is recorded."""
        ...

    async def newest_blobs(self, limit: int) -> list[RecordedBlob]:
        """Return the good blobs that were pushed, or relied on, last; the newest first."""
        ...

    async def dangling_references(self) -> list[str]:
        """Return what manifests name that their repository does not hold, as sentences to be read.

        Only configs and layers: a subject may be missing, an index may lack children, and layers that must
        not be distributed are never pushed.
        """
        ...

    async def scrub_state(self) -> ScrubState | None:
        """Return how far the scrub got, None before the first one."""
        ...

    async def note_scrub(self, state: ScrubState) -> None:
        """Record how far the scrub got."""
        ...

    async def damaged_copies(self) -> list[Digest]:
        """Return the manifests whose bytes in a row are not what their digest says."""
        ...

    async def mend_copy(self, digest: Digest, content: bytes) -> None:
        """Replace the bytes of a manifest in every row that holds them."""
        ...

    async def damaged_rows(self) -> list[str]:
        """Return what the rows are called whose checksum is wrong, such as ``tag team/app:latest``."""
        ...

    async def clock_is_steady(self, now: float, *, jump_seconds: float, hold_seconds: float) -> bool:
        """Note the time; False when it jumped forward, now or less than ``hold_seconds`` ago."""
        ...
