"""What clients were promised, kept outside the server and its disk, and whether it was kept."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

from tests.integration.images import Content, Image, image, sha256
from tests.integration.sockets import Answer, Connection

#: Contents of cycles long past are pulled again in samples of this size.
SAMPLE = 100


class Refused(Exception):
    """The server answered with something else than what acknowledges."""


@dataclass
class Promises:
    """Everything that was acknowledged; safe to use from several threads.

    A tag may have several possible states while a request about it is on its way: None stands for absent.
    """

    blobs: dict[tuple[str, str], int] = field(default_factory=dict)
    manifests: dict[tuple[str, str], Content] = field(default_factory=dict)
    tags: dict[tuple[str, str], set[str | None]] = field(default_factory=dict)
    fresh: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def blob(self, repository: str, content: bytes) -> None:
        """Note an acknowledged blob."""
        with self.lock:
            self.blobs[repository, sha256(content)] = len(content)
            self.fresh.append((repository, sha256(content)))
            self.acknowledged += 1

    def tag_may_become(self, repository: str, tag: str, digest: str | None) -> None:
        """Note that a request about a tag is being sent."""
        with self.lock:
            self.tags.setdefault((repository, tag), {None}).add(digest)

    def tag_is(self, repository: str, tag: str, digest: str | None) -> None:
        """Note that the request was acknowledged."""
        with self.lock:
            self.tags[repository, tag] = {digest}
            self.acknowledged += 1

    def manifest(self, repository: str, content: Content) -> None:
        """Note an acknowledged manifest."""
        with self.lock:
            self.manifests[repository, content.digest] = content
            self.acknowledged += 1


class Pusher:
    """One client that pushes images, moves and deletes tags until the server is gone."""

    def __init__(self, *, port: int, authorization: str, number: int, seed: int, promises: Promises) -> None:
        self._port = port
        self._authorization = authorization
        self._repository = f"fault/worker-{number}"
        self._random = random.Random(seed)
        self._promises = promises

    def run(self) -> None:
        """Push until something fails: that is how the fault looks from here."""
        try:
            with Connection(self._port, self._authorization, timeout_seconds=10) as client:
                while True:
                    self._push(client)
        except (OSError, Refused):
            return

    def _ask(self, client: Connection, expected: int, method: str, path: str, body: bytes = b"") -> Answer:
        kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"} if "/manifests/" in path else {}
        answer = client.request(method, path, body, kind)
        if answer.status != expected:
            raise Refused(f"{method} {path}: {answer.status}")
        return answer

    def _push(self, client: Connection) -> None:
        content = image(f"{self._random.getrandbits(64)}", layers=self._random.choice((1, 1, 2)))
        noise = self._random.randbytes(self._random.choice((1, 5000, 70_000, 300_000, 2_000_000)))
        self._push_blob(client, noise)
        for blob in content.blobs:
            self._push_blob(client, blob.content)
        tag = f"tag-{self._random.randrange(6)}"
        self._push_manifest(client, content, tag)
        if self._random.random() < 0.2:
            self._promises.tag_may_become(self._repository, tag, None)
            self._ask(client, 202, "DELETE", f"/v2/{self._repository}/manifests/{tag}")
            self._promises.tag_is(self._repository, tag, None)

    def _push_manifest(self, client: Connection, content: Image, tag: str) -> None:
        manifest = content.manifest
        self._promises.tag_may_become(self._repository, tag, manifest.digest)
        self._ask(client, 201, "PUT", f"/v2/{self._repository}/manifests/{tag}", manifest.content)
        self._promises.manifest(self._repository, manifest)
        self._promises.tag_is(self._repository, tag, manifest.digest)

    def _push_blob(self, client: Connection, content: bytes) -> None:
        base, query = f"/v2/{self._repository}/blobs/uploads/", f"?digest={sha256(content)}"
        way = self._random.randrange(3)
        if way == 0:
            self._ask(client, 201, "POST", base + query, content)
        else:
            location = self._ask(client, 202, "POST", base).headers["location"]
            if way == 1:
                self._ask(client, 202, "PATCH", location, content)
                self._ask(client, 201, "PUT", location + query)
            else:
                self._ask(client, 201, "PUT", location + query, content)
        self._promises.blob(self._repository, content)


class Inspector:
    """Pulls what was promised and tells what is missing."""

    def __init__(self, *, port: int, authorization: str, promises: Promises, seed: int) -> None:
        self._client = Connection(port, authorization)
        self._promises = promises
        self._random = random.Random(seed)

    def lost(self) -> list[str]:
        """Return one line for each broken promise."""
        found = [*self._lost_tags(), *self._lost_manifests(), *self._lost_blobs(), *self._lost_listings()]
        self._client.close()
        self._promises.fresh.clear()
        return found

    def _get(self, path: str) -> Answer:
        return self._client.request("GET", path)

    def _lost_tags(self) -> list[str]:
        found = []
        for (repository, tag), possible in self._promises.tags.items():
            answer = self._get(f"/v2/{repository}/manifests/{tag}")
            digest = sha256(answer.body) if answer.status == 200 else None
            if answer.status not in (200, 404) or digest not in possible:
                found.append(f"tag {repository}:{tag} is {answer.status} {digest}, not one of {possible}")
            else:
                self._promises.tags[repository, tag] = {digest}
        return found

    def _lost_manifests(self) -> list[str]:
        chosen = self._sample(list(self._promises.manifests))
        return [line for key in chosen for line in self._wrong("manifests", *key)]

    def _lost_blobs(self) -> list[str]:
        chosen = {*self._promises.fresh, *self._sample(list(self._promises.blobs))}
        return [line for key in sorted(chosen) for line in self._wrong("blobs", *key)]

    def _lost_listings(self) -> list[str]:
        """Find tags that the server itself lists and cannot give."""
        found: list[str] = []
        for repository in sorted({name for name, _ in self._promises.tags}):
            listing = self._get(f"/v2/{repository}/tags/list")
            if listing.status == 200 and b'"tags":null' in listing.body:
                found.append(f"{repository}: tags are null")
        return found

    def _sample(self, keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
        recent = keys[-SAMPLE:]
        return [*recent, *self._random.sample(keys, min(SAMPLE, len(keys)))]

    def _wrong(self, kind: str, repository: str, digest: str) -> list[str]:
        answer = self._get(f"/v2/{repository}/{kind}/{digest}")
        if answer.status != 200:
            return [f"{kind} {repository} {digest}: {answer.status}"]
        if sha256(answer.body) != digest:
            return [f"{kind} {repository} {digest}: {len(answer.body)} bytes of other content"]
        return []
