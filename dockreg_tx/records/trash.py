"""What is deleted goes here first, with all that is needed to bring it back."""

from __future__ import annotations

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.records.transactions import Transaction

KEEP_TAG = """
INSERT INTO trash (kind, repository, digest, tags, deleted_at, deleted_by)
SELECT 'tag', :repository, manifests.digest, json_array(tags.name), :now, :by
FROM tags JOIN manifests ON manifests.id = tags.manifest_id
WHERE tags.repository_id = :repository_id AND tags.name = :tag
"""
_LAST_ID = "SELECT coalesce(max(id), 0) FROM trash"
_KEEP = """
INSERT INTO trash (
    kind, repository, digest, tags, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by, deleted_at, deleted_by
)
SELECT
    'manifest', :repository, digest,
    (SELECT json_group_array(tags.name) FROM tags WHERE tags.manifest_id = manifests.id),
    media_type, size_bytes, content, artifact_type, annotations, subject, pushed_at, pushed_by, :now, :by
FROM manifests
"""
_KEEP_MANIFEST = f"{_KEEP} WHERE id = :manifest_id"
_KEEP_MANIFESTS = f"{_KEEP} WHERE repository_id = :repository_id"
_KEEP_REFERENCES = """
INSERT INTO trash_references (trash_id, kind, digest, size_bytes)
SELECT trash.id, naming.kind, naming.digest, naming.size_bytes
FROM trash
-- The order of tables is meant: otherwise SQLite begins with all manifests of the repository.
CROSS JOIN manifests ON manifests.repository_id = :repository_id AND manifests.digest = trash.digest
CROSS JOIN manifest_references AS naming ON naming.manifest_id = manifests.id
WHERE trash.id > :last_id
"""


def keep_manifests(
    transaction: Transaction,
    repository: RepositoryName,
    repository_id: int | None,
    manifest_id: int | None,
    *,
    by: str,
    now: float,
) -> None:
    """Copy one manifest of a repository, or (None) all of them, with tags and references."""
    last_id = transaction.value(_LAST_ID)
    transaction.execute(
        _KEEP_MANIFESTS if manifest_id is None else _KEEP_MANIFEST,
        repository=repository.text,
        repository_id=repository_id,
        manifest_id=manifest_id,
        now=now,
        by=by,
    )
    transaction.execute(_KEEP_REFERENCES, repository_id=repository_id, last_id=last_id)
