"""The rows of the table: each a piece of work that is done to every server, again and again."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import content
from bench.connection import Connection, WrongAnswer
from bench.content import APP, MANIFEST_TYPE, SHARED, TAGS, digest_of
from bench.servers import Server

#: What wrk does: the same request again and again, or always another.
COUNT, ANEW = (Path(__file__).with_name(name) for name in ("count.lua", "anew.lua"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: so many pieces of work, what they cost the server, and how long they took."""

    pieces: float
    cpu_seconds: float
    wall_seconds: float
    #: Of one piece, from its first request to its last answer; 0 where nobody looked.
    median_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a run came to: its pieces, and how long they and all of it took, what was made ready left out."""

    pieces: float
    wall_seconds: float
    piece_seconds: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One piece of work.

    ``run`` does it for about the seconds it is given and returns what was done, or how many pieces.
    """

    name: str
    run: Callable[[Server, float], Awaitable[float | Done]]
    #: What is neither timed nor counted, before and after each run.
    prepare: Callable[[Server], Awaitable[None]] | None = None
    clear: Callable[[Server], Awaitable[None]] | None = None
    #: Of the CPU column: µs, ms or s, and the same for the rate.
    unit: str = "µs"
    rate: str = "/s"
    files: bool = False
    #: What the project promises against the reference, as a ratio of CPU; 0 for none.
    must: float = 0.0

    def takes(self, server: Server) -> bool:
        """Tell whether a server can do it."""
        return server.is_registry or self.files

    async def sample(self, server: Server, seconds: float) -> Sample:
        """Run once and measure."""
        if self.prepare is not None:
            await self.prepare(server)
        before, began = server.cpu_seconds(), time.monotonic()
        done = await self.run(server, seconds)
        if not isinstance(done, Done):
            done = Done(done, time.monotonic() - began)
        middle = median(done.piece_seconds) if done.piece_seconds else 0.0
        sample = Sample(done.pieces, server.cpu_seconds() - before, done.wall_seconds, middle)
        if self.clear is not None:
            await self.clear(server)
        return sample


def fetch(
    name: str,
    path: str,
    *,
    accept: str = "",
    body: bytes | None = None,
    clients: int = 8,
    is_anew: bool = False,
    **more: object,
) -> Row:
    """Return a row of GETs by wrk over so many connections; the number of bytes tells if all were right.

    With ``is_anew`` each request is another.
    """
    headers = {"Accept": accept} if accept else {}

    async def run(server: Server, seconds: float) -> Done | float:
        connection = await Connection.open(server.port, {**server.fixed, **headers})
        answer = await connection.request("GET", path)
        if body is not None and answer.body != body:
            raise WrongAnswer(f"{server.name}: GET {path}: other bytes")
        again = await connection.request("GET", path)
        connection.close()
        script = str(ANEW if is_anew else COUNT)
        wrk = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "-s", script]
        return await asyncio.to_thread(_wrk, wrk, server, path, headers, again.wire_bytes)

    return Row(name=name, run=run, **more)  # type: ignore[arg-type]


def _wrk(wrk: Sequence[str], server: Server, path: str, headers: Mapping[str, str], wire_bytes: int) -> float:
    options = [part for pair in {**server.fixed, **headers}.items() for part in ("-H", ": ".join(pair))]
    url = f"http://127.0.0.1:{server.port}{path}"
    done = subprocess.run([*wrk, *options, url], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("BENCH ")]
    if done.returncode or not lines:
        raise WrongAnswer(f"wrk failed: {done.stdout}{done.stderr}")
    requests, received_bytes, _, errors = map(int, lines[0].split()[1:])
    # Heads differ by a byte or two (ids, dates); and eight answers may be under way at the end.
    is_right = abs(received_bytes / max(requests, 1) - wire_bytes) <= 0.01 * wire_bytes + 4
    if errors or not is_right:
        raise WrongAnswer(f"{server.name}: {errors} errors, {received_bytes} bytes in {requests} of {path}")
    return requests


