"""The registry in one process: start, listen, sweep, drain and stop."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.components import Componentized
from twisted.web.iweb import IRequest

from dockreg_tx.access.accounts import VerifiedCredentials
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access_log import AccessLog, entry_form
from dockreg_tx.assembly import Registry, Surroundings, assemble, collection_rules
from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.certificates import CertificateUnusable, ServerCertificate
from dockreg_tx.listeners import bind, certificate_of
from dockreg_tx.logs import access_fields, access_line, line_form
from dockreg_tx.measures import MEASURE_INTERVAL_SECONDS, Sampler, measure, pool_notes
from dockreg_tx.metrics import Counts, totals
from dockreg_tx.records.sqlite import SqliteRecords
from dockreg_tx.root_locks import collection_lock, scrub_lock
from dockreg_tx.server import DRAIN_SECONDS, Server, new_id, settled, wall_clock
from dockreg_tx.settings import Settings, SettingsError
from dockreg_tx.web.exposition import Totals
from dockreg_tx.web.site import AccessEntry, RegistrySite
from dockreg_tx.web.wire import log_exchange

#: A connection that was accepted just before the stop has so long to bring its request.
LAST_REQUEST_SECONDS = 1.0
SWEEP_INTERVAL_SECONDS = 3600.0
#: How often it is asked whether garbage must be collected.
COLLECTION_INTERVAL_SECONDS = 600.0
#: How often it is asked whether anything must be scrubbed.
SCRUB_INTERVAL_SECONDS = 60.0
#: How often a disk that failed is tried again, and the ballast looked after.
DISK_INTERVAL_SECONDS = 5.0
#: How often it is asked whether the certificate was replaced.
CERTIFICATE_INTERVAL_SECONDS = 10.0

_log = Logger(namespace="dockreg")
_accesses = Logger(namespace="dockreg.access")


class RegistryService(Server):
    """The registry in one process."""

    def __init__(
        self, *, load: Callable[[], Settings], reactor: Any, twistd_options: Mapping[str, Any]
    ) -> None:
        super().__init__(load=load, reactor=reactor, twistd_options=twistd_options)
        #: None where twistd was told another log.
        self._access_log: AccessLog | None = None
        self._site: RegistrySite | None = None
        self._certificate: ServerCertificate | None = None
        self._loops: list[LoopingCall] = []
        self._sampler: Sampler | None = None
        self._scrubbing: Deferred[Any] | None = None
        #: The newest blobs were looked at since the start.
        self._has_sampled = False
        self._records: SqliteRecords | None = None
        self._gate = DiskGate(directories=[self._layout.uploads, self._layout.journal], new_id=new_id)
        # A reload must neither forgive guessers nor send every client back to bcrypt.
        self._secret = secrets.token_bytes(32)
        self._throttle = Throttle(reactor)
        self._verified = VerifiedCredentials(reactor)
        self._counts, counted = self._join_counts()
        self._exposition = self._make_exposition(counted)
        self._pools = self._make_pools(reactor)

    def _join_counts(self) -> tuple[Counts, Totals]:
        """Return where this process counts, and what sums up all that belong to it."""
        counts = Counts()
        return counts, lambda: totals([counts.slots])

    def _make_pools(self, reactor: Any) -> dict[str, ThreadBlocking]:
        return {
            name: ThreadBlocking(
                reactor=reactor,
                name=f"dockreg-{name}",
                threads=threads,
                note=pool_notes(self._counts, name),
            )
            for name, threads in (
                ("storage", 8),
                ("passwords", 2),
                ("parsing", 2),
                ("reading", 2),
                ("auditing", 1),
            )
        }

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application; the access log has its own way to what the lines go to."""
        if isinstance(parent, Componentized) and self._writes_own_log:
            form = entry_form(line_form(sys.stdout, self._settings.log.format))
            self._access_log = AccessLog(sys.stdout, form, clock=self._reactor)
        super().setServiceParent(parent)

    def _start(self) -> None:
        users = self._prepare()
        for pool in self._pools.values():
            pool.start()
        self._records = SqliteRecords(
            path=self._layout.database,
            journal_dir=self._layout.journal,
            lock_path=self._layout.write_lock,
            reactor=self._reactor,
            read_blocking=self._pools["reading"],
            gate=self._gate,
            make_room=self._ballast.release,
            counts=self._counts,
        )
        self._records.start()
        self._serve_metrics(self._exposition)
        self._registry = self._assemble(self._records)
        self._site = self._make_site(self._registry)
        self._site.wire = log_exchange if self._settings.log.wire else None
        self._certificate = certificate_of(self._settings)
        self._ports = self._listen(self._site)
        self._reactor.callWhenRunning(self._running, users)

    def _listen(self, site: RegistrySite) -> list[IListeningPort]:
        return bind(self._reactor, self._settings, site, certificate=self._certificate)

    def _assemble(self, records: SqliteRecords) -> Registry:
        return assemble(self._settings, self._layout, records, self._surroundings())

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            clock=self._reactor,
            now=wall_clock,
            new_id=new_id,
            random_bytes=secrets.token_bytes,
            instance_id=self._instance_id,
            secret=self._secret,
            storage=self._pools["storage"],
            gate=self._gate,
            ballast=self._ballast,
            passwords=self._pools["passwords"],
            auditing=self._pools["auditing"],
            parsing=self._pools["parsing"],
            counts=self._counts,
            exposition=self._exposition,
            throttle=self._throttle,
            verified=self._verified,
        )

    def _make_site(self, registry: Registry) -> RegistrySite:
        server = self._settings.server
        return RegistrySite(
            registry.resource,
            clock=self._reactor,
            now=wall_clock,
            new_request_id=request_ids().__next__,
            access_log=self._access_writer(),
            client_of=self._client_of,
            header_timeout_seconds=server.header_timeout_seconds,
            body_timeout_seconds=server.body_timeout_seconds,
            connections_changed=self._count_connections,
            counts=self._counts,
        )

    def _client_of(self, request: IRequest) -> str:
        return self._registry.origins.client_of(request)

    def _access_writer(self) -> Callable[[AccessEntry], None] | None:
        log = self._settings.log
        if log.access == "none":
            return None
        if self._access_log is None:
            return _write_access
        return self._access_log if log.level in ("debug", "info") else None

    def _count_connections(self, count: int) -> None:
        """Do nothing: nobody else could take some."""

    def _running(self, users: int) -> None:
        self._handle_signals()
        keep_for_good()
        self._announce(users)
        self._sample()
        self._begin_loops()

    def _sample(self) -> None:
        """Begin to count what has a state and no events."""
        self._counts.set("dockreg_workers", 1)
        self._sampler = Sampler(
            counts=self._counts,
            clock=self._reactor,
            pools=self._pools,
            site=self._site,
            records=self._records,
        )
        self._sampler.start()

    def _begin_loops(self) -> None:
        """Look after what every process has, and do what one process of a server does for all."""
        self._look_after_gate()
        self._repeat(MEASURE_INTERVAL_SECONDS, self._measure_once)
        self._read_user_file()
        self._repeat(SWEEP_INTERVAL_SECONDS, self._sweep_once)
        schedule_seconds = self._settings.gc.schedule_seconds or COLLECTION_INTERVAL_SECONDS
        self._repeat(min(schedule_seconds, COLLECTION_INTERVAL_SECONDS), self._collect_once)
        schedule_seconds = self._settings.scrub.schedule_seconds or SCRUB_INTERVAL_SECONDS
        self._repeat(min(schedule_seconds, SCRUB_INTERVAL_SECONDS), self._scrub_once)

    def _look_after_gate(self) -> None:
        self._repeat(DISK_INTERVAL_SECONDS, self._look_after_disk)
        self._repeat(CERTIFICATE_INTERVAL_SECONDS, self._look_after_certificate)

    def _repeat(self, interval_seconds: float, work: Callable[[Registry], Coroutine[Any, Any, None]]) -> None:
        loop = LoopingCall(lambda: Deferred.fromCoroutine(work(self._registry)))
        loop.clock = self._reactor
        loop.start(interval_seconds, now=True)
        self._loops.append(loop)

    async def _look_after_certificate(self, registry: Registry) -> None:
        """Show a certificate that was replaced; made in a thread, for its key may be long."""
        if self._certificate is not None and self.running:
            await self._pools["parsing"].run(self._certificate.look)

    async def _look_after_disk(self, registry: Registry) -> None:
        """Try a disk that failed, and hold the ballast; a failure is for the next time."""
        run = self._pools["storage"].run
        try:
            if await run(self._gate.probe):
                await run(self._hold_ballast)
        except Exception:  # noqa: BLE001 - a loop that ends here would never look again
            if self.running:
                _log.failure("looking after the disk failed")

    def _hold_ballast(self) -> None:
        self._ballast.fill()

    async def _measure_once(self, registry: Registry) -> None:
        """Measure the registry as a whole; a failure is for the next time."""
        try:
            await measure(self._counts, self._layout, registry, self._pools["storage"])
        except Exception:  # noqa: BLE001 - a loop that ends here would never measure again
            if self.running:
                _log.failure("measuring the registry failed")

    async def _collect_once(self, registry: Registry) -> None:
        """Collect garbage if it is time and nobody else does; a failure is for the next time."""
        schedule_seconds = self._settings.gc.schedule_seconds
        if not await registry.clock.is_steady(wall_clock()) or schedule_seconds is None:
            return
        try:
            with collection_lock(self._layout, wait=False) as is_ours:
                if is_ours:
                    found = await registry.collect.run_if_due(
                        collection_rules(self._settings), schedule_seconds=schedule_seconds, now=wall_clock()
                    )
                    self._counts.add("dockreg_gc_removed_items", len(found))
                    self._counts.add("dockreg_gc_removed_bytes", sum(each.size_bytes for each in found))
        except Exception:  # noqa: BLE001 - a loop that ends here would never collect again
            # Stopping closes the database under it; what it was doing is undone or done.
            if self.running:
                self._counts.add("dockreg_gc_failures")
                _log.failure("collecting garbage failed")

    async def _scrub_once(self, registry: Registry) -> None:
        """Scrub if it is time and nobody else does; a pass may take days, and a stop ends it."""
        try:
            with scrub_lock(self._layout) as is_ours:
                if is_ours:
                    self._scrubbing = Deferred.fromCoroutine(self._scrub(registry))
                    await self._scrubbing
        except CancelledError:
            return
        except Exception:  # noqa: BLE001 - a loop that ends here would never scrub again
            if self.running:
                _log.failure("scrubbing failed")
        finally:
            self._scrubbing = None

    async def _scrub(self, registry: Registry) -> None:
        if not self._has_sampled:
            self._has_sampled = True
            await registry.scrub.sample()
        schedule_seconds = self._settings.scrub.schedule_seconds
        if schedule_seconds is not None:
            await registry.scrub.run_if_due(schedule_seconds=schedule_seconds, now=wall_clock())

    async def _sweep_once(self, registry: Registry) -> None:
        """Drop expired upload sessions and what crashes left of them; a failure is for the next time."""
        if not await registry.clock.is_steady(wall_clock()):
            return
        try:
            expire_after = float(self._settings.uploads.expire_after_seconds)
            expired = await registry.uploads.sweep(expire_after_seconds=expire_after)
            orphans = await registry.uploads.discard_orphans()
        except Exception:  # noqa: BLE001 - a loop that ends here would never sweep again
            # Stopping closes the database under it.
            if self.running:
                _log.failure("sweeping upload sessions failed")
            return
        if expired or orphans:
            _log.info(
                "swept {expired} expired and {orphans} orphaned uploads", expired=expired, orphans=orphans
            )

    def _reload(self) -> None:
        """Read the settings again; requests in flight end under the old ones.

        Where data lies and where we listen is settled at the start.
        """
        if self._site is None or self._records is None:
            return
        try:
            settings = self._load()
            if self._certificate is not None and settings.tls.certificate:
                self._certificate.replace(settings.tls)
        except (SettingsError, CertificateUnusable) as error:
            _log.error("settings not reloaded, the old ones stay in force: {error}", error=error)
            return
        if settled(settings) != settled(self._settings):
            _log.warn(
                "changes of storage.root, [server], the log's format, level and access, to TLS and from it "
                "take effect at the next start"
            )
        self._settings = settings
        self._registry = self._assemble(self._records)
        self._site.resource = self._registry.resource
        self._site.wire = log_exchange if settings.log.wire else None
        self._read_user_file()
        _log.info("settings reloaded")

    def _read_user_file(self) -> None:
        """Have its bad lines in the log before somebody cannot log in."""
        if self._registry.user_file is not None:
            reading = Deferred.fromCoroutine(self._registry.user_file.refresh())
            reading.addErrback(lambda failure: _log.failure("reading users failed", failure=failure))

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let requests in flight end (30 s at most), close everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping: requests in flight may end within {seconds:.0f} s", seconds=DRAIN_SECONDS)
        self.notifier.stopping("requests in flight may end")
        await self._stop_accepting()
        self._end_loops()
        if self._site is not None:
            await self._site.retire(idle_seconds=LAST_REQUEST_SECONDS, timeout_seconds=DRAIN_SECONDS)
        if self._records is not None:
            await self._records.stop()
        await self._stop_serving_metrics()
        for pool in self._pools.values():
            pool.stop()
        if self._access_log is not None:
            self._access_log.flush()
        self._lock.release()
        self.notifier.fall_silent()

    def _end_loops(self) -> None:
        for loop in self._loops:
            if loop.running:
                loop.stop()
        if self._sampler is not None:
            self._sampler.stop()
        if self._scrubbing is not None:
            self._scrubbing.cancel()

    async def _stop_accepting(self) -> None:
        await gatherResults([maybeDeferred(port.stopListening) for port in self._ports])


def request_ids() -> Iterator[str]:
    """Yield ids of 16 hexadecimal digits; random ones are fetched many at a time."""
    while True:
        drawn = secrets.token_hex(8 * 256)
        yield from (drawn[start : start + 16] for start in range(0, len(drawn), 16))


def keep_for_good() -> None:
    """Spare the collector what lives from the start to the end: not to be looked through again and again."""
    gc.collect()
    gc.freeze()


def _write_access(entry: AccessEntry) -> None:
    _accesses.info("{line}", line=access_line(entry), access=access_fields(entry))
