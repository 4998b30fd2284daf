"""Upkeep: what a registry does by itself while it serves, again and again until it stops.

Some of it every process does, the rest one process for all. Whatever fails is tried again the next time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dockreg_tx.assembly import Registry, collection_rules
from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.certificates import CERTIFICATE_INTERVAL_SECONDS, Certificates
from dockreg_tx.measures import MEASURE_INTERVAL_SECONDS, measure
from dockreg_tx.metrics import Counts
from dockreg_tx.ports import Blocking, Now
from dockreg_tx.root_locks import collection_lock, scrub_lock
from dockreg_tx.settings import Settings

SWEEP_INTERVAL_SECONDS = 3600.0
#: How often it is asked whether garbage must be collected.
COLLECTION_INTERVAL_SECONDS = 600.0
#: How often it is asked whether anything must be scrubbed.
SCRUB_INTERVAL_SECONDS = 60.0
#: How often a disk that failed is tried again, and the ballast looked after.
DISK_INTERVAL_SECONDS = 5.0

_log = Logger(namespace="dockreg")


class Upkeep:
    """The chores of one process.

    Args:
        clock: says when.
        now: wall-clock time, by which ages are measured.
        layout: of the root.
        settings, registry: return those of the moment; a reload changes them.
        gate: to the disk.
        hold_ballast: makes the ballast or looks for it, in a thread.
        certificates: of the listeners.
        storage: a pool for what asks the disk.
        parsing: a pool for what needs the processor.
        counts: take what was measured.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Now,
        layout: RootLayout,
        settings: Callable[[], Settings],
        registry: Callable[[], Registry],
        gate: DiskGate,
        hold_ballast: Callable[[], None],
        certificates: Certificates,
        storage: Blocking,
        parsing: Blocking,
        counts: Counts,
    ) -> None:
        self._clock = clock
        self._now = now
        self._layout = layout
        self._settings = settings
        self._registry = registry
        self._gate = gate
        self._hold_ballast = hold_ballast
        self._certificates = certificates
        self._storage = storage
        self._parsing = parsing
        self._counts = counts
        self._loops: list[LoopingCall] = []
        self._scrubbing: Deferred[Any] | None = None
        #: The newest blobs were looked at since the start.
        self._has_sampled = False

    def begin_own(self) -> None:
        """Do from now on what every process does for itself."""
        self._repeat(DISK_INTERVAL_SECONDS, "looking after the disk", self._look_after_disk)
        if self._certificates:
            self._repeat(
                CERTIFICATE_INTERVAL_SECONDS, "looking after certificates", self._look_after_certificates
            )

    def begin_common(self) -> None:
        """Do from now on what one process of a server does for all."""
        settings = self._settings()
        collection_seconds = settings.gc.schedule_seconds or COLLECTION_INTERVAL_SECONDS
        scrub_seconds = settings.scrub.schedule_seconds or SCRUB_INTERVAL_SECONDS
        self._repeat(MEASURE_INTERVAL_SECONDS, "measuring the registry", self._measure)
        self._repeat(SWEEP_INTERVAL_SECONDS, "sweeping upload sessions", self._sweep)
        self._repeat(
            min(collection_seconds, COLLECTION_INTERVAL_SECONDS), "collecting garbage", self._collect
        )
        self._repeat(min(scrub_seconds, SCRUB_INTERVAL_SECONDS), "scrubbing", self._scrub_alone)

    def end(self) -> None:
        """Begin nothing any more, and end a scrub, which may take days; the rest ends by itself."""
        loops, self._loops = self._loops, []
        for loop in loops:
            if loop.running:
                loop.stop()
        if self._scrubbing is not None:
            self._scrubbing.cancel()

    def _repeat(self, interval_seconds: float, what: str, chore: Callable[[], Awaitable[None]]) -> None:
        async def once() -> None:
            try:
                await chore()
            except Exception:  # noqa: BLE001 - a loop that ends here would never do it again
                # Stopping closes the database under it; what it was doing is undone or done.
                if loop.running:
                    _log.failure("{what} failed", what=what)

        loop = LoopingCall(lambda: Deferred.fromCoroutine(once()))
        loop.clock = self._clock
        self._loops.append(loop)
        loop.start(interval_seconds, now=True)

    async def _look_after_certificates(self) -> None:
        """Show those that were replaced; made in a thread, for a key may be long."""
        await self._parsing.run(self._certificates.look)

    async def _look_after_disk(self) -> None:
        """Try a disk that failed, and hold the ballast."""
        if await self._storage.run(self._gate.probe):
            await self._storage.run(self._hold_ballast)

    async def _measure(self) -> None:
        """Measure the registry as a whole."""
        await measure(self._counts, self._layout, self._registry(), self._storage)

    async def _sweep(self) -> None:
        """Drop expired upload sessions and what crashes left of them."""
        registry = self._registry()
        if not await registry.clock.is_steady(self._now()):
            return
        expire_after = float(self._settings().uploads.expire_after_seconds)
        expired = await registry.sweep.all(expire_after_seconds=expire_after)
        if expired:
            _log.info("swept {expired} expired uploads", expired=expired)

    async def _collect(self) -> None:
        """Collect garbage if it is time and nobody else does."""
        registry, settings = self._registry(), self._settings()
        schedule_seconds = settings.gc.schedule_seconds
        if not await registry.clock.is_steady(self._now()) or schedule_seconds is None:
            return
        try:
            with collection_lock(self._layout, wait=False) as is_ours:
                if is_ours:
                    found = await registry.collect.run_if_due(
                        collection_rules(settings), schedule_seconds=schedule_seconds, now=self._now()
                    )
                    self._counts.add("dockreg_gc_removed_items", len(found))
                    self._counts.add("dockreg_gc_removed_bytes", sum(each.size_bytes for each in found))
        except Exception:
            if self._loops:
                self._counts.add("dockreg_gc_failures")
            raise

    async def _scrub_alone(self) -> None:
        """Scrub if it is time and nobody else does."""
        try:
            with scrub_lock(self._layout) as is_ours:
                if is_ours:
                    self._scrubbing = Deferred.fromCoroutine(self._scrub())
                    await self._scrubbing
        except CancelledError:
            return
        finally:
            self._scrubbing = None

    async def _scrub(self) -> None:
        registry = self._registry()
        if not self._has_sampled:
            self._has_sampled = True
            await registry.scrub.sample()
        schedule_seconds = self._settings().scrub.schedule_seconds
        if schedule_seconds is not None:
            await registry.scrub.run_if_due(schedule_seconds=schedule_seconds, now=self._now())
