"""Garbage collection in SQL: candidates from a snapshot, asked again where nobody else writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StorageFull, StoreUnavailable
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import (
    BlobRecord,
    Cutoff,
    EnsureContent,
    SettleContent,
    TakeContent,
    UntaggedManifest,
    Verdict,
)
from dockreg_tx.records import removals, statements
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Transaction

# A row whose digest has decayed is for the scrub to tell of.
_IS_DEAD = f"""
blobs.touched_at < :touched_before AND {statements.is_digest("blobs.digest")}
AND NOT EXISTS (SELECT 1 FROM manifest_references WHERE manifest_references.digest = blobs.digest)
AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = blobs.digest)
AND NOT EXISTS (
    SELECT 1 FROM repository_blobs
    WHERE repository_blobs.digest = blobs.digest AND repository_blobs.linked_at >= :touched_before
)
AND NOT EXISTS (
    SELECT 1 FROM trash WHERE trash.digest = blobs.digest AND trash.deleted_at >= :trashed_before
)
AND NOT EXISTS (
    SELECT 1 FROM trash_references
    JOIN trash ON trash.id = trash_references.trash_id
    WHERE trash_references.digest = blobs.digest AND trash.deleted_at >= :trashed_before
)
"""  # noqa: S608 - joins constants only
# Constants only are joined.
_DEAD_BLOBS = f"""
SELECT blobs.digest, blobs.size_bytes, blobs.touched_at
FROM blobs
WHERE (blobs.touched_at, blobs.digest) > (:after_touched_at, :after_digest) AND {_IS_DEAD}
ORDER BY blobs.touched_at, blobs.digest
LIMIT :limit
"""  # noqa: S608
_BLOB_IS_DEAD = f"SELECT 1 FROM blobs WHERE blobs.digest = :digest AND {_IS_DEAD}"  # noqa: S608
_UNLINK_EVERYWHERE = "DELETE FROM repository_blobs WHERE digest = :digest"
_REMOVE_BLOB = "DELETE FROM blobs WHERE digest = :digest"
# Nobody needs it, either: of content that is needed the row alone may have decayed.
_IS_UNKNOWN = """
NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = wanted.value)
AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = wanted.value)
AND NOT EXISTS (SELECT 1 FROM manifest_references AS named WHERE named.digest = wanted.value)
"""
# Constants only are joined.
_UNKNOWN_CONTENT = f"SELECT wanted.value FROM json_each(:digests) AS wanted WHERE {_IS_UNKNOWN}"  # noqa: S608
_BLOB_STATE = "SELECT state FROM blobs WHERE digest = :digest"
_UNTAGGED_MANIFESTS = """
SELECT repositories.name, manifests.digest, manifests.size_bytes, manifests.pushed_at
FROM repositories
JOIN manifests ON manifests.repository_id = repositories.id
WHERE (repositories.name, manifests.digest) > (:after_repository, :after_digest)
    AND manifests.pushed_at < :before
    AND NOT EXISTS (SELECT 1 FROM tags WHERE tags.manifest_id = manifests.id)
ORDER BY repositories.name, manifests.digest
LIMIT :limit
"""
# Who keeps a manifest: what names it as child or subject, its own subject, and whoever keeps those. One of
# them that has a tag, or is young, or had a tag until lately, keeps all.
_IS_KEPT = """
WITH RECURSIVE keepers (id, digest, subject) AS (
    SELECT id, digest, subject FROM manifests WHERE repository_id = :repository_id AND digest = :digest
    UNION
    SELECT above.id, above.digest, above.subject
    FROM keepers
    JOIN manifest_references AS naming
        ON naming.digest = keepers.digest AND naming.kind IN ('child', 'subject')
    JOIN manifests AS above ON above.id = naming.manifest_id AND above.repository_id = :repository_id
    UNION
    SELECT referred.id, referred.digest, referred.subject
    FROM keepers
    JOIN manifests AS referred
        ON referred.repository_id = :repository_id AND referred.digest = keepers.subject
)
SELECT 1
FROM keepers
JOIN manifests ON manifests.id = keepers.id
WHERE manifests.pushed_at >= :before
    OR EXISTS (SELECT 1 FROM tags WHERE tags.manifest_id = keepers.id)
    OR EXISTS (
        SELECT 1 FROM tag_history AS pointed
        JOIN tag_history AS moved
            ON moved.repository_id = pointed.repository_id AND moved.name = pointed.name
            AND moved.id > pointed.id
        WHERE pointed.repository_id = :repository_id AND pointed.digest = keepers.digest
            AND moved.changed_at >= :before
            AND NOT EXISTS (
                SELECT 1 FROM tag_history AS between_them
                WHERE between_them.repository_id = pointed.repository_id AND between_them.name = pointed.name
                    AND between_them.id > pointed.id AND between_them.id < moved.id
            )
    )
