"""The HTTP service: connections with limits, the access log, and an orderly end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web import http, server
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from dockreg_tx.metrics import Counts, request_place
from dockreg_tx.ports import NewId, Now
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.framing import Refusal
from dockreg_tx.web.heads import Heads
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.outbox import Outbox
from dockreg_tx.web.short_channel import SCRATCH_BYTES, ShortChannel
from dockreg_tx.web.surroundings import Limits

if TYPE_CHECKING:
    from dockreg_tx.web.recent import Given, RecentAnswers

#: The status that is logged when the client went before it had an answer; never sent. (nginx's habit.)
CLIENT_CLOSED_REQUEST = 499
#: How long ``drain`` waits for handlers to keep what arrived, after it has cut the last connections.
SETTLE_SECONDS = 5


class AccessEntry(NamedTuple):
    """One request, answered or not; texts are as the client sent them, empty when it did not."""

    #: The client's address: behind a trusted proxy as that names it.
    peer: str
    user: str
    method: str
    uri: str
    status: int
    sent_bytes: int
    received_bytes: int
    duration_seconds: float
    request_id: str
    referer: str
    user_agent: str
    http_version: str
    started_at: float


class RegistrySite(server.Site):
    """Serves HTTP/1.0 and 1.1 over TCP, TLS and UNIX sockets.

    Args:
        resource: what answers; handlers get ``RegistryRequest`` objects.
        clock: for all deadlines.
        new_request_id: for ``request.request_id``.
        access_log: called once for each request; None for no log.
        now: wall-clock time for the log and the Date header; None to take the clock's.
        connections_changed: told how many connections there are whenever that changes.
        client_of: returns the address of a request's client for the log; None to take the peer's.
        counts: take every request.
        header_timeout_seconds, body_timeout_seconds, idle_timeout_seconds, stall_timeout_seconds: see
            ``surroundings.Limits``.
    """

    def __init__(
        self,
        resource: IResource,
        *,
        clock: IReactorTime,
        new_request_id: NewId,
        access_log: Callable[[AccessEntry], None] | None = None,
        now: Now | None = None,
        connections_changed: Callable[[int], None] | None = None,
        client_of: Callable[[IRequest], str] | None = None,
        counts: Counts | None = None,
        header_timeout_seconds: float = 10,
        body_timeout_seconds: float = 60,
        idle_timeout_seconds: float = 120,
        stall_timeout_seconds: float = 60,
    ) -> None:
        super().__init__(
            resource, requestFactory=RegistryRequest, reactor=clock, parsePOSTFormSubmission=False
        )
        self.limits = Limits(
            header_timeout_seconds=header_timeout_seconds,
            body_timeout_seconds=body_timeout_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
        )
        self.new_request_id = new_request_id
        self.now = now or clock.seconds
        self.is_draining = False
        self.closes_idle = False
        #: Takes each request with the head of its answer, while somebody wants to see them.
        self.wire: Callable[[RegistryRequest, bytes], None] | None = None
        self._access_log = access_log
        self._connections_changed = connections_changed or _ignore
        self._client_of = client_of or _peer_of
        self._counts = counts or Counts()
        self._channels: set[RegistryChannel] = set()
        self._requests: set[RegistryRequest] = set()
        self._running_handlers = 0
        #: Keeps what was read of the fields of requests; its key is this process's alone.
        self.heads = Heads(secrets.token_bytes(32))
        #: Where answers of one turn of the event loop come together (``turns``).
        self.outbox = Outbox()
        self.scratch = bytearray(SCRATCH_BYTES)
        self._date = (-1, b"")
        self._date_text = (-1, "")
        self._beginning = (-1, b"")
        self._quiet: Deferred[None] | None = None

    def log_accesses(self, write: Callable[[AccessEntry], None] | None) -> None:
        """Have requests logged there from now on; None for no log."""
        self._access_log = write

    @property
    def in_flight(self) -> int:
        """How many requests are being handled."""
        return len(self._requests)

    @property
    def open_connections(self) -> int:
        """How many connections there are."""
        return len(self._channels)

    async def drain(self, timeout_seconds: float) -> None:
        """End all connections: the idle ones at once, the others when their requests are answered.

        What is not done after ``timeout_seconds`` is cut; handlers still get a moment to keep what arrived.
        """
        self.is_draining = self.closes_idle = True
        for channel in [channel for channel in self._channels if channel.is_idle]:
            channel.loseConnection()
        await self._wait_until_quiet(timeout_seconds)
        for channel in list(self._channels):
            channel.abort()
        await self._wait_until_quiet(SETTLE_SECONDS)

    async def retire(self, *, idle_seconds: float, timeout_seconds: float) -> None:
        """End all connections without a failed request: every answer from now on is its connection's last.

        A connection closed between two requests may meet one that is on its way. So idle ones are given a
        while for one more request, and its answer tells the client to go elsewhere.
        """
        self.is_draining = True
        await self._wait_until_quiet(idle_seconds)
        await self.drain(timeout_seconds)

    async def _wait_until_quiet(self, timeout_seconds: float) -> None:
        if self._is_quiet:
            return
        self._quiet = quiet = Deferred[None]()
        timer = self.reactor.callLater(timeout_seconds, quiet.callback, None)
        await quiet
        self._quiet = None
        if timer.active():
            timer.cancel()

    @property
    def _is_quiet(self) -> bool:
        return not (self._channels or self._requests or self._running_handlers)

    def _look_for_quiet(self) -> None:
        if self._quiet is not None and not self._quiet.called and self._is_quiet:
            self._quiet.callback(None)

    # --- for twisted

    def startFactory(self) -> None:
        """Open no log: entries go to ``access_log``."""

    def stopFactory(self) -> None:
        """Close nothing."""

    def buildProtocol(self, addr: IAddress | None) -> RegistryChannel:  # type: ignore[override]  # no h2
        """Make a channel; not the stock one, which could change to HTTP/2."""
        return ShortChannel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 only: HTTP/2 is several times slower here, and a front proxy can speak it."""
        return [b"http/1.1"]

    # --- for channels and requests

    def short_way(self, method: bytes, target: bytes) -> Any:
        """Return what answers a plain request for a target, None when it has to be parsed and rendered."""
        # Light requests do not keep all their fields.
        find = None if self.wire is not None else getattr(self.resource, "short_way", None)
        return None if find is None else find(method, target)

    def given(self, question: Hashable) -> Given | None:
        """Return the answer to a question that still holds, None when the question must be asked."""
        recent: RecentAnswers | None = getattr(self.resource, "recent", None)
        if recent is None or self.is_draining or self.wire is not None:
            return None
        return recent.find(question, self.outbox.turn if self.outbox.is_open else 0)

    def channel_opened(self, channel: RegistryChannel) -> None:
        """Note a connection."""
        self._channels.add(channel)
        self._connections_changed(len(self._channels))

    def channel_closed(self, channel: RegistryChannel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)
        self._connections_changed(len(self._channels))
        self._look_for_quiet()

    def request_began(self, request: RegistryRequest) -> None:
        """Count a request in."""
        self._requests.add(request)

    def request_ended(self, request: RegistryRequest) -> None:
        """Count a request off: it is answered, or its client has gone."""
        self._requests.discard(request)
        if self._quiet is not None:
            self._look_for_quiet()

    def handler_began(self) -> None:
        """Count in a handler that runs to its end whatever happens to its connection."""
        self._running_handlers += 1

    def handler_ended(self) -> None:
        """Count it off."""
        self._running_handlers -= 1
        if self._quiet is not None:
            self._look_for_quiet()

    def date_header(self) -> bytes:
        """Return the value of a Date header for this second."""
        second = int(self.now())
        if second != self._date[0]:
            self._date = (second, http.datetimeToString(second))
        return self._date[1]

    @property
    def date_text(self) -> str:
        """The same as text."""
        second = int(self.now())
        if second != self._date_text[0]:
            self._date_text = (second, http.datetimeToString(second).decode("ascii"))
        return self._date_text[1]

    def status_and_date(self, second: int) -> bytes:
        """Return the beginning of a good answer."""
        if second != self._beginning[0]:
            date = http.datetimeToString(second)
            self._beginning = (second, b"HTTP/1.1 200 OK\r\nDate: %b\r\n" % date)
        return self._beginning[1]

    def log_again(self, given: Given, began_at: float, started_at: float) -> None:
        """Report a request that got an answer which had been given before."""
        duration_seconds = self.reactor.seconds() - began_at
        entry, body_bytes = given.entry, len(given.body)
        self._counts.add_request(given.place, 200, duration_seconds, 0, body_bytes)
        if entry is None or self._access_log is None:
            return
        peer, user, method, uri, _, _, _, _, _, referer, agent, version, _ = entry
        asked, numbers = (peer, user, method, uri), (200, body_bytes, 0, duration_seconds)
        request_id = self.new_request_id()
        self._access_log(AccessEntry(*asked, *numbers, request_id, referer, agent, version, started_at))

    def log(self, request: http.Request) -> None:
        """Report a request that was answered, or whose client has gone."""
        if not isinstance(request, RegistryRequest):
            return
        is_cut = not request.startedWriting and request.is_over
        status = CLIENT_CLOSED_REQUEST if is_cut else request.code
        duration_seconds = self.reactor.seconds() - request.began_at
        received_bytes, sent_bytes = request.body.received_bytes, request.sentLength
        place = request.counted_at or request_place("other", _text(request.method))
        self._counts.add_request(place, status, duration_seconds, received_bytes, sent_bytes)
        if self._access_log is None:
            return
        referer, user_agent = request.described()
        request.logged = entry = AccessEntry(
            request.client_address or self._client_of(cast("IRequest", request)),
            request.user_name,
            request.method.decode("latin-1"),
            request.uri.decode("latin-1"),
            status,
            sent_bytes,
            received_bytes,
            duration_seconds,
            request.request_id,
            referer,
            user_agent,
            request.clientproto.decode("latin-1"),
            request.started_at,
        )
        self._access_log(entry)

    def refused(self, channel: RegistryChannel, refusal: Refusal, request_id: str) -> None:
        """Report something that did not become a request."""
        self._counts.add("dockreg_refused_heads")
        if self._access_log is None:
            return
        now = self.now()
        method, uri, version = channel.refused_start_line
        self._access_log(
            AccessEntry(
                peer=_host_of(channel.getPeer()),
                user="",
                method=_text(method),
                uri=_text(uri),
                status=refusal.status,
                sent_bytes=len(refusal.body(request_id)),
                received_bytes=0,
                duration_seconds=0.0,
                request_id=request_id,
                referer="",
                user_agent="",
                http_version=_text(version),
                started_at=now,
            )
        )


def _ignore(count: int) -> None:
    pass


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("latin-1")


def _peer_of(request: IRequest) -> str:
    return _host_of(request.getClientAddress())


def _host_of(address: object) -> str:
    host = getattr(address, "host", None)
    return host if isinstance(host, str) else "unix"
