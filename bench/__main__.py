"""The benchmark: starts the servers, fills them, runs the rows in rounds, writes the page and the history."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import content, report, rows
from bench.rows import Row, Sample
from bench.servers import Server, servers

Samples = dict[str, dict[str, list[Sample]]]


def say(text: str) -> None:
    """Tell how far it got."""
    sys.stderr.write(text + "\n")


async def measure(
    running: Sequence[Server], wanted: Sequence[Row], *, rounds: int, seconds: float
) -> Samples:
    """Run every row on every server, round by round, so that a slow minute of the machine hits all alike."""
    samples: Samples = {
        row.name: {server.name: [] for server in running if row.takes(server)} for row in wanted
    }
    for number in range(rounds):
        for row in wanted:
            for server in running:
                if row.takes(server):
                    sample = await row.sample(server, seconds)
                    samples[row.name][server.name].append(sample)
            say(f"round {number + 1}: {report.line(row, samples[row.name])}")
    return samples


async def bench_small(data: Path, options: argparse.Namespace) -> Samples:
    """Measure single requests and small images, with memory as the disk."""
    found = servers(data, core=options.core, only=options.servers)
    wanted = [row for row in rows.small_rows() if report.is_wanted(row, options.rows)]
    try:
        for server in found:
            server.start()
            await content.fill(server)
            say(f"{server.name} is filled: {server.version}")
        return await measure(found, wanted, rounds=options.rounds, seconds=options.seconds)
    finally:
        for server in found:
            server.stop()


def main(arguments: Sequence[str]) -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="three short rounds, small files")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--servers", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", default=[], help="words that a row's name must hold")
    parser.add_argument("--unpinned", action="store_true")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.core = None
    if not options.unpinned and (os.cpu_count() or 1) > 1:
        # Clients on the first core, servers on the second.
        os.sched_setaffinity(0, {0})
        options.core = 1
    data = Path(tempfile.mkdtemp(prefix="dockreg-bench-", dir="/dev/shm"))
    try:
        samples = asyncio.run(bench_small(data, options))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    sys.stdout.write(report.table(rows.small_rows(), samples) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
