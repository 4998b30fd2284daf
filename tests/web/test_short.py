"""Requests that come whole: heads read at once, light requests, and answers of the same second."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.metrics import Counts, request_place
from dockreg_tx.oci.errors import BodyTooLarge
from dockreg_tx.web import outflow
from dockreg_tx.web.answers import Answer
from dockreg_tx.web.heads import BLOCK_LIMIT_BYTES, BLOCKS_LIMIT, Heads
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.recent import ANSWERS_LIMIT, RecentAnswers
from dockreg_tx.web.sending import as_sent, send_answer
from dockreg_tx.web.short_request import ShortRequest
from tests.web.wire import Handle, MemoryWire, echo

PLAIN = b"Host: registry:5000\r\nAccept: a/b\r\nAuthorization: Basic c2VjcmV0\r\nAccept: c/d\r\n"


class HeadsTests(SynchronousTestCase):
    """Which fields are plain, and what is kept of them."""

    def setUp(self) -> None:
        self.heads = Heads(b"k" * 32)

    def test_fields(self) -> None:
        """Names are found in any case, repeated ones together, and the value without blanks around it."""
        for _ in range(2):
            fields = self.heads.fields(PLAIN + b"Content-Length:  12 \r\n")
            assert fields is not None
            self.assertEqual([b"a/b", b"c/d"], fields.getRawHeaders(b"ACCEPT"))
            self.assertEqual([b"Basic c2VjcmV0"], fields.getRawHeaders(b"Authorization"))
            self.assertEqual([b"x"], fields.getRawHeaders(b"Range", [b"x"]))
            self.assertEqual(12, fields.length_bytes)

    def test_credentials_are_not_kept(self) -> None:
        """Nothing that is remembered holds the credentials."""
        self.heads.fields(PLAIN)
        self.assertNotIn("c2VjcmV0", repr(self.heads._blocks))

    def test_not_plain(self) -> None:
        """What says something of the body or the connection, or is broken, is for the slow parser."""
        host = b"Host: h\r\n"
        for raw in [
            b"",
            b"Accept: a/b\r\n",
            b"Host: h/\r\n",
            host * 2,
            host + b"Transfer-Encoding: chunked\r\n",
            host + b"Expect: 100-continue\r\n",
            host + b"Connection: close\r\n",
            host + b"Content-Length: 1\r\nContent-Length: 1\r\n",
            host + b"Content-Length: +1\r\n",
            host + b"Authorization: a\r\nAuthorization: b\r\n",
            host + b"Bad Name: x\r\n",
            host + b" folded: x\r\n",
            host + b"X: a\x00b\r\n",
            host + b"X: a\nY: b\r\n",
            host + b"X: " + b"a" * BLOCK_LIMIT_BYTES + b"\r\n",
        ]:
            self.assertIsNone(self.heads.fields(raw), raw)

    def test_bounded(self) -> None:
        """However many different fields come, few blocks are remembered."""
        for number in range(BLOCKS_LIMIT + 10):
            self.heads.fields(b"Host: h\r\nX: %d\r\n" % number)
        self.assertLessEqual(len(self.heads._blocks), BLOCKS_LIMIT)


#: As those of our routes are.
_PLAIN_TARGET = re.compile(rb"/[A-Za-z0-9/]*(\?.*)?")


class ShortWire(MemoryWire):
    """A connection to a site whose every plain GET and PUT takes the short way.

    ``longer`` is for what goes the long way.
    """

    def __init__(self, handle: Handle = echo, *, longer: Handle = echo, **options: Any) -> None:
        super().__init__(longer, **options)
        self.short = 0

        def short_way(method: bytes, target: bytes) -> object:
            is_plain = method in (b"GET", b"HEAD", b"PUT") and _PLAIN_TARGET.fullmatch(target)
            return self.take if is_plain else None

        self.handle = handle
        self.site.resource.short_way = short_way

    async def take(self, request: RegistryRequest) -> None:
        """Count, and answer."""
        self.short += isinstance(request, ShortRequest)
        await self.handle(request)


class ShortChannelTests(SynchronousTestCase):
    """The same connection as ever."""

    def test_answer(self) -> None:
        """A plain request is answered in one write, logged, and the connection is kept."""
        wire = ShortWire()
        for _ in range(2):
            wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: me\r\n\r\n")
        self.assertEqual(2, wire.short)
        self.assertEqual([b"GET /a "] * 2, [answer.body for answer in wire.answers])
        self.assertEqual(["me", "me"], [entry.user_agent for entry in wire.log])
        self.assertFalse(wire.transport.disconnecting)

    def test_whole_body(self) -> None:
        """A body that came with its head is taken from there."""
        wire = ShortWire()
        wire.send(b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        self.assertEqual((1, b"PUT /a abc"), (wire.short, wire.answers[0].body))
        self.assertEqual(3, wire.log[0].received_bytes)

    def test_body_once(self) -> None:
        """Such a body is read once, and not when it is longer than the reader takes."""

        async def read_twice(request: RegistryRequest) -> None:
            with self.assertRaises(BodyTooLarge):
                await request.body.read(2)
            self.assertEqual(b"abc", await request.body.read(3))
            with self.assertRaises(RuntimeError):
                await request.body.read(3)
            outflow.send_text(request, 200, (), b"")

        wire = ShortWire(read_twice)
        wire.send(b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        self.assertEqual([200], [answer.status for answer in wire.answers])

    def test_body_to_come(self) -> None:
        """A body of which a part, or nothing, came with the head is waited for; then the next one follows."""
        head = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"
        for pieces in [(head, b"abc"), (head + b"a", b"b", b"c"), (head + b"ab", b"c" + head, b"abc")]:
            wire = ShortWire()
            wire.send(*pieces)
            count = b"".join(pieces).count(b"PUT")
            self.assertEqual([b"PUT /a abc"] * count, [answer.body for answer in wire.answers])
            self.assertEqual([3] * count, [entry.received_bytes for entry in wire.log])
            # What came with the end of the one before is parsed line by line.
            self.assertEqual(1, wire.short)
            self.assertTrue(wire.channel.is_idle)
            wire.send(head, b"abc")
            self.assertEqual(2, wire.short)

    def test_long_way(self) -> None:
        """What came in pieces, with a part of the next, or asks to close is parsed line by line."""
        for pieces in [
            (b"GET /a HTTP/1.1\r\nHost: h\r\n", b"\r\n"),
            (b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",),
            (b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n", b"\r\nabc"),
            (b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n",),
            (b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",),
        ]:
            wire = ShortWire()
            wire.send(*pieces)
            self.assertEqual(0, wire.short, pieces)
            self.assertEqual(200, wire.answers[0].status, pieces)

    def test_long_target(self) -> None:
        """A request line that is too long is refused as on the long way."""
        wire = ShortWire()
        wire.send(b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * wire.site.limits.request_line_bytes))
        self.assertEqual((0, 414), (wire.short, wire.answers[0].status))

    def test_waiting(self) -> None:
        """A handler that waits holds pipelined requests back, and is answered for when it ends."""
        gate: Deferred[None] = Deferred()

        async def slow(request: RegistryRequest) -> None:
            await gate
            outflow.send(request, 200, [], b"slow")

        wire = ShortWire(slow)
        wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(b"", wire.received)
        gate.callback(None)
        self.assertEqual([b"slow", b"GET /b "], [answer.body for answer in wire.answers])

    def test_failure(self) -> None:
        """A handler that breaks, at once or later, is answered with 500."""
        gate: Deferred[None] = Deferred()

        async def broken(request: RegistryRequest) -> None:
            if request.uri == b"/later":
                await gate
            raise RuntimeError("on purpose")

        for path in (b"/now", b"/later"):
            wire = ShortWire(broken)
            wire.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
            if path == b"/later":
                gate.errback(RuntimeError("so it waits in vain"))
            self.assertEqual(500, wire.answers[0].status)
            self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_client_gone(self) -> None:
        """A client that goes while the handler waits is logged, and the handler runs to its end."""
        gate: Deferred[None] = Deferred()
        ends: list[bool] = []

        async def slow(request: RegistryRequest) -> None:
            await gate
            ends.append(request.is_over)
            outflow.send(request, 200, [], b"nobody listens")

        wire = ShortWire(slow)
        wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        wire.lose()
        gate.callback(None)
        self.assertEqual(([True], [499]), (ends, [entry.status for entry in wire.log]))

    def test_draining(self) -> None:
        """While the server stops, an answer says that the connection closes, and it does."""
        wire = ShortWire()
        wire.site.is_draining = True
        wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual("close", wire.answers[0].headers["connection"])
        self.assertTrue(wire.transport.disconnecting)

    def test_retire(self) -> None:
        """A retiring site's idle connections make one more request by the short way, and are counted off."""
        counts: list[int] = []
        wire = ShortWire(connections_changed=counts.append)
        wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        retired = Deferred.fromCoroutine(wire.site.retire(idle_seconds=30, timeout_seconds=60))
        wire.send(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual((2, "close"), (wire.short, wire.answers[1].headers["connection"]))
        self.assertTrue(wire.transport.disconnecting)
        wire.lose()
        self.successResultOf(retired)
        self.assertEqual([1, 0], counts)

    def test_retire_with_an_answer_under_way(self) -> None:
        """A request that waits when the site retires is answered, and told to go elsewhere."""
        gate: Deferred[None] = Deferred()

        async def slow(request: RegistryRequest) -> None:
            await gate
            outflow.send_text(request, 200, (), b"slow")

        wire = ShortWire(slow)
        wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        retired = Deferred.fromCoroutine(wire.site.retire(idle_seconds=30, timeout_seconds=60))
        wire.clock.advance(40)
        gate.callback(None)
        self.assertEqual((b"slow", "close"), (wire.answers[0].body, wire.answers[0].headers["connection"]))
        wire.lose()
        self.successResultOf(retired)


class AskedAgain:
    """What ``RecentAnswers`` wants to know of a request."""

    is_bare = True
    counted_at = request_place("base", "GET")
    logged = None

    def __init__(self, question: object = "q", method: bytes = b"GET") -> None:
        self.question = question
        self.method = method


class RecentAnswersTests(SynchronousTestCase):
    """How long an answer holds."""

    def setUp(self) -> None:
        self.version: int | None = 1
        self.at = 10.0
        self.recent = RecentAnswers(version=lambda: self.version, now=lambda: self.at)
        self.answer = Answer(200, (("A", "b"),), b"x")

    def keep(self, answer: Answer | None = None, **request: Any) -> None:
        """Ask, and keep an answer."""
        asked = AskedAgain(**request)
        self.recent.find(asked.question)
        self.recent.keep(asked, answer or self.answer, self.recent.state)  # type: ignore[arg-type]

    def test_same_second(self) -> None:
        """It is given again within its second, to the same question alone."""
        self.keep()
        self.at = 10.9
        given = self.recent.find("q")
        self.assertEqual(b"A: b\r\nContent-Length: 1\r\n\r\nx", given and given.rest)
        self.assertIsNone(self.recent.find("p"))
        self.at = 11.0
        self.assertIsNone(self.recent.find("q"))

    def test_head(self) -> None:
        """What is kept for HEAD has no body."""
        self.keep(method=b"HEAD")
        given = self.recent.find("q")
        self.assertEqual(b"A: b\r\nContent-Length: 1\r\n\r\n", given and given.rest)

    def test_commit(self) -> None:
        """A commit ends it at once; so does a database that cannot be asked."""
        for version in (2, None):
            self.version = 1
            self.keep()
            self.version = version
            self.assertIsNone(self.recent.find("q"))

    def test_turn(self) -> None:
        """Of questions that came together the first one looks for commits; the next turn looks again."""
        self.keep()
        self.assertIsNotNone(self.recent.find("q", 1))
        self.version = 2
        self.assertIsNotNone(self.recent.find("q", 1))
        self.assertIsNone(self.recent.find("q", 2))
        self.keep()
        self.version = 3
        self.assertIsNone(self.recent.find("q"))

    def test_overtaken(self) -> None:
        """What was looked up before a commit is not kept after it."""
        self.recent.find("q")
        state = self.recent.state
        self.version = 2
        self.recent.find("p")
        self.recent.keep(AskedAgain(), self.answer, state)  # type: ignore[arg-type]
        self.assertIsNone(self.recent.find("q"))

    def test_not_kept(self) -> None:
        """Errors and long answers are not kept, nor more than so many."""
        for answer in (Answer(404), Answer(200, (), b"x" * 100_000)):
            self.keep(answer)
            self.assertIsNone(self.recent.find("q"))
        self.keep(question=None)
        self.assertIsNone(self.recent.find(None))
        for number in range(ANSWERS_LIMIT + 5):
            self.keep(question=number)
        self.assertIsNone(self.recent.find(ANSWERS_LIMIT + 1))


class AnsweredAgainTests(SynchronousTestCase):
    """The same question on the same and on other connections."""

    GET = b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: me\r\nAuthorization: Basic c2VjcmV0\r\n\r\n"

    def setUp(self) -> None:
        self.version = 1
        self.counts = Counts()
        self.wire = ShortWire(self.serve, counts=self.counts)
        self.recent = RecentAnswers(version=lambda: self.version, now=self.wire.clock.seconds)
        self.wire.site.resource.recent = self.recent
        self.body = b"one"

    async def serve(self, request: RegistryRequest) -> None:
        """Answer as an endpoint does."""
        request.counted_at = request_place("base", request.method.decode())
        request.user_name = "alice"
        state = self.recent.state
        answer = Answer(200, (("Content-Type", "text/plain"),), self.body)
        send_answer(request, answer)
        self.recent.keep(request, as_sent(answer), state)

    def test_the_same(self) -> None:
        """The answer, its line in the log and its count are those of the first one, but for the id."""
        for method in (b"GET", b"HEAD"):
            raw = self.GET.replace(b"GET", method)
            self.wire.transport.clear()
            self.wire.send(raw)
            first, self.body = self.wire.received, b"two"
            self.wire.transport.clear()
            self.wire.send(raw)
            self.assertEqual(first, self.wire.received)
            one, two = self.wire.log[-2:]
            self.assertNotEqual(one.request_id, two.request_id)
            self.assertEqual(one._replace(request_id=""), two._replace(request_id=""))
            place = request_place("base", method.decode())
            self.assertEqual(2, self.counts.slots[place.status + 1])
            self.assertEqual(2 * one.sent_bytes, self.counts.slots[place.sent])
            self.body = b"one"
        self.assertEqual(2, self.wire.short)
        self.assertEqual(0, self.wire.site.in_flight)

    def test_another(self) -> None:
        """Another target, field, or client is another question; so is any after a commit."""
        self.wire.send(self.GET)
        for number, raw in enumerate(
            [
                self.GET.replace(b"/a", b"/b"),
                self.GET.replace(b"c2VjcmV0", b"c2VjcmV1"),
                self.GET.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nAccept: a/b\r\n"),
                self.GET.replace(b"GET", b"HEAD"),
            ]
        ):
            self.wire.send(raw)
            self.assertEqual(number + 2, self.wire.short, raw)
        self.version = 2
        self.wire.send(self.GET)
        self.assertEqual(6, self.wire.short)

    def test_pieces(self) -> None:
        """What comes in pieces, or with more behind it, is parsed as ever."""
        self.wire.send(self.GET)
        self.wire.send(self.GET[:20], self.GET[20:])
        self.wire.send(self.GET + self.GET)
        self.assertEqual(1, self.wire.short)
        self.assertEqual(4, len(self.wire.log))

    def test_draining(self) -> None:
        """While the server stops, an answer says that the connection closes."""
        self.wire.send(self.GET)
        self.wire.site.is_draining = True
        self.wire.send(self.GET)
        self.assertEqual("close", self.wire.answers[1].headers["connection"])
        self.assertTrue(self.wire.transport.disconnecting)

    def test_slow_reader(self) -> None:
        """A client that does not read gets no more answers until it does, and its connection then idles."""
        self.wire.send(self.GET)
        self.wire.transport.room_bytes = 10
        self.wire.send(self.GET, self.GET, self.GET)
        self.assertEqual(2, len(self.wire.answers))
        self.wire.transport.drain()
        self.assertEqual(4, len(self.wire.answers))
        self.assertTrue(self.wire.channel.is_idle)
        self.wire.clock.advance(self.wire.site.limits.idle_timeout_seconds)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_idle(self) -> None:
        """Each answer begins the time anew that a connection may be idle."""
        self.wire.send(self.GET)
        self.wire.clock.advance(0.5)
        self.wire.send(self.GET)
        self.assertEqual(1, self.wire.short)
        self.wire.clock.advance(self.wire.site.limits.idle_timeout_seconds - 0.1)
        self.assertFalse(self.wire.transport.disconnecting)
        self.wire.clock.advance(0.1)
        self.assertTrue(self.wire.transport.disconnecting)
