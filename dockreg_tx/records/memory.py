"""Records in memory: the verified fake, held to the same contract as SQLite; for tests and trials only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from math import inf

from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.errors import ManifestBlobUnknown, PreconditionFailed
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import (
    Account,
    BlobRecord,
    ContentReference,
    EnsureContent,
    ManifestRecord,
    NewManifest,
    ReferenceKind,
    ReferrerRecord,
    TagExpectation,
    TokenKind,
    TokenRecord,
)
from dockreg_tx.records.memory_collection import MemoryCollection, MemoryRepository
from dockreg_tx.records.memory_sessions import MemorySessions
from dockreg_tx.records.pushes import BLOB_KINDS, CONTENT_LIMIT_BYTES, size_invalid, tag_denied
from dockreg_tx.records.tokens import LOGINS_LIMIT


class _MemoryContent(MemorySessions):
    """Repositories with their blobs, manifests and tags, and the upload sessions."""

    def __init__(self) -> None:
        super().__init__()
        self._repositories: dict[str, MemoryRepository] = {}
        self._sizes_bytes: dict[Digest, int] = {}
        self._touched: dict[Digest, float] = {}
        self._quarantined: set[Digest] = set()

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob if it is linked to this repository."""
        if digest not in self._known(repository).blobs or digest in self._quarantined:
            return None
        return BlobRecord(digest, self._sizes_bytes[digest], self._touched[digest])

    async def manifest(self, repository: RepositoryName, reference: Reference) -> ManifestRecord | None:
        """Return the manifest that a tag or digest means in this repository."""
        known = self._known(repository)
        digest = reference if isinstance(reference, Digest) else known.tags.get(reference.text)
        return None if digest is None else known.manifests.get(digest)

    async def repository_exists(self, repository: RepositoryName) -> bool:
        """Tell whether anything was ever stored under the name."""
        return repository.text in self._repositories

    async def tags(self, repository: RepositoryName, after: str, limit: int | None) -> list[str]:
        """Return up to ``limit`` tags, sorted by their bytes."""
        return _page(self._known(repository).tags, after, limit)

    async def repositories(self, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories, sorted by their bytes."""
        return _page(self._repositories, after, limit)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        after: str,
        limit: int,
    ) -> list[ReferrerRecord]:
        """Return up to ``limit`` manifests whose subject this is, by digest."""
        found = {
            str(record.digest): record
            for target, record in self._known(repository).referrers.values()
            if target == subject and (not artifact_types or record.artifact_type in artifact_types)
        }
        return [found[digest] for digest in _page(found, after, limit)]

    async def repositories_with_blob(self, digest: Digest, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories that the blob is linked to, sorted."""
        if digest in self._quarantined:
            return []
        holders = (name for name, known in self._repositories.items() if digest in known.blobs)
        return _page(holders, after, limit)

    async def commit_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        size_bytes: int,
        ensure: EnsureContent,
        *,
        upload_id: str | None,
        now: float,
    ) -> None:
        """Record a published blob, link it to the repository and end its upload session."""
        ensure()
        self._sizes_bytes[digest] = size_bytes
        self._touch(digest, now)
        self._quarantined.discard(digest)
        self._made(repository).blobs.setdefault(digest, now)
        if upload_id is not None:
            await self.end_upload(upload_id, now=now)

    async def mount_blob(
        self,
        source: RepositoryName,
        target: RepositoryName,
        digest: Digest,
        *,
        now: float,
    ) -> bool:
        """Link a blob of ``source`` to ``target``; False when ``source`` does not hold it."""
        if digest not in self._known(source).blobs or digest in self._quarantined:
            return False
        self._touch(digest, now)
        self._made(target).blobs.setdefault(digest, now)
        return True

    async def put_manifest(
        self,
        manifest: NewManifest,
        tags: Sequence[Tag],
        ensure: EnsureContent,
        *,
        may_overwrite: bool,
        now: float,
        expects: TagExpectation | None = None,
    ) -> None:
        """Record a manifest with its references and point ``tags`` at it."""
        known = self._known(manifest.repository)
        for tag in tags:
            target = known.tags.get(tag.text)
            if expects is not None and not expects.holds(str(target) if target else None):
                raise PreconditionFailed(tag.text, str(target) if target else None)
        self._check_references(known, manifest.references)
        ensure()
        for tag in tags:
            if not may_overwrite and known.tags.get(tag.text, manifest.digest) != manifest.digest:
                raise tag_denied(tag)
        known = self._made(manifest.repository)
        size_bytes = len(manifest.content)
        content = manifest.content if size_bytes <= CONTENT_LIMIT_BYTES else None
        record = ManifestRecord(manifest.digest, manifest.media_type, size_bytes, content)
        known.manifests[manifest.digest] = record
        self._sizes_bytes[manifest.digest] = size_bytes
        self._touch(manifest.digest, now)
        self._quarantined.discard(manifest.digest)
        known.references[manifest.digest] = manifest.references
        known.used_at[manifest.digest] = now
        for tag in tags:
            self._note_untagged(known, tag.text, now)
        known.tags |= {tag.text: manifest.digest for tag in tags}
        for reference in manifest.references:
            if reference.kind is not ReferenceKind.SUBJECT and reference.digest in self._touched:
                self._touch(reference.digest, now)
            if reference.kind is ReferenceKind.SUBJECT:
                known.referrers[manifest.digest] = (reference.digest, _referrer(manifest))

    async def delete_tag(self, repository: RepositoryName, tag: Tag, *, by: str, now: float) -> bool:
        """Remove one tag, keeping its manifest; False when there was none."""
        known = self._known(repository)
        self._note_untagged(known, tag.text, now)
        return known.tags.pop(tag.text, None) is not None

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, *, by: str, now: float
    ) -> bool:
        """Remove a manifest and every tag that points at it; False when there was none."""
        known = self._known(repository)
        known.tags = {tag: target for tag, target in known.tags.items() if target != digest}
        known.referrers.pop(digest, None)
        known.references.pop(digest, None)
        return known.manifests.pop(digest, None) is not None

    async def unlink_blob(self, repository: RepositoryName, digest: Digest, *, by: str, now: float) -> bool:
        """Take a blob away from one repository; False when it was not linked."""
        known = self._known(repository)
        return known.blobs.pop(digest, None) is not None

    async def remove_repository(self, repository: RepositoryName, *, by: str, now: float) -> bool:
        """Remove a repository with everything in it; False when unknown."""
        if self._repositories.pop(repository.text, None) is None:
            return False
        self._remove_uploads_in(repository)
        return True

    def _touch(self, digest: Digest, now: float) -> None:
        self._touched[digest] = max(self._touched.get(digest, now), now)

    def _note_untagged(self, known: MemoryRepository, tag: str, now: float) -> None:
        if tag in known.tags:
            known.used_at[known.tags[tag]] = now

    def _known(self, repository: RepositoryName) -> MemoryRepository:
        return self._repositories.get(repository.text) or MemoryRepository()

    def _made(self, repository: RepositoryName) -> MemoryRepository:
        return self._repositories.setdefault(repository.text, MemoryRepository())

    def _check_references(self, known: MemoryRepository, references: Sequence[ContentReference]) -> None:
        missing: dict[str, None] = {}
        wrong_size = []
        for reference in references:
            is_child = reference.kind is ReferenceKind.CHILD and reference.digest in known.manifests
            if reference.digest in known.blobs and reference.digest not in self._quarantined:
                if (
                    reference.kind in BLOB_KINDS
                    and self._sizes_bytes[reference.digest] != reference.size_bytes
                ):
                    wrong_size.append(reference)
            elif reference.required and not is_child:
                missing[str(reference.digest)] = None
        if missing:
            raise ManifestBlobUnknown(list(missing))
        if wrong_size:
            raise size_invalid(wrong_size[0])


