"""The rows about large blobs: downloads, and uploads by PUT and by PATCH."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

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


@dataclass(frozen=True, slots=True)
class Fresh:
    """A blob that nobody has yet: a beginning of its own before what all have in common."""

    views: Sequence[memoryview]
    digest: str

    @classmethod
    def of(cls, size_bytes: int) -> Self:
        """Return another one."""
        common = memoryview(large(size_bytes)[0])
        views = (memoryview(os.urandom(MIB)), common[MIB:])
        hasher = hashlib.sha256()
        for view in views:
            hasher.update(view)
        return cls(views, f"sha256:{hasher.hexdigest()}")

    def chunks(self) -> Iterator[Sequence[memoryview]]:
        """Cut it into what a PATCH carries."""
        first, common = self.views
        cut = CHUNK_BYTES - len(first)
        yield first, common[:cut]
        for start in range(cut, len(common), CHUNK_BYTES):
            yield (common[start : start + CHUNK_BYTES],)


def upload(size_bytes: int, streams: int, *, patches: bool) -> Row:
    """Return a row of uploads of new blobs; a piece is a GiB. What was stored is removed after it."""
    blobs: list[Fresh] = []

    async def prepare(server: Server) -> None:
        blobs[:] = [Fresh.of(size_bytes) for _ in range(streams)]
        warm_up(server.files, streams * size_bytes, core=server.core)

    async def run(server: Server, _seconds: float) -> float:
        await asyncio.gather(
            *(_push(server, number, blob, patches=patches) for number, blob in enumerate(blobs))
        )
        return streams * size_bytes / GIB

    async def clear(server: Server) -> None:
        remove(server, [blob.digest for blob in blobs])

    way = "PATCH" if patches else "PUT"
    name = f"blob of {size_bytes // MIB:,} MiB pushed by {way}, {_connections(streams)}"
    return Row(name=name, run=run, prepare=prepare, clear=clear, unit="s", rate=" GiB/s", must=1.5)


def remove(server: Server, digests: Sequence[str]) -> None:
    """Free the space of blobs that will never be asked for again; a registry would only when it collects."""
    names = {digest.partition(":")[2] for digest in digests}
    for folder, _, files in os.walk(server.root):
        for file in files:
            path = Path(folder, file)
            if names.intersection(path.parts) and path.stat().st_size >= MIB:
                path.unlink()


def warm_up(folder: Path, size_bytes: int, *, core: int | None) -> None:
    """Have the machine's host give memory for as much as will be written, so that nobody is charged for it.

    A virtual machine may get its pages at the first touch, which costs several times the whole upload, and
    give free ones back at once where 2 MiB lie together: hence one page of each MiB stays. Every core keeps
    pages that it freed for itself, so this is done on the one that will write.
    """
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} if core is not None else own)
    kept, freed = folder / "warm-kept", folder / "warm-freed"
    page = os.sysconf("SC_PAGE_SIZE")
    block = bytes(MIB - page)
    try:
        with kept.open("wb", buffering=0) as stays, freed.open("wb", buffering=0) as goes:
            for _ in range(size_bytes // MIB):
                goes.write(block)
                stays.write(block[:page])
        freed.unlink()
    finally:
        os.sched_setaffinity(0, own)


async def _push(server: Server, number: int, blob: Fresh, *, patches: bool) -> None:
    connection = await Connection.open(server.port, server.fixed)
    repository = f"bench/up{number}"
    opened = await connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    headers, rest = opened.headers, blob.views
    if patches:
        for chunk in blob.chunks():
            path = content.path_of(headers["location"])
            answer = await connection.request("PATCH", path, headers=content.OCTETS, body=chunk, expect=202)
            headers = answer.headers
        rest = ()
    await content.finish(connection, headers, rest, blob.digest)
    await connection.request("DELETE", f"/v2/{repository}/blobs/{blob.digest}", expect=202)
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
