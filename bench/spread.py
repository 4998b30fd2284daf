"""What several processes bring: ``--workers auto`` beside one worker, all free to run on every core.

The clients take their part of the same cores; how much is told. So is the ratio that would be reached if the
server had every core for itself, from its processor time per piece: on few cores the clients take what the
second worker lacks.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import content, rows, thrifty
from bench.content import APP, MANIFEST_TYPE, SHARED
from bench.servers import Dockreg, dockreg
from bench.verdicts import Verdict, at_least

READERS, PUSHERS = 64, 32
ONE, ALL = "1 worker", "--workers auto"
READ, READ_ANEW = "manifest GET by tag", "manifest GET by tag, each request another"
PUSH = "small image pushed"
#: What is promised, as a ratio of rates.
MUST = {READ: 1.7, READ_ANEW: 1.7, PUSH: 1.4}
#: More than any server takes: what is pushed is made before the clock starts.
IMAGES_PER_SECOND = 3000


@dataclass(frozen=True, slots=True)
class Spread:
    """One run: pieces a second, and how many cores clients and server took."""

    rate: float
    client_cores: float
    server_cores: float


#: By work, then by number of workers.
Found = dict[str, dict[str, list[Spread]]]


async def measure(data: Path, *, rounds: int, seconds: float, say: Callable[[str], None]) -> Found:
    """Measure both, round by round."""
    found: Found = {work: {ONE: [], ALL: []} for work in MUST}
    running = {
        ONE: dockreg(data / "one", core=None),
        ALL: dockreg(data / "all", core=None, workers="auto"),
    }
    with everywhere():
        try:
            for server in running.values():
                server.start()
                await content.fill_app(server)
            for number in range(rounds):
                for name, server in running.items():
                    found[READ][name].append(await _read(server, seconds, is_anew=False))
                    found[READ_ANEW][name].append(await _read(server, seconds, is_anew=True))
                    found[PUSH][name].append(_push(server, seconds))
                    latest = ", ".join(_told(by[name][-1]) for by in found.values())
                    say(f"round {number + 1}: {name}, read, read anew and pushed: {latest}")
        finally:
            for server in running.values():
                server.stop()
    return found


async def _read(server: Dockreg, seconds: float, *, is_anew: bool) -> Spread:
    row = rows.fetch(
        READ,
        f"/v2/{APP}/manifests/v1",
        accept=MANIFEST_TYPE,
        body=SHARED.manifest,
        clients=READERS,
        is_anew=is_anew,
    )
    before = _used_seconds()
    sample = await row.sample(server, seconds)
    client_seconds = _used_seconds() - before
    rate = sample.pieces / sample.wall_seconds
    return Spread(rate, client_seconds / sample.wall_seconds, sample.cpu_seconds / sample.wall_seconds)


def _push(server: Dockreg, seconds: float) -> Spread:
    images = [
        thrifty.prepared(content.new_image(), f"push/c{number % PUSHERS}")
        for number in range(round(IMAGES_PER_SECOND * seconds))
    ]
    before, server_before, began = _used_seconds(), server.cpu_seconds(), time.monotonic()
    left = thrifty.until(began + seconds, images)
    count = thrifty.hold(server.port, [thrifty.pushing(left, server.fixed) for _ in range(PUSHERS)])
    wall_seconds = time.monotonic() - began
    client_seconds, server_seconds = _used_seconds() - before, server.cpu_seconds() - server_before
    return Spread(count / wall_seconds, client_seconds / wall_seconds, server_seconds / wall_seconds)


def _used_seconds() -> float:
    """Return the processor time of this process and of the children that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


@contextmanager
def everywhere() -> Iterator[None]:
    """Let this process, and what it starts, run on every core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ratio(by_workers: dict[str, list[Spread]]) -> float:
    """Return how many times the rate of one worker all workers reach, from the medians."""
    return median(_rates(by_workers[ALL])) / median(_rates(by_workers[ONE]))


def alone_ratio(by_workers: dict[str, list[Spread]], cores: int) -> float:
    """Return the ratio for a server that has every core to itself: one worker fills one, all fill all."""
    one, every = (
        median(each.rate / max(each.server_cores, 0.01) for each in by_workers[n]) for n in (ONE, ALL)
    )
    return cores * every / one


def verdicts(found: Found) -> list[Verdict]:
    """Return whether the promises hold."""
    measure = f"rate, {ALL} ÷ {ONE}"
    return [at_least(f"{work}, unpinned", measure, ratio(found[work]), must) for work, must in MUST.items()]


def table(found: Found, cores: int) -> str:
    """Return the table in Markdown."""
    lines = [
        f"| work | {ONE} | {ALL} | ratio | must | ratio, were every core the server's |",
        "|---|---|---|---|---|---|",
    ]
    for work, by_workers in found.items():
        cells = [
            f"{median(_rates(all_)):.4g}/s (client {median(each.client_cores for each in all_):.2f}, "
            f"server {median(each.server_cores for each in all_):.2f} cores)"
            for all_ in by_workers.values()
        ]
        ratios = f"{ratio(by_workers):.2f}× | {MUST[work]:g}× | {alone_ratio(by_workers, cores):.2f}×"
        lines.append(
            f"| {work}, {PUSHERS if work == PUSH else READERS} clients | {' | '.join(cells)} | {ratios} |"
        )
    return "\n".join(lines)


def _rates(spreads: list[Spread]) -> list[float]:
    return [each.rate for each in spreads]


def _told(spread: Spread) -> str:
    return f"{spread.rate:.4g}/s (client {spread.client_cores:.2f}, server {spread.server_cores:.2f} cores)"
