"""How late dockreg's reactor comes to what is due, from the histogram that it keeps itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.connection import Connection
from bench.servers import Server
from bench.verdicts import Verdict

_BUCKET = re.compile(r'^dockreg_reactor_delay_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)
MOST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Delays:
    """How many samples were at most so many seconds late, by bound; the last bound is infinite."""

    counts: dict[float, float]

    @classmethod
    def parse(cls, text: str) -> Delays:
        """Read them from the text of ``/metrics``."""
        return cls({float(bound): float(count) for bound, count in _BUCKET.findall(text)})

    def since(self, before: Delays) -> Delays:
        """Return what was counted after ``before``."""
        return Delays({bound: count - before.counts[bound] for bound, count in self.counts.items()})

    @property
    def total(self) -> float:
        """How many samples there are."""
        return max(self.counts.values(), default=0)

    def bound(self, share: float) -> float:
        """Return the bound below which this share of the samples lies."""
        return min(bound for bound, count in self.counts.items() if count >= share * self.total)

    def verdict(self, part: str) -> Verdict:
        """Return whether it always came in time."""
        late = round(self.total - self.counts[MOST_SECONDS])
        p99_ms = 1e3 * self.bound(0.99)
        found = f"{late} of {self.total:.0f} above; p99 ≤ {p99_ms:g} ms"
        return Verdict(part, "delay of the reactor", found, f"< {1e3 * MOST_SECONDS:g} ms", not late)


async def look(server: Server) -> Delays:
    """Return what a dockreg has counted."""
    connection = await Connection.open(server.port, server.fixed)
    answer = await connection.request("GET", "/metrics")
    connection.close()
    return Delays.parse(answer.body.decode())
