"""What is not about requests: start and memory."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Server, servers
from bench.verdicts import OWN, Verdict, at_most

MIB = 1024 * 1024
CONNECTIONS = 10_000
#: What is promised of one process.
MOST_IDLE_MIB, MOST_GROWTH_MIB = 75.0, 40.0


@dataclass(frozen=True, slots=True)
class State:
    """One server: when it took connections, its size then, and how much idle connections add."""

    started_seconds: float
    idle_bytes: int
    growth_bytes: int


def measure(data: Path, *, core: int | None, only: Sequence[str]) -> dict[str, State]:
    """Return the state of each registry."""
    found: dict[str, State] = {}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for server in servers(data / "states", core=core, only=only):
        if not server.is_registry:
            continue
        server.start()
        try:
            time.sleep(1)
            idle_bytes = server.memory_bytes()
            peers = list(_peers(server, CONNECTIONS))
            time.sleep(1)
            growth_bytes = server.memory_bytes() - idle_bytes
            for peer in peers:
                peer.close()
            found[server.name] = State(server.started_seconds, idle_bytes, growth_bytes)
        finally:
            server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return found


def table(found: Mapping[str, State]) -> str:
    """Return the table in Markdown."""
    lines = [f"| | start | idle | {CONNECTIONS:,} idle connections |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {each.started_seconds:.2f} s | {each.idle_bytes / MIB:.0f} MiB "
        f"| +{each.growth_bytes / MIB:.0f} MiB |"
        for name, each in found.items()
    ]
    return "\n".join(lines)


def verdicts(found: Mapping[str, State]) -> list[Verdict]:
    """Return whether the promises hold."""
    own = found.get(OWN)
    if own is None:
        return []
    grown = f"{CONNECTIONS:,} idle connections"
    return [
        at_most("idle", "memory of a process", own.idle_bytes / MIB, MOST_IDLE_MIB, " MiB"),
        at_most(grown, "growth of memory", own.growth_bytes / MIB, MOST_GROWTH_MIB, " MiB"),
    ]


def _peers(server: Server, connections: int) -> Iterator[socket.socket]:
    for number in range(connections):
        peer = socket.socket()
        # Ports of one address do not suffice for the highest numbers beside other programs.
        peer.bind((f"127.0.0.{1 + number % 8}", 0))
        peer.connect(("127.0.0.1", server.port))
        yield peer
