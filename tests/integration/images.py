"""Small images made by hand: layers, configurations, manifests, indexes, OCI layouts and Docker archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def sha256(content: bytes) -> str:
    """Return the digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Content:
    """Some bytes with their media type."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The sha256 digest."""
        return sha256(self.content)

    @property
    def descriptor(self) -> dict[str, object]:
        """What a manifest says about it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform; ``tars`` are its layers before compression."""

    manifest: Content
    config: Content
    layers: tuple[Content, ...]
    tars: tuple[bytes, ...]
    architecture: str

    @property
    def blobs(self) -> tuple[Content, ...]:
        """Everything to be pushed before the manifest."""
        return (*self.layers, self.config)


@dataclass(frozen=True, slots=True)
class Index:
    """An image for several platforms."""

    manifest: Content
    images: tuple[Image, ...]


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of these files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def layer_tars(label: str, count: int = 3) -> tuple[bytes, ...]:
    """Return ``count`` different layers; other labels give other layers."""
    return tuple(
        tar_of({f"layer-{number}.txt": f"{label} {number}\n".encode() * 200})
        for number in range(1, count + 1)
    )


def as_json(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def image(
    label: str, *, layers: int = 3, architecture: str = "amd64", docker: bool = False, extra: object = None
) -> Image:
    """Return an image with gzip layers, in OCI or Docker format; ``extra`` becomes its annotations."""
    tars = layer_tars(label, layers)
    config = as_json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {"Cmd": ["/none"], "Labels": {"label": label}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
            "history": [
                {"created": "2020-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in range(layers)
            ],
        }
    )
    layer_type = DOCKER_LAYER + ".gzip" if docker else OCI_LAYER + "+gzip"
    packed = tuple(Content(layer_type, gzip.compress(tar, mtime=0)) for tar in tars)
    described = Content(DOCKER_CONFIG if docker else OCI_CONFIG, config)
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": described.descriptor,
        "layers": [layer.descriptor for layer in packed],
    }
    if extra is not None:
        document["annotations"] = extra
    return Image(Content(media_type, as_json(document)), described, packed, tars, architecture)


def index(images: Sequence[Image], *, docker: bool = False) -> Index:
    """Return an index (or Docker list) of images."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    children = [
        {**child.manifest.descriptor, "platform": {"architecture": child.architecture, "os": "linux"}}
        for child in images
    ]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": children}
    return Index(Content(media_type, as_json(document)), tuple(images))


def write_oci_layout(directory: Path, top: Image | Index, tag: str) -> None:
    """Write an OCI image layout that holds one image or index under a tag."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    images = top.images if isinstance(top, Index) else (top,)
    contents = [top.manifest]
    for each in images:
        contents += [each.manifest, *each.blobs]
    for content in contents:
        (blobs / content.digest.removeprefix("sha256:")).write_bytes(content.content)
    (directory / "oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
    entry = {**top.manifest.descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (directory / "index.json").write_bytes(as_json({"schemaVersion": 2, "manifests": [entry]}))


def write_docker_archive(path: Path, content: Image, name: str) -> None:
    """Write what ``docker save`` writes, for ``docker load``."""
    files: dict[str, bytes] = {f"{number}/layer.tar": tar for number, tar in enumerate(content.tars)}
    config = content.config.digest.removeprefix("sha256:") + ".json"
    entry = {"Config": config, "RepoTags": [name], "Layers": list(files)}
    path.write_bytes(tar_of({**files, config: content.config.content, "manifest.json": as_json([entry])}))
