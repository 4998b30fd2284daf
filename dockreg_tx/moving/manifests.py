"""Manifests that other registries accepted, read as a push would read them."""

from __future__ import annotations

from dockreg_tx.oci.descriptors import Descriptor
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.documents import parse_document
from dockreg_tx.oci.errors import ManifestInvalid
from dockreg_tx.oci.manifests import Manifest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import ContentReference, NewManifest, ReferenceKind

#: Longer ones are nobody's: registries take 4 MiB.
LIMIT_BYTES = 16 * 1024 * 1024
#: In the records, who pushed it; no user can have this name.
PUSHED_BY = "dockreg import"


def is_schema1(content: bytes) -> bool:
    """Tell whether this is a Docker manifest of the first schema."""
    try:
        return parse_document(content).get("schemaVersion") == 1
    except ManifestInvalid:
        return False


def new_manifest(
    repository: RepositoryName, digest: Digest, content: bytes, manifest: Manifest
) -> NewManifest:
    """Return what is recorded; nothing is required, for what is missing was missing before."""
    return NewManifest(
        repository=repository,
        digest=digest,
        media_type=manifest.media_type,
        content=content,
        references=references(manifest),
        artifact_type=manifest.artifact_type,
        annotations=manifest.annotations,
        pushed_by=PUSHED_BY,
    )


def references(manifest: Manifest) -> tuple[ContentReference, ...]:
    """Return everything a manifest names."""
    found = [(ReferenceKind.CONFIG, manifest.config)] if manifest.config else []
    found += [(ReferenceKind.LAYER, layer) for layer in manifest.layers]
    found += [(ReferenceKind.CHILD, child) for child in manifest.children]
    found += [(ReferenceKind.SUBJECT, manifest.subject)] if manifest.subject else []
    return tuple(ContentReference(kind, each.digest, each.size_bytes, required=False) for kind, each in found)


def blobs(manifest: Manifest) -> list[Descriptor]:
    """Return config and layers."""
    return [*([manifest.config] if manifest.config else []), *manifest.layers]
