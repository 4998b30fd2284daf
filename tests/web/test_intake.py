"""Bodies in, refusals, deadlines: every trap of twisted.web that the intake goes around."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dockreg_tx.oci.errors import BodyBroken, BodyTooLarge
from dockreg_tx.web import outflow
from dockreg_tx.web.intake import RegistryRequest
from tests.web.wire import Collector, Handle, MemoryWire, echo, refuse

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def put(length: int, *more: bytes, method: bytes = b"PUT", version: bytes = b"HTTP/1.1") -> bytes:
    """Return the head of a request with a body."""
    lines = [method + b" / " + version, b"Host: a", b"Content-Length: %d" % length, *more]
    return b"\r\n".join([*lines, b"", b""])


class Slow:
    """A handler that waits for the test, like one that waits for bcrypt, before it takes the body."""

    def __init__(self) -> None:
        self.requests: list[RegistryRequest] = []
        self.go_on: Deferred[None] = Deferred()
        self.collector = Collector()
        self.error: Exception | None = None
        self.is_done = False

    async def __call__(self, request: RegistryRequest) -> None:
        self.requests.append(request)
        await self.go_on
        try:
            await request.body.stream_to(self.collector)
        except BodyBroken as error:
            self.error = error
        outflow.send(request, 200, [], b"stored %d" % len(self.collector.content))
        self.is_done = True


class Streaming(Slow):
    """A handler that takes the body at once."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on.callback(None)


