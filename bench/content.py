"""What is pushed and pulled: small images, and the repositories that the rows read from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from bench.connection import Connection, RequestBody, WrongAnswer
from bench.servers import Server

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
OCTETS = {"Content-Type": "application/octet-stream"}
#: The repositories of the reading rows.
APP, TAGS = "bench/app", "bench/tags"
LISTED = 1000


@dataclass(frozen=True)
class Image:
    """A manifest with a configuration and one layer."""

    config: bytes
    layer: bytes

    @property
    def manifest(self) -> bytes:
        """The bytes of the manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, self.config),
            "layers": [_descriptor(LAYER_TYPE, self.layer)],
        }
        return json.dumps(document).encode()


def new_image(layer_bytes: int = 1024, config_bytes: int = 512) -> Image:
    """Return an image that no server has yet."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "id": os.urandom(config_bytes // 2).hex()})
    return Image(config.encode(), os.urandom(layer_bytes))


#: One image for all servers, so that all serve the same bytes.
SHARED = Image(b'{"architecture":"amd64","os":"linux"}', bytes(range(256)) * 4)


def digest_of(content: bytes) -> str:
    """Return the sha256 digest."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


async def push_blob(connection: Connection, repository: str, content: bytes) -> None:
    """Push by POST and PUT, as most clients do."""
    opened = await connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    await finish(connection, opened.headers, content, digest_of(content))


async def finish(connection: Connection, headers: Mapping[str, str], rest: RequestBody, digest: str) -> None:
    """End an upload with its last bytes."""
    path = path_of(headers["location"])
    path += ("&" if "?" in path else "?") + f"digest={digest}"
    stored = await connection.request("PUT", path, headers=OCTETS, body=rest, expect=201)
    if stored.headers.get("docker-content-digest") != digest:
        raise WrongAnswer(f"PUT {path}: stored under another digest")


async def push_manifest(connection: Connection, repository: str, tag: str, manifest: bytes) -> None:
    """Push a manifest under a tag."""
    headers = {"Content-Type": MANIFEST_TYPE}
    path = f"/v2/{repository}/manifests/{tag}"
    await connection.request("PUT", path, headers=headers, body=manifest, expect=201)


async def push(connection: Connection, repository: str, tag: str, image: Image) -> None:
    """Push a whole image: five requests."""
    await push_blob(connection, repository, image.layer)
    await push_blob(connection, repository, image.config)
    await push_manifest(connection, repository, tag, image.manifest)


async def pull(connection: Connection, repository: str, tag: str, image: Image) -> None:
    """Pull a whole image: HEAD and GET of manifest, configuration and layer, with every byte compared."""
    accept = {"Accept": MANIFEST_TYPE}
    path = f"/v2/{repository}/manifests/{tag}"
    for what, content, headers in [
        (path, image.manifest, accept),
        (f"/v2/{repository}/blobs/{digest_of(image.config)}", image.config, None),
        (f"/v2/{repository}/blobs/{digest_of(image.layer)}", image.layer, None),
    ]:
        head = await connection.request("HEAD", what, headers=headers)
        if head.headers.get("content-length") != str(len(content)):
            raise WrongAnswer(f"HEAD {what}: another length")
        answer = await connection.request("GET", what, headers=headers)
        if answer.body != content:
            raise WrongAnswer(f"GET {what}: other bytes")


async def fill_app(server: Server) -> None:
    """Give a registry the one image alone."""
    connection = await Connection.open(server.port, server.fixed)
    await push(connection, APP, "v1", SHARED)
    connection.close()


async def fill_tags(server: Server) -> None:
    """Give a server the one image, and a registry a thousand tags as well."""
    if not server.is_registry:
        _fill_files(server)
        return
    await fill_app(server)
    connection = await Connection.open(server.port, server.fixed)
    await push(connection, TAGS, "t0000", SHARED)
    for number in range(1, LISTED):
        await push_manifest(connection, TAGS, f"t{number:04d}", SHARED.manifest)
    connection.close()


async def fill(server: Server) -> None:
    """Give a server what the reading rows ask for."""
    await fill_tags(server)
    if not server.is_registry:
        return
    connection = await Connection.open(server.port, server.fixed)
    for number in range(LISTED):
        name = f"list/r{number:04d}"
        for blob in (SHARED.config, SHARED.layer):
            path = f"/v2/{name}/blobs/uploads/?mount={digest_of(blob)}&from={APP}"
            await connection.request("POST", path, expect=201)
        await push_manifest(connection, name, "latest", SHARED.manifest)
    connection.close()


async def fill_nothing(_server: Server) -> None:
    """Start empty."""


def _fill_files(server: Server) -> None:
    for path, content in [
        (f"v2/{APP}/manifests/v1", SHARED.manifest),
        (f"v2/{APP}/blobs/{digest_of(SHARED.layer)}", SHARED.layer),
    ]:
        file = server.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def path_of(location: str) -> str:
    """Return the path and query of a Location, which may be absolute."""
    return "/" + location.split("/", 3)[3] if "://" in location else location


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
