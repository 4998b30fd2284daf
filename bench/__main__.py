"""The benchmark's command line: which parts, for how long, on which cores; then the page and the history."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import page, parts, report, verdicts
from bench.connection import WrongAnswer
from bench.parts import Plan
from bench.servers import TOP, servers

#: Those of the clients and of the servers, when they are kept apart.
CLIENT_CORE, SERVER_CORE = 0, 1


def say(text: str) -> None:
    """Tell how far it got."""
    sys.stderr.write(text + "\n")


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller files, no zb: 4 minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--servers", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", default=[], help="words that a row's name must hold")
    parser.add_argument("--parts", nargs="*", default=[], choices=list(parts.PARTS), help="these parts only")
    parser.add_argument("--unpinned", action="store_true", help="clients and servers on every core")
    parser.add_argument("--disk", type=Path, default=TOP / "var", help="a folder on a real disk")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and the history")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the names of the parts that were asked for."""
    if options.parts:
        return list(options.parts)
    if options.rows:
        return list(parts.OF_ROWS)
    return [name for name in parts.PARTS if not (options.quick and name in parts.NOT_QUICK)]


def run(plan: Plan, options: argparse.Namespace) -> None:
    """Measure, print and write."""
    found = asyncio.run(parts.run(plan, chosen(options)))
    if found.rows:
        sys.stdout.write(report.table(found.rows, found.samples) + "\n")
    for title, text in found.tables.items():
        sys.stdout.write(f"\n{title}\n{text}\n")
    if found.verdicts:
        sys.stdout.write(f"\nPromises\n{verdicts.table(found.verdicts)}\n")
    if options.write:
        where = "servers and clients free to run anywhere"
        if plan.core is not None:
            where = "servers on one core, clients on the other"
        how = f"{'quick, ' if plan.is_quick else ''}{plan.rounds} rounds, {where}"
        beside = servers(plan.memory, core=plan.core, only=plan.only)
        page.write(found, beside, how=how, now=page.today())


def main(arguments: Sequence[str]) -> int:
    """Run."""
    options = options_of(arguments)
    is_pinned = not options.unpinned and (os.cpu_count() or 1) > 1
    if is_pinned:
        os.sched_setaffinity(0, {CLIENT_CORE})
    # So that servers end and folders go, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.disk.mkdir(parents=True, exist_ok=True)
    memory = Path(tempfile.mkdtemp(prefix="dockreg-bench-", dir="/dev/shm"))
    disk = Path(tempfile.mkdtemp(prefix="bench-", dir=options.disk))
    plan = Plan(
        memory=memory,
        disk=disk,
        is_quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 5),
        seconds=options.seconds,
        core=SERVER_CORE if is_pinned else None,
        cores=os.cpu_count() or 1,
        only=options.servers,
        words=options.rows,
        say=say,
    )
    try:
        run(plan, options)
    except WrongAnswer as error:
        sys.stderr.write(f"The benchmark is void: {error}\n")
        return 1
    finally:
        shutil.rmtree(memory, ignore_errors=True)
        shutil.rmtree(disk, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
