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
# What a manifest holds: its own bytes, all that it names, and what its children hold. A subject that is a
# manifest here is one of its own.
_HELD_BY_MANIFEST = """
WITH RECURSIVE here(id, repository_id) AS (
    SELECT manifests.id, manifests.repository_id
    FROM manifests JOIN repositories ON repositories.id = manifests.repository_id
    WHERE repositories.name = :repository AND manifests.digest = :digest
),
reached(id, digest) AS (
    SELECT id, :digest FROM here
    UNION
    SELECT below.id, below.digest
    FROM reached
    JOIN manifest_references AS naming ON naming.manifest_id = reached.id AND naming.kind = 'child'
    JOIN manifests AS below
        ON below.digest = naming.digest AND below.repository_id = (SELECT repository_id FROM here)
),
held(digest) AS (
    SELECT digest FROM reached
    UNION
    SELECT naming.digest
    FROM reached JOIN manifest_references AS naming ON naming.manifest_id = reached.id
    WHERE naming.kind <> 'subject' OR NOT EXISTS (
        SELECT 1 FROM manifests AS referred
        WHERE referred.digest = naming.digest AND referred.repository_id = (SELECT repository_id FROM here)
    )
)
"""
# Constants only are joined.
_MANIFEST_HOLDS = f"""
{_HELD_BY_MANIFEST}
SELECT count(*), coalesce(sum(size_bytes), 0) FROM blobs
WHERE state = 'live' AND digest IN (SELECT digest FROM held)
"""  # noqa: S608
# As garbage collection sees it: a link without a manifest holds nothing for long.
_MANIFEST_HOLDS_ALONE = f"""
{_MANIFEST_HOLDS}
    AND NOT EXISTS (
        SELECT 1 FROM manifest_references AS naming
        WHERE naming.digest = blobs.digest AND naming.manifest_id <> (SELECT id FROM here)
    )
    AND NOT EXISTS (
        SELECT 1 FROM manifests AS other
        WHERE other.digest = blobs.digest AND other.id <> (SELECT id FROM here)
    )
"""  # noqa: S608
_HOLDERS = f"""
{_HELD_BY_MANIFEST},
others(digest, repository_id, manifest) AS (
    SELECT naming.digest, holder.repository_id,
        CASE WHEN holder.repository_id = here.repository_id THEN holder.digest ELSE '' END
    FROM here, held
    JOIN manifest_references AS naming ON naming.digest = held.digest
    JOIN manifests AS holder ON holder.id = naming.manifest_id
    WHERE holder.id <> here.id
    UNION
    SELECT held.digest, holder.repository_id,
        CASE WHEN holder.repository_id = here.repository_id THEN holder.digest ELSE '' END
    FROM here, held
    JOIN manifests AS holder ON holder.digest = held.digest
    WHERE holder.id <> here.id
),
named_by(digest, kind) AS (
    SELECT manifests.digest, min(naming.kind)
    FROM manifest_references AS naming JOIN manifests ON manifests.id = naming.manifest_id
    WHERE naming.digest = :digest AND naming.kind IN ('child', 'subject')
        AND manifests.repository_id = (SELECT repository_id FROM here)
    GROUP BY manifests.digest
)
SELECT repositories.name, others.manifest,
    (
        SELECT coalesce(group_concat(tags.name, ' '), '')
        FROM tags JOIN manifests ON manifests.id = tags.manifest_id
        WHERE manifests.repository_id = others.repository_id AND manifests.digest = others.manifest
    ),
    CASE
        WHEN named_by.kind = 'child' THEN 'index'
        WHEN named_by.kind = 'subject' THEN 'referrer'
        WHEN others.manifest IN (SELECT digest FROM reached) THEN 'child'
        ELSE ''
    END AS role,
    count(blobs.digest), coalesce(sum(blobs.size_bytes), 0)
FROM others
JOIN repositories ON repositories.id = others.repository_id
LEFT JOIN blobs ON blobs.digest = others.digest AND blobs.state = 'live'
LEFT JOIN named_by ON named_by.digest = others.manifest
GROUP BY repositories.name, others.manifest
HAVING count(blobs.digest) > 0 OR role = 'index'
ORDER BY role <> 'index', 6 DESC, 1, 2
"""  # noqa: S608
_TAGS_OF_MANIFEST = """
SELECT tags.name
FROM repositories
JOIN manifests ON manifests.repository_id = repositories.id
JOIN tags ON tags.manifest_id = manifests.id
WHERE repositories.name = :repository AND manifests.digest = :digest
ORDER BY tags.name
"""
# As bytes: a row that has decayed may hold no text.
_TAG_MOVES = """
SELECT CAST(tag_history.digest AS BLOB), tag_history.changed_at, tag_history.changed_by
FROM tag_history JOIN repositories ON repositories.id = tag_history.repository_id
WHERE repositories.name = :repository AND tag_history.name = :tag
ORDER BY tag_history.id DESC
"""
_CLOCK_HELD_UNTIL = "SELECT held_until FROM clock"
_TOUCHED_AT = "SELECT touched_at FROM blobs WHERE digest = :digest"


