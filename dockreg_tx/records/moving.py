"""Recording what other registries leave: blobs, manifests and tags, many in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestUnknown, SizeInvalid
from dockreg_tx.ports import MovedBlob, MovedContent, MovedTag, MoveVerdict, NewManifest
from dockreg_tx.records import pushes, statements, undelete
from dockreg_tx.records.transactions import Transaction

#: Who moves tags here; no user can have this name. A tag that anybody else moved last is left alone.
BY = "dockreg import"

_BLOB_STATE = "SELECT state, size_bytes FROM blobs WHERE digest = :digest"
_LAST_MOVE = """
SELECT changed_by FROM tag_history WHERE repository_id = :repository_id AND name = :tag
ORDER BY id DESC LIMIT 1
"""


def move_in(
    transaction: Transaction,
    contents: Sequence[MovedContent],
    *,
    ensure: Callable[[Digest], None],
    is_enough: Callable[[], bool],
    now: float,
) -> list[MoveVerdict]:
    """Record content until it is enough."""
    verdicts = []
    for content in contents:
        verdicts.append(_move(transaction, content, ensure, now))
        if is_enough():
            break
    return verdicts


def _move(
    transaction: Transaction, content: MovedContent, ensure: Callable[[Digest], None], now: float
) -> MoveVerdict:
    if isinstance(content, MovedBlob):
        return _move_blob(transaction, content, ensure, now)
    if isinstance(content, MovedTag):
        return _move_tag(transaction, content, now)
    return _move_manifest(transaction, content, ensure, now)


def _move_blob(
    transaction: Transaction, blob: MovedBlob, ensure: Callable[[Digest], None], now: float
) -> MoveVerdict:
    digest, size_bytes = str(blob.digest), blob.size_bytes
    state, recorded_bytes = transaction.execute(_BLOB_STATE, digest=digest).fetchone() or (None, 0)
    if state == "quarantined" and not blob.is_verified:
        return MoveVerdict.KEPT
    ensure(blob.digest)
    if state == "live":
        size_bytes = recorded_bytes
    else:
        transaction.execute(statements.PUT_BLOB, digest=digest, size_bytes=size_bytes, now=now)
    is_new = pushes.link(transaction, blob.repository, blob.digest, size_bytes, now)
    return MoveVerdict.NEW if is_new else MoveVerdict.PRESENT


def _move_manifest(
    transaction: Transaction, manifest: NewManifest, ensure: Callable[[Digest], None], now: float
) -> MoveVerdict:
    known = transaction.execute(
        statements.MANIFEST_BY_DIGEST, repository=manifest.repository.text, digest=str(manifest.digest)
    ).fetchone()
    if known is not None:
        return MoveVerdict.PRESENT
    try:
        pushes.put_manifest(
            transaction, manifest, (), lambda: ensure(manifest.digest), may_overwrite=True, now=now
        )
    except SizeInvalid:
        # It is said before anything is written.
        return MoveVerdict.REFUSED
    return MoveVerdict.NEW


def _move_tag(transaction: Transaction, moved: MovedTag, now: float) -> MoveVerdict:
    repository_id = transaction.repository_id(moved.repository)
    key = {"repository_id": repository_id, "tag": moved.tag.text}
    if transaction.value(statements.TAG_TARGET, **key) == str(moved.digest):
        return MoveVerdict.PRESENT
    if transaction.value(_LAST_MOVE, **key) not in {None, BY}:
        return MoveVerdict.KEPT
    try:
        undelete.point_tag(transaction, moved.repository, moved.tag, moved.digest, by=BY, now=now)
    except ManifestUnknown:
        return MoveVerdict.REFUSED
    return MoveVerdict.NEW
