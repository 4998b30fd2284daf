"""Operations on upload sessions. None is in the journal: an open upload does not outlive the database."""

from __future__ import annotations

from dockreg_tx.ports import UploadRecord
from dockreg_tx.records import statements
from dockreg_tx.records.transactions import Transaction


def begin_upload(transaction: Transaction, upload: UploadRecord) -> None:
    """Record a new session; nothing when it has a row."""
    transaction.execute(
        statements.ADD_UPLOAD,
        id=upload.id,
        repository=upload.repository.text,
        owner=upload.owner,
        offset_bytes=upload.offset_bytes,
        started_at=upload.started_at,
        touched_at=upload.touched_at,
        algorithm=upload.algorithm,
    )


def set_upload_offset(transaction: Transaction, upload_id: str, offset_bytes: int, *, now: float) -> bool:
    """Record how many bytes are on disk; False when the session is gone."""
    return transaction.changed(statements.SET_UPLOAD_OFFSET, id=upload_id, offset_bytes=offset_bytes, now=now)


def end_upload(transaction: Transaction, upload_id: str, *, now: float) -> bool:
    """End the session; False when it had no row, or had ended."""
    was_open = transaction.value(statements.UPLOAD_IS_OPEN, id=upload_id) is not None
    transaction.execute(statements.END_UPLOAD, id=upload_id, now=now)
    return was_open


def forget_ended_uploads(transaction: Transaction, ended_before: float, limit: int) -> None:
    """Forget up to ``limit`` sessions that ended so long ago."""
    transaction.execute(statements.FORGET_ENDED_UPLOADS, ended_before=ended_before, limit=limit)
