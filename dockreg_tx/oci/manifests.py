"""Manifests and indexes (image-spec; Docker schema 2): what a push may store, and what it refers to.

The bytes are kept verbatim elsewhere; here they are only read. A document that two clients could understand
differently is refused (CVE-2021-41190 and its kin).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dockreg_tx.oci.descriptors import (
    Descriptor,
    optional_text,
    parse_annotations,
    parse_descriptor,
    refuse_lookalikes,
)
from dockreg_tx.oci.documents import parse_document
from dockreg_tx.oci.errors import ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
#: Of the release candidates of image-spec 1.1, withdrawn; old oras and notation push it.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_MEDIA_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
#: Everything that may be pushed.
MANIFEST_MEDIA_TYPES = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, OCI_ARTIFACT})

#: Most layers of an image, and most children of an index.
ENTRIES_LIMIT = 4096

_DOCKER = frozenset({DOCKER_MANIFEST, DOCKER_LIST})
_SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
_GENERIC = frozenset({"", "application/json", "text/plain", "application/octet-stream"})
_FIELDS = frozenset(
    {
        "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject",
        "annotations",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a valid manifest refers to; an artifact manifest's blobs are its ``layers``."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    #: The manifests (or, in a BuildKit cache, blobs) that an index lists.
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    #: For referrers: the document's artifactType, else the media type of its config, else empty.
    artifact_type: str
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        """Whether this lists other manifests."""
        return self.media_type in INDEX_MEDIA_TYPES


def parse_manifest(content: bytes, content_type: str | None) -> Manifest:
    """Return what a pushed manifest refers to.

    Args:
        content: the body; the caller has limited its size.
        content_type: the request's header, None when it has none.

    Raises:
        ManifestInvalid: the content breaks its schema, its type is not taken, or it could be understood in
            two ways; the message names the path of the fault.
    """
    document = parse_document(content)
    refuse_lookalikes(document, _FIELDS, "$")
    media_type = _media_type(document, content_type)
    _check_schema_version(document, media_type)
    if media_type in INDEX_MEDIA_TYPES:
        return _index(document, media_type)
    if media_type == OCI_ARTIFACT:
        return _artifact(document)
    return _image(document, media_type)


def _media_type(document: Mapping[str, object], content_type: str | None) -> str:
    declared = (content_type or "").partition(";")[0].strip().lower()
    inside = document.get("mediaType")
    if inside is None:
        media_type = _guess(document) if declared in _GENERIC else declared
    elif not isinstance(inside, str):
        raise ManifestInvalid("$.mediaType must be text")
    elif declared not in _GENERIC and declared != inside:
        raise ManifestInvalid(f"Content-Type is {_shown(declared)}, but $.mediaType is {_shown(inside)}")
    else:
        media_type = inside
    if media_type in _SCHEMA1:
        raise ManifestInvalid("Docker schema 1 manifests are not taken: push with a client newer than 2017")
    if media_type not in MANIFEST_MEDIA_TYPES:
        raise ManifestInvalid(f"manifests of type {_shown(media_type)} are not taken")
    if media_type in _DOCKER and inside is None:
        raise ManifestInvalid("$.mediaType is missing: Docker manifests must carry it")
    return media_type


def _guess(document: Mapping[str, object]) -> str:
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    if "config" in document and "layers" in document:
        return OCI_MANIFEST
    raise ManifestInvalid("the type of the manifest is unknown: send it as Content-Type or $.mediaType")


def _check_schema_version(document: Mapping[str, object], media_type: str) -> None:
    version = document.get("schemaVersion")
    if version is None and media_type == OCI_ARTIFACT:
        return  # artifact manifests had no such field
    if not isinstance(version, int) or version != 2:
        raise ManifestInvalid("$.schemaVersion must be 2")


def _image(document: Mapping[str, object], media_type: str) -> Manifest:
    _refuse_fields(document, ("manifests",), "an image")
    config = parse_descriptor(document.get("config"), "$.config")
    return Manifest(
        media_type=media_type,
        config=config,
        layers=_descriptors(document, "layers"),
        children=(),
        subject=_subject(document, media_type),
        artifact_type=optional_text(document, "artifactType", "$") or config.media_type,
        annotations=parse_annotations(document, "$"),
    )


def _index(document: Mapping[str, object], media_type: str) -> Manifest:
    _refuse_fields(document, ("config", "layers"), "an index")
    return Manifest(
        media_type=media_type,
        config=None,
        layers=(),
        children=_descriptors(document, "manifests"),
        subject=_subject(document, media_type),
        artifact_type=optional_text(document, "artifactType", "$"),
        annotations=parse_annotations(document, "$"),
    )


def _artifact(document: Mapping[str, object]) -> Manifest:
    _refuse_fields(document, ("manifests", "config", "layers"), "an artifact manifest")
    return Manifest(
        media_type=OCI_ARTIFACT,
        config=None,
        layers=_descriptors(document, "blobs") if "blobs" in document else (),
        children=(),
        subject=_subject(document, OCI_ARTIFACT),
        artifact_type=optional_text(document, "artifactType", "$"),
        annotations=parse_annotations(document, "$"),
    )


def _refuse_fields(document: Mapping[str, object], fields: tuple[str, ...], what: str) -> None:
    for name in fields:
        if name in document:
            raise ManifestInvalid(
                f"{what} must not have $.{name}: the document could be read as another type"
            )


def _descriptors(document: Mapping[str, object], name: str) -> tuple[Descriptor, ...]:
    value = document.get(name)
    if not isinstance(value, list):
        raise ManifestInvalid(f"$.{name} must be an array")
    if len(value) > ENTRIES_LIMIT:
        raise ManifestInvalid(f"$.{name} has {len(value)} entries, more than the limit of {ENTRIES_LIMIT}")
    return tuple(parse_descriptor(entry, f"$.{name}[{index}]") for index, entry in enumerate(value))


def _subject(document: Mapping[str, object], media_type: str) -> Descriptor | None:
    value = document.get("subject")
    if value is None or media_type in _DOCKER:
        return None
    return parse_descriptor(value, "$.subject")


def _shown(media_type: str) -> str:
    return ascii(media_type[:100])
