"""Upload sessions that nobody ends: those that have expired go, and what crashes left of others."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import Now, UploadBusy, UploadRecords, UploadStaging

#: How many ended sessions one sweep forgets, so that nobody waits long for the database.
ENDED_LIMIT = 10_000
_log = Logger(namespace="dockreg")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The use case of sweeping; any process may, and several at once."""

    records: UploadRecords
    staging: UploadStaging
    now: Now

    async def expired(self, *, expire_after_seconds: float, limit: int = 1000) -> int:
        """Drop up to ``limit`` sessions that nobody touched for that long; return how many.

        A session that is being written to is left alone.
        """
        before = self.now() - expire_after_seconds
        count = 0
        for upload in await self.records.expired_uploads(before, limit):
            try:
                writer = await self.staging.open(upload.id)
            except UploadBusy:
                continue
            except StoreUnavailable as error:
                _log.error("upload {upload_id} cannot be swept: {error}", upload_id=upload.id, error=error)
                continue
            try:
                await self.records.end_upload(upload.id, now=self.now())
                await self.staging.discard(upload.id)
            finally:
                writer.close()
            count += 1
        await self.records.forget_ended_uploads(before, ENDED_LIMIT)
        return count

    async def all(self, *, expire_after_seconds: float) -> int:
        """Drop all such sessions, and what crashes left of others; return how many sessions."""
        expired = 0
        while count := await self.expired(expire_after_seconds=expire_after_seconds):
            expired += count
        if orphans := await self.orphans():
            _log.info("swept {orphans} orphaned uploads", orphans=orphans)
        return expired

    async def orphans(self) -> int:
        """Remove staged bytes that have no session, which a crash leaves behind; return how many."""
        count = 0
        for upload_id in await self.staging.list():
            if await self.records.upload(upload_id) is None:
                await self.staging.discard(upload_id)
                count += 1
        return count