def head(name: str, path: str, *, accept: str = "", **more: object) -> Row:
    """Return a row of HEADs over eight connections (wrk cannot do them)."""

    async def work(connection: Connection, _number: int) -> None:
        answer = await connection.request("HEAD", path)
        if "content-length" not in answer.headers:
            raise WrongAnswer(f"HEAD {path}: no length")

    return repeated(name, work, clients=8, fixed={"Accept": accept} if accept else {}, **more)


def repeated(
    name: str,
    work: Callable[[Connection, int], Awaitable[None]],
    *,
    clients: int,
    fixed: Mapping[str, str] | None = None,
    **more: object,
) -> Row:
    """Return a row that does ``work`` over and over, by so many clients at once."""

    async def run(server: Server, seconds: float) -> Done:
        began = time.monotonic()
        times: list[float] = []

        async def client(number: int) -> None:
            connection = await Connection.open(server.port, {**server.fixed, **(fixed or {})})
            before = time.monotonic()
            while before < began + seconds:
                await work(connection, number)
                now = time.monotonic()
                times.append(now - before)
                before = now
            connection.close()

        await asyncio.gather(*map(client, range(clients)))
        return Done(len(times), time.monotonic() - began, times)

    return Row(name=name, run=run, **more)  # type: ignore[arg-type]


async def push_new(connection: Connection, number: int) -> None:
    """Push an image that no server has."""
    await content.push(connection, f"push/c{number}", "latest", content.new_image())


async def pull_shared(connection: Connection, _number: int) -> None:
    """Pull the one image that all have."""
    await content.pull(connection, APP, "v1", SHARED)


async def get_another(connection: Connection, number: int) -> None:
    """Read one of a thousand tags, as no request before did."""
    # A field of its own for each request: nothing that was answered before can be answered again.
    headers = {"Accept": MANIFEST_TYPE, "X-Request-Id": f"{number}-{time.monotonic_ns()}"}
    tag = time.monotonic_ns() % content.LISTED
    answer = await connection.request("GET", f"/v2/{TAGS}/manifests/t{tag:04d}", headers=headers)
    if answer.body != SHARED.manifest:
        raise WrongAnswer("another manifest")


def small_rows() -> list[Row]:
    """Return what is about single requests and small images."""
    manifest, layer = SHARED.manifest, f"/v2/{APP}/blobs/{digest_of(SHARED.layer)}"
    by_tag, by_digest = f"/v2/{APP}/manifests/v1", f"/v2/{APP}/manifests/{digest_of(manifest)}"
    kind = MANIFEST_TYPE
    return [
        fetch("GET /v2/", "/v2/", must=1.2),
        fetch("manifest GET by tag", by_tag, accept=kind, body=manifest, must=4, files=True),
        fetch("manifest GET by digest", by_digest, accept=kind, body=manifest, must=4),
        repeated("manifest GET by tag, each request another", get_another, clients=8),
        head("manifest HEAD by tag", by_tag, accept=kind, must=4),
        head("manifest HEAD by digest", by_digest, accept=kind, must=4),
        head("blob HEAD", layer),
        fetch("blob of 1 KiB, GET", layer, body=SHARED.layer, must=15, files=True),
        fetch("tags/list?n=100 of 1,000", f"/v2/{TAGS}/tags/list?n=100", must=10),
        fetch("_catalog?n=100 of 1,000", "/v2/_catalog?n=100", must=18),
        repeated("small image pulled, 1 client", pull_shared, clients=1, must=6),
        repeated("small image pulled, 16 clients", pull_shared, clients=16, must=6),
        repeated("small image pushed, 1 client", push_new, clients=1, must=1.3),
        repeated("small image pushed, 16 clients", push_new, clients=16, must=1.3),
    ]


def disk_rows() -> list[Row]:
    """Return what waits for the disk; the rate is what counts there."""
    return [
        repeated("small image pushed to a real disk, 1 client", push_new, clients=1),
        repeated("small image pushed to a real disk, 16 clients", push_new, clients=16),
    ]
