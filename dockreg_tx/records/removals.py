"""Operations that remove tags, manifests, links and repositories; the bytes stay."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.records import statements, trash
from dockreg_tx.records.transactions import Transaction


def delete_tag(
    transaction: Transaction, repository: RepositoryName, tag: Tag, *, by: str, now: float
) -> bool:
    """Remove one tag, keeping its manifest; False when there was none."""
    repository_id = transaction.repository_id(repository)
    transaction.execute(
        trash.KEEP_TAG, repository=repository.text, repository_id=repository_id, tag=tag.text, now=now, by=by
    )
    if not transaction.changed(statements.REMOVE_TAG, repository_id=repository_id, tag=tag.text):
        return False
    _note_removed_tag(transaction, repository_id, tag.text, by=by, now=now)
    transaction.journal("tag.delete", now, {"repository": repository.text, "tag": tag.text, "by": by})
    return True


def delete_manifest(
    transaction: Transaction, repository: RepositoryName, digest: Digest, *, by: str, now: float
) -> bool:
    """Remove a manifest and every tag that points at it; False when there was none."""
    repository_id = transaction.repository_id(repository)
    manifest_id = transaction.value(statements.MANIFEST_ID, repository_id=repository_id, digest=str(digest))
    if manifest_id is None:
        return False
    trash.keep_manifests(transaction, repository, repository_id, manifest_id, by=by, now=now)
    removed = transaction.execute(statements.REMOVE_TAGS_OF, manifest_id=manifest_id).fetchall()
    tags = sorted(tag for (tag,) in removed)
    for tag in tags:
        _note_removed_tag(transaction, repository_id, tag, by=by, now=now)
    transaction.execute(statements.REMOVE_MANIFEST, manifest_id=manifest_id)
    # One line for all, so that a torn journal never tells half of it.
    fields = {"repository": repository.text, "digest": str(digest), "tags": tags, "by": by}
    transaction.journal("manifest.delete", now, fields)
    return True


def unlink_blob(
    transaction: Transaction, repository: RepositoryName, digest: Digest, *, by: str, now: float
) -> bool:
    """Take a blob away from one repository; False when it was not linked."""
    repository_id = transaction.repository_id(repository)
    if not transaction.changed(statements.UNLINK_BLOB, repository_id=repository_id, digest=str(digest)):
        return False
    fields = {"repository": repository.text, "digest": str(digest), "by": by}
    transaction.journal("blob.unlink", now, fields)
    return True


def remove_repository(transaction: Transaction, repository: RepositoryName, *, by: str, now: float) -> bool:
    """Remove a repository with everything in it, history and upload sessions too; False when unknown."""
    repository_id = transaction.repository_id(repository)
    if repository_id is None:
        return False
    transaction.execute(statements.REMOVE_UPLOADS_IN, repository=repository.text)
    trash.keep_manifests(transaction, repository, repository_id, None, by=by, now=now)
    # Tags pin their manifests, so they go first; the rest follows the row of the repository.
    transaction.execute(statements.REMOVE_TAGS_IN, repository_id=repository_id)
    transaction.execute(statements.REMOVE_REPOSITORY, repository_id=repository_id)
    transaction.journal("repository.remove", now, {"repository": repository.text, "by": by})
    return True


def _note_removed_tag(
    transaction: Transaction, repository_id: int | None, tag: str, *, by: str, now: float
) -> None:
    transaction.execute(
        statements.ADD_TAG_HISTORY, repository_id=repository_id, tag=tag, digest=None, now=now, by=by
    )
