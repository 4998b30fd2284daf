"""The memory twin's half for the scrub; its rows do not decay, so none is ever damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import EnsureContent, RecordedBlob, ScrubState
from dockreg_tx.records.pushes import BLOB_KINDS
from dockreg_tx.records.scrubbing import dangling, held

if TYPE_CHECKING:
    from dockreg_tx.records.memory_collection import MemoryRepository


class MemoryUpkeep:
    """Mixed into records that keep repositories, and sizes of blobs."""

    _repositories: dict[str, MemoryRepository]
    _sizes_bytes: dict[Digest, int]
    _touched: dict[Digest, float]
    _quarantined: set[Digest]

    def __init__(self) -> None:
        self._scrub: ScrubState | None = None
        self._clock: tuple[float, float] | None = None

    async def recorded_blob(self, digest: Digest) -> RecordedBlob | None:
        """Return one blob, None when none is recorded."""
        size_bytes = self._sizes_bytes.get(digest)
        return None if size_bytes is None else RecordedBlob(digest, size_bytes, digest in self._quarantined)

    async def newest_blobs(self, limit: int) -> list[RecordedBlob]:
        """Return the good blobs that were pushed, or relied on, last."""
        newest = sorted(self._touched, key=lambda digest: -self._touched[digest])
        good = [digest for digest in newest if digest not in self._quarantined]
        return [RecordedBlob(digest, self._sizes_bytes[digest], False) for digest in good[:limit]]

    async def dangling_references(self) -> list[str]:
        """Return what manifests name that their repository does not hold."""
        return sorted(
            dangling(name, str(manifest), item.kind.value, str(item.digest))
            for name, known in self._repositories.items()
            for manifest, items in known.references.items()
            for item in items
            if item.required and item.kind in BLOB_KINDS and item.digest not in known.blobs
        )

    async def revive_blob(self, digest: Digest, *, ensure: EnsureContent) -> bool:
        """Count a blob in quarantine as good again; False when it is not there."""
        ensure()
        if digest not in self._quarantined:
            return False
        self._quarantined.remove(digest)
        return True

    async def scrub_state(self) -> ScrubState | None:
        """Return how far the scrub got, None before the first one."""
        return self._scrub

    async def note_scrub(self, state: ScrubState) -> None:
        """Record how far the scrub got."""
        self._scrub = state

    async def manifest_copy(self, digest: Digest) -> bytes | None:
        """Return the bytes of a manifest that a row holds."""
        for known in self._repositories.values():
            if digest in known.manifests:
                return known.manifests[digest].content
        return None

    async def damaged_copies(self) -> list[Digest]:
        """Return the manifests whose bytes in a row are not what their digest says."""
        return []

    async def mend_copy(self, digest: Digest, content: bytes) -> None:
        """Do nothing: no row is damaged."""

    async def damaged_rows(self) -> list[str]:
        """Return what the damaged rows are called."""
        return []

    async def clock_is_steady(self, now: float, *, jump_seconds: float, hold_seconds: float) -> bool:
        """Note the time; False when it jumped forward, now or less than ``hold_seconds`` ago."""
        held_until = held(self._clock, now, jump_seconds=jump_seconds, hold_seconds=hold_seconds)
        self._clock = (now, held_until)
        return now >= held_until
