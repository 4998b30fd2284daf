"""Verification: every recorded blob is read again and its digest computed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StoreUnavailable
from dockreg_tx.ports import (
    BlobStore,
    BlobTrash,
    Blocking,
    HealRecords,
    InspectRecords,
    OpenBlob,
    RecordedBlob,
)

_BATCH = 1000
_READ_BYTES = 1024 * 1024
#: Told how many bytes were read; may take its time.
Spend = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what its digest says."""

    digest: Digest
    reason: str
    is_repaired: bool = False
    #: The disk refused to read it: that may pass.
    is_unreadable: bool = False
    #: There are no bytes at all.
    is_missing: bool = False
    #: It is a manifest, and has been written anew from the database's copy.
    is_healed: bool = False


class _Changed(Exception):
    """The bytes are others than those that were read."""


async def _at_once(size_bytes: int) -> None:
    """Take no time."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The use case of verifying; ``quarantine`` keeps damaged bytes for a look at them."""

    records: InspectRecords
    blobs: BlobStore
    quarantine: BlobTrash
    #: Runs the hashing.
    blocking: Blocking

    async def run(self, *, repair: bool) -> AsyncIterator[Damage]:
        """Yield every damaged blob.

        ``repair`` moves its bytes to the quarantine and counts it as missing: clients are told that it is
        unknown, and the next push of it heals every image that needs it.
        """
        after = ""
        while page := await self.records.recorded_blobs(after, _BATCH):
            after = str(page[-1].digest)
            for blob in page:
                damage = await self.check(blob)
                if damage is None:
                    continue
                yield await self.repair(damage) if repair and not blob.is_quarantined else damage

    async def check(self, recorded: RecordedBlob, *, spend: Spend = _at_once) -> Damage | None:
        """Return what is wrong with a blob, None when nothing is."""
        if recorded.is_quarantined:
            return Damage(recorded.digest, "in quarantine: push it again")
        return await self.bytes_damage(recorded, spend=spend)

    async def bytes_damage(self, recorded: RecordedBlob, *, spend: Spend = _at_once) -> Damage | None:
        """Return what is wrong with the bytes of a blob, whatever is on record about them."""
        try:
            blob = await self.blobs.open(recorded.digest)
        except BlobUnknown:
            return Damage(recorded.digest, "its bytes are missing", is_missing=True)
        except StoreUnavailable as error:
            return _unreadable(recorded, error)
        try:
            if blob.size_bytes != recorded.size_bytes:
                return Damage(
                    recorded.digest, f"it has {blob.size_bytes} bytes instead of {recorded.size_bytes}"
                )
            computed = await self._digest(blob, recorded.digest.algorithm, spend)
        except StoreUnavailable as error:
            return _unreadable(recorded, error)
        finally:
            blob.close()
        return None if computed == recorded.digest else Damage(recorded.digest, f"it hashes to {computed}")

    async def _digest(self, blob: OpenBlob, algorithm: str, spend: Spend) -> Digest:
        hasher = hashlib.new(algorithm)
        offset_bytes = 0
        while piece := await blob.read_at(offset_bytes, _READ_BYTES):
            await self.blocking.run(hasher.update, piece)
            offset_bytes += len(piece)
            await spend(len(piece))
        return Digest(algorithm, hasher.hexdigest())

    async def repair(self, damage: Damage) -> Damage:
        """Count a damaged blob as missing and move its bytes, unless a push is healing it at this moment."""
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
        return replace(damage, is_repaired=is_moved)


@dataclass(frozen=True, kw_only=True)
class Heal:
    """The use case of healing without a push: the database has a copy of most manifests."""

    records: HealRecords
    blobs: BlobStore

    async def manifest(self, digest: Digest) -> bool:
        """Write the file of a manifest in quarantine anew from its row; False when there is no good copy."""
        content = await self.records.manifest_copy(digest)
        if content is None or Digest.of(content, digest.algorithm) != digest:
            return False
        ensure = await self.blobs.put(digest, content)
        return await self.records.revive_blob(digest, ensure=ensure)


def _unreadable(recorded: RecordedBlob, error: StoreUnavailable) -> Damage:
    return Damage(recorded.digest, f"it cannot be read: {error.message}", is_unreadable=True)


async def bytes_of(blob: OpenBlob) -> bytes:
    """Return all bytes of a small blob."""
    pieces: list[bytes] = []
    offset_bytes = 0
    while piece := await blob.read_at(offset_bytes, _READ_BYTES):
        pieces.append(piece)
        offset_bytes += len(piece)
    return b"".join(pieces)
