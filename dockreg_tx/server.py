"""What every server does that twistd starts, whether it serves by itself or lets workers serve."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from dockreg_tx import __version__
from dockreg_tx.audit import audit_file
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.certificates import Certificates
from dockreg_tx.listeners import (
    StartRefused,
    addresses,
    bind_metrics,
    certificates_of,
    check_listeners,
    speaks_tls,
)
from dockreg_tx.logs import Threshold, line_observer
from dockreg_tx.preparation import clear_passing_files, make_ballast, prepare_database, prepare_keys
from dockreg_tx.root import RootUnusable, check_root, initialise_root
from dockreg_tx.root_locks import RootLock
from dockreg_tx.settings import Settings
from dockreg_tx.settings_registry2 import ignored_warning
from dockreg_tx.systemd import Notifier
from dockreg_tx.web.exposition import Exposition, MetricsSite, Totals

#: Requests in flight get this long to end after SIGTERM.
DRAIN_SECONDS = 30.0

_log = Logger(namespace="dockreg")


class Server(Service):
    """Takes a root, makes it ready, and stops and reloads on signals; subclasses serve.

    ``check`` runs before twistd goes into the background, the rest after: nothing that must not cross a fork
    (database, threads, children) is opened before ``startService``.
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
        #: What listeners show, this process's one for metrics included.
        self._certificates: Certificates
        #: Where /metrics is alone.
        self._metrics_ports: list[IListeningPort] = []
        self._rendering = ThreadBlocking(reactor=reactor, name="dockreg-metrics", threads=1)
        self._log_threshold = Threshold(settings.log.level)
        self._instance_id = ""
        self._status = ""
        #: Silent unless whoever makes us has a line to the service manager.
        self.notifier = Notifier()

    def check(self) -> None:
        """Refuse what cannot work, and take the root's lock.

        Raises:
            StartRefused: with one line.
        """
        check_listeners(self._reactor, self._settings)
        try:
            initialise_root(self._layout, new_id=new_id)
            self._instance_id = check_root(self._layout).instance_id
            self._lock.acquire()
        except RootUnusable as error:
            raise StartRefused(str(error)) from None

    @property
    def _writes_own_log(self) -> bool:
        """Whether log lines are ours to write: in the foreground, unless twistd was told another way."""
        told = any(self._twistd.get(option) for option in ("logger", "syslog", "logfile"))
        return bool(self._twistd.get("nodaemon")) and not told

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application, and offer it our way of writing log lines unless twistd was told another."""
        if isinstance(parent, Componentized) and self._writes_own_log:
            observer = line_observer(
                sys.stdout, form=self._settings.log.format, threshold=self._log_threshold
            )
            parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Open the root, listen, and say so once the reactor runs.

        Raises:
            SystemExit: with one line, in the foreground.
            StartRefused: in the background, where twistd hands the line to its parent.
        """
        super().startService()
        try:
            # Twisted's timers follow the wall clock; whoever sets that must not fire or starve our deadlines.
            self._reactor.seconds = time.monotonic
            self._start()
        except (RootUnusable, StartRefused) as error:
            self._lock.release()
            if self._twistd.get("nodaemon", True):
                say_refusal(error)
                raise SystemExit(1) from None
            raise StartRefused(str(error)) from None

    def _start(self) -> None:
        """Open everything; raises RootUnusable or StartRefused."""
        raise NotImplementedError

    def _prepare(self) -> int:
        """Make the root ready, of which we are the only user, and return how many accounts it has."""
        self._certificates = certificates_of(self._settings)
        if problem := audit_file(self._settings, self._layout, now=wall_clock).problem():
            raise StartRefused(problem)
        self._lock.note_owner()
        clear_passing_files(self._layout, self._reactor)
        self._ballast = make_ballast(self._settings, self._layout)
        users = prepare_database(self._layout, now=wall_clock, make_room=self._ballast.release)
        prepare_keys(self._layout, now=wall_clock)
        return users

    def _make_exposition(self, totals: Totals) -> Exposition:
        return Exposition(totals=totals, blocking=self._rendering, version=__version__)

    def _serve_metrics(self, exposition: Exposition) -> None:
        """Serve /metrics where the settings want it alone; the pool that renders is open until the stop."""
        self._rendering.start()
        site = MetricsSite(exposition, self._reasons, reactor=self._reactor)
        self._metrics_ports = bind_metrics(self._reactor, self._settings, site, self._certificates)

    async def _reasons(self) -> Mapping[str, str]:
        """Return why parts of this server do not work, by their names."""
        raise NotImplementedError

    async def _stop_serving_metrics(self) -> None:
        ports, self._metrics_ports = self._metrics_ports, []
        for port in ports:
            await (port.stopListening() or succeed(None))
        self._rendering.stop()

    def _handle_signals(self) -> None:
        # twistd's own handler ends with the signal as exit code; a stop that was asked for is no error.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_on_signal)
        signal.signal(signal.SIGHUP, self._reload_on_signal)

    def _announce(self, users: int, more: str = "") -> None:
        where = ", ".join(addresses(self._settings, self._ports))
        self._status = f"serving on {where} (root {self._layout.root}{more})"
        self.notifier.ready(self._status)
        self.notifier.keep_alive(self._reactor)
        for line in warnings(self._settings, self._ports):
            _log.warn("{line}", line=line)
        _log.info(
            "dockreg ready on {where} (root {root}, users {users}{more})",
            where=where,
            root=self._layout.root,
            users=users,
            more=more,
        )
        if os.path.exists(self._layout.admin_password):
            _log.info(
                "the first password of user admin is in {path}: remove the file once you have it",
                path=self._layout.admin_password,
            )

    def _stop_on_signal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        # A second signal finds the stop under way.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _reload_on_signal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload_aloud)

    def _reload_aloud(self) -> None:
        self.notifier.reloading(self._reactor.seconds())
        self._reload()
        if not self._is_reloading:
            self.notifier.ready(self._status)

    @property
    def _is_reloading(self) -> bool:
        """Whether a reload goes on, and will end in ``notifier.ready``."""
        return False

    def _reload(self) -> None:
        """Read the settings again."""
        raise NotImplementedError


#: Seconds since the epoch; the composition root passes it in.
wall_clock = time.time  # noqa: TID251


def new_id() -> str:
    """Return a fresh unguessable id: a UUID4 with dashes."""
    return str(uuid.uuid4())  # noqa: TID251 - the composition root passes ids in


def settled(settings: Settings) -> tuple[object, ...]:
    """Return what only a new start can change."""
    return settings.storage.root, settings.server, settings.log.format, bool(settings.tls.certificate)


def say_refusal(reason: object) -> None:
    """Write why the server does not start on the real standard error: sys.stderr goes into the log by now."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"dockreg: {reason}\n")
        sys.__stderr__.flush()


def warnings(settings: Settings, ports: list[IListeningPort]) -> list[str]:
    """Return what an operator should know of these settings at every start."""
    lines = ignored_warning(settings.ignored)
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
