"""What is not about requests: start, memory, and cost against size."""

from __future__ import annotations

import resource
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench import content, rows
from bench.connection import Connection
from bench.content import SHARED, digest_of
from bench.rows import Row
from bench.servers import Server, servers

MIB = 1024 * 1024
CONNECTIONS = 10_000
#: Rows of the database of each size.
SIZES = (1_000, 100_000, 1_000_000)

Say = Callable[[str], None]


def memory(data: Path, *, core: int | None, only: Sequence[str], connections: int) -> dict[str, list[str]]:
    """Return start and memory of each server: when it takes connections, idle, and with idle connections."""
    found: dict[str, list[str]] = {}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for server in servers(data / "states", core=core, only=only):
        if not server.is_registry:
            continue
        server.start()
        try:
            time.sleep(1)
            idle_bytes = server.memory_bytes()
            peers = list(_peers(server, connections))
            time.sleep(1)
            full_bytes = server.memory_bytes()
            for peer in peers:
                peer.close()
            found[server.name] = [
                f"{server.started_seconds:.2f} s",
                f"{idle_bytes / MIB:.0f} MiB",
                f"+{(full_bytes - idle_bytes) / MIB:.0f} MiB",
            ]
        finally:
            server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return found


def _peers(server: Server, connections: int) -> Iterator[socket.socket]:
    for number in range(connections):
        peer = socket.socket()
        # Ports of one address do not suffice for the highest numbers beside other programs.
        peer.bind((f"127.0.0.{1 + number % 8}", 0))
        peer.connect(("127.0.0.1", server.port))
        yield peer


def size_rows() -> list[Row]:
    """Return the rows whose cost must not grow with what is stored."""
    manifest = f"/v2/{content.TAGS}/manifests/t0000500"

    async def push_tag(connection: Connection, number: int) -> None:
        tag = f"new-{time.monotonic_ns()}-{number}"
        await content.push_manifest(connection, content.TAGS, tag, SHARED.manifest)

    return [
        rows.fetch("tags/list?n=100", f"/v2/{content.TAGS}/tags/list?n=100&last=t0000500"),
        rows.fetch("_catalog?n=100", "/v2/_catalog?n=100&last=list/r0000500"),
        rows.fetch("manifest GET by tag", manifest, accept=content.MANIFEST_TYPE, body=SHARED.manifest),
        rows.repeated("tag pushed", push_tag, clients=1),
    ]


async def sizes(
    data: Path, *, core: int | None, most: int, rounds: int, seconds: float, say: Say
) -> dict[str, list[str]]:
    """Return the CPU of each of ``size_rows`` by numbers of tags and repositories, of dockreg alone."""
    found: dict[str, list[str]] = {"start": [], **{row.name: [] for row in size_rows()}}
    (server,) = servers(data / "sizes", core=core, only=["dockreg"])
    server.start()
    connection = await Connection.open(server.port, server.fixed)
    await content.push(connection, content.TAGS, "t0000000", SHARED)
    connection.close()
    try:
        for size in SIZES:
            if size > most:
                break
            server.stop()
            _fill_database(server.root / "registry.db", size)
            server.start()
            found["start"].append(f"{server.started_seconds:.2f} s")
            for row in size_rows():
                samples = [await row.sample(server, seconds) for _ in range(rounds)]
                cost = median(sample.cpu_seconds / sample.pieces for sample in samples)
                found[row.name].append(f"{cost * 1e6:.0f} µs")
                say(f"{size:,}: {row.name} {cost * 1e6:.0f} µs")
    finally:
        server.stop()
    return found


def _fill_database(path: Path, size: int) -> None:
    """Have so many tags in one repository, and so many repositories, in a database that nobody has open."""
    database = sqlite3.connect(path)
    (manifest_id, repository_id) = database.execute(
        "SELECT id, repository_id FROM manifests WHERE digest = ?", (digest_of(SHARED.manifest),)
    ).fetchone()
    tags = ((repository_id, f"t{number:07d}", manifest_id) for number in range(1, size))
    with database:
        database.executemany(
            "INSERT OR IGNORE INTO tags (repository_id, name, manifest_id, updated_at) VALUES (?, ?, ?, 0)",
            tags,
        )
        database.executemany(
            "INSERT OR IGNORE INTO repositories (name, created_at) VALUES (?, 0)",
            ((f"list/r{number:07d}",) for number in range(1, size)),
        )
    database.close()
