"""A new database from the facts of a journal and the content on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dockreg_tx.oci.descriptors import Descriptor
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import RegistryError
from dockreg_tx.oci.manifests import Manifest, parse_manifest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import ContentReference, NewManifest, ReferenceKind
from dockreg_tx.records import pushes, statements
from dockreg_tx.records.facts import Facts, ManifestFact, RepositoryFacts, TrashFact, UnknownEvent
from dockreg_tx.records.journal import Entry
from dockreg_tx.records.journal_reader import Report
from dockreg_tx.records.transactions import Transaction

_ADD_TRASH = """
INSERT INTO trash (
    kind, repository, digest, tags, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by, deleted_at, deleted_by
) VALUES (
    :kind, :repository, :digest, :tags, :media_type, :size_bytes, :content, :artifact_type, :annotations,
    :subject, :pushed_at, :pushed_by, :deleted_at, :deleted_by
) RETURNING id
"""
_ADD_TRASH_REFERENCE = """
INSERT INTO trash_references (trash_id, kind, digest, size_bytes)
VALUES (:trash_id, :kind, :digest, :size_bytes) ON CONFLICT DO NOTHING
"""
_ADD_HISTORY = """
INSERT INTO tag_history (repository_id, name, digest, changed_at, changed_by)
VALUES (:repository_id, :tag, :digest, :at, :by)
"""
_BUMP_ACCESS = "UPDATE generations SET access = access + 1"


class Content(Protocol):
    """What the disk holds, asked one by one. It blocks."""

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a blob, None when there is none."""
        ...

    def read(self, digest: Digest) -> bytes | None:
        """Return the bytes of a blob, None when there are none or they do not match the digest."""
        ...


