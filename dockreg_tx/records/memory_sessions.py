"""Upload sessions in memory."""

from __future__ import annotations

from dataclasses import replace

from dockreg_tx.oci.errors import BlobUploadUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import UploadRecord


class MemorySessions:
    """The ``UploadRecords`` in dicts."""

    def __init__(self) -> None:
        self._uploads: dict[str, UploadRecord] = {}
        self._ended_uploads: dict[str, float] = {}

    async def begin_upload(self, upload: UploadRecord) -> None:
        """Record a new session; nothing when it has a row."""
        if upload.id not in self._ended_uploads:
            self._uploads.setdefault(upload.id, upload)

    async def upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session."""
        return self._uploads.get(upload_id)

    async def begun_upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, None when it has no row; one that has ended is unknown."""
        if upload_id in self._ended_uploads:
            raise BlobUploadUnknown(upload_id)
        return self._uploads.get(upload_id)

    async def set_upload_offset(self, upload_id: str, offset_bytes: int, *, now: float) -> bool:
        """Record how many bytes are on disk; False when the session is gone."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            return False
        self._uploads[upload_id] = replace(upload, offset_bytes=offset_bytes, touched_at=now)
        return True

    async def end_upload(self, upload_id: str, *, now: float) -> bool:
        """End the session; False when it had no row, or had ended."""
        self._ended_uploads[upload_id] = now
        return self._uploads.pop(upload_id, None) is not None

    async def forget_ended_uploads(self, ended_before: float, limit: int) -> None:
        """Forget up to ``limit`` sessions that ended so long ago."""
        old = [upload_id for upload_id, ended_at in self._ended_uploads.items() if ended_at < ended_before]
        for upload_id in old[:limit]:
            del self._ended_uploads[upload_id]

    async def expired_uploads(self, touched_before: float, limit: int) -> list[UploadRecord]:
        """Return sessions that nobody touched since, the oldest first."""
        expired = [upload for upload in self._uploads.values() if upload.touched_at < touched_before]
        return sorted(expired, key=lambda upload: (upload.touched_at, upload.id))[:limit]

    def _remove_uploads_in(self, repository: RepositoryName) -> None:
        kept = {key: upload for key, upload in self._uploads.items() if upload.repository != repository}
        self._uploads = kept
