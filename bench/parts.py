"""The parts of the benchmark: which servers run together, what they hold, and what is done to them."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import bulk, content, reactor, report, rows, sizes, spread, states, steady, uploads, verdicts, zb
from bench.report import Samples
from bench.rows import Row
from bench.servers import REFERENCE, Server, servers
from bench.verdicts import FILES, OWN, Verdict

#: Measured beside the others in the small rows alone; the reference is its successor.
OLDER = "docker-registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and where; ``core`` is that of the servers, ``words`` are of rows' names."""

    memory: Path
    disk: Path
    is_quick: bool
    rounds: int
    seconds: float
    core: int | None
    cores: int
    only: Sequence[str]
    words: Sequence[str]
    say: Callable[[str], None]

    @property
    def few_rounds(self) -> int:
        """How often what takes long is done."""
        return max(1, self.rounds // 2)


@dataclass
class Findings:
    """What came out."""

    rows: list[Row] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    grown: list[sizes.Grown] = field(default_factory=list)


Fill = Callable[[Server], Awaitable[None]]


@asynccontextmanager
async def running(
    data: Path, plan: Plan, fill: Fill, *, without: Sequence[str] = ()
) -> AsyncIterator[list[Server]]:
    """Start all servers on fresh roots under ``data`` and fill them; at the end there is nothing left."""
    found = [each for each in servers(data, core=plan.core, only=plan.only) if each.name not in without]
    try:
        for server in found:
            server.start()
            await fill(server)
            server.keep()
            plan.say(f"{server.name} is filled: {server.version}")
        yield found
    finally:
        for server in found:
            server.stop()
        shutil.rmtree(data, ignore_errors=True)


async def measure(
    plan: Plan,
    found: Findings,
    part: str,
    running: Sequence[Server],
    every: Sequence[Row],
    *,
    rounds: int,
    sweeps: bool = True,
) -> None:
    """Run every row on every server, round by round: a slow minute of the machine hits all alike."""
    own = next((server for server in running if server.name == OWN), None)
    before = await reactor.look(own) if own else None
    for number in range(rounds):
        for row in every:
            by_server = found.samples.setdefault(row.name, {})
            for server in running:
                if row.takes(server):
                    by_server.setdefault(server.name, []).append(await row.sample(server, plan.seconds))
                    if sweeps:
                        server.sweep()
            plan.say(f"round {number + 1}: {report.line(row, by_server)}")
    found.rows += every
    found.verdicts += verdicts.of_rows(every, found.samples)
    if own and before:
        found.verdicts.append((await reactor.look(own)).since(before).verdict(f"all of: {part}"))


def _wanted(plan: Plan, every: Sequence[Row]) -> list[Row]:
    return [row for row in every if report.is_wanted(row, plan.words)]


async def small(plan: Plan, found: Findings) -> None:
    """Ask for small things and push small images, as fast as one server answers."""
    every = _wanted(plan, rows.small_rows())
    if not every:
        return
    # Two Docker registries in every round are too many for four minutes.
    without = (OLDER,) if plan.is_quick and OLDER not in plan.only else ()
    async with running(plan.memory / "small", plan, content.fill, without=without) as found_servers:
        await measure(plan, found, "small requests", found_servers, every, rounds=plan.rounds, sweeps=False)


async def offered(plan: Plan, found: Findings) -> None:
    """Offer half of the load that the slowest bears, and look at how long answers take."""
    async with running(
        plan.memory / "steady", plan, content.fill_tags, without=(OLDER, FILES)
    ) as found_servers:
        rounds, seconds = (1, 2.0) if plan.is_quick else (plan.rounds, 3.0)
        own = next((server for server in found_servers if server.name == OWN), None)
        before = await reactor.look(own) if own else None
        steadies = await steady.measure(found_servers, rounds=rounds, seconds=seconds, say=plan.say)
        if own and before:
            found.verdicts.append((await reactor.look(own)).since(before).verdict("all of: equal load"))
    found.tables["p99 at equal load"] = steady.table(steadies)
    found.verdicts += [verdict for each in steadies if (verdict := each.verdict())]


async def large(plan: Plan, found: Findings) -> None:
    """Move large blobs in and out of memory."""
    every = _wanted(plan, bulk.rows(quick=plan.is_quick))
    if not every:
        return

    async def fill(server: Server) -> None:
        await bulk.fill(server, bulk.MIB * (256 if plan.is_quick else 1024))

    async with running(plan.memory / "large", plan, fill, without=(OLDER,)) as found_servers:
        await measure(plan, found, "large blobs", found_servers, every, rounds=plan.few_rounds)


async def mixed(plan: Plan, found: Findings) -> None:
    """Do what zb does."""
    every = _wanted(plan, zb.rows())
    if every:
        async with running(
            plan.memory / "zb", plan, content.fill_nothing, without=(OLDER, FILES)
        ) as found_servers:
            await measure(plan, found, "zb", found_servers, every, rounds=plan.few_rounds)


async def on_disk(plan: Plan, found: Findings) -> None:
    """Push to a real disk."""
    size_bytes = (64 if plan.is_quick else 256) * bulk.MIB
    blobs = [
        bulk.upload(size_bytes, streams, patches=patches) for streams in (1, 8) for patches in (False, True)
    ]
    images = _wanted(plan, rows.disk_rows())
    # What such a blob costs the processor does not depend on the disk; how fast it goes does.
    blobs = _wanted(plan, [replace(row, name=f"{row.name}, real disk", must=0.0) for row in blobs])
    if not images and not blobs:
        return
    data = plan.disk / "disk"
    async with running(data, plan, content.fill_nothing, without=(OLDER, FILES)) as found_servers:
        await measure(
            plan, found, "images pushed to a real disk", found_servers, images, rounds=plan.few_rounds
        )
        await measure(plan, found, "blobs pushed to a real disk", found_servers, blobs, rounds=1)


async def spreading(plan: Plan, found: Findings) -> None:
    """Compare several workers with one."""
    rounds = 1 if plan.is_quick else plan.rounds
    seen = await spread.measure(plan.memory / "spread", rounds=rounds, seconds=2, say=plan.say)
    found.tables["Workers (unpinned: clients take a part of the same cores)"] = spread.table(seen, plan.cores)
    found.verdicts += spread.verdicts(seen)


async def uploading(plan: Plan, found: Findings) -> None:
    """Upload much at once, and one blob that hops."""
    seen = await uploads.crowd(
        plan.memory / "uploads", core=plan.core, size_mib=128 if plan.is_quick else 1024
    )
    shutil.rmtree(plan.memory / "uploads")
    found.tables["Eight uploads at once (dockreg)"] = uploads.crowd_table(seen)
    found.verdicts += uploads.crowd_verdicts(seen)
    if not plan.is_quick:
        hopped = await uploads.hopping(plan.memory / "hopping", core=plan.core, rounds=plan.few_rounds)
        shutil.rmtree(plan.memory / "hopping")
        found.tables["An upload that hops from worker to worker (dockreg)"] = uploads.hopping_table(hopped)
        found.verdicts.append(uploads.hopping_verdict(hopped))


async def resting(plan: Plan, found: Findings) -> None:
    """Look at start and memory."""
    seen = states.measure(plan.memory, core=plan.core, only=plan.only)
    found.tables["Start and memory"] = states.table(seen)
    found.verdicts += states.verdicts(seen)


async def growing(plan: Plan, found: Findings) -> None:
    """Look at cost against size."""
    wanted = sizes.QUICK if plan.is_quick else sizes.WHOLE
    rounds, seconds = (1, 0.5) if plan.is_quick else (3, 1.0)
    found.grown = await sizes.measure(
        plan.memory / "sizes",
        wanted,
        core=plan.core,
        only=plan.only,
        rounds=rounds,
        seconds=seconds,
        say=plan.say,
    )
    shutil.rmtree(plan.memory / "sizes", ignore_errors=True)
    for name in (OWN, REFERENCE):
        if text := sizes.table(found.grown, name):
            found.tables[f"Cost against the number of tags and repositories: {name}"] = text
    found.verdicts += sizes.verdicts(found.grown)


Part = Callable[[Plan, Findings], Awaitable[None]]
#: In their order on the page. Those of rows are left out when no row is asked for.
PARTS: dict[str, Part] = {
    "small": small,
    "large": large,
    "disk": on_disk,
    "zb": mixed,
    "steady": offered,
    "workers": spreading,
    "uploads": uploading,
    "states": resting,
    "sizes": growing,
}
#: Made of rows: these can be asked for by the rows' names.
OF_ROWS = ("small", "large", "disk", "zb")
#: Too long for four minutes.
NOT_QUICK = ("zb",)


async def run(plan: Plan, names: Sequence[str]) -> Findings:
    """Run parts, and tell how long each took."""
    found = Findings()
    for name in names:
        began = time.monotonic()
        await PARTS[name](plan, found)
        plan.say(f"part {name}: {time.monotonic() - began:.0f} s")
    return found
