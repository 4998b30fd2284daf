"""The record ports over SQLite, whatever thread the work is done in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import (
    Account,
    BlobRecord,
    Cutoff,
    EnsureContent,
    ManifestRecord,
    NewManifest,
    RecordedBlob,
    ReferrerRecord,
    SettleContent,
    TagExpectation,
    TakeContent,
    TokenRecord,
    UntaggedManifest,
    UploadRecord,
    Verdict,
    settled,
)
from dockreg_tx.records import (
    collection,
    compaction,
    inspection,
    pushes,
    removals,
    sessions,
    tokens,
    undelete,
    users,
)
from dockreg_tx.records.command import CommandOperations
from dockreg_tx.records.reader import SqliteReader

#: Longer pages are read away from the reactor.
PAGE_LIMIT = 1000
_NO_REPOSITORY = RepositoryName("")


class SqliteOperations(CommandOperations):
    """Says for each method of the ports which operation or query it is, and whether that may take long."""

    # --- PullRecords

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob if it is linked to this repository."""
        return await self._read(lambda reader: reader.blob(repository, digest))

    async def manifest(self, repository: RepositoryName, reference: Reference) -> ManifestRecord | None:
        """Return the manifest that a tag or digest means in this repository."""
        return await self._read(lambda reader: reader.manifest(repository, reference))

    async def repository_exists(self, repository: RepositoryName) -> bool:
        """Tell whether anything was ever stored under the name."""
        return await self._read(lambda reader: reader.repository_exists(repository))

    # --- BrowseRecords

    async def tags(self, repository: RepositoryName, after: str, limit: int | None) -> list[str]:
        """Return up to ``limit`` tags, sorted by their bytes."""
        run = self._scan if limit is None or limit > PAGE_LIMIT else self._read
        return await run(lambda reader: reader.tags(repository, after, limit))

    async def repositories(self, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories, sorted by their bytes."""
        run = self._scan if limit > PAGE_LIMIT else self._read
        return await run(lambda reader: reader.repositories(after, limit))

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        after: str,
        limit: int,
    ) -> list[ReferrerRecord]:
        """Return up to ``limit`` manifests whose subject this is, by digest."""
        # In a thread: annotations may be long.
        return await self._scan(
            lambda reader: reader.referrers(repository, subject, artifact_types, after, limit)
        )

    async def repositories_with_blob(self, digest: Digest, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories that the blob is linked to, sorted."""
        # All links of a popular base layer are sorted, however short the page.
        return await self._scan(lambda reader: reader.repositories_with_blob(digest, after, limit))

    # --- PushRecords

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
        await self._write_content(
            lambda transaction: pushes.commit_blob(
                transaction, repository, digest, size_bytes, ensure, upload_id=upload_id, now=now
            ),
            ensure,
        )

    async def mount_blob(
        self, source: RepositoryName, target: RepositoryName, digest: Digest, *, now: float
    ) -> bool:
        """Link a blob of ``source`` to ``target``; False when ``source`` does not hold it."""
        return await self._write(
            lambda transaction: pushes.mount_blob(transaction, source, target, digest, now=now)
        )

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
        await self._write_content(
            lambda transaction: pushes.put_manifest(
                transaction, manifest, tags, ensure, may_overwrite=may_overwrite, now=now, expects=expects
            ),
            ensure,
        )

    # --- RemoveRecords

    async def delete_tag(self, repository: RepositoryName, tag: Tag, *, by: str, now: float) -> bool:
        """Remove one tag, keeping its manifest; False when there was none."""
        return await self._free(
            lambda transaction: removals.delete_tag(transaction, repository, tag, by=by, now=now)
        )

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, *, by: str, now: float
    ) -> bool:
        """Remove a manifest and every tag that points at it; False when there was none."""
        return await self._free(
            lambda transaction: removals.delete_manifest(transaction, repository, digest, by=by, now=now)
        )

    async def unlink_blob(self, repository: RepositoryName, digest: Digest, *, by: str, now: float) -> bool:
        """Take a blob away from one repository; False when it was not linked."""
        return await self._free(
            lambda transaction: removals.unlink_blob(transaction, repository, digest, by=by, now=now)
        )

    async def remove_repository(self, repository: RepositoryName, *, by: str, now: float) -> bool:
        """Remove a repository with everything in it; False when unknown."""
        return await self._free(
            lambda transaction: removals.remove_repository(transaction, repository, by=by, now=now)
        )

    # --- CollectRecords

    async def renew_blob(self, digest: Digest, *, now: float) -> bool:
        """Begin the blob's grace period anew; False when it is gone."""
        return await self._write(lambda transaction: collection.renew_blob(transaction, digest, now=now))

    async def dead_blobs(self, cutoff: Cutoff, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
        """Return a page of dead blobs, the longest untouched first."""
        return await self._scan(lambda reader: collection.dead_blobs(reader, cutoff, after, limit))

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Remove those that are still dead, with their links and bytes, in one transaction."""
        return await self._free(
            lambda transaction: collection.collect_blobs(
                transaction, digests, cutoff, take=take, is_enough=is_enough, settle=settle
            )
        )

    async def unknown_content(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that no blob is recorded for, and no manifest names."""
        return await self._scan(lambda reader: collection.unknown_content(reader, digests))

    async def collect_orphans(
        self,
        digests: Sequence[Digest],
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Move the bytes of those, in one transaction."""
        return await self._free(
            lambda transaction: collection.collect_orphans(
                transaction, digests, take=take, is_enough=is_enough, settle=settle
            )
        )

    async def restore_content(self, digest: Digest, *, put_back: EnsureContent) -> bool:
        """Call ``put_back`` under the write lock if a blob is recorded and good."""
        return await self._free(
            lambda transaction: collection.restore_content(transaction, digest, put_back=put_back)
        )

    async def untagged_manifests(
        self, before: float, after: UntaggedManifest | None, limit: int
    ) -> list[UntaggedManifest]:
        """Return a page of manifests pushed before this that no tag points at."""
        return await self._scan(lambda reader: collection.untagged_manifests(reader, before, after, limit))

    async def collect_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        before: float,
        now: float,
        by: str,
        dry_run: bool = False,
    ) -> bool:
        """Remove a manifest that nothing has kept since ``before``."""
        return await self._free(
            lambda transaction: collection.collect_manifest(
                transaction, repository, digest, before=before, now=now, by=by, dry_run=dry_run
            )
        )

    async def empty_trash(self, before: float) -> None:
        """Forget deleted tags and manifests that were put in the trash before this."""
        await self._free(lambda transaction: undelete.empty_trash(transaction, before))

    async def last_collection(self) -> float | None:
        """Return when garbage was last collected, None for never."""
        return await self._read(collection.last_collection)

    async def note_collection(self, now: float) -> None:
        """Record that garbage is being collected."""
        await self._free(lambda transaction: collection.note_collection(transaction, now))

    async def compact_journal(self, minimum_bytes: int) -> bool:
        """Put a snapshot in the place of a journal longer than this."""
        begun = await self._write(
            lambda transaction: compaction.begin(transaction, minimum_bytes=minimum_bytes)
        )
        if begun is not None:
            await self._scan(lambda _: begun.finish())
        return begun is not None

    # --- InspectRecords

    async def recorded_blobs(self, after: str, limit: int) -> list[RecordedBlob]:
        """Return a page of all blobs, by the text of their digest."""
        return await self._scan(lambda reader: inspection.recorded_blobs(reader, after, limit))

    async def quarantine_blob(self, digest: Digest, *, take: TakeContent) -> bool:
        """Count a blob as missing until it is pushed again, and move its bytes."""
        return await self._free(
            lambda transaction: inspection.quarantine_blob(transaction, digest, take=take)
        )

    # --- UploadRecords

    async def begin_upload(self, upload: UploadRecord) -> None:
        """Record a new session."""
        await self._write(lambda transaction: sessions.begin_upload(transaction, upload))

    async def upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, read afresh."""
        return await self._read(lambda reader: reader.upload(upload_id))

    async def begun_upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, None when it has no row; one that has ended is unknown."""
        return await self._read(lambda reader: reader.begun_upload(upload_id))

    async def set_upload_offset(self, upload_id: str, offset_bytes: int, *, now: float) -> bool:
        """Record how many bytes are on disk; False when the session is gone."""
        return await self._write(
            lambda transaction: sessions.set_upload_offset(transaction, upload_id, offset_bytes, now=now)
        )

    async def end_upload(self, upload_id: str, *, now: float) -> bool:
        """End the session; False when it had no row, or had ended."""
        return await self._free(lambda transaction: sessions.end_upload(transaction, upload_id, now=now))

    async def forget_ended_uploads(self, ended_before: float, limit: int) -> None:
        """Forget up to ``limit`` sessions that ended so long ago."""
        await self._free(lambda transaction: sessions.forget_ended_uploads(transaction, ended_before, limit))

    async def expired_uploads(self, touched_before: float, limit: int) -> list[UploadRecord]:
        """Return sessions that nobody touched since, the oldest first."""
        return await self._scan(lambda reader: reader.expired_uploads(touched_before, limit))

    # --- AccountRecords

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, sorted; None when unknown."""
        return await self._read(lambda reader: reader.account(name))

    async def accounts(self) -> list[Account]:
        """Return all users, sorted by name."""
        return await self._scan(lambda reader: reader.accounts())

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes, by any process."""
        return await self._read(SqliteReader.access_generation)

    async def add_account(self, account: Account) -> bool:
        """Add a user; False when the name is taken."""
        return await self._write(lambda transaction: users.add_account(transaction, account))

    async def set_password_hash(self, name: str, password_hash: str, *, now: float) -> bool:
        """Replace the hash; False when there is no such user."""
        return await self._free(
            lambda transaction: users.set_password_hash(transaction, name, password_hash, now=now)
        )

    async def set_disabled(self, name: str, is_disabled: bool, *, now: float) -> bool:
        """Switch a user off or on; False when there is no such user."""
        return await self._free(
            lambda transaction: users.set_disabled(transaction, name, is_disabled, now=now)
        )

    async def remove_account(self, name: str, *, now: float) -> bool:
        """Remove a user and the grants; False when there is no such user."""
        return await self._free(lambda transaction: users.remove_account(transaction, name, now=now))

    async def add_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Give a grant; False when there is no such user."""
        return await self._write(lambda transaction: users.add_grant(transaction, name, spec, now=now))

    async def remove_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Take a grant; False when the user does not have it."""
        return await self._free(lambda transaction: users.remove_grant(transaction, name, spec, now=now))

    # --- TokenRecords

    async def add_token(self, token: TokenRecord) -> bool:
        """Add a token; False when there is no such user or robot, or the id or hash is taken."""
        return await self._write(lambda transaction: tokens.add_token(transaction, token))

    async def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token with this hash, expired or not."""
        return await self._read(lambda reader: reader.token(token_hash))

    async def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, expired or not."""
        return await self._read(lambda reader: reader.token_by_id(token_id))

    async def tokens(self) -> list[TokenRecord]:
        """Return all tokens, sorted by user and age, the oldest first."""
        return await self._scan(lambda reader: reader.tokens())

    async def note_token_use(self, token_id: str, *, now: float) -> bool:
        """Note that a token was used; False when there is none."""
        return await self._write(lambda transaction: tokens.note_token_use(transaction, token_id, now=now))

    async def remove_token(self, token_id: str, *, now: float) -> bool:
        """Remove a token; False when there is none."""
        return await self._free(lambda transaction: tokens.remove_token(transaction, token_id, now=now))

    # --- Records

    def version(self) -> int | None:
        """Return nothing: whoever works inline has nothing to remember."""
        return None

    def generation_at_once(self) -> int | None:
        """Return nothing, for the same reason."""
        return None

    async def check(self) -> None:
        """Do nothing when the database can be read and written."""
        # BEGIN IMMEDIATE takes the write lock and fails on a read-only file; an empty commit costs no fsync.
        await self._write(lambda transaction: transaction.repository_id(_NO_REPOSITORY))
        await self._read(lambda reader: reader.access_generation())
