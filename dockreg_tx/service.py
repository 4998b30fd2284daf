"""The life of a server process: start, listen, sweep, drain and stop."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from dockreg_tx.access_log import AccessLog, json_entry, text_entry
from dockreg_tx.assembly import Registry, Surroundings, assemble, collection_rules
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.listeners import StartRefused, addresses, bind, check_listeners, speaks_tls
from dockreg_tx.logs import access_fields, access_line, is_text, line_observer
from dockreg_tx.preparation import clear_passing_files, prepare_database, prepare_keys
from dockreg_tx.records.sqlite import SqliteRecords
from dockreg_tx.root import RootLock, RootUnusable, check_root, collection_lock, initialise_root
from dockreg_tx.settings import Settings, SettingsError
from dockreg_tx.web.site import AccessEntry, RegistrySite

#: Requests in flight get this long to end after SIGTERM.
DRAIN_SECONDS = 30.0
SWEEP_INTERVAL_SECONDS = 3600.0
#: How often it is asked whether garbage must be collected.
COLLECTION_INTERVAL_SECONDS = 600.0

_log = Logger(namespace="dockreg")
_access_log = Logger(namespace="dockreg.access")


class RegistryService(Service):
    """The registry in one process.

    ``check`` runs before twistd goes into the background, the rest after: nothing that must not cross a fork
    (database, threads) is opened before ``startService``.
    """

    def __init__(
        self, *, load: Callable[[], Settings], reactor: Any, twistd_options: Mapping[str, Any]
    ) -> None:
        # Twisted's reactor offers more interfaces than one annotation can say.
        self._load = load
        self._settings = settings = load()
        self._reactor = reactor
        self._twistd = twistd_options
        self._layout = RootLayout(os.path.abspath(settings.storage.root))
        self._lock = RootLock(self._layout)
        self._ports: list[IListeningPort] = []
        self._access_log: AccessLog | None = None
        self._site: RegistrySite | None = None
        self._loops: list[LoopingCall] = []
        self._records: SqliteRecords | None = None
        self._instance_id = ""
        self._pools = {
            name: ThreadBlocking(reactor=reactor, name=f"dockreg-{name}", threads=threads)
            for name, threads in (("storage", 8), ("passwords", 2), ("parsing", 2), ("reading", 2))
        }

    def check(self) -> None:
        """Refuse what cannot work, and take the root's lock.

        Raises:
            StartRefused: with one line.
        """
        if self._settings.server.workers not in (1, "auto"):
            raise StartRefused("workers: this version serves with one process: set workers to 1 or auto")
        check_listeners(self._reactor, self._settings)
        try:
            initialise_root(self._layout, new_id=new_id)
            self._instance_id = check_root(self._layout).instance_id
            self._lock.acquire()
        except RootUnusable as error:
            raise StartRefused(str(error)) from None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application, and offer it our way of writing log lines unless twistd was told another."""
        told = any(self._twistd.get(option) for option in ("logger", "syslog", "logfile"))
        if isinstance(parent, Componentized) and self._twistd.get("nodaemon") and not told:
            log = self._settings.log
            parent.setComponent(ILogObserver, line_observer(sys.stdout, form=log.format, level=log.level))
            render = text_entry if is_text(log.format, sys.stdout) else json_entry
            self._access_log = AccessLog(sys.stdout, render, clock=self._reactor)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Open the root, listen, and say so once the reactor runs.

        Raises:
            SystemExit: with one line, in the foreground.
            StartRefused: in the background, where twistd hands the line to its parent.
        """
        super().startService()
        try:
            self._start()
        except (RootUnusable, StartRefused) as error:
            self._lock.release()
            if self._twistd.get("nodaemon", True):
                # By now sys.stderr goes into the log.
                sys.__stderr__.write(f"dockreg: {error}\n")  # type: ignore[union-attr] # there is one
                raise SystemExit(1) from None
            raise StartRefused(str(error)) from None

    def _start(self) -> None:
        # Twisted's timers follow the wall clock; whoever sets that must not fire or starve our deadlines.
        self._reactor.seconds = time.monotonic
        self._lock.note_owner()
        clear_passing_files(self._layout, self._reactor)
        users = prepare_database(self._layout, now=wall_clock)
        prepare_keys(self._layout, now=wall_clock)
        for pool in self._pools.values():
            pool.start()
        self._records = SqliteRecords(
            path=self._layout.database,
            journal_dir=self._layout.journal,
            lock_path=self._layout.write_lock,
            reactor=self._reactor,
            read_blocking=self._pools["reading"],
        )
        self._records.start()
        self._registry = self._assemble(self._records)
        self._site = self._make_site(self._registry)
        self._ports = bind(self._reactor, self._settings, self._site)
        self._reactor.callWhenRunning(self._running, users)

    def _assemble(self, records: SqliteRecords) -> Registry:
        return assemble(self._settings, self._layout, records, self._surroundings())

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            clock=self._reactor,
            now=wall_clock,
            new_id=new_id,
            random_bytes=secrets.token_bytes,
            instance_id=self._instance_id,
            secret=secrets.token_bytes(32),
            storage=self._pools["storage"],
            passwords=self._pools["passwords"],
            parsing=self._pools["parsing"],
        )

    def _make_site(self, registry: Registry) -> RegistrySite:
        server = self._settings.server
        return RegistrySite(
            registry.resource,
            clock=self._reactor,
            now=wall_clock,
            new_request_id=request_ids().__next__,
            access_log=self._access_writer(),
            header_timeout_seconds=server.header_timeout_seconds,
            body_timeout_seconds=server.body_timeout_seconds,
        )

    def _access_writer(self) -> Callable[[AccessEntry], None] | None:
        log = self._settings.log
        if log.access == "none":
            return None
        if self._access_log is None:
            # twistd was told another log.
            return _write_access
        return self._access_log if log.level in ("debug", "info") else None

    def _running(self, users: int) -> None:
        # twistd's own handler ends with the signal as exit code; a stop that was asked for is no error.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_on_signal)
        signal.signal(signal.SIGHUP, self._reload_on_signal)
        for line in warnings(self._settings, self._ports):
            _log.warn("{line}", line=line)
        _log.info(
            "dockreg ready on {where} (root {root}, users {users})",
            where=", ".join(addresses(self._settings, self._ports)),
            root=self._layout.root,
            users=users,
        )
        if os.path.exists(self._layout.admin_password):
            _log.info(
                "the first password of user admin is in {path}: remove the file once you have it",
                path=self._layout.admin_password,
            )
        # What lives from the start lives to the end: not to be looked through again and again.
        gc.collect()
        gc.freeze()
        self._repeat(SWEEP_INTERVAL_SECONDS, self._sweep_once)
        schedule_seconds = self._settings.gc.schedule_seconds or COLLECTION_INTERVAL_SECONDS
        self._repeat(min(schedule_seconds, COLLECTION_INTERVAL_SECONDS), self._collect_once)

    def _repeat(self, interval_seconds: float, work: Callable[[Registry], Coroutine[Any, Any, None]]) -> None:
        loop = LoopingCall(lambda: Deferred.fromCoroutine(work(self._registry)))
        loop.clock = self._reactor
        loop.start(interval_seconds, now=True)
        self._loops.append(loop)

    async def _collect_once(self, registry: Registry) -> None:
        """Collect garbage if it is time and nobody else does; a failure is for the next time."""
        schedule_seconds = self._settings.gc.schedule_seconds
        if schedule_seconds is None:
            return
        try:
            with collection_lock(self._layout, wait=False) as is_ours:
                if is_ours:
                    await registry.collect.run_if_due(
                        collection_rules(self._settings), schedule_seconds=schedule_seconds, now=wall_clock()
                    )
        except Exception:  # noqa: BLE001 - a loop that ends here would never collect again
            # Stopping closes the database under it; what it was doing is undone or done.
            if self.running:
                _log.failure("collecting garbage failed")

    async def _sweep_once(self, registry: Registry) -> None:
        """Drop expired upload sessions and what crashes left of them; a failure is for the next time."""
        try:
            expire_after = float(self._settings.uploads.expire_after_seconds)
            expired = await registry.uploads.sweep(expire_after_seconds=expire_after)
            orphans = await registry.uploads.discard_orphans()
        except Exception:  # noqa: BLE001 - a loop that ends here would never sweep again
            _log.failure("sweeping upload sessions failed")
            return
        if expired or orphans:
            _log.info(
                "swept {expired} expired and {orphans} orphaned uploads", expired=expired, orphans=orphans
            )

    def _stop_on_signal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        # A second signal finds the stop under way.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _reload_on_signal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        """Read the settings again; requests in flight end under the old ones.

        Where data lies and where we listen is settled at the start.
        """
        if self._site is None or self._records is None:
            return
        try:
            settings = self._load()
        except SettingsError as error:
            _log.error("settings not reloaded, the old ones stay in force: {error}", error=error)
            return
        if (settings.storage.root, settings.server) != (self._settings.storage.root, self._settings.server):
            _log.warn("changes of storage.root and of [server] take effect at the next start")
        self._settings = settings
        self._registry = self._assemble(self._records)
        self._site.resource = self._registry.resource
        _log.info("settings reloaded")

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let requests in flight end (30 s at most), close everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping: requests in flight may end within {seconds:.0f} s", seconds=DRAIN_SECONDS)
        await gatherResults([Deferred.fromCoroutine(_stop_listening(port)) for port in self._ports])
        for loop in self._loops:
            if loop.running:
                loop.stop()
        if self._site is not None:
            await self._site.drain(DRAIN_SECONDS)
        if self._records is not None:
            await self._records.stop()
        for pool in self._pools.values():
            pool.stop()
        if self._access_log is not None:
            self._access_log.flush()
        self._lock.release()


#: Seconds since the epoch; the composition root passes it in.
wall_clock = time.time  # noqa: TID251


def request_ids() -> Iterator[str]:
    """Yield ids of 16 hexadecimal digits; random ones are fetched many at a time."""
    while True:
        drawn = secrets.token_hex(8 * 256)
        yield from (drawn[start : start + 16] for start in range(0, len(drawn), 16))


def new_id() -> str:
    """Return a fresh unguessable id: a UUID4 with dashes."""
    return str(uuid.uuid4())  # noqa: TID251 - the composition root passes ids in


def warnings(settings: Settings, ports: list[IListeningPort]) -> list[str]:
    """Return what an operator should know of these settings at every start."""
    lines = []
    access = settings.access
    if access.anonymous == "push":
        lines.append("anonymous callers may push everywhere: use this for tests and closed networks only")
    elif access.challenge == "basic" and (access.anonymous == "pull" or access.anonymous_grants):
        lines.append(
            'anonymous callers may pull, and with challenge = "basic" docker is never asked for a password: '
            'it cannot log in to push; set challenge to "bearer"'
        )
    listeners = zip(settings.server.listen, ports, strict=True)
    if any(is_exposed(port) and not speaks_tls(text, settings) for text, port in listeners):
        lines.append(
            "listening without TLS beyond the loopback: passwords travel in the clear, and docker needs this "
            "host under insecure-registries"
        )
    return lines


def is_exposed(port: IListeningPort) -> bool:
    """Tell whether a plain TCP port can be reached from other machines."""
    host = getattr(port.getHost(), "host", None)
    is_loopback = host is None or host == "::1" or host.startswith("127.")
    return not is_loopback and getattr(port, "_type", "TCP") == "TCP"


async def _stop_listening(port: IListeningPort) -> None:
    await (port.stopListening() or _done())


def _done() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done


def _write_access(entry: AccessEntry) -> None:
    _access_log.info("{line}", line=access_line(entry), access=access_fields(entry))