class _MemoryAccounts:
    """Users and grants."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._generation = 1

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, sorted; None when unknown."""
        return self._accounts.get(name)

    async def accounts(self) -> list[Account]:
        """Return all users, sorted by name."""
        return [self._accounts[name] for name in sorted(self._accounts)]

    def generation_at_once(self) -> int | None:
        """Return the ``access_generation``."""
        return self._generation

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes."""
        return self._generation

    async def add_account(self, account: Account) -> bool:
        """Add a user; False when the name is taken."""
        if account.name in self._accounts:
            return False
        self._put(replace(account, grants=tuple(sorted(set(account.grants)))))
        return True

    async def set_password_hash(self, name: str, password_hash: str, *, now: float) -> bool:
        """Replace the hash; False when there is no such user."""
        account = self._accounts.get(name)
        if account is None:
            return False
        self._drop_tokens(
            lambda token: token.user == name and token.kind is TokenKind.LOGIN and token.robot_id is None
        )
        return self._put(replace(account, password_hash=password_hash))

    async def set_disabled(self, name: str, is_disabled: bool, *, now: float) -> bool:
        """Switch a user off or on; False when there is no such user."""
        account = self._accounts.get(name)
        return account is not None and self._put(replace(account, is_disabled=is_disabled))

    async def remove_account(self, name: str, *, now: float) -> bool:
        """Remove a user and the grants; False when there is no such user."""
        if self._accounts.pop(name, None) is None:
            return False
        self._drop_tokens(lambda token: token.user == name)
        self._generation += 1
        return True

    async def add_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Give a grant; False when there is no such user."""
        account = self._accounts.get(name)
        if account is None:
            return False
        if spec in account.grants:
            return True
        return self._put(replace(account, grants=tuple(sorted({*account.grants, spec}))))

    async def remove_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Take a grant; False when the user does not have it."""
        account = self._accounts.get(name)
        if account is None or spec not in account.grants:
            return False
        return self._put(replace(account, grants=tuple(item for item in account.grants if item != spec)))

    async def add_token(self, token: TokenRecord) -> bool:
        """Add a token; False when there is no such user or robot, or the id or hash is taken."""
        is_taken = token.id in self._tokens or await self.token(token.hash) is not None
        is_orphan = token.robot_id is not None and token.robot_id not in self._tokens
        if is_taken or is_orphan or token.user not in self._accounts:
            return False
        self._tokens[token.id] = token
        logins = [
            (each.created_at, each.id)
            for each in self._tokens.values()
            if each.user == token.user and each.kind is TokenKind.LOGIN
        ]
        stale = {token_id for _, token_id in sorted(logins)[:-LOGINS_LIMIT]}
        self._drop_tokens(
            lambda each: (
                each.user == token.user and (each.id in stale or (each.expires_at or inf) <= token.created_at)
            )
        )
        return True

    async def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token with this hash, expired or not."""
        return next((token for token in self._tokens.values() if token.hash == token_hash), None)

    async def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, expired or not."""
        return self._tokens.get(token_id)

    async def tokens(self) -> list[TokenRecord]:
        """Return all tokens, sorted by user and age, the oldest first."""
        return sorted(self._tokens.values(), key=lambda token: (token.user, token.created_at, token.id))

    async def note_token_use(self, token_id: str, *, now: float) -> bool:
        """Note that a token was used; False when there is none."""
        token = self._tokens.get(token_id)
        if token is not None:
            self._tokens[token_id] = replace(token, used_at=now)
        return token is not None

    async def remove_token(self, token_id: str, *, now: float) -> bool:
        """Remove a token; False when there is none."""
        found = token_id in self._tokens
        self._drop_tokens(lambda token: token.id == token_id)
        return found

    def _drop_tokens(self, is_dropped: Callable[[TokenRecord], bool]) -> None:
        dropped = {token.id for token in self._tokens.values() if is_dropped(token)}
        self._tokens = {
            token.id: token
            for token in self._tokens.values()
            if token.id not in dropped and token.robot_id not in dropped
        }
        self._generation += len(dropped)

    def _put(self, account: Account) -> bool:
        self._accounts[account.name] = account
        self._generation += 1
        return True


class MemoryRecords(_MemoryContent, MemoryCollection, _MemoryAccounts):
    """Everything that is known, until the process ends."""

    def __init__(self) -> None:
        _MemoryContent.__init__(self)
        MemoryCollection.__init__(self)
        _MemoryAccounts.__init__(self)

    async def check(self) -> None:
        """Do nothing: memory can always be read and written."""


def _page(texts: Iterable[str], after: str, limit: int | None) -> list[str]:
    # Names and tags are ASCII, so the order of characters is that of bytes.
    return list(islice((text for text in sorted(texts) if text > after), limit))


def _referrer(manifest: NewManifest) -> ReferrerRecord:
    return ReferrerRecord(
        manifest.digest,
        manifest.media_type,
        len(manifest.content),
        manifest.artifact_type,
        manifest.annotations,
    )
