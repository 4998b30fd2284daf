"""Answers of one turn of the event loop, on loopback, turn by turn."""

from __future__ import annotations

import socket
from math import inf
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.web import outflow
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.outbox import ANSWERS_LIMIT
from dockreg_tx.web.turns import TurnPoller, end_sharing, share_turns
from tests.web.wire import answers_in, site_of

REQUEST = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"


class TurnTests(SynchronousTestCase):
    """A reactor of its own, that does nothing by itself."""

    def setUp(self) -> None:
        self.reactor: Any = EPollReactor()
        self.addCleanup(self.close)
        #: What happened: a path that was answered, or the client's number whose bytes left.
        self.seen: list[str] = []
        self.body = b"x"
        self.site = site_of(self.answer, clock=self.reactor)
        self.site.resource.short_way = lambda method, target: self.answer
        share_turns(self.reactor, self.site.outbox)
        self.port = self.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.clients: list[socket.socket] = []

    def close(self) -> None:
        """Close every descriptor."""
        for selectable in self.reactor.removeAll():
            if selectable is not self.reactor.waker:
                selectable.connectionLost(Failure(ConnectionError()))
        self.reactor.waker.connectionLost(Failure(ConnectionError()))
        self.reactor._poller.close()
        for client in self.clients:
            client.close()

    async def answer(self, request: RegistryRequest) -> None:
        """Answer, and note what has been sent by then."""
        self.seen.append(request.uri.decode())
        outflow.send_text(request, 200, (), self.body)

    def connect(self, count: int) -> list[socket.socket]:
        """Return connected clients that never wait."""
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
            client.setblocking(False)
            self.clients.append(client)
        while len(self.site._channels) < len(self.clients):
            self.turn()
        return self.clients[-count:]

    def turn(self) -> None:
        """Turn once."""
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(0.2)

    def received(self, client: socket.socket) -> bytes:
        """Return what has arrived."""
        try:
            return client.recv(1 << 20)
        except BlockingIOError:
            return b""

    def test_together(self) -> None:
        """Requests that came at once are all answered before the first answer leaves, within their turn."""
        clients = self.connect(3)
        for number, client in enumerate(clients):
            client.sendall(REQUEST % number)
        waiting: list[int] = []
        outbox = self.site.outbox
        send = outbox.send

        def look_and_send() -> None:
            waiting.append(len(outbox._waiting))
            send()

        self.patch(outbox, "send", look_and_send)
        self.turn()
        self.assertEqual([3], waiting)
        self.assertEqual([b"x"] * 3, [answers_in(self.received(client))[0].body for client in clients])

    def test_alone(self) -> None:
        """One request is answered at once."""
        (client,) = self.connect(1)
        client.sendall(REQUEST % 1)
        arrived: list[bytes] = []

        async def look(request: RegistryRequest) -> None:
            await self.answer(request)
            arrived.append(self.received(client))

        self.site.resource.short_way = lambda method, target: look
        self.turn()
        self.assertEqual(b"x", answers_in(arrived[0])[0].body)

    def test_many(self) -> None:
        """No more than a few answers wait."""
        clients = self.connect(ANSWERS_LIMIT + 3)
        for client in clients:
            client.sendall(REQUEST % 1)
        self.turn()
        self.assertEqual({b"x"}, {answers_in(self.received(client))[0].body for client in clients})

    def test_pipelined(self) -> None:
        """Answers on one connection keep their order, and large ones leave when the client reads."""
        first, second = self.connect(2)
        self.body = b"y" * 3_000_000
        first.sendall(REQUEST % 1)
        second.sendall(REQUEST % 2 + REQUEST % 3)
        found = {first: b"", second: b""}
        while len(found[first]) < 3_000_000 or len(found[second]) < 6_000_000:
            self.turn()
            for client in found:
                found[client] += self.received(client)
        self.assertEqual([self.body], [answer.body for answer in answers_in(found[first])])
        self.assertEqual([self.body] * 2, [answer.body for answer in answers_in(found[second])])

    def test_closing(self) -> None:
        """An answer that is its connection's last leaves before the connection closes."""
        clients = self.connect(2)
        self.site.is_draining = True
        for client in clients:
            client.sendall(REQUEST % 1)
        while self.site._channels:
            self.turn()
        for client in clients:
            (answer,) = answers_in(self.received(client))
            self.assertEqual("close", answer.headers["connection"])
            self.assertEqual(b"", client.recv(10))

    def test_gone(self) -> None:
        """A client that has gone takes nobody else's answer with it."""
        first, second = self.connect(2)
        first.sendall(REQUEST % 1)
        second.sendall(REQUEST % 2)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        first.close()
        self.clients.remove(first)
        while len(self.site._channels) > 1:
            self.turn()
        self.turn()
        self.assertEqual(b"x", answers_in(self.received(second))[0].body)

    def test_broken_handler(self) -> None:
        """What breaks while one connection is read disconnects that one alone, as the reactor does it."""
        first, second = self.connect(2)

        def break_on_one(method: bytes, target: bytes) -> object:
            if target == b"/1":
                raise RuntimeError("on purpose")
            return self.answer

        self.site.resource.short_way = break_on_one
        first.sendall(REQUEST % 1)
        second.sendall(REQUEST % 2)
        self.turn()
        self.turn()
        self.assertEqual(b"", first.recv(10))
        self.assertEqual(b"x", answers_in(self.received(second))[0].body)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_goes_on(self) -> None:
        """Turns follow each other as long as clients alone have something to do."""
        poller = self.reactor._poller
        self.reactor.running = True
        self.addCleanup(setattr, self.reactor, "running", False)
        turns = [[], [], [(1, 2)]]
        waits: list[float] = []

        def turn(timeout: float, _limit: int) -> list[tuple[int, int]]:
            waits.append(timeout)
            return turns[len(waits) - 1]

        self.patch(poller, "_turn", turn)
        self.assertEqual([(1, 2)], poller.poll(-1.0, 1))
        self.assertEqual([-1.0, -1.0, -1.0], waits)
        waits.clear()
        self.assertEqual([], poller.poll(0.0, 1))
        self.assertEqual([0.0], waits)
        waits.clear()
        self.assertEqual([(1, 2)], poller.poll(5.0, 1))
        self.assertEqual(5.0, waits[0])
        self.assertTrue(0 < waits[2] <= waits[1] <= 5.0)

    def test_others_first(self) -> None:
        """Calls of threads and timers, new ones and due ones, and the reactor's end do not wait."""
        poller, reactor = self.reactor._poller, self.reactor
        self.assertEqual(0.0, poller._wait_seconds(inf))
        reactor.running = True
        self.addCleanup(setattr, reactor, "running", False)
        self.assertEqual(-1.0, poller._wait_seconds(inf))
        call = reactor.callLater(0.0, lambda: None)
        self.assertEqual(0.0, poller._wait_seconds(inf))
        reactor._insertNewDelayedCalls()
        self.assertEqual(0.0, poller._wait_seconds(inf))
        reactor.runUntilCurrent()
        self.assertFalse(call.active())
        call = reactor.callLater(60.0, lambda: None)
        reactor._insertNewDelayedCalls()
        self.assertTrue(0 < poller._wait_seconds(inf) <= 60)
        call.cancel()
        reactor.callFromThread(lambda: None)
        self.assertEqual(0.0, poller._wait_seconds(inf))
        reactor.runUntilCurrent()
        self.patch(reactor, "_justStopped", True)
        self.assertEqual(0.0, poller._wait_seconds(inf))

    def test_given_back(self) -> None:
        """The reactor's own poller is back in its place afterwards; other reactors are left alone."""
        self.assertIsInstance(self.reactor._poller, TurnPoller)
        end_sharing(self.reactor, self.site.outbox)
        self.assertNotIsInstance(self.reactor._poller, TurnPoller)
        clock = Clock()
        share_turns(clock, self.site.outbox)
        end_sharing(clock, self.site.outbox)
        self.assertFalse(hasattr(clock, "_poller"))