@dataclass(frozen=True, slots=True)
class RecordedMove:
    """Where a tag pointed from a moment on, as its row says, damaged or not; None: it was removed."""

    digest: str | None
    changed_at: float
    changed_by: str


@dataclass(frozen=True, slots=True)
class Holder:
    """Who else holds content of a manifest: another one of its repository, or all of another repository.

    ``manifest``: its digest, empty for another repository; ``tags`` are its tags, separated by spaces.
    ``role``: "index" (it names the manifest as child), "referrer" (as subject), "child" (the manifest names
    it), or empty: they only share content. Of that are ``count`` blobs and ``size_bytes``.
    """

    repository: str
    manifest: str
    tags: str
    role: str
    count: int
    size_bytes: int


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


def clock_held_until(reader: SqliteReader) -> float:
    """Return until when a server removes nothing for its age, since the clock has jumped; 0: never."""
    return max((held_until for (held_until,) in reader.rows(_CLOCK_HELD_UNTIL)), default=0.0)


def held_too(reader: SqliteReader, repository: RepositoryName) -> list[tuple[str, int, int]]:
    """Return which others hold blobs of this repository: name, how many, and their bytes; the most first."""
    return [
        (name, count, size_bytes)
        for name, count, size_bytes in reader.rows(_HELD_TOO, repository=repository.text)
    ]


def manifest_holds(reader: SqliteReader, repository: RepositoryName, digest: Digest) -> tuple[int, int]:
    """Return how many blobs a manifest keeps, its own and those of its children included, and their bytes."""
    ((count, size_bytes),) = reader.rows(_MANIFEST_HOLDS, repository=repository.text, digest=str(digest))
    return count, size_bytes


def manifest_holds_alone(reader: SqliteReader, repository: RepositoryName, digest: Digest) -> tuple[int, int]:
    """Return how many of these no other manifest of any repository keeps, and their bytes."""
    rows = reader.rows(_MANIFEST_HOLDS_ALONE, repository=repository.text, digest=str(digest))
    ((count, size_bytes),) = rows
    return count, size_bytes


def holders(reader: SqliteReader, repository: RepositoryName, digest: Digest) -> list[Holder]:
    """Return who else keeps these: what names the manifest first, then who keeps the most."""
    return [Holder(*row) for row in reader.rows(_HOLDERS, repository=repository.text, digest=str(digest))]


def tags_of(reader: SqliteReader, repository: RepositoryName, digest: Digest) -> list[str]:
    """Return the tags of a manifest, sorted by their bytes."""
    rows = reader.rows(_TAGS_OF_MANIFEST, repository=repository.text, digest=str(digest))
    return [tag for (tag,) in rows]


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
