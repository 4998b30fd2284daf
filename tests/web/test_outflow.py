"""Answers out: headers, blobs by sendfile and by a push producer, clients that leave or do not read."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.web import outflow
from dockreg_tx.web.intake import RegistryRequest
from tests.web.wire import (
    FileBlob,
    Handle,
    LoopbackCase,
    MemoryBlob,
    MemoryWire,
    RawClient,
    answers_in,
    certificate,
    reactor,
    tls_endpoint,
    unix_endpoint,
)

MIB = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
CONTENT = os.urandom(MIB) * 5 + b"the end"


def sending(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Handle:
    """Return a handler that sends an answer."""

    async def handle(request: RegistryRequest) -> None:
        request.setHeader(b"X-Common", b"of the guard")
        outflow.send(request, status, headers, body)

    return handle


def sending_blob(
    open_blob: Callable[[], MemoryBlob], *, start: int = 0, length: int | None = None, status: int = 200
) -> Handle:
    """Return a handler that opens, sends and closes a blob."""

    async def handle(request: RegistryRequest) -> None:
        blob = open_blob()
        size = blob.size_bytes - start if length is None else length
        try:
            await outflow.send_blob(request, status, [(b"Content-Type", b"x/y")], blob, start, size)
        finally:
            blob.close()

    return handle


class ColdBlob(FileBlob):
    """A blob on a disk that answers when the test says so; ``windows`` are those asked for."""

    def __init__(self, path: str, content: bytes) -> None:
        super().__init__(path, content)
        self.windows: list[int] = []
        self.reading: Deferred[None] = Deferred()

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        return False

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        self.windows.append(offset_bytes)
        await self.reading

    def finish(self) -> None:
        """Have the window that is being read."""
        reading, self.reading = self.reading, Deferred()
        reading.callback(None)

    def itself(self) -> ColdBlob:
        """Return the blob, as whoever opens it wants it."""
        return self


class SendTests(SynchronousTestCase):
    """``send``."""

    def one(self, handle: Handle, request: bytes = GET) -> bytes:
        """Return what came back for one request."""
        wire = MemoryWire(handle)
        wire.send(request)
        return wire.received

    def test_known_body(self) -> None:
        """Status, phrase, headers in the case given, and a Content-Length that is true."""
        raw = self.one(sending(201, [(b"OCI-Subject", b"s"), (b"Content-Length", b"99")], b"abc"))
        self.assertTrue(raw.startswith(b"HTTP/1.1 201 Created\r\n"))
        self.assertIn(b"\r\nOCI-Subject: s\r\n", raw)
        (answer,) = answers_in(raw)
        self.assertEqual(("3", b"abc", "of the guard"), self.facts(answer.headers, answer.body))

    def facts(self, headers: dict[str, str], body: bytes) -> tuple[str, bytes, str]:
        """Return what the tests look at."""
        return headers["content-length"], body, headers["x-common"]

    def test_one_write(self) -> None:
        """Head and body leave together: a second packet could wait for an acknowledgement."""
        wire = MemoryWire(sending(200, [], b"abc"))
        writes: list[bytes] = []
        wire.transport.write = writes.append  # type: ignore[assignment]  # to count
        wire.send(GET)
        self.assertEqual(1, len(writes))

    def test_replaces_common_headers(self) -> None:
        """A header given to ``send`` replaces one of the same name; several of one name all go out."""
        raw = self.one(sending(200, [(b"x-common", b"mine"), (b"Link", b"1"), (b"Link", b"2")], b""))
        self.assertNotIn(b"of the guard", raw)
        self.assertIn(b"Link: 1\r\nLink: 2\r\n", raw)

    def test_head(self) -> None:
        """HEAD gets the head alone, with the length that GET would have or the one given."""
        raw = self.one(sending(200, [(b"Content-Type", b"x/y")], b"abc"), HEAD)
        self.assertIn(b"Content-Length: 3\r\n", raw)
        self.assertTrue(raw.endswith(b"\r\n\r\n"))
        raw = self.one(sending(200, [(b"Content-Length", b"12345")], b""), HEAD)
        self.assertIn(b"Content-Length: 12345\r\n", raw)

    def test_no_content(self) -> None:
        """204 and 304 have no body and nothing that describes one."""
        for status in (204, 304):
            raw = self.one(sending(status, [(b"Content-Type", b"x/y"), (b"ETag", b'"e"')], b"abc"))
            (answer,) = answers_in(raw)
            self.assertEqual({"date", "x-common", "etag"}, set(answer.headers), status)

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client is answered as one."""
        raw = self.one(sending(200, [], b"abc"), b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(raw.startswith(b"HTTP/1.0 200 OK\r\n"))
        self.assertIn(b"Connection: close\r\n", raw)

    def test_line_breaks(self) -> None:
        """A header with a line break is a bug, and answered as one."""
        self.assertIn(b" 500 ", self.one(sending(200, [(b"X", b"a\r\nSet-Cookie: b")], b"")))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_unknown_status(self) -> None:
        """A status that nobody knows has a phrase all the same."""
        self.assertIn(b"HTTP/1.1 599 Unknown Status\r\n", self.one(sending(599, [], b"")))

    def test_client_has_gone(self) -> None:
        """Sending to nobody does nothing."""
        waiting: Deferred[None] = Deferred()

        async def handle(request: RegistryRequest) -> None:
            await waiting
            outflow.send(request, 200, [], b"abc")
            await outflow.send_blob(request, 200, [], MemoryBlob(b"abc"), 0, 3)

        wire = MemoryWire(handle)
        wire.send(GET)
        wire.lose()
        waiting.callback(None)
        self.assertEqual(b"", wire.received)


class PumpTests(SynchronousTestCase):
    """The push producer, in memory."""

    def test_waits_for_the_client(self) -> None:
        """When the client does not read, one chunk is sent and one is read ahead, no more."""
        blob = MemoryBlob(CONTENT)
        wire = MemoryWire(sending_blob(lambda: blob))
        wire.transport.room_bytes = 1000
        wire.send(GET)
        # The first chunk is read before the headers go out.
        self.assertEqual(2, blob.reads)
        self.assertLess(len(wire.received), outflow.CHUNK_BYTES + 1000)
        wire.transport.drain()
        (answer,) = wire.answers
        self.assertEqual(CONTENT, answer.body)
        self.assertEqual(1, blob.times_closed)
        self.assertEqual([len(CONTENT)], [entry.sent_bytes for entry in wire.log])

    def test_next_request(self) -> None:
        """The connection goes on after a blob."""
        wire = MemoryWire(sending_blob(lambda: MemoryBlob(CONTENT)))
        wire.send(GET + GET)
        self.assertEqual([CONTENT, CONTENT], [answer.body for answer in wire.answers])

    def test_client_leaves(self) -> None:
        """A client that leaves ends the sending; the blob is closed once, when nothing reads it any more."""
        reading: Deferred[bytes] = Deferred()

        class Slow(MemoryBlob):
            async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
                if offset_bytes:
                    return await reading
                return await super().read_at(offset_bytes, length_bytes)

        blob = Slow(CONTENT)
        wire = MemoryWire(sending_blob(lambda: blob))
        wire.send(GET)
        wire.lose()
        self.assertEqual(0, blob.times_closed)
        reading.callback(b"x")
        self.assertEqual(1, blob.times_closed)
        self.assertEqual(0, wire.site.in_flight)

    def test_client_leaves_while_paused(self) -> None:
        """The same for a client that did not read either; the log tells how far it came."""
        blob = MemoryBlob(CONTENT)
        wire = MemoryWire(sending_blob(lambda: blob))
        wire.transport.room_bytes = 1000
        wire.send(GET)
        wire.lose()
        self.assertEqual(1, blob.times_closed)
        self.assertEqual([outflow.CHUNK_BYTES], [entry.sent_bytes for entry in wire.log])

    def test_disk_fails_at_once(self) -> None:
        """A disk that fails before anything was sent is the handler's to answer; the blob is suspected."""

        class Broken(MemoryBlob):
            async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
                raise StoreUnavailable("the disk failed")

        blob = Broken(b"abc")

        async def handle(request: RegistryRequest) -> None:
            try:
                await outflow.send_blob(request, 200, [], blob, 0, 3)
            except StoreUnavailable:
                outflow.send(request, 503, [], b"")

        wire = MemoryWire(handle)
        wire.send(GET)
        self.assertEqual([503], [answer.status for answer in wire.answers])
        self.assertEqual(1, blob.times_suspected)

    def test_blob_too_short(self) -> None:
        """A blob that ends early cuts the connection: the client must not take it for the whole."""
        wire = MemoryWire(sending_blob(lambda: MemoryBlob(CONTENT), length=len(CONTENT) + 1))
        wire.send(GET)
        self.assertTrue(wire.transport.is_aborted)
        self.assertEqual([], self.flushLoggedErrors())

    def test_parts(self) -> None:
        """Texts and slices go out in order, under one length."""

        async def handle(request: RegistryRequest) -> None:
            blob = MemoryBlob(b"0123456789")
            await outflow.send_parts(request, 206, [], [(blob, 1, 2), b"--", (blob, 8, 2), b"--"])

        wire = MemoryWire(handle)
        wire.send(GET)
        self.assertEqual([(206, b"12--89--")], [(answer.status, answer.body) for answer in wire.answers])

    def test_head_reads_nothing(self) -> None:
        """HEAD does not read the blob."""
        blob = MemoryBlob(CONTENT)
        wire = MemoryWire(sending_blob(lambda: blob))
        wire.send(HEAD)
        self.assertEqual((0, 1), (blob.reads, blob.times_closed))
        self.assertIn(b"Content-Length: %d\r\n" % len(CONTENT), wire.received)


class LoopbackTests(LoopbackCase):
    """Blobs over real sockets; with a descriptor over TCP and UNIX sockets the kernel sends them."""

    def file_blob(self, **options: int) -> Callable[[], FileBlob]:
        """Return a way to open a blob with a descriptor; ``self.blobs`` are those that were opened."""
        self.blobs: list[FileBlob] = []

        def opened() -> FileBlob:
            self.blobs.append(FileBlob(self.mktemp(), CONTENT, **options))
            return self.blobs[-1]

        return opened

    def memory_blob(self) -> MemoryBlob:
        """Open a blob without a descriptor."""
        return MemoryBlob(CONTENT)

    async def fetch_twice(self, client: RawClient) -> None:
        """Send two pipelined requests and then one more, and compare what comes."""
        client.send(GET + GET)
        for _ in range(2):
            self.assertEqual(CONTENT, (await client.answer()).body)
        client.send(GET)
        self.assertEqual(CONTENT, (await client.answer()).body)

    async def test_sendfile(self) -> None:
        """The kernel sends a blob, nothing of it is read here, and pipelined requests wait their turn."""
        port = await self.serve(sending_blob(self.file_blob()))
        await self.fetch_twice(await self.connect(port))
        self.assertEqual([0, 0, 0], [blob.reads for blob in self.blobs])
        self.assertEqual([1, 1, 1], [blob.times_closed for blob in self.blobs])
        self.assertEqual([len(CONTENT)] * 3, [entry.sent_bytes for entry in self.log])

    async def test_sendfile_slice(self) -> None:
        """A slice starts and ends where it should."""
        port = await self.serve(sending_blob(self.file_blob(), start=MIB - 3, length=3 * MIB, status=206))
        client = await self.connect(port)
        client.send(GET)
        answer = await client.answer()
        self.assertEqual((206, CONTENT[MIB - 3 : 4 * MIB - 3]), (answer.status, answer.body))

    async def test_sendfile_empty(self) -> None:
        """A slice of no bytes is an empty answer."""
        port = await self.serve(sending_blob(self.file_blob(), length=0))
        client = await self.connect(port)
        client.send(GET)
        self.assertEqual(b"", (await client.answer()).body)

    async def test_sendfile_then_close(self) -> None:
        """An HTTP/1.0 answer is complete before its connection closes."""
        port = await self.serve(sending_blob(self.file_blob()))
        client = await self.connect(port)
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(CONTENT, (await client.answer()).body)
        await client.closed()

    async def test_sendfile_parts(self) -> None:
        """Texts between slices that the kernel sends stay in their places."""
        opened = self.file_blob()

        async def handle(request: RegistryRequest) -> None:
            blob = opened()
            try:
                await outflow.send_parts(
                    request, 206, [], [b"<", (blob, 0, MIB), b"|", (blob, 9, 2 * MIB), b">"]
                )
            finally:
                blob.close()

        client = await self.connect(await self.serve(handle))
        client.send(GET)
        expected = b"<" + CONTENT[:MIB] + b"|" + CONTENT[9 : 9 + 2 * MIB] + b">"
        self.assertEqual(expected, (await client.answer()).body)

    async def test_cold_sendfile(self) -> None:
        """A blob that is not in memory is read ahead, a window beside the one that leaves, and not more."""
        cold = ColdBlob(self.mktemp(), CONTENT)
        port = await self.serve(sending_blob(lambda: cold, start=3))
        client = await self.connect(port)
        client.send(GET)
        await self.passed(0.1)
        self.assertEqual(b"", client.received)
        for number in range(3):
            self.assertEqual([3 + 2 * MIB * number], cold.windows[number:])
            cold.finish()
            await self.passed(0.1)
        answer = await client.answer()
        self.assertEqual(CONTENT[3:], answer.body)
        self.assertEqual([3, 3 + 2 * MIB, 3 + 4 * MIB], cold.windows)
        self.assertEqual(1, cold.times_closed)

    async def test_cold_sendfile_fails(self) -> None:
        """A disk that fails before anything was sent is answered; later it cuts the connection."""
        for windows in (0, 1):
            cold = ColdBlob(self.mktemp(), CONTENT)

            async def handle(request: RegistryRequest, cold: ColdBlob = cold) -> None:
                try:
                    await outflow.send_blob(request, 200, [], cold, 0, len(CONTENT))
                except StoreUnavailable:
                    outflow.send(request, 503, [], b"")
                finally:
                    cold.close()

            client = await self.connect(await self.serve(handle))
            client.send(GET)
            for _ in range(windows):
                await self.passed(0.1)
                cold.finish()
            await self.passed(0.1)
            cold.reading.errback(StoreUnavailable("the disk failed"))
            if windows:
                await client.closed()
            else:
                self.assertEqual(503, (await client.answer()).status)
            await self.passed(0.05)
            self.assertEqual((1, 1), (cold.times_suspected, cold.times_closed))

    async def test_client_leaves_cold_sendfile(self) -> None:
        """A client that leaves while its blob is read ends the sending, whatever comes of the reading."""
        for error in (None, StoreUnavailable("the disk failed")):
            cold = ColdBlob(self.mktemp(), CONTENT)
            client = await self.connect(await self.serve(sending_blob(cold.itself)))
            client.send(GET)
            await self.passed(0.1)
            cold.finish()
            await self.passed(0.1)
            client.transport.abortConnection()
            await client.closed()
            await self.site.drain(5)
            self.assertEqual(1, cold.times_closed)
            cold.reading.callback(None) if error is None else cold.reading.errback(error)
            self.assertEqual([], self.flushLoggedErrors())

    async def test_over_a_unix_socket(self) -> None:
        """The same over a UNIX socket."""
        path = self.mktemp()
        port = await self.serve(sending_blob(self.file_blob()), where=f"unix:{path}")
        await self.fetch_twice(await self.connect(port, endpoint=unix_endpoint(path)))
        self.assertEqual([0, 0, 0], [blob.reads for blob in self.blobs])
        self.assertEqual(["unix"] * 3, [entry.peer for entry in self.log])

    async def test_over_tls(self) -> None:
        """Over TLS the same bytes come, read in chunks."""
        key = certificate(self.mktemp())
        port = await self.serve(
            sending_blob(self.file_blob()), where=f"ssl:0:privateKey={key}:interface=127.0.0.1"
        )
        await self.fetch_twice(await self.connect(port, endpoint=tls_endpoint(port)))
        self.assertGreater(self.blobs[0].reads, 20)
        self.assertEqual([1, 1, 1], [blob.times_closed for blob in self.blobs])

    async def test_without_descriptor(self) -> None:
        """A store without descriptors is read in chunks over TCP too."""
        await self.fetch_twice(await self.connect(await self.serve(sending_blob(self.memory_blob))))

    async def test_client_leaves(self) -> None:
        """A client that leaves in the middle ends the sending silently, and the blob is closed once."""
        for opened in (self.file_blob(), self.memory_blob):
            blobs: list[MemoryBlob] = []

            def remembered(
                opened: Callable[[], MemoryBlob] = opened, to: list[MemoryBlob] = blobs
            ) -> MemoryBlob:
                to.append(opened())
                return to[-1]

            client = await self.connect(await self.serve(sending_blob(remembered)))
            client.send(GET)
            await client.until_received(1000)
            client.transport.abortConnection()
            await client.closed()
            await self.site.drain(5)
            self.assertEqual([1], [blob.times_closed for blob in blobs])
            self.assertLess(self.log[0].sent_bytes, len(CONTENT))

    async def test_blob_too_short(self) -> None:
        """A file that is shorter than it should be cuts the connection; that is no fault of the program."""
        port = await self.serve(sending_blob(self.file_blob(size_bytes=len(CONTENT) + 1)))
        client = await self.connect(port)
        client.send(GET)
        await client.closed()
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual((1, 1), (self.blobs[0].times_closed, self.blobs[0].times_suspected))

    async def test_client_that_never_reads(self) -> None:
        """A client that does not read is cut after the stall time; it costs hardly any memory meanwhile."""
        big = MemoryBlob(b"")
        big.size_bytes = 1024 * MIB
        chunk = b"x" * outflow.CHUNK_BYTES

        async def read_at(offset_bytes: int, length_bytes: int) -> bytes:
            return chunk[:length_bytes]

        big.read_at = read_at  # type: ignore[method-assign]  # a gigabyte that nobody has to hold
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        port = await self.serve(sending_blob(lambda: big), stall_timeout_seconds=0.5)
        client = await self.connect(port)
        client.transport.pauseProducing()
        client.send(GET)
        await self.until_cut()
        self.assertEqual(1, big.times_closed)
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 16 * 1024)

    async def test_never_reads_from_sendfile(self) -> None:
        """The same when the kernel sends."""
        path = self.mktemp()
        blob = FileBlob(path, b"x", size_bytes=64 * MIB)
        os.truncate(path, 64 * MIB)
        port = await self.serve(sending_blob(lambda: blob), stall_timeout_seconds=0.5)
        client = await self.connect(port)
        client.transport.pauseProducing()
        client.send(GET)
        await self.until_cut()
        self.assertEqual(1, blob.times_closed)

    async def test_slow_but_reading(self) -> None:
        """A client that reads a little now and then is not cut."""
        for opened in (self.memory_blob, self.file_blob()):
            port = await self.serve(sending_blob(opened), stall_timeout_seconds=0.4)
            client = await self.connect(port)
            # A big buffer would hide from the server that something was read.
            client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.send(GET)
            for _ in range(6):
                client.transport.pauseProducing()
                await self.passed(0.3)
                self.assertLess(len(client.received), len(CONTENT), "reads too fast to show anything")
                client.transport.resumeProducing()
                await client.until_more(256 * 1024)
            self.assertEqual(CONTENT, (await client.answer()).body)

    async def passed(self, seconds: float) -> None:
        """Let real time pass."""
        done: Deferred[None] = Deferred()
        reactor.callLater(seconds, done.callback, None)
        await done

    async def until_cut(self) -> None:
        """Wait until the only connection was cut, for a few seconds."""
        for _ in range(50):
            await self.passed(0.1)
            if not self.site.open_connections and self.log:
                return
        self.fail("the connection was not cut")
