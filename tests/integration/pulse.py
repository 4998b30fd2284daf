"""A client of its own process that asks ``/healthz`` every 10 ms and tells how long each answer took.

``python -m tests.integration.pulse PORT`` asks until its standard input ends, then prints JSON.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PERIOD_SECONDS = 0.010


@dataclass(frozen=True, slots=True)
class Latency:
    """Times in milliseconds; ``late_ms`` is the pulse's own worst delay: the noise of the machine."""

    count: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    late_ms: float


class Pulse:
    """Measures while it is open."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.pulse", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def stop(self) -> Latency:
        """End the measurement and return it."""
        output, _ = self._process.communicate(timeout=60)
        return Latency(**json.loads(output))


def measure(port: int) -> Latency:
    """Ask until standard input ends."""
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times: list[float] = []
    late: list[float] = [0.0]
    print("started", flush=True)  # noqa: T201 # the parent waits for this line
    due = time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
        began = time.perf_counter()
        late.append(began - due)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: pulse\r\n\r\n")
        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
            raise AssertionError("/healthz did not answer 200")
        times.append(time.perf_counter() - began)
        due = max(due + PERIOD_SECONDS, time.perf_counter())
    ordered = sorted(times)
    return Latency(
        count=len(ordered),
        median_ms=1000 * ordered[len(ordered) // 2],
        p99_ms=1000 * ordered[int(len(ordered) * 0.99)],
        worst_ms=1000 * ordered[-1],
        late_ms=1000 * max(late),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1])))))  # noqa: T201 # the result
