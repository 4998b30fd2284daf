"""The workloads of ``zb``, the benchmark of zot, done by this client: images of 1, 10 and 100 MiB.

The workloads, their sizes and their mixes are those of zot's ``cmd/zb``: an image is one layer and its
configuration, in a repository of its own; a push is POST and PUT (or POST, PATCH of unsaid length and PUT) of
the layer, POST and PUT of the configuration, PUT of the manifest; a pull is HEAD and GET of all three. Two of
the eighteen (on-demand sync of 100 MB and 1 GB) pull through another registry, which dockreg does not do.
Here each run does a fixed number of images, so that a mix is the same for everyone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from bench import content
from bench.connection import Connection, WrongAnswer
from bench.content import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE
from bench.rows import Done, Row
from bench.servers import Server

MIB = 1024 * 1024
SMALL, MEDIUM, LARGE = MIB, 10 * MIB, 100 * MIB
CLIENTS = 4
OCTETS = {"Content-Type": "application/octet-stream"}
#: How much of a layer differs from all others.
HEAD_BYTES = 4096
Step = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Layered:
    """An image with one large layer, which is sent in two parts: the second one is the same for all."""

    repository: str
    config: bytes
    parts: tuple[bytes, memoryview]
    digest: str

    @property
    def size_bytes(self) -> int:
        """The length of the layer."""
        return sum(map(len, self.parts))

    @property
    def manifest(self) -> bytes:
        """The bytes of the manifest."""
        config = {
            "mediaType": CONFIG_TYPE,
            "digest": content.digest_of(self.config),
            "size": len(self.config),
        }
        layer = {"mediaType": LAYER_TYPE, "digest": self.digest, "size": self.size_bytes}
        document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
        return json.dumps(document).encode()


@cache
def _noise() -> bytes:
    return os.urandom(MIB) * (LARGE // MIB)


def new_layered(size_bytes: int) -> Layered:
    """Return an image that no server has yet."""
    head = os.urandom(min(HEAD_BYTES, size_bytes))
    tail = memoryview(_noise())[: size_bytes - len(head)]
    hasher = hashlib.sha256(head)
    hasher.update(tail)
    config = json.dumps({"architecture": "amd64", "os": "linux", "id": os.urandom(16).hex()}).encode()
    return Layered(f"zb/{os.urandom(16).hex()}", config, (head, tail), f"sha256:{hasher.hexdigest()}")


async def push(connection: Connection, image: Layered, *, is_chunked: bool = False) -> None:
    """Push an image to its own repository."""
    uploads = f"/v2/{image.repository}/blobs/uploads/"
    opened = await connection.request("POST", uploads, expect=202)
    path = content.path_of(opened.headers["location"])
    parts: Sequence[bytes | memoryview] = image.parts
    if is_chunked:
        patched = await connection.stream(
            "PATCH", path, headers=OCTETS, parts=parts, expect=202, is_chunked=True
        )
        path, parts = content.path_of(patched.headers["location"]), ()
    path += ("&" if "?" in path else "?") + f"digest={image.digest}"
    stored = await connection.stream("PUT", path, headers=OCTETS, parts=parts, expect=201)
    if stored.headers.get("docker-content-digest") != image.digest:
        raise WrongAnswer(f"PUT {path}: stored under another digest")
    await content.push_blob(connection, image.repository, image.config)
    await content.push_manifest(connection, image.repository, "tag", image.manifest)


async def pull(connection: Connection, image: Layered) -> None:
    """Pull an image; the small parts are compared, of the layer the length."""
    accept = {"Accept": MANIFEST_TYPE}
    here = f"/v2/{image.repository}"
    for path, body, headers in [
        (f"{here}/manifests/tag", image.manifest, accept),
        (f"{here}/blobs/{content.digest_of(image.config)}", image.config, None),
    ]:
        await connection.request("HEAD", path, headers=headers)
        answer = await connection.request("GET", path, headers=headers)
        if answer.body != body:
            raise WrongAnswer(f"GET {path}: other bytes")
    path = f"{here}/blobs/{image.digest}"
    head = await connection.request("HEAD", path)
    if head.headers.get("content-length") != str(image.size_bytes):
        raise WrongAnswer(f"HEAD {path}: another length")
    await connection.download(path, length_bytes=image.size_bytes)


async def _look_through(connection: Connection) -> None:
    answer = await connection.request("GET", "/v2/_catalog")
    if not json.loads(answer.body)["repositories"]:
        raise WrongAnswer("GET /v2/_catalog: no repositories")


class Workload:
    """One workload of ``zb``: steps made before the clock starts, then taken by all clients in turn."""

    def __init__(self, make: Callable[[Connection], Awaitable[list[Step]]]) -> None:
        self._make = make
        self._steps: list[Step] = []

    async def prepare(self, server: Server) -> None:
        """Make the steps, and push what they pull."""
        connection = await Connection.open(server.port, server.fixed)
        self._steps = await self._make(connection)
        connection.close()

    async def run(self, server: Server, _seconds: float) -> Done:
        """Take all steps."""
        steps, times = iter(self._steps), list[float]()
        began = time.monotonic()

        async def client() -> None:
            connection = await Connection.open(server.port, server.fixed)
            for step in steps:
                before = time.monotonic()
                await step(connection)
                times.append(time.monotonic() - before)
            connection.close()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return Done(len(times), time.monotonic() - began, times)


def _catalog(count: int) -> Workload:
    async def make(connection: Connection) -> list[Step]:
        for _ in range(10):
            await push(connection, new_layered(HEAD_BYTES))
        return [_look_through] * count

    return Workload(make)


def _mixed(sizes: Sequence[int], pulls: Sequence[int], *, is_chunked: bool = False) -> Workload:
    """Return pushes of new images of ``sizes`` and pulls of ``pulls`` in an order that stays the same."""

    async def make(connection: Connection) -> list[Step]:
        there = {size: new_layered(size) for size in sorted(set(pulls))}
        for image in there.values():
            await push(connection, image)

        def pushes(image: Layered) -> Step:
            return lambda connection: push(connection, image, is_chunked=is_chunked)

        def pulling(image: Layered) -> Step:
            return lambda connection: pull(connection, image)

        steps = [pushes(new_layered(size)) for size in sizes] + [pulling(there[size]) for size in pulls]
        Random(len(steps)).shuffle(steps)
        return steps

    return Workload(make)


def rows(scale: float = 1.0, sizes: tuple[int, int, int] = (SMALL, MEDIUM, LARGE)) -> list[Row]:
    """Return a row for each workload; ``scale`` makes them shorter, ``sizes`` the images smaller."""
    small, medium, large = sizes

    def of(size: int, count: int) -> list[int]:
        return [size] * max(1, round(count * scale))

    few, mix = {small: 60, medium: 16, large: 4}, [(small, 4), (medium, 14), (large, 2)]
    mixed = [size for size, count in mix for size in of(size, count)]
    thirds = [size for size in few for size in of(size, 3)]
    named = {small: "1 MB", medium: "10 MB", large: "100 MB"}
    found = {"get catalog": _catalog(len(of(1, 1000)))}
    for size, name in named.items():
        found[f"push monolith {name}"] = _mixed(of(size, few[size]), [])
    for size, name in named.items():
        found[f"push chunk streamed {name}"] = _mixed(of(size, few[size]), [], is_chunked=True)
    for size, name in named.items():
        found[f"pull {name}"] = _mixed([], of(size, 4 * few[size]))
    found["pull mixed 20% 1 MB, 70% 10 MB, 10% 100 MB"] = _mixed([], 2 * mixed)
    found["push monolith mixed 20% 1 MB, 70% 10 MB, 10% 100 MB"] = _mixed(mixed, [])
    found["push chunk mixed 33% 1 MB, 33% 10 MB, 33% 100 MB"] = _mixed(thirds, [], is_chunked=True)
    for size, name in named.items():
        pushed = of(size, few[size] // 2)
        found[f"pull 75% and push 25% mixed {name}"] = _mixed(pushed, 3 * pushed)
    return [
        Row(name=f"zb: {name}", run=each.run, prepare=each.prepare, unit="ms") for name, each in found.items()
    ]
