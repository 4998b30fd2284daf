"""Archives of images in one pass: blobs go straight into the store, small documents into memory."""

from __future__ import annotations

import json
import os
import posixpath
from dataclasses import dataclass, field
from typing import Any

from dockreg_tx.moving.layout import Entry
from dockreg_tx.moving.names import ImageName, parse_image_name
from dockreg_tx.moving.tars import ArchiveRefused, Member, Peekable, members
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import DigestInvalid, DigestMismatch, NameInvalid, TagInvalid
from dockreg_tx.oci.manifests import DOCKER_MANIFEST
from dockreg_tx.ports import MovedBytes, SourceUnreadable

DOCUMENT_LIMIT_BYTES = 8 * 1024 * 1024
INDEX = "index.json"
#: What ``docker save`` writes beside, or instead of, a layout.
DOCKER_MANIFESTS = "manifest.json"
_DOCUMENTS = frozenset({INDEX, DOCKER_MANIFESTS, "oci-layout"})
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_LINKS_LIMIT = 8


@dataclass(slots=True)
class Archive:
    """What an archive held; every file of it is in the store."""

    documents: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, tuple[Digest, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    sizes: dict[Digest, int] = field(default_factory=dict)

    def fetch(self, digest: Digest) -> int | None:
        """Return the length of a blob that the archive held."""
        return self.sizes.get(digest)

    def find(self, path: str) -> tuple[Digest, int]:
        """Return digest and length of a file; links are followed by name, within the archive.

        Raises:
            ArchiveRefused: there is none.
        """
        found = posixpath.normpath(path)
        for _ in range(_LINKS_LIMIT):
            if found in self.files:
                return self.files[found]
            found = self.links.get(found, "")
        raise ArchiveRefused(f"the archive names {path[:200]!a}, and does not hold it")


def receive_archive(file: Peekable, bytes_: MovedBytes) -> Archive:
    """Read a whole archive; its blobs are in the store then, though nobody knows of them yet.

    Raises:
        ArchiveRefused: it is damaged or hostile.
        StorageFull, StoreUnavailable: our disk refuses.
    """
    archive = Archive()
    for member in members(file):
        if member.link_target:
            archive.links[member.name] = member.link_target
        elif member.name in _DOCUMENTS:
            archive.documents[member.name] = member.read(DOCUMENT_LIMIT_BYTES)
        else:
            _receive(archive, member, bytes_)
    return archive


def _receive(archive: Archive, member: Member, bytes_: MovedBytes) -> None:
    expected = _blob_digest(member.name)
    # Beside blobs, docker's older form has layers and configurations under other names.
    if expected is None and not member.name.endswith((".tar", ".json")):
        return
    try:
        digest, size_bytes = bytes_.receive(member.pieces(), expected)
    except DigestMismatch as error:
        raise ArchiveRefused(f"{member.name} in the archive is damaged: {error.message}") from error
    archive.files[member.name] = (digest, size_bytes)
    archive.sizes[digest] = size_bytes


def _blob_digest(name: str) -> Digest | None:
    """Return the digest that a path of a layout stands for, None for any other path."""
    room, _, rest = name.partition("/")
    algorithm, _, encoded = rest.partition("/")
    if room != "blobs" or algorithm not in ALGORITHMS:
        return None
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except DigestInvalid as error:
        raise ArchiveRefused(f"{name[:200]!a} in the archive is no digest") from error


@dataclass(frozen=True, slots=True)
class LayoutDirectory:
    """A layout that lies on disk."""

    directory: str
    bytes_: MovedBytes

    def fetch(self, digest: Digest) -> int | None:
        """Bring a blob into the store.

        Raises:
            ArchiveRefused: it is damaged or cannot be read.
        """
        path = os.path.join(self.directory, "blobs", digest.algorithm, digest.encoded)
        if not os.path.lexists(path):
            return None
        try:
            self.bytes_.bring(path, digest, verify=True)
        except SourceUnreadable as error:
            raise ArchiveRefused(str(error)) from error
        except DigestMismatch as error:
            raise ArchiveRefused(f"{path} is damaged: {error.message}") from error
        return self.bytes_.size_of(digest)


def docker_entries(archive: Archive, bytes_: MovedBytes) -> list[Entry]:
    """Make a manifest for each image that ``manifest.json`` names, and return where they go.

    The layers stay as they are, so that the image keeps its id.

    Raises:
        ArchiveRefused: the document is malformed or names what is not there.
    """
    entries = []
    for image in _docker_images(archive.documents[DOCKER_MANIFESTS]):
        content = _manifest(archive, image, bytes_)
        digest, archive_bytes = bytes_.receive([content])
        archive.sizes[digest] = archive_bytes
        names: list[ImageName | None] = [_name(tag) for tag in image.get("RepoTags") or []]
        entries += [Entry(digest, DOCKER_MANIFEST, name) for name in names or [None]]
    return entries


def _docker_images(content: bytes) -> list[dict[str, Any]]:
    try:
        images = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArchiveRefused(f"manifest.json is not JSON: {error}") from error
    if not isinstance(images, list) or not all(map(_is_image, images)):
        raise ArchiveRefused("manifest.json does not list images with Config, RepoTags and Layers")
    return images


def _is_image(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("Config"), str):
        return False
    lists = [value.get("Layers"), value.get("RepoTags") or []]
    return all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in lists)


def _manifest(archive: Archive, image: dict[str, Any], bytes_: MovedBytes) -> bytes:
    config, config_bytes = archive.find(image["Config"])
    layers = [archive.find(path) for path in image["Layers"]]
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": _CONFIG, "size": config_bytes, "digest": str(config)},
        "layers": [
            {"mediaType": _layer_type(digest, bytes_), "size": size_bytes, "digest": str(digest)}
            for digest, size_bytes in layers
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _layer_type(digest: Digest, bytes_: MovedBytes) -> str:
    return f"{_LAYER}.gzip" if (bytes_.read(digest, 1) or b"")[:2] == b"\x1f\x8b" else _LAYER


def _name(text: str) -> ImageName:
    try:
        return parse_image_name(text)
    except (NameInvalid, TagInvalid) as error:
        raise ArchiveRefused(f"manifest.json: {error.message}") from error
