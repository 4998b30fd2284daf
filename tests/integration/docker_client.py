"""The Docker daemon's side of the dialogue, spoken by treq: its requests in its order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treq.client import HTTPClient
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from tests.integration.images import Content, Image, Index
from tests.integration.sockets import basic

ACCEPT = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, its body read; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of the first error, empty when the body is none."""
        try:
            return str(self.document["errors"][0]["code"])
        except (ValueError, KeyError, IndexError, TypeError):
            return ""


class DockerClient:
    """One user's client; ``close`` ends its connections.

    Args:
        reactor: runs the connections.
        base_url: of the registry, without a slash at the end.
        user: and
        password: sent with every request unless empty.
    """

    def __init__(self, *, reactor: IReactorTime, base_url: str, user: str = "", password: str = "") -> None:
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._http = HTTPClient(Agent(reactor, pool=self._pool))
        self._base_url = base_url
        self._authorization = {"Authorization": [basic(user, password)]} if user else {}

    async def close(self) -> None:
        """End all connections."""
        await self._pool.closeCachedConnections()

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str | list[str]] | None = None,
    ) -> Reply:
        """Send one request; ``path`` is a path of this registry or an absolute address."""
        url = path if path.startswith("http") else self._base_url + path
        fields = Headers(self._authorization)
        for name, value in (headers or {}).items():
            fields.setRawHeaders(name, [value] if isinstance(value, str) else value)
        answer = await self._http.request(
            method, url, data=body, headers=fields, allow_redirects=False, timeout=60
        )
        content = await answer.content()
        raw = {
            name.decode().lower(): b", ".join(values).decode("latin-1")
            for name, values in answer.headers.getAllRawHeaders()
        }
        if method != "HEAD" and isinstance(answer.length, int):
            raw["content-length"] = str(answer.length)  # Twisted's client takes this header away
        return Reply(answer.code, raw, content)

    async def ping(self) -> Reply:
        """Ask whether this is a registry, and whether it knows the caller."""
        return await self.ask("GET", "/v2/")

    async def has_blob(self, repository: str, digest: str) -> bool:
        """Ask for a blob the way the daemon does before a push and after."""
        return (await self.ask("HEAD", f"/v2/{repository}/blobs/{digest}")).status == 200

    async def begin_upload(self, repository: str, query: str = "") -> Reply:
        """Open an upload session, or mount."""
        return await self.ask("POST", f"/v2/{repository}/blobs/uploads/{query}", b"")

    async def push_blob(self, repository: str, content: Content) -> None:
        """Push one blob: HEAD, POST, PATCH, PUT, HEAD."""
        if await self.has_blob(repository, content.digest):
            return
        begun = await self.begin_upload(repository)
        _expect(202, begun)
        sent = await self.ask("PATCH", begun.headers["location"], content.content)
        _expect(202, sent)
        location = sent.headers["location"]
        joint = "&" if "?" in location else "?"
        finished = await self.ask("PUT", f"{location}{joint}digest={content.digest.replace(':', '%3A')}", b"")
        _expect(201, finished)
        if not await self.has_blob(repository, content.digest):
            raise AssertionError(f"{content.digest} was taken and is not there")

    async def put_manifest(self, repository: str, reference: str, manifest: Content) -> Reply:
        """Push a manifest under a tag or its digest."""
        headers = {"Content-Type": manifest.media_type}
        return await self.ask("PUT", f"/v2/{repository}/manifests/{reference}", manifest.content, headers)

    async def push(self, repository: str, tag: str, content: Image | Index) -> Reply:
        """Push an image, or an index with its images, as ``docker push`` does."""
        _expect(200, await self.ping())
        if isinstance(content, Index):
            for child in content.images:
                await self.push(repository, child.manifest.digest, child)
        else:
            for blob in content.blobs:
                await self.push_blob(repository, blob)
        answer = await self.put_manifest(repository, tag, content.manifest)
        _expect(201, answer)
        return answer

    async def manifest(self, repository: str, reference: str, method: str = "GET") -> Reply:
        """Ask for a manifest with the six Accept lines of the daemon."""
        return await self.ask(method, f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT})

    async def blob(self, repository: str, digest: str, method: str = "GET") -> Reply:
        """Ask for a blob."""
        return await self.ask(method, f"/v2/{repository}/blobs/{digest}")

    async def pull(self, repository: str, reference: str) -> tuple[bytes, dict[str, bytes]]:
        """Pull an image: HEAD by tag, GET by digest, then its blobs. Returns the manifest and the blobs."""
        _expect(200, await self.ping())
        head = await self.manifest(repository, reference, "HEAD")
        _expect(200, head)
        answer = await self.manifest(repository, head.headers["docker-content-digest"])
        _expect(200, answer)
        blobs = {}
        for descriptor in [answer.document["config"], *answer.document["layers"]]:
            content = await self.blob(repository, descriptor["digest"])
            _expect(200, content)
            blobs[descriptor["digest"]] = content.body
        return answer.body, blobs


def _expect(status: int, reply: Reply) -> None:
    if reply.status != status:
        raise AssertionError(f"expected {status}, got {reply.status}: {reply.body[:500]!r}")
