"""How long answers take at an equal load: work comes when it is due, whether what came before is done or not.

The load is half of what the slowest server can do, and the same for all. What waits for a connection, or is
late because the client was busy, has waited since it was due: else a server that stands still would stop the
clock, too ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from random import Random
from statistics import median

from bench import rows
from bench.connection import Connection
from bench.servers import REFERENCE, Server
from bench.verdicts import OWN, Verdict

Piece = Callable[[Connection, int], Awaitable[None]]
#: Of what the slowest server does when it is never idle.
SHARE = 0.5
CLIENTS = 16
CONNECTIONS = 64
#: What is promised: so many times the reference's, or less than that.
MOST_TIMES, MOST_MS = 2.0, 20.0
LEGEND = (
    "Half of what the slowest of them can do, the same for all; what was due while the server stood still "
    "counts from when it was due. Median (least–most) of the rounds."
)
PIECES: Mapping[str, Piece] = {
    "manifest GET": rows.get_another,
    "small image pulled": rows.pull_shared,
    "small image pushed": rows.push_new,
}


@dataclass
class Steady:
    """One kind of work: the load, and the p99 of each round by server."""

    name: str
    rate: float = 0.0
    p99_ms: dict[str, list[float]] = field(default_factory=dict)

    def verdict(self) -> Verdict | None:
        """Return whether the promise holds, when there is something to compare with."""
        if not self.p99_ms.get(OWN) or not self.p99_ms.get(REFERENCE):
            return None
        own, other = median(self.p99_ms[OWN]), median(self.p99_ms[REFERENCE])
        must = f"≤ 2 × {other:.3g} ms, that of {REFERENCE}, or < {MOST_MS:g} ms"
        is_met = own <= MOST_TIMES * other or own < MOST_MS
        return Verdict(f"{self.name}, {self.rate:.4g}/s offered", "p99", f"{own:.3g} ms", must, is_met)


def due_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield when pieces are due, in seconds from the start: a Poisson process, the same for every server."""
    chance, due = Random(seed), 0.0
    while (due := due + chance.expovariate(rate)) < seconds:
        yield due


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


async def offer(server: Server, piece: Piece, dues: Iterator[float]) -> list[float]:
    """Have every piece done when it is due, and return how many seconds later each was done."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await Connection.open(server.port, server.fixed))
    times: list[float] = []
    tasks: list[asyncio.Task[None]] = []

    async def one(due_at: float, number: int) -> None:
        connection = await idle.get()
        await piece(connection, number % CONNECTIONS)
        times.append(time.perf_counter() - due_at)
        idle.put_nowait(connection)

    began = time.perf_counter()
    for number, due in enumerate(dues):
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(began + due, number)))
    await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait().close()
    return times


async def most(server: Server, piece: Piece, seconds: float) -> float:
    """Return how many pieces a second a server does for clients that never rest."""
    row = rows.repeated("", piece, clients=CLIENTS)
    sample = await row.sample(server, seconds)
    return sample.pieces / sample.wall_seconds


async def measure(
    running: Sequence[Server], *, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Steady]:
    """Offer the same load to all servers, round by round."""
    found: list[Steady] = []
    for name, piece in PIECES.items():
        steady = Steady(name)
        steady.rate = SHARE * min([await most(server, piece, min(1.0, seconds)) for server in running])
        found.append(steady)
    for number in range(rounds):
        for steady in found:
            for server in running:
                p99_ms = await _p99_ms(server, steady, seconds, number)
                steady.p99_ms.setdefault(server.name, []).append(p99_ms)
            latest = ", ".join(f"{name} {times[-1]:.3g} ms" for name, times in steady.p99_ms.items())
            say(f"round {number + 1}: p99 of {steady.name} at {steady.rate:.4g}/s: {latest}")
    return found


async def _p99_ms(server: Server, steady: Steady, seconds: float, seed: int) -> float:
    # The client's own garbage collection would count as the server's time.
    gc.collect()
    gc.disable()
    try:
        times = await offer(server, PIECES[steady.name], due_times(steady.rate, seconds, seed))
    finally:
        gc.enable()
    return 1e3 * percentile(times, 0.99)


def table(found: Sequence[Steady]) -> str:
    """Return the table in Markdown: the median p99 of the rounds, and the least and the most."""
    names = list(dict.fromkeys(name for steady in found for name in steady.p99_ms))
    lines = ["| work | offered | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for steady in found:
        cells = [
            f"{median(times):.3g} ms ({min(times):.3g}–{max(times):.3g})" if times else "–"
            for times in (steady.p99_ms.get(name, []) for name in names)
        ]
        lines.append(f"| {steady.name} | {steady.rate:.4g}/s | " + " | ".join(cells) + " |")
    return "\n".join([LEGEND, "", *lines])
