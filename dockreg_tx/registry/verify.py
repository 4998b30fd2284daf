"""Verification: every recorded blob is read again and its digest computed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StoreUnavailable
from dockreg_tx.ports import BlobStore, BlobTrash, InspectRecords, OpenBlob, RecordedBlob

_BATCH = 1000
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what its digest says."""

    digest: Digest
    reason: str
    is_repaired: bool = False


class _Changed(Exception):
    """The bytes are others than those that were read."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The use case of verifying; ``quarantine`` keeps damaged bytes for a look at them."""

    records: InspectRecords
    blobs: BlobStore
    quarantine: BlobTrash

    async def run(self, *, repair: bool) -> AsyncIterator[Damage]:
        """Yield every damaged blob.

        ``repair`` moves its bytes to the quarantine and counts it as missing: clients are told that it is
        unknown, and the next push of it heals every image that needs it.
        """
        after = ""
        while page := await self.records.recorded_blobs(after, _BATCH):
            after = str(page[-1].digest)
            for blob in page:
                damage = await self._damage(blob)
                if damage is None:
                    continue
                yield await self._repaired(damage) if repair and not blob.is_quarantined else damage

    async def _damage(self, recorded: RecordedBlob) -> Damage | None:
        if recorded.is_quarantined:
            return Damage(recorded.digest, "in quarantine: push it again")
        try:
            blob = await self.blobs.open(recorded.digest)
        except BlobUnknown:
            return Damage(recorded.digest, "its bytes are missing")
        try:
            if blob.size_bytes != recorded.size_bytes:
                return Damage(
                    recorded.digest, f"it has {blob.size_bytes} bytes instead of {recorded.size_bytes}"
                )
            computed = await _digest(blob, recorded.digest.algorithm)
        except StoreUnavailable as error:
            return Damage(recorded.digest, f"it cannot be read: {error.message}")
        finally:
            blob.close()
        return None if computed == recorded.digest else Damage(recorded.digest, f"it hashes to {computed}")

    async def _repaired(self, damage: Damage) -> Damage:
        size_bytes = self.quarantine.size_of(damage.digest)

        def take(digest: Digest) -> Callable[[], None]:
            # A push replaces bytes of a wrong size, and only those: then the new ones stay.
            if self.quarantine.size_of(digest) != size_bytes:
                raise _Changed
            return self.quarantine.take(digest)

        try:
            is_moved = await self.records.quarantine_blob(damage.digest, take=take)
        except _Changed:
            return damage
        return Damage(damage.digest, damage.reason, is_moved)


async def _digest(blob: OpenBlob, algorithm: str) -> Digest:
    hasher = hashlib.new(algorithm)
    offset_bytes = 0
    while piece := await blob.read_at(offset_bytes, _READ_BYTES):
        hasher.update(piece)
        offset_bytes += len(piece)
    return Digest(algorithm, hasher.hexdigest())
