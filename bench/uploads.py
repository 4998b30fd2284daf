"""Large uploads to dockreg alone: many at once and what they do to everybody else, and one that hops."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

from bench import reactor
from bench.connection import Connection, WrongAnswer
from bench.content import path_of
from bench.reactor import Delays
from bench.rows import Row
from bench.servers import Server, dockreg
from bench.verdicts import Verdict, at_most
from tests.integration.pulse import Latency, Pulse

MIB = 1024 * 1024
GIB = 1024 * MIB
OCTETS = {"Content-Type": "application/octet-stream"}
HEAD_BYTES = 16
STREAMS, CHUNKS, WORKERS = 8, 1000, 2
#: Connections that the chunks of one upload take in turn.
HOPPED = 8
#: What is promised: how memory grows while eight upload a GiB each, what others wait, the cost of hopping.
MOST_GROWTH_MIB, MOST_DELAY_MS, MOST_TIMES = 160.0, 50.0, 2.0


@dataclass(frozen=True)
class Blob:
    """A new blob that is one block over and over, but for its beginning: a GiB takes a MiB of memory."""

    count: int
    block: bytes = field(default_factory=lambda: os.urandom(MIB))
    head: bytes = field(default_factory=lambda: os.urandom(HEAD_BYTES))

    @property
    def parts(self) -> list[bytes]:
        """Its bytes, a MiB each."""
        return [self.head + self.block[HEAD_BYTES:], *[self.block] * (self.count - 1)]

    @cached_property
    def digest(self) -> str:
        """Its digest."""
        hasher = hashlib.sha256()
        for part in self.parts:
            hasher.update(part)
        return f"sha256:{hasher.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Crowd:
    """What eight uploads at once did: growth of memory, and what a bystander saw."""

    size_bytes: int
    growth_bytes: int
    rate_gib: float
    cpu_seconds_per_gib: float
    pulse: Latency
    delays: Delays


async def crowd(data: Path, *, core: int | None, size_mib: int) -> Crowd:
    """Upload to a fresh dockreg by all streams at once, and check what is there afterwards."""
    server = dockreg(data / "crowd", core=core)
    server.start()
    try:
        blobs = [Blob(size_mib) for _ in range(STREAMS)]
        paths = [await _begin(server, blob) for blob in blobs]
        before = await reactor.look(server)
        idle_bytes = server.memory_bytes()
        pulse = Pulse(server.port)

        async def run(_server: Server, _seconds: float) -> float:
            await asyncio.gather(*map(_put, [server] * STREAMS, paths, blobs))
            return STREAMS * size_mib * MIB / GIB

        sample = await Row(name="", run=run).sample(server, 0)
        seen = pulse.stop()
        delays = (await reactor.look(server)).since(before)
        growth_bytes = server.memory_bytes("VmHWM") - idle_bytes
        await _check(server, blobs)
        rate, cost = sample.pieces / sample.wall_seconds, sample.cpu_seconds / sample.pieces
        return Crowd(size_mib * MIB, growth_bytes, rate, cost, seen, delays)
    finally:
        server.stop()


async def _put_at_once(server: Server, path: str, blob: Blob) -> None:
    await _put(server, path, blob)


async def _hop(server: Server, path: str, blob: Blob) -> None:
    """Send every chunk on another connection: kept ones are spread evenly over the workers."""
    before = server.cpu_seconds_by_pid()
    connections = [await Connection.open(server.port, server.fixed) for _ in range(HOPPED)]
    path, _, query = path.partition("?")
    for number, chunk in enumerate(blob.parts):
        headers = {**OCTETS, "Content-Range": f"{number * MIB}-{(number + 1) * MIB - 1}"}
        connection = connections[number % HOPPED]
        answer = await connection.request("PATCH", path, headers=headers, body=chunk, expect=202)
        path = path_of(answer.headers["location"])
    await connections[0].request("PUT", f"{path}?{query}", expect=201)
    for connection in connections:
        connection.close()
    after = server.cpu_seconds_by_pid()
    used = sorted(after[pid] - before.get(pid, 0.0) for pid in after)
    if not used[-WORKERS]:
        raise WrongAnswer(f"the chunks did not hop: the processes used {used} s")


def hopping_verdict(found: Hopping) -> Verdict:
    """Return whether the promise holds."""
    work = f"{CHUNKS:,} chunks of {found.chunk_bytes // MIB} MiB that hop over {WORKERS} workers"
    return at_most(work, "CPU ÷ that of one PUT", found.times, MOST_TIMES)


def hopping_table(found: Hopping) -> str:
    """Return the table in Markdown."""
    put, hopped = median(found.put_seconds), median(found.hopping_seconds)
    return "\n".join(
        [
            f"| {CHUNKS * found.chunk_bytes // MIB:,} MiB | by one PUT | by {CHUNKS:,} chunks | ratio |",
            "|---|---|---|---|",
            f"| CPU | {put:.3g} s | {hopped:.3g} s | {found.times:.2f}× |",
        ]
    )


async def _begin(server: Server, blob: Blob) -> str:
    connection = await Connection.open(server.port, server.fixed)
    opened = await connection.request("POST", "/v2/large/blobs/uploads/", expect=202)
    connection.close()
    return f"{path_of(opened.headers['location'])}?digest={blob.digest}"


async def _put(server: Server, path: str, blob: Blob) -> None:
    connection = await Connection.open(server.port, server.fixed)
    stored = await connection.stream("PUT", path, headers=OCTETS, parts=blob.parts, expect=201)
    if stored.headers.get("docker-content-digest") != blob.digest:
        raise WrongAnswer(f"PUT {path}: stored under another digest")
    connection.close()


async def _check(server: Server, blobs: Sequence[Blob]) -> None:
    connection = await Connection.open(server.port, server.fixed)
    for blob in blobs:
        path = f"/v2/large/blobs/{blob.digest}"
        await connection.download(path, length_bytes=blob.count * MIB, digest=blob.digest)
    connection.close()


def crowd_verdicts(found: Crowd) -> list[Verdict]:
    """Return whether the promises hold."""
    work = f"{STREAMS} uploads of {found.size_bytes // MIB:,} MiB at once"
    return [
        at_most(work, "growth of memory", found.growth_bytes / MIB, MOST_GROWTH_MIB, " MiB"),
        at_most(work, "/healthz, p99", found.pulse.p99_ms, MOST_DELAY_MS, " ms"),
        found.delays.verdict(work),
    ]


def crowd_table(found: Crowd) -> str:
    """Return the table in Markdown."""
    seen = found.pulse
    head = (
        "| uploads | memory | rate | CPU | /healthz every 10 ms: p50, p99, worst | its client's own delay |"
    )
    cells = [
        f"{STREAMS} of {found.size_bytes // MIB:,} MiB",
        f"+{found.growth_bytes / MIB:.0f} MiB",
        f"{found.rate_gib:.3g} GiB/s",
        f"{found.cpu_seconds_per_gib:.3g} s/GiB",
        f"{seen.median_ms:.2g}, {seen.p99_ms:.3g}, {seen.worst_ms:.3g} ms",
        f"≤ {seen.late_ms:.2g} ms",
    ]
    return "\n".join([head, "|---" * len(cells) + "|", f"| {' | '.join(cells)} |"])


@dataclass
class Hopping:
    """CPU seconds of one blob: by one PUT, and by chunks that go to one worker and another in turn."""

    chunk_bytes: int
    put_seconds: list[float] = field(default_factory=list)
    hopping_seconds: list[float] = field(default_factory=list)

    @property
    def times(self) -> float:
        """How many times the cost of a PUT the chunks have, from the medians."""
        return median(self.hopping_seconds) / max(median(self.put_seconds), 0.01)


async def hopping(data: Path, *, core: int | None, rounds: int) -> Hopping:
    """Upload a blob in a thousand chunks of a MiB over two workers, and another one by PUT."""
    server = dockreg(data / "hopping", core=core, workers=str(WORKERS))
    server.start()
    found = Hopping(MIB)
    try:
        for _ in range(rounds):
            for way, seconds in ((_put_at_once, found.put_seconds), (_hop, found.hopping_seconds)):
                blob = Blob(CHUNKS)
                path = await _begin(server, blob)
                before = server.cpu_seconds()
                await way(server, path, blob)
                seconds.append(server.cpu_seconds() - before)
                await _check(server, [blob])
                server.sweep()
        return found
    finally:
        server.stop()
