"""Reading content: manifests by tag or digest, blobs by digest, each only through its repository."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest, parse_reference
from dockreg_tx.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, StoreUnavailable, TagInvalid
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.negotiation import image_for_plain_clients, wants_image_of
from dockreg_tx.ports import (
    BlobRecord,
    BlobStore,
    ManifestRecord,
    Now,
    OpenBlob,
    PullRecords,
    PushRecords,
)


@dataclass(frozen=True, kw_only=True)
class Pull:
    """The use cases of reading."""

    records: PullRecords
    push_records: PushRecords
    blobs: BlobStore
    now: Now
    #: Age of a blob's last touch at which being told of it renews it: a part of the grace period, so that one
    #: blob costs few writes however often it is asked for.
    renew_after_seconds: float = 6 * 3600.0

    async def find_manifest(self, repository: RepositoryName, reference: str) -> ManifestRecord:
        """Return what is known of a manifest; its content may be left out.

        Raises:
            DigestInvalid: the reference is a malformed digest.
            NameUnknown, ManifestUnknown: there is none, or its bytes are gone; an impossible tag counts as
                unknown.
        """
        try:
            parsed = parse_reference(reference)
        except TagInvalid:
            raise ManifestUnknown(str(repository), reference) from None
        record = await self.records.manifest(repository, parsed)
        if record is None:
            if not await self.records.repository_exists(repository):
                raise NameUnknown(str(repository))
            raise ManifestUnknown(str(repository), reference)
        if record.content is None and not await self._is_there(record):
            # In quarantine, or lost: who is told that it is there would not push it again.
            raise ManifestUnknown(str(repository), reference)
        return record

    async def _is_there(self, record: ManifestRecord | BlobRecord) -> bool:
        try:
            blob = await self.blobs.open(record.digest)
        except BlobUnknown:
            return False
        if blob.size_bytes != record.size_bytes:
            blob.suspect()
        blob.close()
        return blob.size_bytes == record.size_bytes

    async def acceptable(
        self, repository: RepositoryName, record: ManifestRecord, accept: str | None
    ) -> ManifestRecord:
        """Return what a client gets for a tag: of an index that it cannot read, the linux/amd64 image.

        Everything else is served as it is, whatever the client accepts.
        """
        if not wants_image_of(record.media_type, accept):
            return record
        digest = image_for_plain_clients(await self.manifest_content(record), record.media_type)
        image = None if digest is None else await self.records.manifest(repository, digest)
        return image or record

    async def manifest_content(self, record: ManifestRecord) -> bytes:
        """Return the bytes of a manifest exactly as they were pushed.

        Raises:
            StoreUnavailable: the bytes cannot be read.
        """
        if record.content is not None and _is(record, record.content):
            return record.content
        try:
            blob = await self.blobs.open(record.digest)
        except BlobUnknown as error:
            raise StoreUnavailable("the manifest's bytes are missing: ask the registry's operator") from error
        try:
            content = await _read_whole(blob)
        finally:
            blob.close()
        if not _is(record, content):
            blob.suspect()
            raise StoreUnavailable("the manifest's bytes are damaged: push it again")
        return content

    async def find_blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord:
        """Return a blob's size.

        Raises:
            BlobUnknown: it is not linked to this repository, whatever other repositories hold.
        """
        record = await self.records.blob(repository, digest) if digest.supported else None
        if record is None:
            raise BlobUnknown(str(digest))
        return record

    async def promise_blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord:
        """Return a blob's size to a client that will not upload it, for it exists.

        Its grace period begins anew before the answer: were it collected between the answer and the manifest
        that names it, the push would fail.

        Raises:
            BlobUnknown: as ``find_blob`` and ``open_blob``; or it was collected at this moment.
        """
        record = await self.find_blob(repository, digest)
        if not await self._is_there(record):
            raise BlobUnknown(str(digest))
        now = self.now()
        if record.touched_at < now - self.renew_after_seconds:
            try:
                is_there = await self.push_records.renew_blob(digest, now=now)
            except StoreUnavailable:
                # A full disk refuses every write; what can be read is still told.
                return record
            if not is_there:
                raise BlobUnknown(str(digest))
        return record

    async def open_blob(self, record: BlobRecord) -> OpenBlob:
        """Open a blob that ``find_blob`` found; the caller closes it.

        Raises:
            BlobUnknown: its bytes are gone, or have another size than recorded (so that a push heals it).
        """
        blob = await self.blobs.open(record.digest)
        if blob.size_bytes != record.size_bytes:
            blob.suspect()
            blob.close()
            raise BlobUnknown(str(record.digest))
        return blob


def _is(record: ManifestRecord, content: bytes) -> bool:
    """Tell whether bytes are those of a manifest; row and file each have a copy, and the digest decides."""
    return Digest.of(content, record.digest.algorithm) == record.digest


async def _read_whole(blob: OpenBlob) -> bytes:
    pieces: list[bytes] = []
    offset = 0
    while piece := await blob.read_at(offset, 1024 * 1024):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)
