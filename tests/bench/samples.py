"""Rows and samples as a benchmark leaves them, without the hours."""

from __future__ import annotations

from pathlib import Path

from bench.rows import Row, Sample
from bench.servers import Server


async def _nothing(_server: Server, _seconds: float) -> float:
    return 0.0


def row(name: str, *, must: float = 0.0, unit: str = "µs") -> Row:
    """Return a row that does nothing."""
    return Row(name=name, run=_nothing, must=must, unit=unit)


def sample(cost_seconds: float, *, rate: float = 100.0, median_seconds: float = 0.0) -> Sample:
    """Return a sample of a hundred pieces."""
    return Sample(100, 100 * cost_seconds, 100 / rate, median_seconds)


def server(name: str, folder: Path) -> Server:
    """Return a server that nobody starts."""
    return Server(name, folder / "root", folder / "files", None, f"{name} 1.0")
