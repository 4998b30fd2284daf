"""The site: its log, its count of requests, its end, and its channels on real sockets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dockreg_tx.oci.errors import BodyBroken
from dockreg_tx.web import outflow
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.site import AccessEntry
from tests.web.wire import (
    Collector,
    Handle,
    LoopbackCase,
    MemoryWire,
    RawClient,
    RecordingTransport,
    certificate,
    echo,
    reactor,
    refuse,
    site_of,
    tls_endpoint,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
KIB = 1024
MIB = 1024 * KIB


def waiting_for(go_on: Deferred[None]) -> Handle:
    """Return a handler that answers when it may."""

    async def handle(request: RegistryRequest) -> None:
        await go_on
        outflow.send(request, 200, [], b"done")

    return handle


class AccessLogTests(SynchronousTestCase):
    """One entry for each request."""

    def test_answered(self) -> None:
        """An entry tells who asked what, what was answered, how much and how long."""
        go_on: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            request.user_name = "alice"
            await request.body.read(10)
            await go_on
            outflow.send(request, 201, [], b"done")

        wire = MemoryWire(handle, now=lambda: 1700000000.5)
        wire.send(
            b"PUT /v2/?a=b HTTP/1.1\r\nHost: a\r\nReferer: r\r\nUser-Agent: docker\xff\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )
        wire.clock.advance(1.5)
        go_on.callback(None)
        expected = AccessEntry(
            peer="192.168.1.1",
            user="alice",
            method="PUT",
            uri="/v2/?a=b",
            status=201,
            sent_bytes=4,
            received_bytes=3,
            duration_seconds=1.5,
            request_id="request-1",
            referer="r",
            user_agent="docker\xff",
            http_version="HTTP/1.1",
            started_at=1700000000.5,
        )
        self.assertEqual([expected], wire.log)

    def test_gone(self) -> None:
        """A client that left before its answer is logged as 499."""
        wire = MemoryWire(waiting_for(Deferred()))
        wire.send(GET)
        wire.lose()
        self.assertEqual([499], [entry.status for entry in wire.log])

    def test_refused(self) -> None:
        """What did not become a request is logged with what was understood of it."""
        wire = MemoryWire(echo)
        wire.send(b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(
            [("GET", "/%00", 400)], [(entry.method, entry.uri, entry.status) for entry in wire.log]
        )

    def test_no_log(self) -> None:
        """The log can be left out."""
        site = site_of(echo, clock=Clock())
        for request in (GET, b"nonsense\r\n\r\n"):
            channel = site.buildProtocol(None)
            transport = RecordingTransport()
            channel.makeConnection(transport)
            channel.dataReceived(request)
            self.assertNotEqual(b"", transport.value())

    def test_idle_connections_are_not_logged(self) -> None:
        """A connection that says nothing, or leaves between two requests, leaves no entry."""
        wire = MemoryWire(echo)
        wire.send(GET)
        wire.lose()
        self.assertEqual(1, len(wire.log))


class CountTests(SynchronousTestCase):
    """``in_flight``."""

    def test_in_flight(self) -> None:
        """A request counts from its headers to its answer, or to the loss of its client."""
        go_on: Deferred[None] = Deferred()
        wire = MemoryWire(waiting_for(go_on))
        wire.send(b"GET / HTTP/1.1\r\n")
        self.assertEqual(0, wire.site.in_flight)
        wire.send(b"Host: a\r\n\r\n")
        self.assertEqual(1, wire.site.in_flight)
        go_on.callback(None)
        self.assertEqual((0, 1), (wire.site.in_flight, wire.site.open_connections))
        wire.lose()
        self.assertEqual((0, 0), (wire.site.in_flight, wire.site.open_connections))


class ProtocolTests(SynchronousTestCase):
    """What is offered to TLS clients."""

    def test_no_http_2(self) -> None:
        """HTTP/2 is never offered, whatever is installed."""
        site = site_of(echo, clock=Clock())
        self.assertTrue(verifyObject(IProtocolNegotiationFactory, site))
        self.assertEqual([b"http/1.1"], site.acceptableProtocols())


class DrainTests(SynchronousTestCase):
    """The end."""

    def test_idle(self) -> None:
        """Idle connections are closed at once, and nothing is waited for."""
        wire = MemoryWire(echo)
        wire.send(GET)
        drained = Deferred.fromCoroutine(wire.site.drain(10))
        self.assertTrue(wire.transport.disconnecting)
        wire.lose()
        self.successResultOf(drained)
        self.assertEqual([], wire.clock.getDelayedCalls())

    def test_nothing_open(self) -> None:
        """Without connections the end is immediate."""
        self.successResultOf(Deferred.fromCoroutine(site_of(echo, clock=Clock()).drain(10)))

    def test_in_flight(self) -> None:
        """A request in flight is answered with Connection: close, and its connection ends."""
        go_on: Deferred[None] = Deferred()
        wire = MemoryWire(waiting_for(go_on))
        wire.send(GET + GET)
        drained = Deferred.fromCoroutine(wire.site.drain(10))
        self.assertFalse(wire.transport.disconnecting)
        wire.clock.advance(5)
        go_on.callback(None)
        self.assertEqual(
            [(b"done", "close")], [(answer.body, answer.headers["connection"]) for answer in wire.answers]
        )
        self.assertTrue(wire.transport.disconnecting)
        self.assertNoResult(drained)
        wire.lose()
        self.successResultOf(drained)

    def test_too_long(self) -> None:
        """What is not done in time is cut."""
        wire = MemoryWire(waiting_for(Deferred()))
        wire.send(GET)
        drained = Deferred.fromCoroutine(wire.site.drain(10))
        wire.clock.advance(10)
        self.assertTrue(wire.transport.is_aborted)
        wire.lose()
        wire.clock.advance(5)
        self.successResultOf(drained)

    def test_retire(self) -> None:
        """A retiring site lets idle connections make one more request, and closes them in the end."""
        wire = MemoryWire(echo)
        wire.send(GET)
        retired = Deferred.fromCoroutine(wire.site.retire(idle_seconds=30, timeout_seconds=60))
        wire.clock.advance(29)
        self.assertFalse(wire.transport.disconnecting)
        wire.send(GET)
        self.assertEqual("close", wire.answers[-1].headers["connection"])
        self.assertTrue(wire.transport.disconnecting)
        self.assertNoResult(retired)
        wire.lose()
        self.successResultOf(retired)

    def test_retire_with_an_answer_under_way(self) -> None:
        """An answer that began too early to say so does not end its connection; the next one does."""
        go_on: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            request.write(b"begun")
            await go_on

        wire = MemoryWire(handle)
        wire.send(GET)
        retired = Deferred.fromCoroutine(wire.site.retire(idle_seconds=30, timeout_seconds=60))
        go_on.callback(None)
        self.assertFalse(wire.transport.disconnecting)
        wire.clock.advance(30)
        self.assertTrue(wire.transport.disconnecting)
        wire.lose()
        self.successResultOf(retired)

    def test_handlers_keep_what_arrived(self) -> None:
        """A handler whose connection was cut is waited for while it stores what arrived."""
        disk: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            try:
                await request.body.stream_to(Collector())
            except BodyBroken:
                await disk

        wire = MemoryWire(handle)
        wire.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        drained = Deferred.fromCoroutine(wire.site.drain(10))
        wire.clock.advance(10)
        wire.lose()
        self.assertNoResult(drained)
        disk.callback(None)
        self.successResultOf(drained)


class SlowCollector(Collector):
    """Pauses after each write until the reactor's next turn."""

    def __init__(self) -> None:
        super().__init__()
        self.most_bytes = 0

    def write(self, data: bytes) -> None:
        """Keep only the size, and pause."""
        self.most_bytes = max(self.most_bytes, len(data))
        self.chunks.append(b"%d," % len(data))
        self.producer.pauseProducing()
        reactor.callLater(0, self.producer.resumeProducing)

    @property
    def total_bytes(self) -> int:
        """How much was written."""
        return sum(int(size) for size in self.content.split(b",") if size)