LIMIT 1
"""
_LAST_COLLECTION = "SELECT noted_at FROM collections"
_NOTE_COLLECTION = """
INSERT INTO collections (id, noted_at) VALUES (1, :now)
ON CONFLICT (id) DO UPDATE SET noted_at = excluded.noted_at
"""


def dead_blobs(
    reader: SqliteReader, cutoff: Cutoff, after: BlobRecord | None, limit: int
) -> list[BlobRecord]:
    """Return a page of dead blobs, the longest untouched first."""
    rows = reader.rows(
        _DEAD_BLOBS,
        after_touched_at=after.touched_at if after else float("-inf"),
        after_digest=str(after.digest) if after else "",
        limit=limit,
        **_times(cutoff),
    )
    return [
        BlobRecord(Digest.parse(digest), size_bytes, touched_at) for digest, size_bytes, touched_at in rows
    ]


def collect_blobs(
    transaction: Transaction,
    digests: Sequence[Digest],
    cutoff: Cutoff,
    *,
    take: TakeContent,
    is_enough: Callable[[], bool],
    settle: SettleContent,
) -> list[Verdict]:
    """Remove those that are still dead, with their links and bytes: all bytes first, all rows second."""
    verdicts = _move_content(
        transaction,
        digests,
        lambda digest: transaction.value(_BLOB_IS_DEAD, digest=str(digest), **_times(cutoff)) is not None,
        take=take,
        is_enough=is_enough,
        settle=settle,
    )
    for digest, verdict in verdicts.items():
        if verdict is Verdict.REMOVED:
            _forget_blob(transaction, digest, cutoff)
    return list(verdicts.values())


def collect_orphans(
    transaction: Transaction,
    digests: Sequence[Digest],
    *,
    take: TakeContent,
    is_enough: Callable[[], bool],
    settle: SettleContent,
) -> list[Verdict]:
    """Move the bytes of those that no blob is recorded for, and no manifest names."""
    verdicts = _move_content(
        transaction,
        digests,
        lambda digest: transaction.value(_UNKNOWN_CONTENT, digests=json.dumps([str(digest)])) is not None,
        take=take,
        is_enough=is_enough,
        settle=settle,
    )
    return list(verdicts.values())


def _move_content(
    transaction: Transaction,
    digests: Sequence[Digest],
    may_go: Callable[[Digest], bool],
    *,
    take: TakeContent,
    is_enough: Callable[[], bool],
    settle: SettleContent,
) -> dict[Digest, Verdict]:
    """Move the bytes of those that may go, and settle all at once; nothing stays moved when that fails."""
    kept_files = len(transaction.undo)
    verdicts: dict[Digest, Verdict] = {}
    for digest in digests:
        verdicts[digest] = _move_bytes(transaction, digest, take) if may_go(digest) else Verdict.KEPT
        if is_enough():
            break
    moved = [digest for digest, verdict in verdicts.items() if verdict is Verdict.REMOVED]
    try:
        settle(moved)
    except StorageFull:
        raise
    except StoreUnavailable:
        transaction.roll_back_files(kept_files)
        verdicts.update(dict.fromkeys(moved, Verdict.FAILED))
    return verdicts


def _move_bytes(transaction: Transaction, digest: Digest, take: TakeContent) -> Verdict:
    try:
        transaction.undo.append(take(digest))
    except StorageFull:
        # The ballast may help: the writer tries again.
        raise
    except StoreUnavailable:
        return Verdict.FAILED
    return Verdict.REMOVED


def _forget_blob(transaction: Transaction, digest: Digest, cutoff: Cutoff) -> None:
    transaction.execute(_UNLINK_EVERYWHERE, digest=str(digest))
    transaction.execute(_REMOVE_BLOB, digest=str(digest))
    # Or a rebuilt database would give it to all of them again when one pushes it.
    transaction.journal("blob.collect", cutoff.touched_before, {"digest": str(digest)})


def unknown_content(reader: SqliteReader, digests: Sequence[Digest]) -> list[Digest]:
    """Return those that no blob is recorded for, and no manifest names."""
    rows = reader.rows(_UNKNOWN_CONTENT, digests=json.dumps(list(map(str, digests))))
    return [Digest.parse(digest) for (digest,) in rows]


def restore_content(transaction: Transaction, digest: Digest, *, put_back: EnsureContent) -> bool:
    """Call ``put_back`` if a blob is recorded and good."""
    if transaction.value(_BLOB_STATE, digest=str(digest)) != "live":
        return False
    put_back()
    return True


def untagged_manifests(
    reader: SqliteReader, before: float, after: UntaggedManifest | None, limit: int
) -> list[UntaggedManifest]:
    """Return a page of manifests pushed before this that no tag points at, by repository and digest."""
    rows = reader.rows(
        _UNTAGGED_MANIFESTS,
        after_repository=after.repository.text if after else "",
        after_digest=str(after.digest) if after else "",
        before=before,
        limit=limit,
    )
    return [
        UntaggedManifest(RepositoryName(name), Digest.parse(digest), size_bytes, pushed_at)
        for name, digest, size_bytes, pushed_at in rows
    ]


def collect_manifest(
    transaction: Transaction,
    repository: RepositoryName,
    digest: Digest,
    *,
    before: float,
    now: float,
    by: str,
    dry_run: bool,
) -> bool:
    """Remove a manifest that nothing has kept since ``before``."""
    repository_id = transaction.repository_id(repository)
    if (
        transaction.value(_IS_KEPT, repository_id=repository_id, digest=str(digest), before=before)
        is not None
    ):
        return False
    return dry_run or removals.delete_manifest(transaction, repository, digest, by=by, now=now)


def renew_blob(transaction: Transaction, digest: Digest, *, now: float) -> bool:
    """Begin the blob's grace period anew; False when it is gone."""
    return transaction.changed(statements.TOUCH_BLOB, digest=str(digest), now=now)


def last_collection(reader: SqliteReader) -> float | None:
    """Return when garbage was last collected."""
    rows = reader.rows(_LAST_COLLECTION)
    return rows[0][0] if rows else None


def note_collection(transaction: Transaction, now: float) -> None:
    """Record that garbage is being collected."""
    transaction.execute(_NOTE_COLLECTION, now=now)


def _times(cutoff: Cutoff) -> dict[str, float]:
    return {"touched_before": cutoff.touched_before, "trashed_before": cutoff.trashed_before}
