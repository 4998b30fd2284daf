"""Manifests and tags: what is recorded about them, and who reads, pushes and removes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports.blobs import BlobRecord, EnsureContent


class ReferenceKind(StrEnum):
    """What a manifest refers to content as."""

    CONFIG = "config"
    LAYER = "layer"
    CHILD = "child"
    SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class ContentReference:
    """One descriptor of a manifest.

    ``required``: a push fails unless the repository holds the content (config and layer as a linked blob;
    child as a manifest or a linked blob).
    """

    kind: ReferenceKind
    digest: Digest
    size_bytes: int
    required: bool


@dataclass(frozen=True, slots=True)
class NewManifest:
    """A valid manifest to be recorded; ``content`` is stored verbatim."""

    repository: RepositoryName
    digest: Digest
    media_type: str
    content: bytes
    references: tuple[ContentReference, ...] = ()
    #: For referrers: the manifest's artifactType, else its config's media type, else empty.
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    #: The user who pushed it, empty for anonymous.
    pushed_by: str = ""


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A stored manifest; ``content`` is None when it is too long for its row (then read the blob)."""

    digest: Digest
    media_type: str
    size_bytes: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class ReferrerRecord:
    """A manifest whose subject is another one, as a listing of referrers shows it."""

    digest: Digest
    media_type: str
    size_bytes: int
    #: Empty for an index that states none.
    artifact_type: str
    annotations: dict[str, str]


class PullRecords(Protocol):
    """Indexed look-ups, cheap enough for the reactor."""

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob if it is linked to this repository; its bytes elsewhere do not count."""
        ...

    async def manifest(self, repository: RepositoryName, reference: Reference) -> ManifestRecord | None:
        """Return the manifest that a tag or digest means in this repository."""
        ...

    async def repository_exists(self, repository: RepositoryName) -> bool:
        """Tell whether anything was ever stored under the name (and the repository was not removed)."""
        ...


class BrowseRecords(Protocol):
    """Pages in byte order; ``after`` is exclusive and need not exist, empty for the start."""

    async def tags(self, repository: RepositoryName, after: str, limit: int | None) -> list[str]:
        """Return up to ``limit`` tags (None: all), sorted by their bytes."""
        ...

    async def repositories(self, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories, sorted by their bytes."""
        ...

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        after: str,
        limit: int,
    ) -> list[ReferrerRecord]:
        """Return up to ``limit`` manifests whose subject this is, by digest.

        The subject need not exist. Only manifests of these types are listed, unless there are none.
        """
        ...

    async def repositories_with_blob(self, digest: Digest, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories that the blob is linked to, sorted."""
        ...


@dataclass(frozen=True, slots=True)
class TagExpectation:
    """Where a tag must be before it is moved: absent, or present and, unless empty, at one of ``digests``."""

    is_present: bool
    digests: frozenset[str] = frozenset()

    def holds(self, target: str | None) -> bool:
        """Tell whether a tag that points at ``target`` (None: does not exist) is as expected."""
        if not self.is_present:
            return target is None
        return target is not None and (not self.digests or target in self.digests)


class PushRecords(Protocol):
    """Writes of a push; each returns when it is on disk (WAL, synchronous=FULL), journal first."""

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
        """Record a published blob, link it to the repository and end its upload session, in one transaction.

        Raises:
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...

    async def mount_blob(
        self, source: RepositoryName, target: RepositoryName, digest: Digest, *, now: float
    ) -> bool:
        """Link a blob of ``source`` to ``target``; False when ``source`` does not hold it."""
        ...

    async def renew_blob(self, digest: Digest, *, now: float) -> bool:
        """Begin the blob's grace period anew, for a client was told that it exists; False when it is gone."""
        ...

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
        """Record a manifest with its references and point ``tags`` at it, in one transaction.

        Re-pushing is no error; the last media type wins. ``may_overwrite`` False refuses to move a tag that
        points elsewhere; ``expects`` is asked of each tag.

        Raises:
            PreconditionFailed: a tag is not where ``expects`` wants it.
            ManifestBlobUnknown: required content is not in the repository.
            SizeInvalid: a config or layer descriptor's size differs from that of the linked blob.
            Denied: a tag exists and may not be moved.
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...


class RemoveRecords(Protocol):
    """Removals; the bytes stay until garbage collection."""

    async def delete_tag(self, repository: RepositoryName, tag: Tag, *, by: str, now: float) -> bool:
        """Remove one tag, keeping its manifest; False when there was none."""
        ...

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, *, by: str, now: float
    ) -> bool:
        """Remove a manifest and every tag that points at it; False when there was none."""
        ...

    async def unlink_blob(self, repository: RepositoryName, digest: Digest, *, by: str, now: float) -> bool:
        """Take a blob away from one repository; False when it was not linked."""
        ...

    async def remove_repository(self, repository: RepositoryName, *, by: str, now: float) -> bool:
        """Remove a repository with all tags, manifests, links and upload sessions; False when unknown."""
        ...
