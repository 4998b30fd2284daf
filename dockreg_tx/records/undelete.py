"""Ways back: deleted tags and manifests out of the trash, and tags to where they pointed before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestUnknown
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import NewManifest
from dockreg_tx.records import pushes, statements
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Transaction

_COLUMNS = "id, kind, repository, digest, tags, deleted_at, deleted_by"
_TRASH = f"SELECT {_COLUMNS} FROM trash ORDER BY id DESC"  # noqa: S608 - constants
_TRASHED = f"SELECT {_COLUMNS} FROM trash WHERE id = :id"  # noqa: S608 - constants
_FORGET = "DELETE FROM trash WHERE id = :id"
_EMPTY = "DELETE FROM trash WHERE deleted_at < :before"
_RESTORE_MANIFEST = """
INSERT INTO manifests (
    repository_id, digest, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by, checksum
)
SELECT
    :repository_id, digest, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by,
    row_checksum(
        :repository_id, digest, media_type, size_bytes, artifact_type, annotations, subject,
        pushed_at, pushed_by
    )
FROM trash WHERE id = :id
ON CONFLICT DO NOTHING
"""
_RESTORE_REFERENCES = """
INSERT INTO manifest_references (manifest_id, kind, digest, size_bytes)
SELECT :manifest_id, kind, digest, size_bytes FROM trash_references WHERE trash_id = :id
ON CONFLICT DO NOTHING
"""
_MISSING = """
SELECT kept.digest
FROM (
    SELECT digest FROM trash WHERE id = :id
    UNION SELECT digest FROM trash_references WHERE trash_id = :id AND kind IN ('config', 'layer')
) AS kept
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = kept.digest AND blobs.state = 'live')
"""
_NAMED_BLOBS = """
SELECT blobs.digest, blobs.size_bytes
FROM trash_references JOIN blobs ON blobs.digest = trash_references.digest
WHERE trash_references.trash_id = :id AND trash_references.kind IN ('config', 'layer')
"""
_HISTORY = """
SELECT tag_history.digest, tag_history.changed_at, tag_history.changed_by
FROM tag_history JOIN repositories ON repositories.id = tag_history.repository_id
WHERE repositories.name = :repository AND tag_history.name = :tag
ORDER BY tag_history.id DESC
"""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A tag, or a manifest with its tags, that can be restored."""

    id: int
    kind: str
    repository: RepositoryName
    digest: Digest
    tags: tuple[str, ...]
    deleted_at: float
    deleted_by: str


@dataclass(frozen=True, slots=True)
class TagMove:
    """Where a tag pointed from a moment on; None: it was removed."""

    digest: Digest | None
    changed_at: float
    changed_by: str


def trash(reader: SqliteReader) -> list[Deleted]:
    """Return what can be restored, the newest first."""
    return [_deleted(row) for row in reader.rows(_TRASH)]


def tag_history(reader: SqliteReader, repository: RepositoryName, tag: Tag) -> list[TagMove]:
    """Return where a tag has pointed, the newest first."""
    return [
        TagMove(Digest.parse(digest) if digest else None, changed_at, changed_by)
        for digest, changed_at, changed_by in reader.rows(_HISTORY, repository=repository.text, tag=tag.text)
    ]


def empty_trash(transaction: Transaction, before: float) -> None:
    """Forget what was deleted before this."""
    transaction.execute(_EMPTY, before=before)


def undelete(transaction: Transaction, trash_id: int, *, by: str, now: float) -> Deleted:
    """Bring back a deleted tag, or a manifest with those of its tags that do not exist now.

    Raises:
        ManifestUnknown: nothing like it is in the trash, or its content is gone.
        Denied: the tag exists again.
    """
    row = transaction.execute(_TRASHED, id=trash_id).fetchone()
    if row is None:
        raise ManifestUnknown("the trash", str(trash_id))
    found = _deleted(row)
    if found.kind == "tag":
        point_tag(
            transaction, found.repository, Tag(found.tags[0]), found.digest, by=by, now=now, may_move=False
        )
    else:
        _restore_manifest(transaction, found, by=by, now=now)
    transaction.execute(_FORGET, id=trash_id)
    return found


def _restore_manifest(transaction: Transaction, found: Deleted, *, by: str, now: float) -> None:
    if transaction.value(_MISSING, id=found.id) is not None:
        raise ManifestUnknown(found.repository.text, str(found.digest))
    repository_id = transaction.new_repository_id(found.repository, now)
    transaction.execute(_RESTORE_MANIFEST, id=found.id, repository_id=repository_id)
    manifest_id = transaction.value(
        statements.MANIFEST_ID, repository_id=repository_id, digest=str(found.digest)
    )
    transaction.execute(_RESTORE_REFERENCES, id=found.id, manifest_id=manifest_id)
    transaction.execute(statements.TOUCH_BLOB, digest=str(found.digest), now=now)
    for digest, size_bytes in transaction.execute(_NAMED_BLOBS, id=found.id).fetchall():
        transaction.execute(statements.TOUCH_BLOB, digest=digest, now=now)
        pushes.link(transaction, found.repository, Digest.parse(digest), size_bytes, now)
    pushes.journal_manifest(transaction, _as_new(transaction, found.repository, found.digest, by), now)
    for tag in found.tags:
        if transaction.value(statements.TAG_TARGET, repository_id=repository_id, tag=tag) is None:
            point_tag(transaction, found.repository, Tag(tag), found.digest, by=by, now=now)


def point_tag(
    transaction: Transaction,
    repository: RepositoryName,
    tag: Tag,
    digest: Digest,
    *,
    by: str,
    now: float,
    may_move: bool = True,
) -> None:
    """Point a tag at a manifest.

    Raises:
        ManifestUnknown: it is not there.
        Denied: the tag points elsewhere and may not be moved.
    """
    repository_id = transaction.repository_id(repository)
    manifest_id = transaction.value(statements.MANIFEST_ID, repository_id=repository_id, digest=str(digest))
    if repository_id is None or manifest_id is None:
        raise ManifestUnknown(repository.text, str(digest))
    manifest = _as_new(transaction, repository, digest, by)
    pushes.point_tag(transaction, repository_id, manifest_id, manifest, tag, may_overwrite=may_move, now=now)


def _as_new(transaction: Transaction, repository: RepositoryName, digest: Digest, by: str) -> NewManifest:
    """Return what the operations of a push need to know of a manifest that is there."""
    row = transaction.execute(
        statements.MANIFEST_BY_DIGEST, repository=repository.text, digest=str(digest)
    ).fetchone()
    return NewManifest(repository, digest, row[1], row[3] or b"", pushed_by=by)


def _deleted(row: tuple[Any, ...]) -> Deleted:
    trash_id, kind, repository, digest, tags, deleted_at, deleted_by = row
    return Deleted(
        trash_id,
        kind,
        RepositoryName(repository),
        Digest.parse(digest),
        tuple(json.loads(tags)),
        deleted_at,
        deleted_by,
    )
