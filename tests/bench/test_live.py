"""The clients of the benchmark, against dockreg itself and against one that lies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import content, rows, sizes, steady, thrifty, uploads, zb
from bench.connection import Connection, WrongAnswer
from bench.content import MANIFEST_TYPE, SHARED
from bench.servers import Dockreg, Server, dockreg
from tests.bench.samples import server

KIB = 1024
Talk = Callable[[Server], Awaitable[object]]


class LiveTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start dockreg."""
        self.server = dockreg(Path(self.mktemp()).resolve(), core=None)
        self.server.start()
        self.addCleanup(self.server.stop)

    def test_zb(self) -> None:
        """Every workload of zb that needs no second registry is done, each piece to its end."""
        every = zb.rows(scale=0.05, sizes=(8 * KIB, 80 * KIB, 800 * KIB))
        self.assertEqual(16, len(every))

        async def run() -> dict[str, float]:
            return {row.name: (await row.sample(self.server, 0)).pieces for row in every}

        found = asyncio.run(run())
        self.assertEqual(50, found["zb: get catalog"])
        self.assertEqual(3, found["zb: push monolith 1 MB"])
        self.assertEqual(12, found["zb: pull 1 MB"])
        self.assertEqual([], [name for name, pieces in found.items() if not pieces])

    def test_loads(self) -> None:
        """What is offered is done; what is pushed thriftily is there; one blob hops chunk by chunk."""

        async def run() -> None:
            await content.fill_app(self.server)
            dues = list(steady.due_times(100, 0.5, seed=1))
            times = await steady.offer(self.server, rows.pull_shared, iter(dues))
            self.assertEqual(len(dues), len(times))
            self.assertLess(0, min(times))
            image = content.new_image()
            end = time.monotonic() + 60
            left = thrifty.until(end, [thrifty.prepared(image, "push/a"), thrifty.prepared(image, "push/b")])
            self.assertEqual(2, thrifty.hold(self.server.port, [thrifty.pushing(left, self.server.fixed)]))
            connection = await Connection.open(self.server.port, self.server.fixed)
            await content.pull(connection, "push/b", "latest", image)
            connection.close()
            self.assertEqual(0, thrifty.hold(self.server.port, [thrifty.pushing([], self.server.fixed)]))

        asyncio.run(run())

    def test_sizes(self) -> None:
        """Every row about size finds what was written into the database, at the start and at the end."""

        async def run() -> None:
            self.server.stop()
            self.assertLess(0, await sizes.grow(self.server, 400))
            for row in sizes.size_rows(400):
                sample = await row.sample(self.server, 0.1)
                self.assertLess(0, sample.pieces, row.name)

        asyncio.run(run())


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make uploads small."""
        self.patch(uploads, "CHUNKS", 24)
        self.folder = Path(self.mktemp()).resolve()

    def test_crowd(self) -> None:
        """All that is uploaded at once is there afterwards, and a bystander was answered meanwhile."""
        found = asyncio.run(uploads.crowd(self.folder, core=None, size_mib=4))
        self.assertLess(0, found.pulse.count)
        self.assertEqual(3, len(uploads.crowd_verdicts(found)))
        self.assertIn("| 8 of 4 MiB | +", uploads.crowd_table(found))

    def test_hopping(self) -> None:
        """Chunks hop over two workers, and the blob is what one PUT would have made of it."""
        found = asyncio.run(uploads.hopping(self.folder, core=None, rounds=1))
        self.assertLess(0, found.times)
        self.assertIn("by 24 chunks", uploads.hopping_table(found))
        self.assertIn("≤ 2×", uploads.hopping_verdict(found).must)

    def test_workers(self) -> None:
        """A server with workers has started when all of them are there."""
        found = dockreg(self.folder, core=None, workers="2")
        found.start()
        self.addCleanup(found.stop)
        self.assertIsInstance(found, Dockreg)
        self.assertEqual(3, len(found.pids()))


class LieTests(SynchronousTestCase):
    """A server that answers wrongly, or not at all."""

    def refusal(self, answer: bytes, talk: Talk) -> str:
        """Return what the client says about a server that answers every request so."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65536):
                writer.write(answer)
            writer.close()

        async def run() -> None:
            listening = await asyncio.start_server(serve, "127.0.0.1", 0)
            liar = server("liar", Path(self.mktemp()))
            liar.port = listening.sockets[0].getsockname()[1]
            async with listening:
                await talk(liar)

        return str(self.assertRaises(WrongAnswer, asyncio.run, run()))

    def test_other_bytes(self) -> None:
        """An answer of 200 with other bytes ends the benchmark."""
        row = rows.fetch("", "/v2/a/manifests/b", accept=MANIFEST_TYPE, body=SHARED.manifest)
        lie = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlie"
        self.assertIn("other bytes", self.refusal(lie, lambda liar: row.run(liar, 0.1)))
        row = rows.repeated("", rows.get_another, clients=1)
        self.assertIn("another manifest", self.refusal(lie, lambda liar: row.run(liar, 0.1)))

    def test_errors(self) -> None:
        """An answer with another status ends the benchmark."""
        lie = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
        row = rows.repeated("", rows.push_new, clients=1)
        self.assertIn("503 instead of 202: b'busy'", self.refusal(lie, lambda liar: row.run(liar, 0.1)))

        async def offer(liar: Server) -> object:
            return await steady.offer(liar, rows.pull_shared, iter([0.0, 0.01]))

        self.assertIn("503 instead of 200", self.refusal(lie, offer))

    def test_thrifty(self) -> None:
        """The thrifty client believes nothing either."""
        image = thrifty.prepared(content.new_image(), "a")
        talk = thrifty.pushing([image], {})
        self.assertTrue(next(talk).startswith(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n"))
        talk.send(thrifty.Reply(202, b"HTTP/1.1 202 Accepted\r\nLocation: /there\r\n", b""))
        other = thrifty.Reply(201, b"HTTP/1.1 201 Created\r\nDocker-Content-Digest: sha256:0\r\n", b"")
        self.assertIn("another digest", str(self.assertRaises(WrongAnswer, talk.send, other)))

    def test_page(self) -> None:
        """A page that lacks a tag ends the benchmark."""
        body = b'{"name": "bench/tags", "tags": ["t0000001"]}'
        lie = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        (row, *_) = (row for row in sizes.size_rows(1000) if row.name.startswith("tags/list"))
        self.assertIn("t0000001", self.refusal(lie, lambda liar: row.run(liar, 0.1)))
