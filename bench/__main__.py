"""The benchmark: starts the servers, fills them, runs the rows in rounds, writes the page and the history."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import bulk, content, page, report, rows, states
from bench.report import Samples
from bench.rows import Row
from bench.servers import TOP, Server, servers


def say(text: str) -> None:
    """Tell how far it got."""
    sys.stderr.write(text + "\n")


async def measure(
    running: Sequence[Server], wanted: Sequence[Row], *, rounds: int, seconds: float
) -> Samples:
    """Run every row on every server, round by round: a slow minute of the machine hits all alike."""
    samples: Samples = {row.name: {} for row in wanted}
    for number in range(rounds):
        for row in wanted:
            for server in running:
                if row.takes(server):
                    sample = await row.sample(server, seconds)
                    samples[row.name].setdefault(server.name, []).append(sample)
            say(f"round {number + 1}: {report.line(row, samples[row.name])}")
    return samples


Fill = Callable[[Server], Awaitable[None]]


async def bench(
    data: Path, options: argparse.Namespace, every: Sequence[Row], fill: Fill, *, rounds: int
) -> Samples:
    """Start all servers on fresh roots under ``data``, fill and measure them."""
    wanted = [row for row in every if report.is_wanted(row, options.rows)]
    if not wanted:
        return {}
    found = servers(data, core=options.core, only=options.servers)
    try:
        for server in found:
            server.start()
            await fill(server)
            say(f"{server.name} is filled: {server.version}")
        return await measure(found, wanted, rounds=rounds, seconds=options.seconds)
    finally:
        for server in found:
            server.stop()
        shutil.rmtree(data, ignore_errors=True)


async def bench_all(memory: Path, disk: Path, options: argparse.Namespace) -> int:
    """Measure everything that was asked for, and write it down."""
    rounds = options.rounds
    small = rows.small_rows()
    samples = await bench(memory / "small", options, small, content.fill, rounds=rounds)
    large = bulk.rows(quick=options.quick)

    async def fill_large(server: Server) -> None:
        await bulk.fill(server, bulk.MIB * (256 if options.quick else 1024))

    samples |= await bench(memory / "large", options, large, fill_large, rounds=max(1, rounds // 2))

    async def fill_nothing(_server: Server) -> None:
        """Start empty."""

    on_disk = rows.disk_rows()
    samples |= await bench(disk / "disk", options, on_disk, fill_nothing, rounds=max(1, rounds // 2))
    every = [*small, *large, *on_disk]
    tables: dict[str, str] = {}
    if not options.rows:
        states_found = states.memory(
            memory, core=options.core, only=options.servers, connections=states.CONNECTIONS
        )
        head = ["start", "idle", f"{states.CONNECTIONS:,} idle connections"]
        tables["Start and memory"] = page.size_table(states_found, head)
        most = 100_000 if options.quick else 1_000_000
        times = 1 if options.quick else rounds
        sizes = await states.sizes(
            memory, core=options.core, most=most, rounds=times, seconds=options.seconds, say=say
        )
        head = [f"{size:,}" for size in states.SIZES if size <= most]
        tables["Cost against the number of tags and repositories (dockreg)"] = page.size_table(sizes, head)
    sys.stdout.write(report.table(every, samples) + "\n")
    for title, text in tables.items():
        sys.stdout.write(f"\n{title}\n{text}\n")
    if options.write:
        found = servers(memory, core=options.core, only=options.servers)
        where = "servers and clients free to run anywhere" if options.core is None else "servers on one core"
        how = f"{'quick, ' if options.quick else ''}{rounds} rounds, {where}, clients on the other"
        page.write(every, samples, found, tables, how=how, now=page.today())
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="two short rounds, small files")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--servers", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", default=[], help="words that a row's name must hold")
    parser.add_argument("--unpinned", action="store_true")
    parser.add_argument("--disk", type=Path, default=TOP / "var", help="a folder on a real disk")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and the history")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.core = None
    if not options.unpinned and (os.cpu_count() or 1) > 1:
        # Clients on the first core, servers on the second.
        os.sched_setaffinity(0, {0})
        options.core = 1
    # So that servers end and folders go, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.disk.mkdir(parents=True, exist_ok=True)
    memory = Path(tempfile.mkdtemp(prefix="dockreg-bench-", dir="/dev/shm"))
    disk = Path(tempfile.mkdtemp(prefix="bench-", dir=options.disk))
    try:
        return asyncio.run(bench_all(memory, disk, options))
    finally:
        shutil.rmtree(memory, ignore_errors=True)
        shutil.rmtree(disk, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
