"""What the operator's commands ask and repair: each blob, what holds it, and damaged ones set aside."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import BlobUse, RecordedBlob, TakeContent
from dockreg_tx.records import statements
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Transaction

_RECORDED_BLOBS = f"""
SELECT digest, size_bytes, state = 'quarantined' FROM blobs
WHERE digest > :after AND {statements.is_digest("digest")} ORDER BY digest LIMIT :limit
"""  # noqa: S608 - joins constants only
_QUARANTINE = "UPDATE blobs SET state = 'quarantined' WHERE digest = :digest AND state = 'live'"
_USES = """
SELECT 'linked', repositories.name, '', '', repository_blobs.linked_at
FROM repository_blobs JOIN repositories ON repositories.id = repository_blobs.repository_id
WHERE repository_blobs.digest = :digest
UNION ALL
SELECT 'manifest', repositories.name, manifests.digest,
    (SELECT coalesce(group_concat(tags.name, ' '), '') FROM tags WHERE tags.manifest_id = manifests.id),
    manifests.pushed_at
FROM manifests JOIN repositories ON repositories.id = manifests.repository_id
WHERE manifests.digest = :digest
UNION ALL
SELECT naming.kind, repositories.name, manifests.digest,
    (SELECT coalesce(group_concat(tags.name, ' '), '') FROM tags WHERE tags.manifest_id = manifests.id),
    manifests.pushed_at
FROM manifest_references AS naming
JOIN manifests ON manifests.id = naming.manifest_id
JOIN repositories ON repositories.id = manifests.repository_id
WHERE naming.digest = :digest
UNION ALL
SELECT 'trash', trash.repository, trash.digest, '', trash.deleted_at
FROM trash
WHERE trash.digest = :digest
    OR trash.id IN (SELECT trash_id FROM trash_references WHERE trash_references.digest = :digest)
ORDER BY 1, 2, 3
"""
_HELD_ALONE = """
WITH here(id) AS (SELECT id FROM repositories WHERE name = :repository),
held(digest) AS (
    SELECT digest FROM repository_blobs WHERE repository_id = (SELECT id FROM here)
    UNION SELECT digest FROM manifests WHERE repository_id = (SELECT id FROM here)
)
SELECT count(*), coalesce(sum(size_bytes), 0) FROM blobs
WHERE state = 'live' AND digest IN (SELECT digest FROM held)
    AND NOT EXISTS (
        SELECT 1 FROM repository_blobs AS other
        WHERE other.digest = blobs.digest AND other.repository_id <> (SELECT id FROM here)
    )
    AND NOT EXISTS (
        SELECT 1 FROM manifests AS other
        WHERE other.digest = blobs.digest AND other.repository_id <> (SELECT id FROM here)
    )
"""
_HELD_TOO = """
WITH here(id) AS (SELECT id FROM repositories WHERE name = :repository),
held(digest) AS (
    SELECT digest FROM repository_blobs WHERE repository_id = (SELECT id FROM here)
    UNION SELECT digest FROM manifests WHERE repository_id = (SELECT id FROM here)
),
others(digest, repository_id) AS (
    SELECT other.digest, other.repository_id
    FROM held JOIN repository_blobs AS other ON other.digest = held.digest
    UNION
    SELECT other.digest, other.repository_id
    FROM held JOIN manifests AS other ON other.digest = held.digest
)
SELECT repositories.name, count(*), sum(blobs.size_bytes)
FROM others
JOIN blobs ON blobs.digest = others.digest AND blobs.state = 'live'
JOIN repositories ON repositories.id = others.repository_id
WHERE others.repository_id <> (SELECT id FROM here)
GROUP BY repositories.name
ORDER BY 3 DESC, 1
"""
# As bytes: a row that has decayed may hold no text.
_TAG_MOVES = """
SELECT CAST(tag_history.digest AS BLOB), tag_history.changed_at, tag_history.changed_by
FROM tag_history JOIN repositories ON repositories.id = tag_history.repository_id
WHERE repositories.name = :repository AND tag_history.name = :tag
ORDER BY tag_history.id DESC
"""
_TOUCHED_AT = "SELECT touched_at FROM blobs WHERE digest = :digest"


@dataclass(frozen=True, slots=True)
class RecordedMove:
    """Where a tag pointed from a moment on, as its row says, damaged or not; None: it was removed."""

    digest: str | None
    changed_at: float
    changed_by: str


def recorded_blobs(reader: SqliteReader, after: str, limit: int) -> list[RecordedBlob]:
    """Return a page of all blobs, by digest."""
    return [
        RecordedBlob(Digest.parse(digest), size_bytes, bool(is_quarantined))
        for digest, size_bytes, is_quarantined in reader.rows(_RECORDED_BLOBS, after=after, limit=limit)
    ]


def quarantine_blob(transaction: Transaction, digest: Digest, *, take: TakeContent) -> bool:
    """Count a blob as missing, and move its bytes; False when it was so already, or is gone."""
    if not transaction.changed(_QUARANTINE, digest=str(digest)):
        return False
    transaction.undo.append(take(digest))
    return True


def held_alone(reader: SqliteReader, repository: RepositoryName) -> tuple[int, int]:
    """Return how many blobs only this repository holds, manifests included, and their bytes."""
    ((count, size_bytes),) = reader.rows(_HELD_ALONE, repository=repository.text)
    return count, size_bytes


def held_too(reader: SqliteReader, repository: RepositoryName) -> list[tuple[str, int, int]]:
    """Return which others hold blobs of this repository: name, how many, and their bytes; the most first."""
    return [
        (name, count, size_bytes)
        for name, count, size_bytes in reader.rows(_HELD_TOO, repository=repository.text)
    ]


def blob_uses(reader: SqliteReader, digest: Digest) -> list[BlobUse]:
    """Return what holds a blob, its last touch too while that is on record."""
    uses = [BlobUse("touched", "", "", "", at) for (at,) in reader.rows(_TOUCHED_AT, digest=str(digest))]
    return uses + [BlobUse(*row) for row in reader.rows(_USES, digest=str(digest))]


def tag_moves(reader: SqliteReader, repository: RepositoryName, tag: Tag) -> list[RecordedMove]:
    """Return where a tag has pointed, the newest first, entries that have decayed included."""
    return [
        RecordedMove(
            None if digest is None else digest.decode(errors="backslashreplace"), changed_at, changed_by
        )
        for digest, changed_at, changed_by in reader.rows(
            _TAG_MOVES, repository=repository.text, tag=tag.text
        )
    ]
