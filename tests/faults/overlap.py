"""Clients that push images of few shared layers, as builds of one base do, and what they were promised."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field

from tests.faults.figures import Step
from tests.integration.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, as_json, sha256
from tests.integration.sockets import Connection

#: Few enough to be shared: of those that clients keep images of, about half are in use at any moment, so that
#: what one of them needs no more is often what another one wants.
LAYERS = 1000
REPOSITORIES = 4
#: How many images one client keeps.
KEPT = 30
CONFIG = b"{}"

Key = tuple[str, str]


@dataclass
class Acknowledged:
    """Manifests that are there for certain, with their content; and those nobody knows about."""

    manifests: dict[Key, bytes] = field(default_factory=dict)
    unsure: dict[Key, bytes] = field(default_factory=dict)
    count: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def may_change(self, key: Key, content: bytes) -> None:
        """Note that a manifest is being pushed or deleted."""
        with self.lock:
            self.manifests.pop(key, None)
            self.unsure[key] = content

    def settle(self, key: Key, content: bytes | None) -> None:
        """Note that the request was acknowledged: with this content, or gone."""
        with self.lock:
            del self.unsure[key]
            self.count += 1
            if content is not None:
                self.manifests[key] = content

    def refuse(self, key: Key) -> None:
        """Note that the manifest was refused, for a layer went meanwhile."""
        with self.lock:
            del self.unsure[key]
            self.refused += 1


def layer(number: int) -> bytes:
    """Return one of the layers."""
    return b"layer %d" % number * 20


class OverlappingPusher:
    """Asks for each layer, mounts or pushes what is missing, pushes the manifest, and deletes old ones."""

    def __init__(
        self, *, port: int, authorization: str, number: int, seed: int, acknowledged: Acknowledged
    ) -> None:
        self._port = port
        self._authorization = authorization
        self._number = number
        self._repository = f"race/app-{number % REPOSITORIES}"
        self._random = random.Random(seed)
        self._acknowledged = acknowledged
        self._mine: list[Key] = []
        self.unexpected: list[str] = []
        self._ended = threading.Event()

    def end(self) -> None:
        """Let the image under way be the last one."""
        self._ended.set()

    def run(self) -> None:
        """Push until told to end, or until the server is gone; may be called again."""
        self._ended.clear()
        try:
            with Connection(self._port, self._authorization, timeout_seconds=30) as client:
                while not self._ended.is_set():
                    self._push(client)
        except OSError:
            return

    def _push(self, client: Connection) -> None:
        layers = [layer(self._random.randrange(LAYERS)) for _ in range(3)]
        for content in (CONFIG, *layers):
            self._provide(client, content)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, CONFIG),
            "layers": [_descriptor(OCI_LAYER, content) for content in layers],
            "annotations": {"of": f"{self._number} {self._random.getrandbits(64)}"},
        }
        content = as_json(document)
        key = (self._repository, sha256(content))
        self._acknowledged.may_change(key, content)
        path = f"/v2/{self._repository}/manifests/{key[1]}"
        status = client.request("PUT", path, content, {"Content-Type": OCI_MANIFEST}).status
        if status == 201:
            self._acknowledged.settle(key, content)
            self._mine.append(key)
        else:
            self._acknowledged.refuse(key)
            self._expect(status, (400, 404), path)
        if self._mine and (len(self._mine) > KEPT or self._random.random() < 0.7):
            self._delete(client, self._mine.pop(self._random.randrange(len(self._mine))))

    def _delete(self, client: Connection, key: Key) -> None:
        content = self._acknowledged.manifests[key]
        self._acknowledged.may_change(key, content)
        path = f"/v2/{key[0]}/manifests/{key[1]}"
        self._expect(client.request("DELETE", path).status, (202,), path)
        self._acknowledged.settle(key, None)

    def _provide(self, client: Connection, content: bytes) -> None:
        digest, base = sha256(content), f"/v2/{self._repository}/blobs"
        # Some ask nothing, as whoever has seen the layer elsewhere.
        is_known_elsewhere = self._random.random() < 0.3
        if not is_known_elsewhere and client.request("HEAD", f"{base}/{digest}").status == 200:
            return
        location = f"{base}/uploads/"
        if is_known_elsewhere or self._random.random() < 0.5:
            source = f"race/app-{self._random.randrange(REPOSITORIES)}"
            answer = client.request("POST", f"{location}?mount={digest}&from={source}")
            if answer.status == 201:
                return
            self._expect(answer.status, (202,), location)
            answer = client.request("PUT", f"{answer.headers['location']}?digest={digest}", content)
        else:
            answer = client.request("POST", f"{location}?digest={digest}", content)
        self._expect(answer.status, (201,), location)

    def _expect(self, status: int, expected: tuple[int, ...], path: str) -> None:
        if status not in expected:
            self.unexpected.append(f"{path}: {status}")


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


def inspect(acknowledged: Acknowledged, port: int, authorization: str) -> Step:
    """Pull every acknowledged manifest with all it names; what nobody knows about is whole or absent."""
    step = Step(cycles=0)
    checked: dict[Key, bool] = {}
    with Connection(port, authorization) as client:

        def is_whole(repository: str, digest: str) -> bool:
            key = (repository, digest)
            if key not in checked:
                answer = client.request("GET", f"/v2/{repository}/blobs/{digest}")
                checked[key] = answer.status == 200 and sha256(answer.body) == digest
            return checked[key]

        def missing(key: Key, content: bytes) -> list[str]:
            document = json.loads(content)
            named = [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
            return [digest for digest in named if not is_whole(key[0], digest)]

        for key, content in list(acknowledged.manifests.items()):
            answer = client.request("GET", f"/v2/{key[0]}/manifests/{key[1]}")
            if answer.body != content:
                step.lost.append(f"manifest {key[0]} {key[1]}: {answer.status}")
            step.lost += [f"manifest {key[0]} {key[1]} misses {digest}" for digest in missing(key, content)]
        for key, content in list(acknowledged.unsure.items()):
            answer = client.request("GET", f"/v2/{key[0]}/manifests/{key[1]}")
            if answer.status == 200:
                gone = missing(key, content)
                step.half_visible += [f"manifest {key[0]} {key[1]} misses {digest}" for digest in gone]
                acknowledged.manifests[key] = content
        acknowledged.unsure.clear()
    return step
