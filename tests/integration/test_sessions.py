"""Upload sessions survive broken connections, rival writers and the death of the server."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RegistryProcess
from tests.integration.sockets import MIB, Answer, Connection, basic, blocks, digest_of_blocks

SIZE = 8 * MIB


def body_of(size: int, seed: int = 0) -> bytes:
    """Return a whole body of blocks."""
    return b"".join(blocks(size, seed))


class SessionTestCase(SynchronousTestCase):
    """A server of its own for every test."""

    def setUp(self) -> None:
        """Start it."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.server = RegistryProcess(Path(temporary.name) / "root")
        self.addCleanup(self.server.kill)
        self.server.start()
        self.who = basic("admin", self.server.admin_password)

    def connect(self) -> Connection:
        """Return a connection that is closed after the test."""
        connection = Connection(self.server.port, self.who)
        self.addCleanup(connection.close)
        return connection

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send one request on a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with Connection(self.server.port, self.who) as client:
            return client.request(method, path, body, named)

    def begin(self) -> str:
        """Open a session."""
        return self.ask("POST", "/v2/sessions/blobs/uploads/").headers["location"]

    def offset(self, location: str) -> int:
        """Return how many bytes the server says it has."""
        answer = self.ask("GET", location)
        self.assertEqual(204, answer.status)
        last = int(answer.headers["range"].removeprefix("0-"))
        return last + 1 if last else 0

    def settled_offset(self, location: str, at_least: int) -> int:
        """Return the offset once the server has seen the end of a broken connection."""
        deadline = time.monotonic() + 10
        while (found := self.offset(location)) < at_least and time.monotonic() < deadline:
            time.sleep(0.05)  # nothing tells a client when the server has noticed
        return found

    def finish(self, location: str, body: bytes, offset: int) -> None:
        """Send what is missing, commit, and pull the whole."""
        digest = digest_of(body)
        if offset < len(body):
            more = self.ask("PATCH", location, body[offset:], Content_Range=f"{offset}-{len(body) - 1}")
            self.assertEqual(202, more.status, more.body)
        done = self.ask("PUT", f"{location}?digest={digest}")
        self.assertEqual((201, digest), (done.status, done.headers.get("docker-content-digest")), done.body)
        self.assertEqual(body, self.ask("GET", f"/v2/sessions/blobs/{digest}").body)


def digest_of(body: bytes) -> str:
    """Return the sha256 digest."""
    from tests.integration.images import sha256

    return sha256(body)


def reset(client: Connection) -> None:
    """Close a connection by a reset, as a crashed client's network does."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class BrokenConnectionTests(SessionTestCase):
    def test_broken_patch_keeps_what_arrived(self) -> None:
        """Bytes of a PATCH that broke stay, and the upload goes on after them."""
        for end in (Connection.close, reset):
            body, location, client = body_of(SIZE), self.begin(), self.connect()
            client.send_head("PATCH", location, {"Content-Length": str(SIZE)})
            client.socket.sendall(body[: 5 * MIB])
            self._wait_for_upload_bytes(location, 5 * MIB)
            end(client)
            offset = self.settled_offset(location, 5 * MIB)
            self.assertEqual(5 * MIB, offset)
            self.finish(location, body, offset)

    def test_broken_chunked_patch(self) -> None:
        """The same for a chunked body that broke within a chunk."""
        body, location, client = body_of(SIZE), self.begin(), self.connect()
        client.send_head("PATCH", location, {"Transfer-Encoding": "chunked"})
        client.socket.sendall(b"%x\r\n" % SIZE + body[: 3 * MIB])
        self._wait_for_upload_bytes(location, 3 * MIB)
        client.close()
        offset = self.settled_offset(location, 3 * MIB)
        self.assertEqual(3 * MIB, offset)
        self.finish(location, body, offset)

    def test_broken_put_rolls_back(self) -> None:
        """Bytes of a PUT that broke are forgotten: its client sends the whole again."""
        body, location = body_of(SIZE), self.begin()
        self.ask("PATCH", location, body[:MIB])
        client = self.connect()
        client.send_head("PUT", f"{location}?digest={digest_of(body)}", {"Content-Length": str(SIZE - MIB)})
        client.socket.sendall(body[MIB : 4 * MIB])
        self._wait_for_upload_bytes(location, 4 * MIB)
        reset(client)
        answer = self._put_when_free(f"{location}?digest={digest_of(body)}", body[MIB:])
        self.assertEqual(201, answer.status, answer.body)
        self.assertEqual(body, self.ask("GET", f"/v2/sessions/blobs/{digest_of(body)}").body)

    def _put_when_free(self, path: str, rest: bytes) -> Answer:
        """PUT again and again until the server has noticed that the first writer is gone."""
        deadline = time.monotonic() + 10
        while True:
            # Refused before the body is read, this client may find the connection closed while it sends.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer = self.ask("PUT", path, rest)
                if answer.status != 416 or time.monotonic() > deadline:
                    return answer
            time.sleep(0.05)  # nothing tells a client when the server has noticed

    def _wait_for_upload_bytes(self, location: str, size: int) -> None:
        """Return when the server has read all that was sent, so that the break finds it in the middle.

        A reset throws away what the server's kernel has not handed over yet.
        """
        deadline = time.monotonic() + 10
        path = self.server.root / "uploads" / location.rsplit("/", 1)[-1]
        while time.monotonic() < deadline:
            if path.exists() and path.stat().st_size >= size - 4 * MIB and _nothing_queued(self.server.port):
                return
            time.sleep(0.02)  # the file and the socket queues are all that can be seen from outside
        self.fail("the server did not take what was sent within 10 s")


def _nothing_queued(port: int) -> bool:
    """Tell whether every byte sent to the port was read by the server."""
    local = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        sending, receiving = fields[4].split(":")
        if fields[1].endswith(local) and fields[3] == "01" and int(receiving, 16):
            return False
        if fields[2].endswith(local) and fields[3] == "01" and int(sending, 16):
            return False
    return True


class RivalTests(SessionTestCase):
    def test_two_writers(self) -> None:
        """A second writer is refused with 416 and the offset; the first one's bytes stay pure."""
        body, location, first = body_of(SIZE), self.begin(), self.connect()
        first.send_head("PATCH", location, {"Content-Length": str(SIZE)})
        first.socket.sendall(body[:MIB])
        path = self.server.root / "uploads" / location.rsplit("/", 1)[-1]
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)  # until the first writer's bytes are seen
        rival = self.ask("PATCH", location, b"z" * 1000)
        self.assertEqual(416, rival.status, rival.body)
        self.assertEqual(location, rival.headers["location"])
        self.assertTrue(rival.headers["range"].startswith("0-"))
        put = self.ask("PUT", f"{location}?digest={digest_of(b'z' * 1000)}", b"z" * 1000)
        self.assertEqual(416, put.status, put.body)
        first.socket.sendall(body[MIB:])
        self.assertEqual((202, f"0-{SIZE - 1}"), _status_and_range(first.answer()))
        self.finish(location, body, SIZE)

    def test_same_blob_by_two_sessions(self) -> None:
        """Two sessions may commit the same content; both are told 201."""
        body = body_of(MIB)
        for location in (self.begin(), self.begin()):
            self.finish(location, body, 0)


