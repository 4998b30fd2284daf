"""The rows about large blobs: downloads, and uploads by PUT and by PATCH."""

from __future__ import annotations

import asyncio
import os
from functools import cache

from bench import content
from bench.connection import Connection
from bench.content import digest_of
from bench.rows import Row
from bench.servers import Server

MIB = 1024 * 1024
GIB = 1024 * MIB
#: What a PATCH carries.
CHUNK_BYTES = 16 * MIB


@cache
def large(size_bytes: int) -> tuple[bytes, str]:
    """Return content that no compression shortens, and its digest; one for all servers."""
    block = os.urandom(MIB)
    whole = b"".join(block[:-8] + number.to_bytes(8, "big") for number in range(size_bytes // MIB))
    return whole, digest_of(whole)


def path_of(server: Server, digest: str) -> str:
    """Return where a server has the large blob."""
    return f"/v2/bench/large/blobs/{digest}" if server.is_registry else f"/{digest.replace(':', '-')}"


async def fill(server: Server, size_bytes: int) -> None:
    """Give a server the blob that is downloaded, and check what it makes of it."""
    whole, digest = large(size_bytes)
    if not server.is_registry:
        (server.root / digest.replace(":", "-")).write_bytes(whole)
        return
    connection = await Connection.open(server.port, server.fixed)
    await content.push_blob(connection, "bench/large", whole)
    await connection.download(path_of(server, digest), length_bytes=size_bytes, digest=digest)
    connection.close()


def download(size_bytes: int, clients: int) -> Row:
    """Return a row of downloads; a piece is a GiB."""

    async def run(server: Server, _seconds: float) -> float:
        digest = large(size_bytes)[1]

        async def one() -> None:
            connection = await Connection.open(server.port, server.fixed)
            await connection.download(path_of(server, digest), length_bytes=size_bytes)
            connection.close()

        await asyncio.gather(*(one() for _ in range(clients)))
        return clients * size_bytes / GIB

    name = f"blob of {size_bytes // MIB:,} MiB, GET, {_connections(clients)}"
    return Row(name=name, run=run, unit="s", rate=" GiB/s", files=True)


def upload(size_bytes: int, streams: int, *, patches: bool) -> Row:
    """Return a row of uploads of new blobs; a piece is a GiB. What was stored is removed after it."""

    async def run(server: Server, _seconds: float) -> float:
        async def one(number: int) -> None:
            await _push(server, number, size_bytes, patches=patches)

        await asyncio.gather(*map(one, range(streams)))
        return streams * size_bytes / GIB

    way = "PATCH" if patches else "PUT"
    name = f"blob of {size_bytes // MIB:,} MiB pushed by {way}, {_connections(streams)}"
    return Row(name=name, run=run, unit="s", rate=" GiB/s", must=1.5)


async def _push(server: Server, number: int, size_bytes: int, *, patches: bool) -> None:
    # A new blob costs only a new beginning.
    whole = os.urandom(16) + large(size_bytes)[0][16:]
    connection = await Connection.open(server.port, server.fixed)
    repository = f"bench/up{number}"
    opened = await connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    headers = opened.headers
    rest = memoryview(whole)
    octets = {"Content-Type": "application/octet-stream"}
    while patches and rest:
        path = content.path_of(headers["location"])
        answer = await connection.request("PATCH", path, headers=octets, body=rest[:CHUNK_BYTES], expect=202)
        headers, rest = answer.headers, rest[CHUNK_BYTES:]
    await content.finish(connection, headers, rest, whole)
    await connection.request("DELETE", f"/v2/{repository}/blobs/{digest_of(whole)}", expect=202)
    connection.close()


def rows(*, quick: bool) -> list[Row]:
    """Return the rows; the quick ones move a quarter."""
    down, up = (256 * MIB, 64 * MIB) if quick else (GIB, 256 * MIB)
    found = [download(down, 1), download(down, 8)]
    for streams in (1, 8):
        found += [upload(up, streams, patches=False), upload(up, streams, patches=True)]
    return found


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"
