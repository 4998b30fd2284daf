"""The registry in one process: start, listen, sweep, drain and stop."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.components import Componentized
from twisted.web.iweb import IRequest

from dockreg_tx.access.accounts import VerifiedCredentials
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access_log import AccessLog, entry_form, object_entry
from dockreg_tx.assembly import Registry, Surroundings, assemble
from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.certificates import CertificateUnusable
from dockreg_tx.listeners import bind
from dockreg_tx.logs import access_fields, access_line, line_form
from dockreg_tx.measures import Sampler, pool_notes
from dockreg_tx.metrics import Counts, totals
from dockreg_tx.records.sqlite import SqliteRecords
from dockreg_tx.server import DRAIN_SECONDS, Server, new_id, settled, wall_clock
from dockreg_tx.settings import Settings, SettingsError
from dockreg_tx.upkeep import Upkeep
from dockreg_tx.web.exposition import Totals
from dockreg_tx.web.site import AccessEntry, RegistrySite
from dockreg_tx.web.turns import end_sharing, share_turns
from dockreg_tx.web.wire import log_exchange

#: A connection that was accepted just before the stop has so long to bring its request.
LAST_REQUEST_SECONDS = 1.0

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
        self._log_form = "json"
        self._site: RegistrySite | None = None
        self._sampler: Sampler | None = None
        self._upkeep: Upkeep | None = None
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
                rest_seconds=rest_seconds,
            )
            for name, threads, rest_seconds in (
                ("storage", 8, 0.0),
                ("passwords", 2, 0.0),
                ("parsing", 2, 0.0),
                ("reading", 2, 0.0),
                # Lines that come soon after one another are written together.
                ("auditing", 1, 0.02),
                ("logging", 1, 0.0),
            )
        }

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application; the access log has its own way to what the lines go to."""
        if isinstance(parent, Componentized) and self._writes_own_log:
            self._log_form = line_form(sys.stdout, self._settings.log.format)
            self._access_log = AccessLog(
                sys.stdout, self._entry_form(), clock=self._reactor, blocking=self._pools["logging"]
            )
        super().setServiceParent(parent)

    def _entry_form(self) -> Callable[[AccessEntry], str]:
        """Return what makes a line of an entry of the access log, where lines are ours to write."""
        return entry_form(self._log_form, access=self._settings.log.access)

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
            storage=self._pools["storage"],
            gate=self._gate,
            make_room=self._ballast.release,
            counts=self._counts,
        )
        self._records.start()
        self._serve_metrics(self._exposition)
        self._registry = self._assemble(self._records)
        self._site = self._make_site(self._registry)
        self._site.wire = log_exchange if self._settings.log.wire else None
        share_turns(self._reactor, self._site.outbox)
        self._ports = self._listen(self._site)
        self._reactor.callWhenRunning(self._running, users)

    def _listen(self, site: RegistrySite) -> list[IListeningPort]:
        return bind(self._reactor, self._settings, site, certificates=self._certificates)

    async def _reasons(self) -> Mapping[str, str]:
        return await self._registry.health.reasons()

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
            return _write_object if log.access == "json" else _write_access
        self._access_log.render = self._entry_form()
        return self._access_log if log.level in ("debug", "info") else None

    def _count_connections(self, count: int) -> None:
        """Do nothing: nobody else could take some."""

    def _running(self, users: int) -> None:
        self._handle_signals()
        keep_for_good()
        self._announce(users)
        self._sample()
        self._begin_upkeep()
        self._read_user_file()

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

    def _begin_upkeep(self, *, is_for_all: bool = True) -> None:
        """Look after what every process has, and perhaps do what one process of a server does for all."""
        if self._upkeep is None:
            self._upkeep = self._make_upkeep()
        self._upkeep.begin_own()
        if is_for_all:
            self._upkeep.begin_common()

    def _make_upkeep(self) -> Upkeep:
        return Upkeep(
            clock=self._reactor,
            now=wall_clock,
            layout=self._layout,
            settings=lambda: self._settings,
            registry=lambda: self._registry,
            gate=self._gate,
            hold_ballast=self._hold_ballast,
            certificates=self._certificates,
            storage=self._pools["storage"],
            parsing=self._pools["parsing"],
            counts=self._counts,
        )

    def _hold_ballast(self) -> None:
        self._ballast.fill()

    def _reload(self) -> None:
        """Read the settings again; requests in flight end under the old ones.

        Where data lies and where we listen is settled at the start.
        """
        if self._site is None or self._records is None:
            return
        try:
            settings = self._load()
            self._certificates.replace(settings)
        except (SettingsError, CertificateUnusable) as error:
            _log.error("settings not reloaded, the old ones stay in force: {error}", error=error)
            return
        if settled(settings) != settled(self._settings):
            _log.warn("changes of storage.root, [server] and log.format, to TLS and from it need a new start")
        self._settings = settings
        self._registry = self._assemble(self._records)
        self._site.resource = self._registry.resource
        self._site.wire = log_exchange if settings.log.wire else None
        self._site.log_accesses(self._access_writer())
        self._log_threshold.move(settings.log.level)
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
        self._end_upkeep()
        if self._site is not None:
            await self._site.retire(idle_seconds=LAST_REQUEST_SECONDS, timeout_seconds=DRAIN_SECONDS)
            end_sharing(self._reactor, self._site.outbox)
        if self._records is not None:
            await self._records.stop()
        await self._stop_serving_metrics()
        for pool in self._pools.values():
            pool.stop()
        if self._access_log is not None:
            self._access_log.flush()
        self._lock.release()
        self.notifier.fall_silent()

    def _end_upkeep(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        if self._upkeep is not None:
            self._upkeep.end()

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


def _write_object(entry: AccessEntry) -> None:
    _accesses.info("{line}", line=object_entry(entry))
