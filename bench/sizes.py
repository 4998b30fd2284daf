"""Cost against size: pages of tags and repositories, a manifest, a push, with few and with a million of them.

A server of each size runs, and they take turns, so that a slow minute of the machine hits all sizes alike.
What is there is written where each server keeps it, since a million pushes would take hours. No request is
like one before it: nothing that was answered is answered again from memory.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import content, rows
from bench.connection import Connection, WrongAnswer
from bench.content import SHARED, TAGS, digest_of
from bench.rows import Row
from bench.servers import REFERENCE, Server, servers
from bench.verdicts import OWN, Verdict, at_most

PAGE = 100
CLIENTS = 8
WARM_SECONDS = 0.2
#: By server: how many tags and repositories there are. The reference has a folder and a file for each.
WHOLE: dict[str, tuple[int, ...]] = {OWN: (1_000, 100_000, 1_000_000), REFERENCE: (1_000, 100_000)}
QUICK: dict[str, tuple[int, ...]] = {OWN: (1_000, 100_000), REFERENCE: (1_000, 10_000)}
#: What is promised of the largest: so many times the smallest's cost, and so many seconds to start.
MOST_TIMES, MOST_START_SECONDS = 1.2, 1.0

Work = Callable[[Connection, int], Awaitable[None]]


@dataclass
class Grown:
    """A server with so many tags and repositories: seconds until it ran, µs of CPU by row and round."""

    size: int
    server: Server
    started_seconds: float = 0.0
    costs: dict[str, list[float]] = field(default_factory=dict)

    async def measure(self, row: Row, seconds: float) -> float:
        """Measure once, and return the cost."""
        sample = await row.sample(self.server, seconds)
        cost = sample.cpu_seconds / max(sample.pieces, 1) * 1e6
        self.costs.setdefault(row.name, []).append(cost)
        return cost


def tag(number: int) -> str:
    """Return the name of a tag; names and numbers have the same order."""
    return f"t{number:07d}"


def repository(number: int) -> str:
    """Return the name of a repository."""
    return f"list/r{number:07d}"


def size_rows(size: int) -> list[Row]:
    """Return the rows whose cost must not grow with what is stored."""
    found = []
    for place, after in {
        "at the start": 0,
        "in the middle": size // 2,
        "at the end": size - PAGE - 1,
    }.items():
        found += [
            rows.repeated(f"tags/list?n={PAGE} {place}", _tags_after(after), clients=CLIENTS),
            rows.repeated(f"_catalog?n={PAGE} {place}", _repositories_after(after), clients=CLIENTS),
        ]
    found.append(rows.repeated("manifest GET by tag", _manifest_of(size), clients=CLIENTS))
    found.append(rows.repeated("tag pushed", _push_tag, clients=1))
    return sorted(found, key=lambda row: row.name)


def _once(number: int) -> dict[str, str]:
    return {"X-Request-Id": f"{number}-{time.monotonic_ns()}"}


def _tags_after(after: int) -> Work:
    expected = [tag(number) for number in range(after + 1, after + 1 + PAGE)]
    return _page(f"/v2/{TAGS}/tags/list?n={PAGE}&last={tag(after)}", "tags", expected)


def _repositories_after(after: int) -> Work:
    expected = [repository(number) for number in range(after + 1, after + 1 + PAGE)]
    return _page(f"/v2/_catalog?n={PAGE}&last={repository(after)}", "repositories", expected)


def _page(path: str, key: str, expected: list[str]) -> Work:
    async def work(connection: Connection, number: int) -> None:
        answer = await connection.request("GET", path, headers=_once(number))
        if json.loads(answer.body)[key] != expected:
            raise WrongAnswer(f"GET {path}: {answer.body[:300]!r}")

    return work


def _manifest_of(size: int) -> Work:
    async def work(connection: Connection, number: int) -> None:
        path = f"/v2/{TAGS}/manifests/{tag(time.monotonic_ns() // 1000 % size)}"
        headers = {"Accept": content.MANIFEST_TYPE, **_once(number)}
        answer = await connection.request("GET", path, headers=headers)
        if answer.body != SHARED.manifest:
            raise WrongAnswer(f"GET {path}: other bytes")

    return work


async def _push_tag(connection: Connection, number: int) -> None:
    await content.push_manifest(connection, TAGS, f"new-{time.monotonic_ns()}-{number}", SHARED.manifest)


async def measure(
    data: Path,
    sizes: dict[str, tuple[int, ...]],
    *,
    core: int | None,
    only: Sequence[str],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Grown]:
    """Grow servers, then measure all of them, round by round."""
    grown: list[Grown] = []
    try:
        for name, wanted in sizes.items():
            for size in wanted:
                for server in servers(data / str(size), core=core, only=[name]):
                    if not only or name in only:
                        grown.append(Grown(size, server))
                        grown[-1].started_seconds = await grow(server, size)
                        say(f"{name} has {size:,} tags and repositories")
        # The first login costs a bcrypt, and what was just written is not yet in any cache.
        for each in grown:
            for row in size_rows(each.size):
                await row.sample(each.server, WARM_SECONDS)
        for number in range(rounds):
            for name in [row.name for row in size_rows(PAGE)]:
                costs = [await _measure(each, name, seconds) for each in grown]
                say(f"round {number + 1}: {name}: {', '.join(costs)}")
    finally:
        for each in grown:
            each.server.stop()
    return grown


async def _measure(grown: Grown, name: str, seconds: float) -> str:
    (row,) = (row for row in size_rows(grown.size) if row.name == name)
    cost = await grown.measure(row, seconds)
    return f"{grown.server.name} {grown.size:,} {cost:.4g} µs"


async def grow(server: Server, size: int) -> float:
    """Start a server with so many tags and repositories, and return how many seconds its start took."""
    server.start()
    connection = await Connection.open(server.port, server.fixed)
    await content.push(connection, TAGS, tag(0), SHARED)
    connection.close()
    server.stop()
    if server.name == OWN:
        fill_database(server.root / "registry.db", size)
    else:
        fill_folders(server.root / "docker" / "registry" / "v2" / "repositories", size)
    server.start()
    return server.started_seconds


def fill_database(path: Path, size: int) -> None:
    """Have so many tags in one repository, and so many repositories, in a database that nobody has open."""
    database = sqlite3.connect(path)
    (manifest_id, repository_id) = database.execute(
        "SELECT id, repository_id FROM manifests WHERE digest = ?", (digest_of(SHARED.manifest),)
    ).fetchone()
    tags = ((repository_id, tag(number), manifest_id) for number in range(1, size))
    with database:
        database.executemany(
            "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES (?, ?, ?, 0)", tags
        )
        database.executemany(
            "INSERT INTO repositories (name, created_at) VALUES (?, 0)",
            ((repository(number),) for number in range(1, size)),
        )
    database.close()


def fill_folders(repositories: Path, size: int) -> None:
    """Have as many of both in the folders of distribution: a tag is a link, a repository is a folder."""
    tags = repositories / TAGS / "_manifests" / "tags"
    digest = digest_of(SHARED.manifest)
    for number in range(1, size):
        link = tags / tag(number) / "current" / "link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
        (repositories / repository(number) / "_manifests").mkdir(parents=True)


def table(grown: Sequence[Grown], name: str) -> str:
    """Return the table of one server in Markdown; the last column is the largest beside the smallest."""
    mine = [each for each in grown if each.server.name == name]
    if not mine:
        return ""
    head = [f"{each.size:,}" for each in mine]
    lines = [f"| | {' | '.join(head)} | growth |", "|---|" + "---|" * (len(mine) + 1)]
    started = [f"{each.started_seconds:.2f} s" for each in mine]
    lines.append(f"| start | {' | '.join(started)} | |")
    for row in mine[0].costs:
        costs = [f"{median(each.costs[row]):.4g} µs" for each in mine]
        lines.append(f"| {row} | {' | '.join(costs)} | {growth(mine, row):.2f}× |")
    return "\n".join(lines)


def growth(mine: Sequence[Grown], row: str) -> float:
    """Return how many times the cost of the smallest the largest has, from the medians."""
    return median(mine[-1].costs[row]) / max(median(mine[0].costs[row]), 1e-3)


def verdicts(grown: Sequence[Grown]) -> list[Verdict]:
    """Return whether dockreg stays flat."""
    mine = [each for each in grown if each.server.name == OWN]
    if not mine:
        return []
    last = mine[-1]
    beside = f"CPU with {last.size:,} ÷ with {mine[0].size:,}"
    found = [at_most(row, beside, growth(mine, row), MOST_TIMES) for row in last.costs]
    start = f"start with {last.size:,} tags and repositories"
    return [*found, at_most(start, "time", last.started_seconds, MOST_START_SECONDS, " s")]
