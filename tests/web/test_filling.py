"""Bodies that are read straight into their consumer's memory."""

from __future__ import annotations

import itertools
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import BodyBroken
from dockreg_tx.web import outflow
from dockreg_tx.web.body import FAST_BYTES, SLOW_BYTES, RequestBody
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.short_channel import ShortChannel
from tests.web.wire import Collector, LoopbackCase, MemoryWire, certificate, reactor, tls_endpoint

MIB = 1024 * 1024


class Tank(Collector):
    """Lends memory, and keeps what was put there and what was written."""

    def __init__(self, size_bytes: int = MIB, *, pauses: bool = False) -> None:
        super().__init__()
        self.memory = memoryview(bytearray(size_bytes))
        self.fills: list[int] = []
        self.error: Exception | None = None
        self.pauses = pauses

    def room(self) -> memoryview | None:
        """Return all of the memory."""
        return self.memory

    def filled(self, size_bytes: int) -> None:
        """Keep a copy."""
        if self.error is not None:
            raise self.error
        self.fills.append(size_bytes)
        self.chunks.append(bytes(self.memory[:size_bytes]))
        if self.pauses:
            self.producer.pauseProducing()
            reactor.callLater(0, self.producer.resumeProducing)


class _Lender(Tank):
    """Lends memory of changing size, so often."""

    def __init__(self, rooms: list[int], lends: int) -> None:
        super().__init__()
        self.rooms = itertools.cycle(rooms)
        self.lends = lends

    def room(self) -> memoryview | None:
        """Return some memory."""
        self.lends -= 1
        self.memory = memoryview(bytearray(next(self.rooms)))
        return self.memory if self.lends >= 0 else None


class _Inlet:
    """A client that sends by itself."""

    def hold_body(self) -> None:
        """Go on sending."""

    open_body = ask_for_body = hold_body


class BodyTests(SynchronousTestCase):
    """When a body offers room, and to whom."""

    def setUp(self) -> None:
        self.body = RequestBody(length_bytes=100 * MIB, inlet=_Inlet())
        self.tank = Tank()
        self.streaming = Deferred.fromCoroutine(self.body.stream_to(self.tank))

    def test_only_for_the_fast(self) -> None:
        """Memory is lent to a client whose data fill a large read, until they come in drops again."""
        self.assertIsNone(self.body.room())
        self.body.receive(bytes(FAST_BYTES - 1))
        self.assertIsNone(self.body.room())
        self.body.receive(bytes(FAST_BYTES))
        self.assertIs(self.tank.memory, self.body.room())
        self.body.filled(SLOW_BYTES)
        self.assertIs(self.tank.memory, self.body.room())
        self.body.filled(SLOW_BYTES - 1)
        self.assertIsNone(self.body.room())
        self.assertEqual(2 * (FAST_BYTES + SLOW_BYTES - 1), self.body.received_bytes)

    def test_not_for_the_discarded(self) -> None:
        """What nobody takes any more is not read into anybody's memory."""
        self.body.receive(bytes(FAST_BYTES))
        self.tank.producer.stopProducing()
        self.assertIsNone(self.body.room())
        self.successResultOf(self.streaming)

    @given(
        rooms=st.lists(st.integers(1, 20), min_size=1, max_size=5),
        sizes=st.lists(st.integers(1, 50), max_size=8),
        lends=st.integers(0, 20),
    )
    def test_gathered(self, rooms: list[int], sizes: list[int], lends: int) -> None:
        """Pieces come whole and in order, however large the memory is and when no more of it is lent."""
        body = RequestBody(length_bytes=None, inlet=_Inlet())
        tank = _Lender(rooms, lends)
        Deferred.fromCoroutine(body.stream_to(tank))
        content = os.urandom(sum(sizes))
        view, pieces, at = memoryview(bytearray(content)), [], 0
        for size in sizes:
            pieces.append(view[at : at + size])
            at += size
        body.gather(pieces, read_bytes=FAST_BYTES)
        view[:] = bytes(len(view))
        self.assertEqual((content, len(content)), (tank.content, body.received_bytes))

    def test_failing_consumer(self) -> None:
        """What a consumer raises ends the stream."""
        self.body.receive(bytes(FAST_BYTES))
        self.tank.error = OSError("no")
        self.body.room()
        self.body.filled(SLOW_BYTES)
        self.assertIs(self.tank.error, self.failureResultOf(self.streaming).value)
        self.assertIsNone(self.body.room())


