"""A client that pushes to a troubled server, remembers what was acknowledged, and asks for it again."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import dataclass, field

from tests.integration.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, sha256
from tests.integration.sockets import Answer, Connection

REPOSITORY = "fault/trouble"


@dataclass
class Witness:
    """Everything that one server acknowledged, and what it said when it should have said something else.

    Args:
        port: of the server.
        authorization: of somebody who may do everything.
        seed: of contents and choices.
    """

    port: int
    authorization: str
    seed: int
    blobs: dict[str, int] = field(default_factory=dict)
    #: For each acknowledged manifest its tag.
    manifests: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    acknowledged: int = 0
    refused: int = 0
    statuses: set[int] = field(default_factory=set)
    _pushed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def connect(self, timeout_seconds: float = 60.0) -> Connection:
        """Return a new connection."""
        return Connection(self.port, self.authorization, timeout_seconds=timeout_seconds)

    def push(self, layer_bytes: int) -> bool:
        """Push an image with one layer of about this size; tell whether all of it was acknowledged."""
        self._pushed += 1
        layer = self._random.randbytes(layer_bytes)
        config = json.dumps({"number": self._pushed, "seed": self.seed}).encode()
        try:
            with self.connect() as client:
                is_done = self._blob(client, layer) and self._blob(client, config)
                return is_done and self._manifest(client, config, layer)
        except OSError as error:
            # A connection that ends is no acknowledgement, and no answer either.
            self.complaints.append(f"push {self._pushed}: the connection ended: {error}")
            return False

    def _blob(self, client: Connection, content: bytes) -> bool:
        base, query = f"/v2/{REPOSITORY}/blobs/uploads/", f"?digest={sha256(content)}"
        if self._random.random() < 0.3:
            answer = client.request("POST", base + query, content)
        else:
            answer = client.request("POST", base)
            if not self._is_taken(answer, 202):
                return False
            location = answer.headers["location"]
            answer = client.request("PATCH", location, content)
            if not self._is_taken(answer, 202):
                return False
            answer = client.request("PUT", location + query)
        if not self._is_taken(answer, 201):
            return False
        self.blobs[sha256(content)] = len(content)
        self.acknowledged += 1
        return True

    def _manifest(self, client: Connection, config: bytes, layer: bytes) -> bool:
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, "digest": sha256(config), "size": len(config)},
                "layers": [{"mediaType": OCI_LAYER, "digest": sha256(layer), "size": len(layer)}],
            }
        ).encode()
        path = f"/v2/{REPOSITORY}/manifests/n{self._pushed}"
        if not self._is_taken(client.request("PUT", path, content, {"Content-Type": OCI_MANIFEST}), 201):
            return False
        self.manifests[sha256(content)] = f"n{self._pushed}"
        self.acknowledged += 1
        return True

    def _is_taken(self, answer: Answer, status: int) -> bool:
        if answer.status == status:
            return True
        self.refused += 1
        self.statuses.add(answer.status)
        if answer.status not in (429, 503, 507) or not _is_oci_error(answer):
            self.complaints.append(f"refused with {answer.status}: {answer.body[:200]!r}")
        return False

    def delete(self, count: int) -> int:
        """Delete up to ``count`` images, the oldest first; return how many deletions were acknowledged."""
        done = 0
        with self.connect() as client:
            for digest in list(self.manifests)[:count]:
                if self._is_taken(client.request("DELETE", f"/v2/{REPOSITORY}/manifests/{digest}"), 202):
                    del self.manifests[digest]
                    done += 1
        return done

    def forget_blobs(self) -> None:
        """Expect no more of blobs than that the manifests name them: what is unnamed may be collected."""
        kept: dict[str, int] = {}
        with self.connect() as client:
            for digest in self.manifests:
                answer = client.request("GET", f"/v2/{REPOSITORY}/manifests/{digest}")
                if answer.status == 200:
                    document = json.loads(answer.body)
                    for item in [document["config"], *document["layers"]]:
                        kept[item["digest"]] = item["size"]
        self.blobs = kept

    def lost(self, sample: int = 10**9) -> list[str]:
        """Pull what was acknowledged, the latest and a sample of the rest; return what is not as it was."""
        found = []
        with self.connect() as client:
            for kind, digests in (("blobs", list(self.blobs)), ("manifests", list(self.manifests))):
                chosen = {*digests[-5:], *self._random.sample(digests, min(sample, len(digests)))}
                for digest in sorted(chosen):
                    answer = client.request("GET", f"/v2/{REPOSITORY}/{kind}/{digest}")
                    if answer.status != 200 or sha256(answer.body) != digest:
                        found.append(f"{kind} {digest}: {answer.status}, {len(answer.body)} bytes")
        return found

    def is_healthy(self) -> bool:
        """Ask for a sign of life, on a connection of its own."""
        with suppress(OSError), self.connect(5) as client:
            return client.request("GET", "/healthz").status == 200
        return False


def _is_oci_error(answer: Answer) -> bool:
    try:
        return bool(json.loads(answer.body)["errors"][0]["code"])
    except (ValueError, KeyError, IndexError, TypeError):
        return False
