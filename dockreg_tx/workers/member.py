"""A worker: the registry's service on sockets that its parent has bound."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from dockreg_tx.access_log import AccessLog, entry_form
from dockreg_tx.listeners import bind, certificates_of
from dockreg_tx.metrics import Counts, SharedCounts
from dockreg_tx.preparation import make_ballast
from dockreg_tx.service import RegistryService, keep_for_good
from dockreg_tx.web.exposition import Exposition, Totals
from dockreg_tx.web.site import AccessEntry, RegistrySite
from dockreg_tx.workers.balance import ConnectionCounts, accept_fairly
from dockreg_tx.workers.brief import (
    COUNTS_DESCRIPTOR,
    EXAMINE,
    FIRST_LISTENER_DESCRIPTOR,
    METRICS_DESCRIPTOR,
    RETIRE,
    Brief,
    word,
)

#: How long a retiring worker keeps connections between two requests, and then waits for requests in flight.
#: Its successor serves meanwhile, so a long push need not be cut.
RETIRE_IDLE_SECONDS = 30.0
RETIRE_SECONDS = 3600.0

_log = Logger(namespace="dockreg")


class InheritedSockets:
    """Makes endpoints that take the sockets of the parent, one after the other, instead of binding."""

    def __init__(self, first: int) -> None:
        self._next = first

    def endpoint(self, reactor: Any, text: str) -> IStreamServerEndpoint:
        """Return the endpoint of a string; the sockets come in the order of the strings."""
        descriptor, self._next = self._next, self._next + 1
        adopting = AdoptingReactor(reactor, descriptor)
        if text.startswith("systemd:"):
            # What systemd said about its sockets was meant for the parent.
            return PlainEndpoint(adopting)
        endpoint: IStreamServerEndpoint = serverFromString(adopting, text)
        return endpoint


class AdoptingReactor:
    """A reactor for one endpoint: whatever that would bind is the inherited socket.

    So everything else that an endpoint does, such as wrapping TLS around a factory, stays its own matter.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def adopt(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen on the socket."""
        with socket.socket(fileno=self._descriptor) as inherited:
            # The port works on a copy.
            port: IListeningPort = self._reactor.adoptStreamPort(self._descriptor, inherited.family, factory)
        return port

    def listenTCP(self, port: int, factory: IProtocolFactory, **_: object) -> IListeningPort:
        """As IReactorTCP."""
        return self.adopt(factory)

    def listenUNIX(self, address: str, factory: IProtocolFactory, **_: object) -> IListeningPort:
        """As IReactorUNIX."""
        return self.adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,  # noqa: N803
        **_: object,
    ) -> IListeningPort:
        """As IReactorSSL."""
        return self.adopt(TLSMemoryBIOFactory(contextFactory, False, factory, clock=self._reactor))


@implementer(IStreamServerEndpoint)
class PlainEndpoint:
    """Listens on the inherited socket and does nothing else."""

    def __init__(self, reactor: AdoptingReactor) -> None:
        self._reactor = reactor

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """As IStreamServerEndpoint."""
        listening: Deferred[IListeningPort] = Deferred()
        listening.callback(self._reactor.adopt(protocolFactory))
        return listening


class Worker(RegistryService):
    """The registry's service in a process of its own, beside others.

    Args:
        brief: what the parent told.
        reactor: Twisted's.
        say: tells the parent something.
    """

    def __init__(self, brief: Brief, *, reactor: Any, say: Callable[[bytes], None]) -> None:
        self._brief = brief
        super().__init__(load=brief.settings, reactor=reactor, twistd_options={})
        self._instance_id = brief.instance_id
        self._say = say
        self._is_retiring = False
        # As all lines: to the standard output, which the parent reads.
        self._access_log = AccessLog(
            sys.stdout, self._entry_form(), clock=reactor, blocking=self._pools["logging"]
        )
        self._connections = ConnectionCounts(COUNTS_DESCRIPTOR)

    def _entry_form(self) -> Callable[[AccessEntry], str]:
        who = {"worker": self._brief.number, "pid": os.getpid()}
        return entry_form(self._brief.log_form, who, access=self._settings.log.access)

    def _join_counts(self) -> tuple[Counts, Totals]:
        """Count where the parent and the others see it; alone, if another release laid the memory out."""
        shared = SharedCounts(METRICS_DESCRIPTOR)
        if self._brief.metrics_region == 0 or not shared.is_ours():
            return super()._join_counts()
        return Counts(shared.region(self._brief.metrics_region)), shared.totals

    def _serve_metrics(self, exposition: Exposition) -> None:
        """Leave the listener to the parent."""
        self._rendering.start()

    def start(self) -> None:
        """Open everything and tell the parent when connections are accepted.

        Raises:
            RootUnusable, StartRefused: with one line.
        """
        # As in the parent: no deadline follows the wall clock.
        self._reactor.seconds = time.monotonic
        self.running = True
        self._start()

    def _prepare(self) -> int:
        """Join the holders of the root; the parent has made it ready."""
        self._certificates = certificates_of(self._settings)
        self._lock.share()
        self._ballast = make_ballast(self._settings, self._layout)
        return 0

    def _listen(self, site: RegistrySite) -> list[IListeningPort]:
        inherited = InheritedSockets(FIRST_LISTENER_DESCRIPTOR)
        ports = bind(self._reactor, self._settings, site, inherited.endpoint, self._certificates)
        for port in ports:
            accept_fairly(port, self._reactor, partial(self._connections.is_ahead, self._brief.number))
        return ports

    def _count_connections(self, count: int) -> None:
        # A retiring worker's place belongs to its successor.
        if not self._is_retiring:
            self._connections[self._brief.number] = count

    def _running(self, users: int) -> None:
        self._count_connections(0)
        signal.signal(signal.SIGTERM, self._stop_on_signal)
        self._sample()
        keep_for_good()
        self._begin_upkeep(is_for_all=self._brief.is_leader)
        if self._brief.is_leader:
            self._read_user_file()
        self._say(word(ready=True, pid=os.getpid()))

    def _hold_ballast(self) -> None:
        # One holds it; the others only notice when it is back.
        if self._brief.is_leader and not self._is_retiring:
            super()._hold_ballast()
        else:
            self._ballast.look()

    def _reload(self) -> None:
        """Do nothing: new settings come with a new worker."""

    def obey(self, order: str) -> None:
        """Do what the parent says."""
        if order == EXAMINE:
            examining = Deferred.fromCoroutine(self._tell_reasons())
            examining.addErrback(lambda failure: _log.failure("the examination failed", failure=failure))
        elif order != RETIRE:
            self._stop_reactor()
        elif not self._is_retiring:
            self._is_retiring = True
            retiring = Deferred.fromCoroutine(self._retire())
            retiring.addErrback(lambda failure: _log.failure("retiring failed", failure=failure))
            retiring.addBoth(lambda _: self._stop_reactor())

    async def _tell_reasons(self) -> None:
        self._say(word(reasons=dict(await self._reasons())))

    async def _retire(self) -> None:
        await self._stop_accepting()
        self._end_upkeep()
        self._counts.forget_shared()
        self._sample()
        self._begin_upkeep(is_for_all=False)
        if self._site is not None:
            await self._site.retire(idle_seconds=RETIRE_IDLE_SECONDS, timeout_seconds=RETIRE_SECONDS)

    async def _stop_accepting(self) -> None:
        """Leave the sockets to the others; a Unix socket's port would remove the file when it stops."""
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopReading()  # type: ignore[attr-defined] # Twisted's ports are descriptors
            port.socket.close()  # type: ignore[attr-defined]
        self._say(word(closed=True))
