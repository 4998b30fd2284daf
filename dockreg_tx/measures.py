"""Numbers that have to be looked up: the state of a process twice a second, of the registry now and then."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from dockreg_tx.assembly import Registry
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.metrics import Counts
from dockreg_tx.ports import Blocking
from dockreg_tx.records.sqlite import SqliteRecords
from dockreg_tx.web.site import RegistrySite

SAMPLE_INTERVAL_SECONDS = 0.5
MEASURE_INTERVAL_SECONDS = 15.0
#: Names of upload sessions; passing files beside them have others.
_SESSION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def pool_notes(counts: Counts, pool: str) -> Callable[[float, float], None]:
    """Return what takes how long each piece of work waited in a pool, and how long it took."""
    wait = counts.timer("dockreg_pool_wait_seconds", pool).note
    work = counts.timer("dockreg_pool_work_seconds", pool).note

    def note(waited_seconds: float, worked_seconds: float) -> None:
        wait(waited_seconds)
        work(worked_seconds)

    return note


class Sampler:
    """Samples one process: how late its reactor is, and how much of everything there is at the moment."""

    def __init__(
        self,
        *,
        counts: Counts,
        clock: IReactorTime,
        pools: Mapping[str, ThreadBlocking],
        site: RegistrySite | None,
        records: SqliteRecords | None,
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._pools = pools
        self._site = site
        self._records = records
        self._late = counts.timer("dockreg_reactor_delay_seconds").note
        self._due_at = 0.0
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    def start(self) -> None:
        """Sample from now on."""
        self._due_at = self._clock.seconds() + SAMPLE_INTERVAL_SECONDS
        self._loop.start(SAMPLE_INTERVAL_SECONDS, now=False)

    def stop(self) -> None:
        """Sample no more."""
        if self._loop.running:
            self._loop.stop()

    def _sample(self) -> None:
        now = self._clock.seconds()
        # A reactor that was busy for long skips calls; it was late for all of them.
        self._late(max(0.0, now - self._due_at))
        behind = (now - self._due_at) % SAMPLE_INTERVAL_SECONDS
        self._due_at = now - behind + SAMPLE_INTERVAL_SECONDS
        counts = self._counts
        for name, pool in self._pools.items():
            counts.set("dockreg_pool_jobs", pool.jobs, name)
        if self._site is not None:
            counts.set("dockreg_requests_in_flight", self._site.in_flight)
            counts.set("dockreg_connections", self._site.open_connections)
        if self._records is not None:
            counts.set("dockreg_database_writes_waiting", self._records.waiting)


async def measure(counts: Counts, layout: RootLayout, registry: Registry, storage: Blocking) -> None:
    """Measure the registry as a whole."""
    uploads, disk = await storage.run(_look, layout)
    counts.set("dockreg_uploads_open", uploads)
    counts.set("dockreg_disk_free_bytes", disk.f_bavail * disk.f_frsize)
    counts.set("dockreg_disk_size_bytes", disk.f_blocks * disk.f_frsize)
    counts.set("dockreg_gc_last_run_timestamp_seconds", await registry.collect.records.last_collection() or 0)
    scrub = await registry.scrub.records.scrub_state()
    if scrub is not None:
        counts.set("dockreg_scrub_checked_blobs", scrub.checked)
        counts.set("dockreg_scrub_damaged", scrub.damaged)
        counts.set("dockreg_scrub_last_end_timestamp_seconds", scrub.ended_at or 0)


def _look(layout: RootLayout) -> tuple[int, os.statvfs_result]:
    names = os.listdir(layout.uploads)
    return sum(_SESSION.fullmatch(name) is not None for name in names), os.statvfs(layout.root)
