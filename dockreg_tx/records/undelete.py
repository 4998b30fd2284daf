"""Ways back: deleted tags and manifests out of the trash, and tags to where they pointed before.

What an image cannot be pulled without comes back with it: the manifest of a tag, the children of an index.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dockreg_tx.oci.descriptors import nondistributable_layers
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestUnknown
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import NewManifest
from dockreg_tx.records import pushes, statements
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Transaction

_COLUMNS = "id, kind, repository, digest, tags, deleted_at, deleted_by"
# A row that has decayed is for the scrub to tell of.
_IS_READABLE = f"json_valid(tags) AND {statements.is_digest('digest')}"
_TRASH = f"SELECT {_COLUMNS} FROM trash WHERE {_IS_READABLE} ORDER BY id DESC"  # noqa: S608 - constants
_TRASHED = f"SELECT {_COLUMNS} FROM trash WHERE id = :id AND {_IS_READABLE}"  # noqa: S608 - constants
_FORGET = "DELETE FROM trash WHERE id = :id"
_EMPTY = "DELETE FROM trash WHERE deleted_at < :before"
# As a push would: whoever needs it again may take as long to tag it.
_RESTORE_MANIFEST = """
INSERT INTO manifests (
    repository_id, digest, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by, checksum
)
SELECT
    :repository_id, digest, media_type, size_bytes, content, artifact_type, annotations, subject,
    :now, pushed_by,
    row_checksum(
        :repository_id, digest, media_type, size_bytes, artifact_type, annotations, subject,
        CAST(:now AS REAL), pushed_by
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
    UNION SELECT digest FROM trash_references
        WHERE trash_id = :id AND kind IN ('config', 'layer') AND :expects_layers
) AS kept
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = kept.digest AND blobs.state = 'live')
"""
_CONTENT = "SELECT content FROM trash WHERE id = :id"
_PUSHED_BY = "SELECT pushed_by FROM trash WHERE id = :id"
_TRASHED_MANIFEST = f"""
SELECT {_COLUMNS} FROM trash
WHERE kind = 'manifest' AND repository = :repository AND digest = :digest AND {_IS_READABLE}
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - constants
_CHILDREN = "SELECT digest FROM trash_references WHERE trash_id = :id AND kind = 'child'"
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
    if transaction.changed(_EMPTY, before=before):
        transaction.journal("trash.empty", before, {"before": before})


def undelete(
    transaction: Transaction, trash_id: int, *, by: str, now: float, expects_layers: bool = True
) -> Deleted:
    """Bring back a deleted tag, or a manifest with those of its tags that do not exist now.

    Args:
        transaction: takes the operation.
        trash_id: of what comes back.
        by: who wants it.
        now: seconds since the epoch.
        expects_layers: whether a manifest without all its layers is of no use.

    Raises:
        ManifestUnknown: nothing like it is in the trash, or its content is gone.
        Denied: the tag exists again.
    """
    row = transaction.execute(_TRASHED, id=trash_id).fetchone()
    if row is None:
        raise ManifestUnknown("the trash", str(trash_id))
    found = _deleted(row)
    if found.kind == "tag":
        _restore_needed(transaction, found.repository, [found.digest], now, expects_layers)
        point_tag(
            transaction, found.repository, Tag(found.tags[0]), found.digest, by=by, now=now, may_move=False
        )
    else:
        children = _children(transaction, found)
        _restore_manifest(transaction, found, now, expects_layers)
        _restore_needed(transaction, found.repository, children, now, expects_layers)
        _restore_tags(transaction, found, by=by, now=now)
    _forget(transaction, found, now)
    return found


def _restore_needed(
    transaction: Transaction,
    repository: RepositoryName,
    digests: list[Digest],
    now: float,
    expects_layers: bool,
) -> None:
    """Bring back what else was deleted of an image, and theirs; what is gone for good is left out.

    Tags of their own stay deleted, and then so does what the trash says about them.
    """
    wanted = list(digests)
    while wanted:
        digest = str(wanted.pop())
        repository_id = transaction.repository_id(repository)
        if transaction.value(statements.MANIFEST_ID, repository_id=repository_id, digest=digest) is not None:
            continue
        row = transaction.execute(_TRASHED_MANIFEST, repository=repository.text, digest=digest).fetchone()
        if row is None or _lacks(transaction, row[0], expects_layers):
            continue
        found = _deleted(row)
        wanted += _children(transaction, found)
        _restore_manifest(transaction, found, now, expects_layers)
        if not found.tags:
            _forget(transaction, found, now)


def _children(transaction: Transaction, found: Deleted) -> list[Digest]:
    return [Digest.parse(digest) for (digest,) in transaction.execute(_CHILDREN, id=found.id).fetchall()]


def _forget(transaction: Transaction, found: Deleted, now: float) -> None:
    transaction.execute(_FORGET, id=found.id)
    fields = {
        "kind": found.kind,
        "repository": found.repository.text,
        "digest": str(found.digest),
        "deleted_at": found.deleted_at,
    }
    transaction.journal("trash.restore", now, fields)


def _lacks(transaction: Transaction, trash_id: int, expects_layers: bool) -> bool:
    """Tell whether content is gone that was there when a manifest was pushed."""
    rows = transaction.execute(_MISSING, id=trash_id, expects_layers=expects_layers).fetchall()
    if not rows:
        return False
    return bool(
        {digest for (digest,) in rows} - nondistributable_layers(transaction.value(_CONTENT, id=trash_id))
    )


def _restore_manifest(transaction: Transaction, found: Deleted, now: float, expects_layers: bool) -> None:
    if _lacks(transaction, found.id, expects_layers):
        raise ManifestUnknown(found.repository.text, str(found.digest))
    repository_id = transaction.new_repository_id(found.repository, now)
    if not transaction.changed(_RESTORE_MANIFEST, id=found.id, repository_id=repository_id, now=now):
        # It was pushed again.
        return
    manifest_id = transaction.value(
        statements.MANIFEST_ID, repository_id=repository_id, digest=str(found.digest)
    )
    transaction.execute(_RESTORE_REFERENCES, id=found.id, manifest_id=manifest_id)
    transaction.execute(statements.TOUCH_BLOB, digest=str(found.digest), now=now)
    for digest, size_bytes in transaction.execute(_NAMED_BLOBS, id=found.id).fetchall():
        transaction.execute(statements.TOUCH_BLOB, digest=digest, now=now)
        pushes.link(transaction, found.repository, Digest.parse(digest), size_bytes, now)
    pushed_by = transaction.value(_PUSHED_BY, id=found.id)
    pushes.journal_manifest(transaction, _as_new(transaction, found.repository, found.digest, pushed_by), now)


def _restore_tags(transaction: Transaction, found: Deleted, *, by: str, now: float) -> None:
    repository_id = transaction.repository_id(found.repository)
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