class LoopbackTests(LoopbackCase):
    """On real sockets."""

    async def store(self, request: RegistryRequest) -> None:
        """Take a body."""
        self.tank = Tank(pauses=True)
        self.tanks.append(self.tank)
        try:
            await request.body.stream_to(self.tank)
        except BodyBroken:
            self.broken.callback(None)
            raise
        outflow.send(request, 201, [], b"%d" % len(self.tank.content))

    def setUp(self) -> None:
        self.broken: Deferred[None] = Deferred()
        self.tanks: list[Tank] = []

    async def test_content(self) -> None:
        """Every byte comes once and in order, and so does the request that is sent right behind."""
        client = await self.connect(await self.serve(self.store))
        for extra in (0, 1, 12345):
            content = os.urandom(9 * MIB + extra)
            head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content)
            client.send(head + content + b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            self.assertEqual(b"%d" % len(content), (await client.answer()).body)
            self.assertEqual(b"3", (await client.answer()).body)
            self.assertEqual(b"abc", self.tank.content)
        self.assertEqual([9 * MIB + extra for extra in (0, 1, 12345)], self.received()[::2])

    def received(self) -> list[int]:
        """Return the sizes of the bodies that the log tells of."""
        return [entry.received_bytes for entry in self.log]

    async def test_memory_is_filled(self) -> None:
        """Most of a large body goes straight into the consumer's memory."""
        content = os.urandom(9 * MIB)
        client = await self.connect(await self.serve(self.store))
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content))
        client.send(content)
        await client.answer()
        self.assertEqual(content, self.tank.content)
        self.assertGreater(sum(self.tank.fills), MIB)

    async def test_chunked(self) -> None:
        """Chunks of any size are copied into the consumer's memory, and what is sent right behind is read."""
        content = os.urandom(9 * MIB)
        head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await self.connect(await self.serve(self.store))
        for size in (32 * 1024, 9 * MIB, 100_003):
            parts = [content[start : start + size] for start in range(0, len(content), size)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            client.send(head + chunks + b"0\r\n\r\n" + head + b"3\r\nabc\r\n0\r\n\r\n")
            self.assertEqual(b"%d" % len(content), (await client.answer()).body)
            first = self.tanks[-2] if len(self.tanks[-1].content) == 3 else self.tank
            self.assertEqual(content, first.content)
            self.assertEqual(b"3", (await client.answer()).body)
            self.assertEqual(b"abc", self.tank.content)
        self.assertGreater(sum(sum(tank.fills) for tank in self.tanks), MIB)

    async def test_encrypted(self) -> None:
        """A body that has to be decrypted first is written piece by piece."""
        content = os.urandom(2 * MIB)
        key = certificate(self.mktemp())
        port = await self.serve(self.store, where=f"ssl:0:privateKey={key}:interface=127.0.0.1")
        client = await self.connect(port, endpoint=tls_endpoint(port))
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content))
        client.send(content)
        self.assertEqual(201, (await client.answer()).status)
        self.assertEqual((content, []), (self.tank.content, self.tank.fills))

    async def test_client_leaves(self) -> None:
        """Everything that came before a client left is there, whether it said goodbye or not."""
        for leave in ("loseConnection", "abortConnection"):
            self.broken = Deferred()
            client = await self.connect(await self.serve(self.store))
            client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (9 * MIB))
            client.send(bytes(5 * MIB))
            if leave == "abortConnection":
                reactor.callLater(0.2, client.transport.abortConnection)
            else:
                client.transport.loseConnection()
            await self.broken
            if leave == "loseConnection":
                self.assertEqual(bytes(5 * MIB), self.tank.content)


class EndTests(SynchronousTestCase):
    """Where a body ends."""

    async def take(self, request: RegistryRequest) -> None:
        """Take a body."""
        self.tank = Tank()
        await request.body.stream_to(self.tank)
        outflow.send(request, 201, [], b"")

    def test_last_byte_is_parsed(self) -> None:
        """The room ends before the body does, so that its end and what follows are read as requests are."""
        wire = MemoryWire(self.take)
        channel = wire.channel
        assert isinstance(channel, ShortChannel)
        wire.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (FAST_BYTES * 3))
        self.assertIsNone(channel._body_room())
        wire.send(bytes(FAST_BYTES))
        room = channel._body_room()
        assert room is not None
        self.assertEqual(2 * FAST_BYTES - 1, len(room))
        wire.send(bytes(FAST_BYTES))
        self.assertIsNone(channel._body_room())
        wire.send(bytes(FAST_BYTES))
        self.assertIsNone(channel._body_room())
        self.assertEqual(201, wire.answers[0].status)
