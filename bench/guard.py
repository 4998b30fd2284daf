"""The guard against getting slower: a few rows beside Debian's docker-registry, and what was reached."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench import content, rows
from bench.rows import Row
from bench.servers import Server, servers

FLOORS = Path(__file__).with_name("floors.toml")
BESIDE = "docker-registry"
ROUNDS = 3
SECONDS = 1.0
#: How far under its floor the best round may be: machines differ, and others work on them.
SLACK = 0.75


@dataclass(frozen=True, slots=True)
class Finding:
    """What one row came to: the ratio of each round."""

    name: str
    floor: float
    ratios: tuple[float, ...]

    @property
    def is_kept(self) -> bool:
        """Whether the best round is good enough."""
        return max(self.ratios) >= self.floor * SLACK

    def __str__(self) -> str:
        shown = ", ".join(f"{ratio:.2f}" for ratio in self.ratios)
        return f"{self.name}: {shown} times less CPU than {BESIDE}; the floor is {self.floor:g}"


def look() -> list[Finding]:
    """Measure each row that has a floor."""
    floors: dict[str, float] = tomllib.loads(FLOORS.read_text(encoding="utf-8"))
    wanted = [row for row in rows.small_rows() if row.name in floors]
    before = os.sched_getaffinity(0)
    core = None
    if len(before) > 1:
        first, core, *_ = sorted(before)
        os.sched_setaffinity(0, {first})
    data = Path(tempfile.mkdtemp(prefix="dockreg-guard-"))
    try:
        ratios = asyncio.run(_measure(data, wanted, core))
    finally:
        os.sched_setaffinity(0, before)
        shutil.rmtree(data, ignore_errors=True)
    return [Finding(name, floor, tuple(ratios[name])) for name, floor in floors.items()]


async def _measure(data: Path, wanted: list[Row], core: int | None) -> dict[str, list[float]]:
    found = servers(data, core=core, only=["dockreg", BESIDE])
    ratios: dict[str, list[float]] = {row.name: [] for row in wanted}
    try:
        for server in found:
            server.start()
            await content.fill_app(server)
        for _ in range(ROUNDS):
            for row in wanted:
                own, other = [await _cost(row, server) for server in found]
                ratios[row.name].append(other / own)
    finally:
        for server in found:
            server.stop()
    return ratios


async def _cost(row: Row, server: Server) -> float:
    sample = await row.sample(server, SECONDS)
    return max(sample.cpu_seconds, 0.01) / sample.pieces