@dataclass(slots=True)
class Counts:
    """What a rebuilt database holds."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    users: int = 0
    tokens: int = 0


def gather(entries: Iterable[Entry], report: Report) -> Facts:
    """Return what all entries add up to; those that make no sense are reported and left out."""
    facts = Facts()
    for entry in entries:
        try:
            facts.apply(entry)
        except UnknownEvent as error:
            report(f"journal: the event {str(error)!r} is of another release: left out")
        except (KeyError, TypeError, ValueError):
            report(f"journal: an entry {str(entry.get('event'))!r} lacks something: left out")
    return facts


class Rebuilder:
    """Writes facts into an empty database, within one transaction.

    Args:
        transaction: of the database, which has this release's schema.
        content: what is on disk.
        report: told of everything that is lost.
        now: seconds since the epoch; the grace period of all content begins anew.
    """

    def __init__(self, *, transaction: Transaction, content: Content, report: Report, now: float) -> None:
        self._transaction = transaction
        self._content = content
        self._report = report
        self._now = now
        self._counts = Counts()
        self._blobs: dict[str, int | None] = {}

    def write(self, facts: Facts) -> Counts:
        """Record all facts whose content is there."""
        for name, repository in facts.repositories.items():
            self._repository(name, repository)
        for item in facts.trash:
            self._trash(item)
        self._accounts(facts)
        self._counts.blobs = sum(size_bytes is not None for size_bytes in self._blobs.values())
        return self._counts

    # --- content

    def _blob(self, digest: str) -> int | None:
        """Record a blob that is on disk, once, and return its size."""
        if digest not in self._blobs:
            parsed = Digest.parse(digest)
            # What a subject or a child is named by may be of another algorithm: nothing is stored under that.
            size_bytes = self._content.size_of(parsed) if parsed.supported else None
            self._blobs[digest] = size_bytes
            if size_bytes is not None:
                self._transaction.execute(
                    statements.PUT_BLOB, digest=digest, size_bytes=size_bytes, now=self._now
                )
        return self._blobs[digest]

    def _manifest(self, repository: str, digest: str, fact: ManifestFact | None) -> NewManifest | None:
        """Return a manifest as its push knew it, None when its content is gone or none."""
        parsed = Digest.parse(digest)
        content = self._content.read(parsed)
        if content is None:
            return None
        try:
            manifest = parse_manifest(content, fact.media_type if fact else None)
        except RegistryError:
            return None
        return NewManifest(
            repository=RepositoryName(repository),
            digest=parsed,
            media_type=manifest.media_type,
            content=content,
            references=references_of(manifest),
            artifact_type=manifest.artifact_type,
            annotations=manifest.annotations,
            pushed_by=fact.pushed_by if fact else "",
        )

    # --- repositories

    def _repository(self, name: str, facts: RepositoryFacts) -> None:
        repository_id = self._transaction.new_repository_id(RepositoryName(name), facts.created_at)
        self._counts.repositories += 1
        for digest, (size_bytes, at) in facts.links.items():
            self._link(name, repository_id, digest, size_bytes, at)
        known = {
            digest: self._put_manifest(name, repository_id, digest, fact)
            for digest, fact in facts.manifests.items()
        }
        for tag, (digest, at) in facts.tags.items():
            manifest_id = known.get(digest)
            if digest not in known:
                # The journal lost the line of the manifest; its bytes may tell enough.
                manifest_id = known[digest] = self._put_manifest(name, repository_id, digest, None)
            if manifest_id is None:
                self._report(f"{name}:{tag} is lost: the content of {digest} is missing or damaged")
                continue
            self._transaction.execute(
                statements.PUT_TAG, repository_id=repository_id, tag=tag, manifest_id=manifest_id, now=at
            )
            self._counts.tags += 1
        for move in facts.history:
            self._transaction.execute(
                _ADD_HISTORY,
                repository_id=repository_id,
                tag=move.tag,
                digest=move.digest,
                at=move.at,
                by=move.by,
            )

    def _link(self, name: str, repository_id: int, digest: str, size_bytes: int, at: float) -> None:
        found = self._blob(digest)
        if found is None or found != size_bytes:
            what = "missing" if found is None else f"{found} bytes long instead of {size_bytes}"
            self._report(f"{digest} in {name} is {what}: push it again")
            return
        self._transaction.execute(statements.LINK_BLOB, repository_id=repository_id, digest=digest, now=at)

    def _put_manifest(
        self, name: str, repository_id: int, digest: str, fact: ManifestFact | None
    ) -> int | None:
        manifest = self._manifest(name, digest, fact)
        if manifest is None:
            self._report(f"{name}@{digest} is lost: its content is missing or damaged")
            return None
        self._blob(digest)
        at = fact.pushed_at if fact else self._now
        manifest_id = pushes.put_manifest_row(self._transaction, repository_id, manifest, at)
        pushes.put_references(self._transaction, manifest_id, manifest.references, at)
        self._counts.manifests += 1
        return manifest_id

    def _trash(self, item: TrashFact) -> None:
        manifest = None
        if item.manifest is not None:
            manifest = self._manifest(item.repository, item.digest, item.manifest)
            if manifest is None:
                # Collected since: nothing could be restored from it.
                return
        self._blob(item.digest)
        trash_id = self._transaction.value(_ADD_TRASH, **_trash_row(item, manifest))
        for reference in manifest.references if manifest else ():
            # What it names stays as long as it can come back.
            self._blob(str(reference.digest))
            self._transaction.execute(
                _ADD_TRASH_REFERENCE,
                trash_id=trash_id,
                kind=reference.kind.value,
                digest=str(reference.digest),
                size_bytes=reference.size_bytes,
            )

    # --- users

    def _accounts(self, facts: Facts) -> None:
        for account in facts.accounts.values():
            self._transaction.execute(
                statements.ADD_USER,
                name=account.name,
                password_hash=account.password_hash,
                is_admin=account.is_admin,
                is_disabled=account.is_disabled,
                created_at=account.created_at,
            )
            self._counts.users += 1
            for spec, at in facts.grants.get(account.name, {}).items():
                self._transaction.execute(statements.ADD_GRANT, name=account.name, spec=spec, now=at)
        for token in facts.tokens.values():
            if token.user in facts.accounts and (token.expires_at or self._now + 1) > self._now:
                self._transaction.execute(
                    statements.ADD_TOKEN,
                    id=token.id,
                    kind=token.kind.value,
                    hash=token.hash,
                    user=token.user,
                    created_at=token.created_at,
                    robot_id=None,
                    grants=None if token.grants is None else json.dumps(token.grants),
                    note=token.note,
                    expires_at=token.expires_at,
                )
                self._counts.tokens += 1
        if facts.has_known_users:
            # A registry whose last user was removed on purpose gets no new one.
            self._transaction.execute(_BUMP_ACCESS)


def references_of(manifest: Manifest) -> tuple[ContentReference, ...]:
    """Return what a manifest names; nothing is required of what was accepted once."""
    groups: tuple[tuple[ReferenceKind, Sequence[Descriptor]], ...] = (
        (ReferenceKind.CONFIG, [manifest.config] if manifest.config else []),
        (ReferenceKind.LAYER, manifest.layers),
        (ReferenceKind.CHILD, manifest.children),
        (ReferenceKind.SUBJECT, [manifest.subject] if manifest.subject else []),
    )
    return tuple(
        ContentReference(kind, descriptor.digest, descriptor.size_bytes, required=False)
        for kind, descriptors in groups
        for descriptor in descriptors
    )


def _trash_row(item: TrashFact, manifest: NewManifest | None) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(
        ("media_type", "size_bytes", "content", "artifact_type", "annotations", "subject")
    )
    if manifest is not None:
        subjects = [str(item.digest) for item in manifest.references if item.kind is ReferenceKind.SUBJECT]
        is_short = len(manifest.content) <= pushes.CONTENT_LIMIT_BYTES
        row = {
            "media_type": manifest.media_type,
            "size_bytes": len(manifest.content),
            "content": manifest.content if is_short else None,
            "artifact_type": manifest.artifact_type,
            "annotations": json.dumps(manifest.annotations, separators=(",", ":")),
            "subject": subjects[0] if subjects else None,
        }
    return {
        **row,
        "kind": item.kind,
        "repository": item.repository,
        "digest": item.digest,
        "tags": json.dumps(item.tags, separators=(",", ":")),
        "pushed_at": item.manifest.pushed_at if item.manifest else None,
        "pushed_by": item.manifest.pushed_by if item.manifest else None,
        "deleted_at": item.deleted_at,
        "deleted_by": item.deleted_by,
    }
