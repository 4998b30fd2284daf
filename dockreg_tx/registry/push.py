"""Adding content beside uploads: mounting blobs of other repositories, and manifests with their tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockreg_tx.oci.descriptors import Descriptor
from dockreg_tx.oci.digests import Digest, parse_reference
from dockreg_tx.oci.errors import (
    BlobUnknown,
    BodyTooLarge,
    DigestMismatch,
    ManifestTooLarge,
    RegistryError,
    TagsTooMany,
    Unsupported,
)
from dockreg_tx.oci.manifests import Manifest, parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import (
    BlobStore,
    Blocking,
    Body,
    BrowseRecords,
    ContentReference,
    May,
    NewManifest,
    Now,
    PushRecords,
    ReferenceKind,
    TagExpectation,
)

#: Above this a manifest is parsed in a thread: the JSON of 4 MiB takes some 50 ms.
PARSE_INLINE_BYTES = 64 * 1024
#: Tags that one push may set; the spec asks for 10, a request line of 8 KiB has room for this many.
TAGS_LIMIT = 46
#: How many repositories are looked at for a mount that names no source.
_MOUNT_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class ManifestRules:
    """What the operator allows of manifests; ``limit_bytes`` is that of a manifest's body."""

    limit_bytes: int = 4 * 1024 * 1024
    allow_missing_layers: bool = False
    allow_missing_children: bool = True


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """What a client learns of the manifest it pushed."""

    digest: Digest
    subject: Digest | None
    tags: tuple[Tag, ...]


@dataclass(frozen=True, kw_only=True)
class Push:
    """The use cases of adding blobs by mount, and manifests."""

    records: PushRecords
    browse: BrowseRecords
    blobs: BlobStore
    blocking: Blocking
    now: Now
    rules: ManifestRules

    async def mount_blob(
        self, target: RepositoryName, digest: str, source: str | None, *, may: May
    ) -> Digest | None:
        """Link a blob of another repository to ``target``.

        A source that is missing, unreadable to the caller or misspelt is no error (the client then uploads).

        Args:
            target: the caller has been allowed to push here.
            digest: text of the ``mount`` parameter.
            source: text of the ``from`` parameter; None lets us look for one among what the caller may pull.
            may: the caller's rights.

        Returns:
            The digest when the blob is linked now, else None; also when its bytes are gone, for the client
            uploads them then.

        Raises:
            StoreUnavailable: the disk failed.
        """
        try:
            parsed = Digest.parse_supported(digest)
            sources = [RepositoryName.parse(source)] if source is not None else None
        except RegistryError:
            return None
        if sources is None:
            names = await self.browse.repositories_with_blob(parsed, "", _MOUNT_CANDIDATES)
            sources = [RepositoryName(name) for name in names]
        readable = [candidate for candidate in sources if may("pull", candidate)]
        if not readable or not await self._is_stored(parsed):
            return None
        for candidate in readable:
            if await self.records.mount_blob(candidate, target, parsed, now=self.now()):
                return parsed
        return None

    async def _is_stored(self, digest: Digest) -> bool:
        try:
            blob = await self.blobs.open(digest)
        except BlobUnknown:
            return False
        blob.close()
        return True

    async def put_manifest(
        self,
        repository: RepositoryName,
        reference: str,
        body: Body,
        *,
        content_type: str | None,
        extra_tags: Sequence[str],
        pushed_by: str,
        may_overwrite: bool,
        expects: TagExpectation | None = None,
        announced: str | None = None,
    ) -> PushedManifest:
        """Store a manifest verbatim and point its tags at it.

        Args:
            repository: need not exist yet.
            reference: the tag to set, or the digest that the bytes must have.
            body: at most ``rules.limit_bytes``.
            content_type: the request's Content-Type, parameters included.
            extra_tags: texts of ``tag`` parameters, only with a digest.
            pushed_by: name of the user, empty for anonymous.
            may_overwrite: False refuses to move a tag that exists.
            expects: where each tag must be before.
            announced: text of a ``digest`` parameter beside a tag: what the bytes must hash to.

        Raises:
            DigestInvalid, TagInvalid: the reference or a tag is malformed.
            DigestMismatch: the bytes have another digest.
            ManifestInvalid, ManifestTooLarge: the document is refused.
            ManifestBlobUnknown, SizeInvalid: it names content that the repository does not hold.
            Denied: a tag may not be moved.
            PreconditionFailed: a tag is elsewhere than expected.
            TagsTooMany: more tags than one request may set.
        """
        parsed = parse_reference(reference)
        if isinstance(parsed, Digest):
            parsed = Digest.parse_supported(reference)
        elif extra_tags:
            raise Unsupported("tag parameters go with a digest in the path, not with a tag")
        tags = _tags(parsed, extra_tags)
        expected = parsed if isinstance(parsed, Digest) else None
        if expected is None and announced is not None:
            expected = Digest.parse_supported(announced)
        content = await self._read(body)
        digest = Digest.of(content, "sha256" if expected is None else expected.algorithm)
        if expected is not None and digest != expected:
            raise DigestMismatch(str(expected), str(digest))
        manifest = await self._parse(content, content_type)
        late = self.blobs.late(digest, content)
        await self.records.put_manifest(
            NewManifest(
                repository=repository,
                digest=digest,
                media_type=manifest.media_type,
                content=content,
                references=self._references(manifest),
                artifact_type=manifest.artifact_type,
                annotations=manifest.annotations,
                pushed_by=pushed_by,
            ),
            tags,
            late,
            may_overwrite=may_overwrite,
            now=self.now(),
            expects=expects,
        )
        return PushedManifest(digest, manifest.subject.digest if manifest.subject else None, tags)

    async def _read(self, body: Body) -> bytes:
        limit = self.rules.limit_bytes
        if body.length_bytes is not None and body.length_bytes > limit:
            raise ManifestTooLarge(limit)
        try:
            return await body.read(limit)
        except BodyTooLarge:
            raise ManifestTooLarge(limit) from None

    async def _parse(self, content: bytes, content_type: str | None) -> Manifest:
        if len(content) <= PARSE_INLINE_BYTES:
            return parse_manifest(content, content_type)
        return await self.blocking.run(parse_manifest, content, content_type)

    def _references(self, manifest: Manifest) -> tuple[ContentReference, ...]:
        layers_required = not self.rules.allow_missing_layers
        children_required = not self.rules.allow_missing_children
        references = [
            _reference(ReferenceKind.LAYER, layer, layers_required and not layer.is_nondistributable)
            for layer in manifest.layers
        ]
        references += [
            _reference(ReferenceKind.CHILD, child, children_required) for child in manifest.children
        ]
        if manifest.config is not None:
            references.insert(0, _reference(ReferenceKind.CONFIG, manifest.config, layers_required))
        if manifest.subject is not None:
            references.append(_reference(ReferenceKind.SUBJECT, manifest.subject, False))
        return tuple(references)


def _reference(kind: ReferenceKind, descriptor: Descriptor, required: bool) -> ContentReference:
    return ContentReference(kind, descriptor.digest, descriptor.size_bytes, required)


def _tags(reference: Tag | Digest, extra_tags: Sequence[str]) -> tuple[Tag, ...]:
    if isinstance(reference, Tag):
        return (reference,)
    if len(extra_tags) > TAGS_LIMIT:
        raise TagsTooMany(TAGS_LIMIT)
    # dict keeps the order and drops repetitions.
    return tuple(Tag.parse(text) for text in dict.fromkeys(extra_tags))
