"""Operations of a push: blobs, mounts, manifests and tags."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import Denied, ManifestBlobUnknown, PreconditionFailed, SizeInvalid
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import ContentReference, EnsureContent, NewManifest, ReferenceKind, TagExpectation
from dockreg_tx.records import statements
from dockreg_tx.records.transactions import Transaction

#: Longer manifests are read from their blob, so that rows stay short enough for the reactor.
CONTENT_LIMIT_BYTES = 64 * 1024
#: Kinds that are blobs, whose size is checked.
BLOB_KINDS = (ReferenceKind.CONFIG, ReferenceKind.LAYER)


def commit_blob(
    transaction: Transaction,
    repository: RepositoryName,
    digest: Digest,
    size_bytes: int,
    ensure: EnsureContent,
    *,
    upload_id: str | None,
    now: float,
) -> None:
    """Record a published blob, link it and end its upload session."""
    ensure()
    transaction.execute(statements.PUT_BLOB, digest=str(digest), size_bytes=size_bytes, now=now)
    link(transaction, repository, digest, size_bytes, now)
    if upload_id is not None:
        transaction.execute(statements.END_UPLOAD, id=upload_id, now=now)


def mount_blob(
    transaction: Transaction, source: RepositoryName, target: RepositoryName, digest: Digest, *, now: float
) -> bool:
    """Link a blob of ``source`` to ``target``; False when ``source`` does not hold it."""
    size_bytes = transaction.value(statements.BLOB, repository=source.text, digest=str(digest))
    if size_bytes is None:
        return False
    transaction.execute(statements.TOUCH_BLOB, digest=str(digest), now=now)
    link(transaction, target, digest, size_bytes, now)
    return True


def put_manifest(
    transaction: Transaction,
    manifest: NewManifest,
    tags: Sequence[Tag],
    ensure: EnsureContent,
    *,
    may_overwrite: bool,
    now: float,
    expects: TagExpectation | None = None,
) -> None:
    """Record a manifest with its references and point ``tags`` at it."""
    _check_tags(transaction, manifest.repository, tags, expects)
    _check_references(transaction, manifest)
    ensure()
    repository_id = transaction.new_repository_id(manifest.repository, now)
    size_bytes = len(manifest.content)
    # For garbage collection only: without a link nobody can read it as a blob.
    transaction.execute(statements.PUT_BLOB, digest=str(manifest.digest), size_bytes=size_bytes, now=now)
    manifest_id = put_manifest_row(transaction, repository_id, manifest, now)
    put_references(transaction, manifest_id, manifest.references, now)
    journal_manifest(transaction, manifest, now)
    for tag in tags:
        point_tag(
            transaction, repository_id, manifest_id, manifest, tag, may_overwrite=may_overwrite, now=now
        )


def link(
    transaction: Transaction, repository: RepositoryName, digest: Digest, size_bytes: int, now: float
) -> bool:
    """Let a repository hand out a blob; False when it did before."""
    repository_id = transaction.new_repository_id(repository, now)
    is_new = transaction.changed(
        statements.LINK_BLOB, repository_id=repository_id, digest=str(digest), now=now
    )
    if is_new:
        fields = {"repository": repository.text, "digest": str(digest), "size_bytes": size_bytes}
        transaction.journal("blob.link", now, fields)
    return is_new


def _check_tags(
    transaction: Transaction,
    repository: RepositoryName,
    tags: Sequence[Tag],
    expects: TagExpectation | None,
) -> None:
    if expects is None:
        return
    for tag in tags:
        row = transaction.execute(
            statements.MANIFEST_BY_TAG, repository=repository.text, tag=tag.text
        ).fetchone()
        target = None if row is None else row[0]
        if not expects.holds(target):
            raise PreconditionFailed(tag.text, target)


def _check_references(transaction: Transaction, manifest: NewManifest) -> None:
    """Raise if required content is not in the repository, or is of another size than the manifest says."""
    missing: dict[str, None] = {}
    wrong_size: list[ContentReference] = []
    for reference in manifest.references:
        name, digest = manifest.repository.text, str(reference.digest)
        size_bytes = transaction.value(statements.BLOB, repository=name, digest=digest)
        if size_bytes is None:
            if reference.required and not _is_child_manifest(transaction, name, reference):
                missing[digest] = None
        elif reference.kind in BLOB_KINDS and size_bytes != reference.size_bytes:
            wrong_size.append(reference)
    if missing:
        raise ManifestBlobUnknown(list(missing))
    if wrong_size:
        raise size_invalid(wrong_size[0])


def size_invalid(reference: ContentReference) -> SizeInvalid:
    """Return the refusal of a descriptor whose size is not that of the blob."""
    return SizeInvalid(
        f"the {reference.kind.value} descriptor's size is not that of the blob: build the manifest again",
        {"digest": str(reference.digest), "size": reference.size_bytes},
    )


def tag_denied(tag: Tag) -> Denied:
    """Return the refusal to move a tag."""
    return Denied(f"tag {tag} exists, and you may not overwrite it: choose another", {"tag": tag.text})


def _is_child_manifest(transaction: Transaction, repository: str, reference: ContentReference) -> bool:
    if reference.kind is not ReferenceKind.CHILD:
        return False
    row = transaction.execute(
        statements.MANIFEST_BY_DIGEST, repository=repository, digest=str(reference.digest)
    ).fetchone()
    return row is not None


def put_manifest_row(transaction: Transaction, repository_id: int, manifest: NewManifest, now: float) -> int:
    """Record a manifest, or what is new of it, and return the id of its row."""
    subjects = [str(item.digest) for item in manifest.references if item.kind is ReferenceKind.SUBJECT]
    size_bytes = len(manifest.content)
    manifest_id = transaction.value(
        statements.PUT_MANIFEST,
        repository_id=repository_id,
        digest=str(manifest.digest),
        media_type=manifest.media_type,
        size_bytes=size_bytes,
        content=manifest.content if size_bytes <= CONTENT_LIMIT_BYTES else None,
        artifact_type=manifest.artifact_type,
        annotations=json.dumps(manifest.annotations, separators=(",", ":")),
        subject=subjects[0] if subjects else None,
        now=now,
        by=manifest.pushed_by,
    )
    return int(manifest_id)


def put_references(
    transaction: Transaction, manifest_id: int, references: Sequence[ContentReference], now: float
) -> None:
    """Record what a manifest names, in place of what it named before."""
    transaction.execute(statements.REMOVE_REFERENCES, manifest_id=manifest_id)
    for reference in references:
        digest = str(reference.digest)
        transaction.execute(
            statements.ADD_REFERENCE,
            manifest_id=manifest_id,
            kind=reference.kind.value,
            digest=digest,
            size_bytes=reference.size_bytes,
        )
        if reference.kind is not ReferenceKind.SUBJECT:
            transaction.execute(statements.TOUCH_BLOB, digest=digest, now=now)


def journal_manifest(transaction: Transaction, manifest: NewManifest, now: float) -> None:
    """Note a manifest."""
    fields = {
        "repository": manifest.repository.text,
        "digest": str(manifest.digest),
        "media_type": manifest.media_type,
        "by": manifest.pushed_by,
    }
    transaction.journal("manifest.put", now, fields)


def point_tag(
    transaction: Transaction,
    repository_id: int,
    manifest_id: int,
    manifest: NewManifest,
    tag: Tag,
    *,
    may_overwrite: bool,
    now: float,
) -> None:
    """Point a tag at a manifest that is recorded."""
    digest = str(manifest.digest)
    target = transaction.value(statements.TAG_TARGET, repository_id=repository_id, tag=tag.text)
    if target == digest:
        return
    if target is not None and not may_overwrite:
        raise tag_denied(tag)
    key = {"repository_id": repository_id, "tag": tag.text, "now": now}
    transaction.execute(statements.PUT_TAG, manifest_id=manifest_id, **key)
    transaction.execute(statements.ADD_TAG_HISTORY, digest=digest, by=manifest.pushed_by, **key)
    fields = {
        "repository": manifest.repository.text,
        "tag": tag.text,
        "digest": digest,
        "by": manifest.pushed_by,
    }
    transaction.journal("tag.put", now, fields)