def _status_and_range(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers.get("range", "")


class KilledServerTests(SessionTestCase):
    def test_between_chunks(self) -> None:
        """A session whose chunks were acknowledged goes on after kill -9, at the very byte."""
        body, location = body_of(SIZE), self.begin()
        self.assertEqual(202, self.ask("PATCH", location, body[: 3 * MIB]).status)
        self.server.kill()
        self.server.start()
        offset = self.offset(location)
        self.assertEqual(3 * MIB, offset)
        self.finish(location, body, offset)

    def test_in_the_middle_of_a_long_patch(self) -> None:
        """Killed at 500 MiB of one PATCH, the server has 400 MiB, and a PATCH brings the rest."""
        size, sent = 512 * MIB, 500 * MIB
        location, offset = self._killed_at(sent, size)
        self.assertGreaterEqual(offset, 400 * MIB)
        self.assertLessEqual(offset, sent)
        with Connection(self.server.port, self.who) as client:
            span = {"Content-Range": f"{offset}-{size - 1}", "Content-Length": str(size - offset)}
            client.send_head("PATCH", location, span)
            _send_from(client, offset, size)
            self.assertEqual(202, client.answer().status)
            self._commit(client, location, size, b"")

    def test_finished_by_put(self) -> None:
        """The same, finished by a PUT that carries the rest."""
        size, sent = 200 * MIB, 190 * MIB
        location, offset = self._killed_at(sent, size)
        self.assertGreaterEqual(offset, 64 * MIB)
        with Connection(self.server.port, self.who) as client:
            digest = digest_of_blocks(size)
            client.send_head("PUT", f"{location}?digest={digest}", {"Content-Length": str(size - offset)})
            _send_from(client, offset, size)
            answer = client.answer()
        self.assertEqual((201, digest), (answer.status, answer.headers.get("docker-content-digest")))

    def _killed_at(self, sent: int, size: int) -> tuple[str, int]:
        location = self.begin()
        with Connection(self.server.port, self.who) as client:
            client.send_head("PATCH", location, {"Content-Length": str(size)})
            for count, block in enumerate(blocks(size), 1):
                client.socket.sendall(block)
                if count * MIB >= sent:
                    break
            deadline = time.monotonic() + 30
            while not _nothing_queued(self.server.port) and time.monotonic() < deadline:
                time.sleep(0.01)  # until the server has read it: the kill is to come at this very byte
            self.server.kill()
        self.server.start()
        return location, self.offset(location)

    def _commit(self, client: Connection, location: str, size: int, rest: bytes) -> None:
        digest = digest_of_blocks(size)
        answer = client.request("PUT", f"{location}?digest={digest}", rest)
        self.assertEqual((201, digest), (answer.status, answer.headers.get("docker-content-digest")))
        client.send_head("GET", f"/v2/sessions/blobs/{digest}")
        client.head()
        self.assertEqual(digest, client.digest_of_body(size))


def _send_from(client: Connection, offset: int, size: int) -> None:
    """Send the bytes of a body of blocks from ``offset`` on."""
    passed = 0
    for block in blocks(size):
        if passed + len(block) > offset:
            client.socket.sendall(block[max(0, offset - passed) :])
        passed += len(block)
