"""Taking content away; bytes stay until garbage collection."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest, parse_reference
from dockreg_tx.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, TagInvalid
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import Now, PullRecords, RemoveRecords


@dataclass(frozen=True, kw_only=True)
class Remove:
    """The use cases of deleting."""

    records: RemoveRecords
    pull: PullRecords
    now: Now

    async def manifest(self, repository: RepositoryName, reference: str, *, by: str) -> None:
        """Remove one tag, or a manifest by digest together with every tag that points at it.

        Raises:
            DigestInvalid: a malformed digest.
            NameUnknown, ManifestUnknown: there is nothing to remove.
        """
        try:
            parsed: Tag | Digest = parse_reference(reference)
        except TagInvalid:
            raise ManifestUnknown(str(repository), reference) from None
        if isinstance(parsed, Tag):
            removed = await self.records.delete_tag(repository, parsed, by=by, now=self.now())
        else:
            removed = await self.records.delete_manifest(repository, parsed, by=by, now=self.now())
        if not removed:
            if not await self.pull.repository_exists(repository):
                raise NameUnknown(str(repository))
            raise ManifestUnknown(str(repository), reference)

    async def blob(self, repository: RepositoryName, digest: Digest, *, by: str) -> None:
        """Unlink a blob from this repository, even if manifests refer to it.

        Raises:
            BlobUnknown: it is not linked here.
        """
        if not await self.records.unlink_blob(repository, digest, by=by, now=self.now()):
            raise BlobUnknown(str(digest))
