"""Blob uploads: sessions, chunks and their end, in the order bytes first, row second, answer last.

The state of a session is its row; before it has any bytes, its id alone. This module keeps nothing between
two requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import (
    BlobUploadUnknown,
    BodyBroken,
    BodyTooLarge,
    DigestInvalid,
    DigestMismatch,
    RangeOutOfOrder,
    RegistryError,
    SizeInvalid,
    StorageFull,
    Unsupported,
)
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.uploads import check_chunk
from dockreg_tx.ports import (
    Body,
    NewId,
    Now,
    PushRecords,
    UploadBusy,
    UploadRecord,
    UploadRecords,
    UploadStaging,
    UploadWriter,
)
from dockreg_tx.registry.held import HeldBody
from dockreg_tx.registry.session_ids import SessionIds

#: A body up to this is not staged when it is a whole blob.
WHOLE_LIMIT_BYTES = 256 * 1024
#: Owner of the sessions that were begun without credentials.
ANONYMOUS = ""


async def _never() -> bool:
    return False


@dataclass(slots=True)
class SessionKey:
    """Names an upload session together with who may touch it: a session is bound to both.

    Nobody changes one, as with ``ports.UploadRecord``.
    """

    repository: RepositoryName
    upload_id: str
    #: Name of the user, empty for anonymous.
    owner: str


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """The use cases of upload sessions (spec: "Pushing blobs")."""

    records: UploadRecords
    push_records: PushRecords
    staging: UploadStaging
    now: Now
    new_id: NewId
    #: Makes ids that stand for a session until it has bytes; None: every session has a row at once.
    ids: SessionIds | None = None
    #: Largest blob in bytes, None for no limit.
    blob_limit_bytes: int | None = None
    #: With less free space no upload is begun: what is left is for deletes, manifests and uploads in flight.
    low_water_bytes: int = 0
    #: Tells that the room in reserve was given up, and cannot be had back yet: new uploads would eat it.
    is_reserve_spent: Callable[[], Awaitable[bool]] = _never

    async def check_room(self) -> None:
        """Do nothing while there is room for new uploads.

        Raises:
            StorageFull: the disk is below its low-water mark, or the room in reserve is spent.
        """
        if self.low_water_bytes and await self.staging.free_bytes() < self.low_water_bytes:
            raise StorageFull
        if await self.is_reserve_spent():
            raise StorageFull

    async def begin(
        self, repository: RepositoryName, owner: str, *, algorithm: str | None = None
    ) -> UploadRecord:
        """Open a session.

        Args:
            repository: where the blob will be linked; need not exist yet.
            owner: name of the user, empty for anonymous.
            algorithm: the ``digest-algorithm`` that the client announced, if any.

        Raises:
            Unsupported: an algorithm that content cannot be stored under.
            StorageFull: the disk is nearly full.
        """
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise Unsupported(
                "unsupported digest-algorithm: use sha256 or sha512", {"digest-algorithm": algorithm[:64]}
            )
        await self.check_room()
        if self.ids is not None:
            return self._fresh(self.ids.new(repository, owner, algorithm or ""), repository, owner, algorithm)
        upload = self._fresh(self.new_id(), repository, owner, algorithm)
        await self.records.begin_upload(upload)
        return upload

    def _fresh(
        self, upload_id: str, repository: RepositoryName, owner: str, algorithm: str | None
    ) -> UploadRecord:
        now = self.now()
        return UploadRecord(upload_id, repository, owner, 0, now, now, algorithm or "")

    async def find(self, key: SessionKey) -> UploadRecord:
        """Return a session.

        Raises:
            BlobUploadUnknown: there is none, or it belongs to another repository or user.
        """
        return (await self._find(key))[0]

    async def _find(self, key: SessionKey) -> tuple[UploadRecord, bool]:
        """Return a session, and whether it has a row."""
        recorded = await self.records.begun_upload(key.upload_id)
        upload = recorded or await self._unrecorded(key)
        if upload is None or upload.repository != key.repository:
            raise BlobUploadUnknown(key.upload_id)
        # Anonymous is nobody in particular: a client may show its credentials from some later request on.
        if upload.owner not in {ANONYMOUS, key.owner}:
            raise BlobUploadUnknown(key.upload_id)
        return upload, recorded is not None

    async def _unrecorded(self, key: SessionKey) -> UploadRecord | None:
        """Return a session that its id alone stands for."""
        if self.ids is None:
            return None
        # Nearly all are carried on by who began them.
        for owner in dict.fromkeys((key.owner, ANONYMOUS)):
            algorithm = await self.ids.algorithm(key.upload_id, key.repository, owner)
            if algorithm is not None:
                return self._fresh(key.upload_id, key.repository, owner, algorithm)
        return None

    async def append_chunk(self, key: SessionKey, body: Body, *, content_range: str | None) -> int:
        """Append a chunk and return the session's new offset in bytes, all of it on disk.

        Raises:
            BlobUploadUnknown: no such session.
            RangeOutOfOrder: not at the offset, or another request is writing; nothing changed.
            SizeInvalid: the body is not as long as its range; its bytes are discarded.
            BodyBroken: the client went away; what arrived is kept.
            BodyTooLarge: the blob would pass the limit; the session is dropped.
        """
        async with self._writing(key) as writer:
            start = writer.offset_bytes
            expected = _checked_at_end(start, content_range, body)
            self._check_limit(start, body)
            if expected is not None:
                await self._append_exactly(writer, body, start, expected)
            else:
                await self._append_stream(key, writer, body)
            await self._record_offset(key, writer.offset_bytes)
            return writer.offset_bytes

    async def finish(
        self, key: SessionKey, body: Body, *, digests: Sequence[str], content_range: str | None
    ) -> Digest:
        """End a session with its last bytes, and return the digest of the blob it became.

        Raises:
            DigestInvalid: no digest, or one that is malformed or unsupported; the session stays.
            DigestMismatch: the content hashes to something else; the session is dropped.
            BodyBroken: the client went away; the session is as before this request.
            BlobUploadUnknown, RangeOutOfOrder, SizeInvalid, BodyTooLarge: as ``append_chunk``.
        """
        expected_digests = parse_digests(digests)
        if body.length_bytes is not None and 0 < body.length_bytes <= WHOLE_LIMIT_BYTES:
            held = await self._finish_whole(key, body, expected_digests, content_range)
            if held is None:
                return expected_digests[0]
            body = held
        async with self._writing(key) as writer:
            start = writer.offset_bytes
            expected = _checked_at_end(start, content_range, body)
            self._check_limit(start, body)
            await self._append_or_rewind(writer, body, start, expected)
            await self._verify(key, writer, expected_digests)
            digest = expected_digests[0]
            ensure = await writer.publish(digest)
            await self.push_records.commit_blob(
                key.repository,
                digest,
                writer.offset_bytes,
                ensure,
                upload_id=key.upload_id,
                now=self.now(),
            )
        await self.staging.discard(key.upload_id)
        return digest

    async def _finish_whole(
        self, key: SessionKey, body: Body, digests: Sequence[Digest], content_range: str | None
    ) -> Body | None:
        """End a session with a small body that is all of it, without staging it first.

        Two requests that end one session so at once do no harm: each has verified what it stores.

        Returns:
            None when the session has ended; else the body, for a session that has more to it.
        """
        upload = await self.find(key)
        if upload.offset_bytes or content_range is not None:
            return body
        self._check_limit(0, body)
        content = await body.read(WHOLE_LIMIT_BYTES)
        if any(digest.encoded != Digest.of(content, digest.algorithm).encoded for digest in digests):
            return HeldBody(content)
        late = self.staging.whole(key.upload_id, digests[0], content)
        try:
            await self.push_records.commit_blob(
                key.repository, digests[0], len(content), late, upload_id=key.upload_id, now=self.now()
            )
        except UploadBusy:
            return HeldBody(content)
        return None

    async def cancel(self, key: SessionKey) -> None:
        """Drop a session and free its disk space.

        Raises:
            BlobUploadUnknown: no such session.
        """
        await self.find(key)
        await self._drop(key.upload_id)

    async def forget(self, key: SessionKey) -> None:
        """Drop a session that its client never heard of; no error when it is gone already."""
        await self._drop(key.upload_id)

    @asynccontextmanager
    async def _writing(self, key: SessionKey) -> AsyncIterator[UploadWriter]:
        """Become the session's writer, with the file cut or the row lowered to what both hold."""
        upload, is_recorded = await self._find(key)
        if not is_recorded:
            # Before it has a file, for files without a row are swept.
            await self.records.begin_upload(upload)
        try:
            writer = await self.staging.open(upload.id)
        except UploadBusy:
            raise RangeOutOfOrder(
                "another request is writing to this upload: ask for its offset with GET, then go on",
                upload.offset_bytes,
            ) from None
        try:
            # Read again: the row may have moved, or gone, before the lock was ours.
            await self._align(writer, await self._find_or_discard(key))
            yield writer
        finally:
            writer.close()

    async def _find_or_discard(self, key: SessionKey) -> UploadRecord:
        try:
            return await self.find(key)
        except BlobUploadUnknown:
            await self.staging.discard(key.upload_id)
            raise

    async def _align(self, writer: UploadWriter, upload: UploadRecord) -> None:
        if writer.offset_bytes > upload.offset_bytes:
            # Bytes of a request that was cut short and never acknowledged.
            await writer.truncate(upload.offset_bytes)
        elif writer.offset_bytes < upload.offset_bytes:
            if writer.offset_bytes == 0:
                await self._drop(upload.id)
                raise BlobUploadUnknown(upload.id)
            await self.records.set_upload_offset(upload.id, writer.offset_bytes, now=self.now())

    def _check_limit(self, start: int, body: Body) -> None:
        limit = self.blob_limit_bytes
        if limit is not None and body.length_bytes is not None and start + body.length_bytes > limit:
            raise BodyTooLarge(limit)

    async def _append_stream(self, key: SessionKey, writer: UploadWriter, body: Body) -> None:
        async def checkpoint(offset_bytes: int) -> None:
            await self._record_offset(key, offset_bytes)

        try:
            await writer.append(body, limit_bytes=self.blob_limit_bytes, checkpoint=checkpoint)
        except BodyTooLarge:
            await self._drop(key.upload_id)
            raise
        except RegistryError:
            await self._record_offset(key, writer.synced_bytes)
            raise

    async def _append_exactly(self, writer: UploadWriter, body: Body, start: int, expected: int) -> None:
        """Append a chunked body that must have ``expected`` bytes, or nothing of it.

        The row must not move before the end is seen, so there are no checkpoints.
        """
        try:
            await writer.append(body, limit_bytes=start + expected)
        except BodyTooLarge:
            await writer.truncate(start)
            raise SizeInvalid("the body is longer than its Content-Range", {"expected": expected}) from None
        except BodyBroken:
            await writer.truncate(start)
            raise
        if writer.offset_bytes != start + expected:
            received = writer.offset_bytes - start
            await writer.truncate(start)
            raise SizeInvalid(
                "the body is shorter than its Content-Range", {"expected": expected, "received": received}
            )

    async def _append_or_rewind(
        self, writer: UploadWriter, body: Body, start: int, expected: int | None
    ) -> None:
        try:
            if expected is not None:
                await self._append_exactly(writer, body, start, expected)
            else:
                await writer.append(body, limit_bytes=self.blob_limit_bytes)
        except RegistryError:
            # A client that lost its PUT sends the whole of it again.
            if writer.offset_bytes != start:
                await writer.truncate(start)
            raise

    async def _verify(self, key: SessionKey, writer: UploadWriter, digests: Sequence[Digest]) -> None:
        for digest in digests:
            computed = await writer.digest(digest.algorithm)
            if computed != digest:
                await self._drop(key.upload_id)
                raise DigestMismatch(str(digest), str(computed))

    async def _record_offset(self, key: SessionKey, offset_bytes: int) -> None:
        if not await self.records.set_upload_offset(key.upload_id, offset_bytes, now=self.now()):
            raise BlobUploadUnknown(key.upload_id)

    async def _drop(self, upload_id: str) -> None:
        await self.records.end_upload(upload_id, now=self.now())
        await self.staging.discard(upload_id)


def _checked_at_end(start: int, content_range: str | None, body: Body) -> int | None:
    """Return how long the body must turn out to be, None where nothing is left to check once it has begun.

    A body with a Content-Length has just that length or breaks off.
    """
    expected = check_chunk(start, content_range, body.length_bytes)
    return expected if body.length_bytes is None else None


def parse_digests(texts: Sequence[str]) -> list[Digest]:
    """Return the digests that a request names.

    Raises:
        DigestInvalid: there is none, or one is malformed or of an unsupported algorithm.
    """
    if not texts:
        raise DigestInvalid("the digest parameter is missing: end the upload with PUT …?digest=sha256:…")
    return [Digest.parse_supported(text) for text in texts]