class LoopbackTests(LoopbackCase):
    """The same promises on real sockets."""

    async def upload(self, client: RawClient, size_bytes: int) -> bytes:
        """Upload zeros, and return the body of the answer."""
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size_bytes)
        client.send(bytes(size_bytes))
        return (await client.answer()).body

    async def store(self, request: RegistryRequest) -> None:
        """Take a body slowly."""
        collector = SlowCollector()
        await request.body.stream_to(collector)
        outflow.send(request, 201, [], b"%d" % collector.total_bytes)
        self.assertLessEqual(collector.most_bytes, 64 * KIB)

    async def test_back_pressure(self) -> None:
        """A consumer that pauses after each piece gets the whole body, over TCP and TLS."""
        key = certificate(self.mktemp())
        for where, secure in (
            ("tcp:0:interface=127.0.0.1", False),
            (f"ssl:0:privateKey={key}:interface=127.0.0.1", True),
        ):
            port = await self.serve(self.store, where=where)
            client = await self.connect(port, endpoint=tls_endpoint(port) if secure else None)
            for _ in range(2):
                self.assertEqual(b"%d" % (4 * MIB), await self.upload(client, 4 * MIB))

    async def test_early_answer_is_readable(self) -> None:
        """A client that sends everything before it reads still finds the answer, over TCP and TLS."""
        key = certificate(self.mktemp())
        for where, secure in (
            ("tcp:0:interface=127.0.0.1", False),
            (f"ssl:0:privateKey={key}:interface=127.0.0.1", True),
        ):
            port = await self.serve(refuse, where=where)
            client = await self.connect(port, endpoint=tls_endpoint(port) if secure else None)
            client.transport.pauseProducing()
            client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MIB)
            client.send(bytes(900 * KIB))
            reactor.callLater(0.3, client.transport.resumeProducing)
            self.assertEqual(401, (await client.answer()).status)
            await client.closed()

    async def test_disconnect_keeps_what_arrived(self) -> None:
        """Every byte that was received before a client left reaches the consumer."""
        kept: Deferred[int] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            collector = SlowCollector()
            try:
                await request.body.stream_to(collector)
            except BodyBroken:
                kept.callback(collector.total_bytes)

        client = await self.connect(await self.serve(handle))
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (9 * MIB))
        client.send(bytes(MIB))
        client.transport.loseConnection()
        self.assertEqual(MIB, await kept)

    async def test_untaken_body_costs_no_memory(self) -> None:
        """While a handler waits, hardly more than one read of the body is taken from the socket."""
        go_on: Deferred[None] = Deferred()
        taken: list[int] = []

        async def handle(request: RegistryRequest) -> None:
            await go_on
            taken.append(request.body.received_bytes)
            await request.body.stream_to(SlowCollector())
            outflow.send(request, 201, [], b"")

        client = await self.connect(await self.serve(handle))
        reactor.callLater(0.2, go_on.callback, None)
        await self.upload(client, 8 * MIB)
        self.assertLessEqual(taken[0], 64 * KIB)

    async def test_tls_client_on_a_plain_port(self) -> None:
        """A TLS client on a plain port is told at once, in HTTP."""
        client = await self.connect(await self.serve(echo))
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506))
        answer = await client.answer()
        self.assertEqual(("HTTP/1.0", 400), (answer.version, answer.status))
        await client.closed()

    async def test_http_on_a_tls_port(self) -> None:
        """A plain client on a TLS port is cut, and nothing is logged as a failure."""
        key = certificate(self.mktemp())
        port = await self.serve(echo, where=f"ssl:0:privateKey={key}:interface=127.0.0.1")
        client = await self.connect(port)
        client.send(GET)
        await client.closed()
        self.assertEqual([], self.flushLoggedErrors())

    async def test_drain(self) -> None:
        """Draining closes idle connections and lets a running request finish."""
        go_on: Deferred[None] = Deferred()
        began: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            if request.path == b"/slow":
                began.callback(None)
                await go_on
            outflow.send(request, 200, [], b"done")

        port = await self.serve(handle)
        idle, busy = await self.connect(port), await self.connect(port)
        idle.send(GET)
        await idle.answer()
        busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await began
        drained = Deferred.fromCoroutine(self.site.drain(10))
        await idle.closed()
        go_on.callback(None)
        self.assertEqual(b"done", (await busy.answer()).body)
        await busy.closed()
        await drained