class DispatchTests(SynchronousTestCase):
    """A handler starts when the headers are complete."""

    def test_before_the_body(self) -> None:
        """A handler sees method, target, headers, length and id before the first byte of the body."""
        handler = Slow()
        MemoryWire(handler).send(
            b"PATCH /v2/a?b=c HTTP/1.1\r\nHost: a\r\nX-Y: z\r\nContent-Length: 7\r\n\r\n"
        )
        (request,) = handler.requests
        self.assertEqual(
            (b"PATCH", b"/v2/a", b"/v2/a?b=c", {b"b": [b"c"]}, b"z", 7, "request-1"),
            (
                request.method,
                request.path,
                request.uri,
                request.args,
                request.getHeader(b"x-y"),
                request.body.length_bytes,
                request.request_id,
            ),
        )

    def test_every_request_has_a_body(self) -> None:
        """A request without a body has an empty one, complete from the start."""
        wire = MemoryWire(echo)
        wire.send(GET)
        self.assertEqual([b"GET / "], [answer.body for answer in wire.answers])

    def test_body_is_a_push_producer(self) -> None:
        """The body is what consumers of Twisted expect, registered as streaming."""
        handler = Streaming()
        MemoryWire(handler).send(put(5))
        self.assertTrue(verifyObject(IPushProducer, handler.collector.producer))
        self.assertTrue(handler.collector.is_streaming)

    def test_bodies_on_get(self) -> None:
        """A body on a GET, which nobody expects, is a body."""
        wire = MemoryWire(echo)
        wire.send(put(3, method=b"GET") + b"abc" + GET)
        self.assertEqual([b"GET / abc", b"GET / "], [answer.body for answer in wire.answers])

    def test_forms_are_not_parsed(self) -> None:
        """The body of a form stays for the handler, and does not mix with the query."""
        wire = MemoryWire(echo)
        wire.send(put(3, b"Content-Type: application/x-www-form-urlencoded", method=b"POST") + b"a=b")
        self.assertEqual([b"POST / a=b"], [answer.body for answer in wire.answers])

    def test_absolute_form(self) -> None:
        """A target with scheme and host means its path."""
        wire = MemoryWire(echo)
        wire.send(b"GET http://a:5000/v2/?n=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual([b"GET /v2/ "], [answer.body for answer in wire.answers])

    def test_no_banner(self) -> None:
        """An answer does not name the server software, and has a Date."""
        wire = MemoryWire(echo)
        wire.send(GET)
        (answer,) = wire.answers
        self.assertEqual("Thu, 01 Jan 1970 00:00:00 GMT", answer.headers["date"])
        self.assertNotIn("server", answer.headers)
        self.assertNotIn("content-type", answer.headers)


class BodyTests(SynchronousTestCase):
    """``request.body``."""

    @given(cuts=st.lists(st.integers(0, 240), max_size=8), is_chunked=st.booleans())
    @settings(
        derandomize=True,
        deadline=None,
        max_examples=60,
        # The same promise is kept both ways.
        suppress_health_check=[HealthCheck.differing_executors],
    )
    def test_any_cuts(self, cuts: list[int], is_chunked: bool) -> None:
        """Pipelined bodies arrive whole and in order, however the network cuts them."""
        if is_chunked:
            one = CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: 1\r\n\r\n"
        else:
            one = put(11) + b"hello world"
        stream = one + GET + one
        wire = MemoryWire(echo)
        points = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        for start, end in itertools.pairwise(points):
            wire.send(stream[start:end])
        self.assertEqual(
            [b"PUT / hello world", b"GET / ", b"PUT / hello world"], [answer.body for answer in wire.answers]
        )
        self.assertTrue(wire.is_reading)

    def test_empty_chunked(self) -> None:
        """A chunked body of no bytes ends at its last chunk."""
        wire = MemoryWire(echo)
        wire.send(CHUNKED)
        self.assertEqual(b"", wire.received)
        wire.send(b"0\r\n\r\n")
        self.assertEqual([b"PUT / "], [answer.body for answer in wire.answers])

    def test_streams_as_it_comes(self) -> None:
        """A consumer has each piece as soon as it is received."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(6), b"ab", b"cd")
        self.assertEqual([b"ab", b"cd"], handler.collector.chunks)
        self.assertFalse(handler.collector.was_unregistered)
        wire.send(b"ef")
        self.assertTrue(handler.collector.was_unregistered)
        self.assertEqual([b"stored 6"], [answer.body for answer in wire.answers])

    def test_untaken_is_held_back(self) -> None:
        """While a handler waits, one read of the body is kept and the client is held back."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(8))
        self.assertTrue(wire.is_reading, "so that a disconnect is noticed")
        wire.send(b"abc")
        self.assertFalse(wire.is_reading)
        handler.go_on.callback(None)
        self.assertEqual([b"abc"], handler.collector.chunks)
        self.assertTrue(wire.is_reading)
        wire.send(b"defgh")
        self.assertEqual([b"stored 8"], [answer.body for answer in wire.answers])

    def test_complete_while_untaken(self) -> None:
        """A small body that is complete before it is taken is there when it is."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(3) + b"abc")
        self.assertTrue(wire.is_reading)
        handler.go_on.callback(None)
        self.assertEqual([b"stored 3"], [answer.body for answer in wire.answers])

    def test_pausing(self) -> None:
        """A consumer that pauses stops the reading from the socket, and one that resumes starts it."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(8), b"ab")
        handler.collector.producer.pauseProducing()
        self.assertFalse(wire.is_reading)
        handler.collector.producer.resumeProducing()
        self.assertTrue(wire.is_reading)

    def test_pausing_when_registered(self) -> None:
        """A consumer may pause before the first byte."""

        class Shy(Collector):
            def registerProducer(self, producer: IProducer, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                self.producer.pauseProducing()

        handler = Streaming()
        handler.collector = Shy()
        wire = MemoryWire(handler)
        wire.send(put(8) + b"ab")
        self.assertFalse(wire.is_reading)
        handler.collector.producer.resumeProducing()
        self.assertTrue(wire.is_reading)

    def test_a_full_send_buffer_does_not_undo_a_pause(self) -> None:
        """What the transport wants of its producer has nothing to do with who holds the body back."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(8), b"ab")
        handler.collector.producer.pauseProducing()
        wire.channel.pauseProducing()
        wire.channel.resumeProducing()
        self.assertFalse(wire.is_reading)

    def test_stopping(self) -> None:
        """A consumer that gives up ends the stream early and gets no more bytes."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(100), b"ab")
        handler.collector.producer.stopProducing()
        self.assertEqual([b"stored 2"], [answer.body for answer in wire.answers])
        wire.send(b"c" * 98 + GET)
        self.assertEqual(b"ab", handler.collector.content)
        self.assertEqual(2, len(handler.requests))

    def test_failing_consumer(self) -> None:
        """An exception of the consumer reaches the handler, not the connection."""
        errors: list[Exception] = []

        class Failing(Collector):
            def write(self, data: bytes) -> None:
                raise ValueError("no")

        async def handle(request: RegistryRequest) -> None:
            try:
                await request.body.stream_to(Failing())
            except ValueError as error:
                errors.append(error)
            outflow.send(request, 500, [], b"")

        wire = MemoryWire(handle)
        wire.send(put(8), b"ab")
        self.assertEqual(1, len(errors))
        self.assertEqual([500], [answer.status for answer in wire.answers])

    def test_taken_once(self) -> None:
        """Taking a body twice is a mistake of the caller."""
        errors: list[Exception] = []

        async def handle(request: RegistryRequest) -> None:
            await request.body.read(10)
            try:
                await request.body.read(10)
            except RuntimeError as error:
                errors.append(error)
            outflow.send(request, 200, [], b"")

        MemoryWire(handle).send(put(2) + b"ab")
        self.assertEqual(["a request body may be taken only once"], [str(error) for error in errors])


class LimitTests(SynchronousTestCase):
    """``body.read`` under a limit."""

    def wire(self, limit_bytes: int) -> MemoryWire:
        """Return a connection to a handler that reads under a limit."""

        async def handle(request: RegistryRequest) -> None:
            try:
                body = await request.body.read(limit_bytes)
            except BodyTooLarge:
                outflow.send(request, 413, [], b"")
            else:
                outflow.send(request, 200, [], body)

        return MemoryWire(handle)

    def test_at_the_limit(self) -> None:
        """A body as long as the limit is read."""
        for head, body in ((put(4), b"abcd"), (CHUNKED, b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")):
            wire = self.wire(4)
            wire.send(head + body)
            self.assertEqual([(200, b"abcd")], [(answer.status, answer.body) for answer in wire.answers])

    def test_announced_too_long(self) -> None:
        """A body announced as too long is refused before a byte of it came."""
        wire = self.wire(4)
        wire.send(put(5, b"Expect: 100-continue"))
        self.assertEqual([413], [answer.status for answer in wire.answers])

    def test_endless_chunks(self) -> None:
        """A chunked body without end is cut off at the limit."""
        wire = self.wire(4)
        wire.send(CHUNKED, b"2\r\nab\r\n", b"3\r\ncde\r\n", b"3\r\nfgh\r\n")
        self.assertEqual(
            [(413, "close")], [(answer.status, answer.headers["connection"]) for answer in wire.answers]
        )


class ContinueTests(SynchronousTestCase):
    """``Expect: 100-continue``."""

    expect = b"Expect: 100-continue"
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"

    def test_only_when_taken(self) -> None:
        """100 goes out when a handler asks for the body, not before."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(3, self.expect))
        self.assertEqual(b"", wire.received)
        self.assertIsNone(handler.requests[0].getHeader(b"expect"))
        handler.go_on.callback(None)
        self.assertEqual(self.go_on, wire.received)

    def test_refusal_instead(self) -> None:
        """A refused request gets its answer alone, and the connection closes: the body may come or not."""
        wire = MemoryWire(refuse)
        wire.send(put(3, self.expect))
        self.assertEqual(
            [(401, "close")], [(answer.status, answer.headers["connection"]) for answer in wire.answers]
        )

    def test_not_for_those_who_do_not_know_it(self) -> None:
        """HTTP/1.0 clients, those without a body, those who do not ask and those who began get no 100."""
        for request in (
            put(3, self.expect, version=b"HTTP/1.0"),
            put(0, self.expect),
            put(3),
            put(3, self.expect) + b"a",
        ):
            handler = Slow()
            wire = MemoryWire(handler)
            wire.send(request)
            handler.go_on.callback(None)
            self.assertNotIn(b" 100 ", wire.received, request)

    def test_not_after_an_answer_began(self) -> None:
        """Once an answer has begun, taking the body does not put a 100 into it."""

        async def handle(request: RegistryRequest) -> None:
            request.setHeader(b"Content-Length", b"2")
            request.write(b"a")
            with_body = request.body.read(10)
            Deferred.fromCoroutine(with_body).addErrback(lambda _: None)
            request.write(b"b")
            request.finish()

        wire = MemoryWire(handle)
        wire.send(put(3, self.expect))
        self.assertNotIn(b" 100 ", wire.received)


class DisconnectTests(SynchronousTestCase):
    """A client that goes away in the middle."""

    def test_in_mid_body(self) -> None:
        """The consumer has everything that arrived before the stream breaks; nobody is answered."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(10), b"abc")
        wire.lose()
        self.assertEqual(b"abc", handler.collector.content)
        self.assertTrue(handler.collector.was_unregistered)
        self.assertIsInstance(handler.error, BodyBroken)
        self.assertTrue(handler.is_done)
        self.assertEqual(b"", wire.received)

    def test_while_untaken(self) -> None:
        """A body that broke before it was taken gives its bytes, then the error."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(10), b"abc")
        wire.lose()
        handler.go_on.callback(None)
        self.assertEqual(b"abc", handler.collector.content)
        self.assertIsInstance(handler.error, BodyBroken)

    def test_what_arrived_is_kept(self) -> None:
        """Klein's cancellation does not stop a handler from storing what arrived."""
        steps: list[str] = []
        disk: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            try:
                await request.body.stream_to(Collector())
            except BodyBroken:
                await disk
                steps.append("written")
                await Deferred.fromCoroutine(record())
                steps.append("recorded")

        async def record() -> None:
            steps.append("recording")

        wire = MemoryWire(handle)
        wire.send(put(10), b"abc")
        wire.lose()
        self.assertEqual([], steps)
        disk.callback(None)
        self.assertEqual(["written", "recording", "recorded"], steps)

    def test_failure_after_the_client_has_gone(self) -> None:
        """A handler that fails when nobody listens any more is logged; BodyBroken is not."""

        def failing_with(error: Exception) -> Handle:
            async def handle(request: RegistryRequest) -> None:
                try:
                    await request.body.stream_to(Collector())
                except BodyBroken:
                    raise error from None

            return handle

        for error, logged in ((ValueError("a bug"), 1), (BodyBroken(), 0)):
            wire = MemoryWire(failing_with(error))
            wire.send(put(10), b"abc")
            wire.lose()
            self.assertEqual(logged, len(self.flushLoggedErrors(ValueError)))

    def test_notify_finish(self) -> None:
        """``notifyFinish`` fails when the client goes, as everywhere in Twisted."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(10))
        gone = handler.requests[0].notifyFinish()
        wire.lose()
        self.failureResultOf(gone)
        self.assertEqual([], self.flushLoggedErrors())

    def test_in_a_header(self) -> None:
        """A client that leaves in the middle of a header leaves nothing behind."""
        wire = MemoryWire(echo)
        wire.send(b"GET / HTTP/1.1\r\nHo")
        wire.lose()
        self.assertEqual(([], 0), (wire.clock.getDelayedCalls(), wire.site.open_connections))


class EarlyAnswerTests(SynchronousTestCase):
    """Answers to requests whose body nobody read."""

    def test_lingers(self) -> None:
        """After an early answer the connection half-closes, discards input for 2 s, then closes."""
        wire = MemoryWire(refuse)
        wire.send(put(10**9), b"x" * 1000)
        self.assertEqual(
            [(401, "close")], [(answer.status, answer.headers["connection"]) for answer in wire.answers]
        )
        self.assertEqual((True, True), (wire.transport.is_half_closed, wire.is_reading))
        wire.send(b"y" * 1000)
        wire.clock.advance(1.9)
        self.assertFalse(wire.transport.disconnecting)
        wire.clock.advance(0.2)
        self.assertEqual((True, False), (wire.transport.disconnecting, wire.transport.is_aborted))

    def test_no_reset_over_the_cap(self) -> None:
        """A client that keeps sending is read up to a cap, then held back until the time is over."""
        wire = MemoryWire(refuse)
        wire.send(put(10**9))
        for _ in range(17):
            wire.send(b"x" * 65536)
        self.assertEqual((False, False), (wire.is_reading, wire.transport.disconnecting))
        wire.clock.advance(2)
        self.assertEqual((True, False), (wire.transport.disconnecting, wire.transport.is_aborted))

    def test_short_rest_keeps_the_connection(self) -> None:
        """A short body that nobody wants is read to its end, and the next request is answered."""
        wire = MemoryWire(refuse)
        wire.send(put(60000), b"x" * 40000, b"x" * 20000 + GET)
        self.assertEqual([401, 401], [answer.status for answer in wire.answers])
        self.assertNotIn("connection", wire.answers[0].headers)
        self.assertFalse(wire.transport.disconnecting)

    def test_short_rest_that_does_not_come(self) -> None:
        """A short rest is waited for only as long as the linger lasts."""
        wire = MemoryWire(refuse)
        wire.send(put(60000))
        wire.clock.pump([2, 2])
        self.assertTrue(wire.transport.disconnecting)

    def test_late_early_answer(self) -> None:
        """An answer that comes while the client is held back is sent the same way."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(10**9), b"x" * 1000)
        self.assertFalse(wire.is_reading)
        outflow.send(handler.requests[0], 401, [], b"")
        self.assertTrue(wire.is_reading)
        wire.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_chunked_closes(self) -> None:
        """Nobody knows how long a chunked body will be: its connection closes."""
        wire = MemoryWire(refuse)
        wire.send(CHUNKED + b"3\r\nabc\r\n")
        self.assertEqual("close", wire.answers[0].headers["connection"])


class PipelineTests(SynchronousTestCase):
    """Requests that follow before the first one is answered."""

    def test_wait_their_turn(self) -> None:
        """The second handler starts when the first answer is finished."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(GET + GET)
        self.assertEqual(1, len(handler.requests))
        handler.go_on.callback(None)
        self.assertEqual(2, len(handler.requests))

    def test_flood(self) -> None:
        """A client that pipelines more than a little is held back."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(GET, GET * 1000)
        self.assertFalse(wire.is_reading)
        handler.go_on.callback(None)
        self.assertEqual(1001, len(handler.requests))
        self.assertTrue(wire.is_reading)

    def test_unread_answers_do_not_pile_up(self) -> None:
        """When the client does not read, its pipelined requests wait, although their answers are ready."""
        wire = MemoryWire(echo)
        wire.transport.room_bytes = 10
        wire.send(GET * 3)
        self.assertEqual(1, len(wire.answers))
        wire.transport.drain()
        self.assertEqual(3, len(wire.answers))

    def test_http_1_0_closes(self) -> None:
        """An HTTP/1.0 connection closes after its answer, and so does one that asked for it."""
        for head in (
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n",
        ):
            wire = MemoryWire(echo)
            wire.send(head + GET)
            self.assertEqual(["close"], [answer.headers["connection"] for answer in wire.answers])
            self.assertTrue(wire.transport.disconnecting)


class DeadlineTests(SynchronousTestCase):
    """What must happen by when."""

    def test_header(self) -> None:
        """A header that trickles is refused after 10 s, whatever arrived meanwhile."""
        wire = MemoryWire(echo)
        wire.send(b"GET / HTTP/1.1\r\n")
        for letter in b"Host: abc":
            wire.clock.advance(1)
            wire.send(bytes([letter]))
        self.assertEqual(b"", wire.received)
        wire.clock.advance(1)
        self.assertEqual([408], [answer.status for answer in wire.answers])
        wire.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_header_of_a_later_request(self) -> None:
        """The second request on a connection has the same 10 s."""
        wire = MemoryWire(echo)
        wire.send(GET + b"G")
        wire.clock.advance(10)
        self.assertEqual([200, 408], [answer.status for answer in wire.answers])

    def test_header_of_a_pipelined_request(self) -> None:
        """The 10 s of a pipelined header begin when its turn comes."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(GET + b"G")
        wire.clock.advance(50)
        handler.go_on.callback(None)
        wire.clock.advance(10)
        self.assertEqual([200, 408], [answer.status for answer in wire.answers])

    def test_idle(self) -> None:
        """An idle connection is closed after 120 s, counted from its last answer."""
        wire = MemoryWire(echo)
        wire.clock.advance(100)
        wire.send(GET)
        wire.clock.advance(119)
        self.assertFalse(wire.transport.disconnecting)
        wire.clock.advance(1)
        self.assertTrue(wire.transport.disconnecting)

    def test_no_deadline_for_handlers(self) -> None:
        """A handler may take its time, before it takes the body and after it has it."""
        handler = Slow()
        wire = MemoryWire(handler)
        wire.send(put(3) + b"ab")
        wire.clock.advance(3600)
        handler.go_on.callback(None)
        wire.send(b"c")
        self.assertEqual([b"stored 3"], [answer.body for answer in wire.answers])

    def test_body_without_progress(self) -> None:
        """A body that stops coming breaks after 60 s; the handler keeps what came and answers."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(10**6), b"x" * 2000)
        wire.clock.advance(59)
        self.assertIsNone(handler.error)
        wire.clock.advance(1)
        self.assertIsInstance(handler.error, BodyBroken)
        self.assertEqual(["close"], [answer.headers["connection"] for answer in wire.answers])
        wire.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_body_after_a_full_send_buffer(self) -> None:
        """A client that reads the interim answer late has no more time for its body than others."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.transport.room_bytes = 0
        wire.send(put(10**6, b"Expect: 100-continue"))
        wire.transport.drain()
        wire.clock.advance(60)
        self.assertIsInstance(handler.error, BodyBroken)
        wire.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_body_with_progress(self) -> None:
        """A slow body may take hours."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(10**6))
        for _ in range(100):
            wire.clock.advance(59)
            wire.send(b"x" * 1024)
        self.assertIsNone(handler.error)

    def test_drops_are_no_progress(self) -> None:
        """One byte now and then is no progress."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(10**6))
        for _ in range(60):
            wire.clock.advance(1)
            wire.send(b"x")
        self.assertIsInstance(handler.error, BodyBroken)

    def test_our_own_pause_does_not_count(self) -> None:
        """While the disk is behind, the client is not to blame; its time begins anew afterwards."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(put(10**6), b"x")
        handler.collector.producer.pauseProducing()
        wire.clock.advance(3600)
        self.assertIsNone(handler.error)
        handler.collector.producer.resumeProducing()
        wire.clock.advance(59)
        self.assertIsNone(handler.error)
        wire.clock.advance(1)
        self.assertIsInstance(handler.error, BodyBroken)

    def test_reader_that_does_not_read(self) -> None:
        """A client that takes nothing of its answer for 60 s is cut."""
        wire = MemoryWire(echo)
        wire.transport.room_bytes = 1
        wire.send(GET)
        wire.clock.advance(59)
        self.assertFalse(wire.transport.is_aborted)
        wire.clock.advance(1)
        self.assertTrue(wire.transport.is_aborted)

    def test_reader_that_reads_at_last(self) -> None:
        """A client that has read everything is only idle."""
        wire = MemoryWire(echo)
        wire.transport.room_bytes = 1
        wire.send(GET)
        wire.clock.advance(59)
        wire.transport.drain()
        wire.clock.advance(100)
        self.assertFalse(wire.transport.disconnecting)

    def test_close_that_does_not_end(self) -> None:
        """A connection that cannot flush its last bytes is cut too."""
        wire = MemoryWire(echo)
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(wire.transport.disconnecting)
        wire.clock.advance(60)
        self.assertTrue(wire.transport.is_aborted)


LONG = b"x" * 70000

#: What must be refused, with which status.
REFUSED: dict[str, tuple[int, bytes]] = {
    "20 digits": (400, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"1" * 20 + b"\r\n\r\n"),
    "5000 digits": (400, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n"),
    "signed length": (400, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n"),
    "two lengths": (400, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    "length and chunks": (
        400,
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "other encoding": (400, b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\nA: b\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "strange host": (400, b"GET / HTTP/1.1\r\nHost: %2e%{{{\r\n\r\n"),
    "folded header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "space before colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
    "no colon, more lines": (400, b"GET / HTTP/1.1\r\nnonsense\r\nHost: a\r\n\r\n"),
    "NUL in header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    "501 headers": (400, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 501 + b"\r\n"),
    "request line": (400, b"GET\r\n\r\n"),
    "version": (400, b"GET / HTTP/2.0\r\n\r\n"),
    "lower case": (405, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "not UTF-8": (400, b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n"),
    "NUL": (400, b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "line feed": (400, b"GET /a%0a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "slash": (400, b"GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n"),
    "backslash": (400, b"GET /a%5cb HTTP/1.1\r\nHost: a\r\n\r\n"),
    "half an escape": (400, b"GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no escape": (400, b"GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no slash": (400, b"GET v2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "raw high byte": (400, b"GET /\xa0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "long target": (414, b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "endless target": (414, b"GET /" + b"x" * 9000),
    "long header": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + LONG + b"\r\n\r\n"),
    "endless header": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + LONG),
    "many headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 66 + b"\r\n"),
}

TAKEN: dict[str, bytes] = {
    "one header of 60 KiB": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 60 * 1024 + b"\r\n\r\n",
    "64 headers of 1 KiB": b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 64 + b"\r\n",
    "target of 8000": b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host in 1.0": b"GET / HTTP/1.0\r\n\r\n",
    "IPv6 host": b"GET / HTTP/1.1\r\nHost: [::1]:5000\r\n\r\n",
    "escaped tilde": b"GET /%7Ea HTTP/1.1\r\nHost: a\r\n\r\n",
    "anything in the query": b"GET /?a=%ff%2f%00% HTTP/1.1\r\nHost: a\r\n\r\n",
    "19 digits": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000000\r\n\r\n",
    "empty line before": b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


class RefusalTests(SynchronousTestCase):
    """Requests that no handler sees."""

    def check_all(self, cut: Callable[[bytes], list[bytes]]) -> None:
        """Send every malformed request, cut into pieces, and look at the answer."""
        for name, (status, request) in REFUSED.items():
            wire = MemoryWire(echo)
            wire.send(*cut(request))
            (answer,) = wire.answers
            self.assertEqual(
                (status, "application/json", "registry/2.0", "close"),
                (
                    answer.status,
                    answer.headers["content-type"],
                    answer.headers["docker-distribution-api-version"],
                    answer.headers["connection"],
                ),
                name,
            )
            (error,) = json.loads(answer.body)["errors"]
            self.assertEqual("UNSUPPORTED", error["code"], name)
            logged = [(status, error["detail"]["request_id"])]
            self.assertEqual(logged, [(entry.status, entry.request_id) for entry in wire.log], name)
            wire.clock.advance(2)
            self.assertTrue(wire.transport.disconnecting, name)

    def test_refused(self) -> None:
        """Each is answered once, with an OCI error, logged, and its connection closes."""
        self.check_all(lambda request: [request])

    def test_refused_in_pieces(self) -> None:
        """It makes no difference how the bytes come."""
        self.check_all(lambda request: [request[at : at + 777] for at in range(0, len(request), 777)])

    def test_taken(self) -> None:
        """What only looks strange is answered."""
        for name, request in TAKEN.items():
            wire = MemoryWire(echo)
            wire.send(*(request[at : at + 4096] for at in range(0, len(request), 4096)))
            self.assertEqual([200], [answer.status for answer in wire.answers], name)

    @given(
        edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), st.binary(max_size=4)), max_size=6),
        size=st.integers(1, 100),
    )
    @settings(
        derandomize=True,
        deadline=None,
        max_examples=300,
        # The same promise is kept both ways.
        suppress_health_check=[HealthCheck.differing_executors],
    )
    def test_damaged_streams(self, edits: list[tuple[int, int, bytes]], size: int) -> None:
        """Whatever bytes come, only whole answers go out, and nothing is raised or logged."""
        stream = (
            GET + put(11, b"Expect: 100-continue") + b"hello world" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET
        )
        for at, cut, new in edits:
            stream = stream[:at] + new + stream[at + cut :]
        wire = MemoryWire(echo)
        wire.send(*(stream[at : at + size] for at in range(0, len(stream), size)))
        wire.clock.pump([10, 60, 60, 2, 60, 60])
        self.assertLessEqual({answer.status for answer in wire.answers}, {100, 200, 400, 405, 408, 414, 500})
        self.assertTrue(wire.transport.disconnecting)
        if not wire.transport.is_aborted:
            wire.lose()
        self.assertEqual(
            [],
            [failure for failure in self.flushLoggedErrors() if not failure.check(BodyBroken, BodyTooLarge)],
        )

    def test_allow(self) -> None:
        """The 405 for a method in lower case names the methods there are."""
        wire = MemoryWire(echo)
        wire.send(b"get / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn("GET", wire.answers[0].headers["allow"])

    def test_head(self) -> None:
        """A refused HEAD has no body."""
        wire = MemoryWire(echo)
        wire.send(b"HEAD /%ff HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(wire.received.endswith(b"\r\n\r\n"))

    def test_second_request(self) -> None:
        """A malformed request after a good one does not harm the answer to the first."""
        wire = MemoryWire(echo)
        wire.send(GET + b"nonsense\r\n\r\n" + GET)
        self.assertEqual([200, 400], [answer.status for answer in wire.answers])

    def test_tls_hello(self) -> None:
        """A TLS greeting on a plain port gets an HTTP/1.0 answer at once, so that clients fall back."""
        wire = MemoryWire(echo)
        wire.send(b"\x16")
        self.assertEqual(("HTTP/1.0", 400), (wire.answers[0].version, wire.answers[0].status))
        self.assertTrue(wire.transport.is_half_closed)

    def test_broken_chunks(self) -> None:
        """Nonsense in place of a chunk breaks the body; the handler answers, and the connection closes."""
        handler = Streaming()
        wire = MemoryWire(handler)
        wire.send(CHUNKED + b"3\r\nabc\r\nnonsense\r\n", GET)
        self.assertEqual("the chunked encoding of the body is broken", str(handler.error))
        self.assertEqual(
            [(b"stored 3", "close")], [(answer.body, answer.headers["connection"]) for answer in wire.answers]
        )
        wire.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_broken_chunks_after_the_answer(self) -> None:
        """Nonsense in a body that nobody reads is discarded with the rest."""
        wire = MemoryWire(refuse)
        wire.send(CHUNKED, b"nonsense\r\n", GET)
        self.assertEqual([401], [answer.status for answer in wire.answers])

    def test_handler_that_fails(self) -> None:
        """An exception of a handler is a 500 in the OCI form, with the request's id and no traceback."""

        async def handle(request: RegistryRequest) -> None:
            raise ValueError("secret detail")

        wire = MemoryWire(handle)
        wire.send(GET)
        (answer,) = wire.answers
        self.assertEqual((500, "application/json"), (answer.status, answer.headers["content-type"]))
        self.assertIn(b"request-1", answer.body)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_handler_that_fails_in_its_answer(self) -> None:
        """A handler that fails after its answer began cuts the connection: half is not the whole."""

        async def handle(request: RegistryRequest) -> None:
            request.setHeader(b"Content-Length", b"10")
            request.write(b"half")
            raise ValueError

        wire = MemoryWire(handle)
        wire.send(GET)
        self.assertTrue(wire.transport.is_aborted)
        self.flushLoggedErrors(ValueError)
