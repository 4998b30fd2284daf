"""Thousands of connections that never finish their TLS handshake: cut in time, and no harm to others."""

from __future__ import annotations

import resource
import select
import socket
import ssl
import time
from collections.abc import Sequence

from tests.integration.server import RegistryProcess
from tests.integration.sockets import MIB, Connection, basic, digest_of_blocks
from tests.integration.test_certificates import CertificateCase, trusting

CONNECTIONS = 2000
SIZE = 16 * MIB
HEADER_TIMEOUT_SECONDS = 12.0
#: How much later than that a connection may be cut.
GRACE_SECONDS = 5.0
#: A push takes a fraction of this; waiting for others it would take as long as they live.
PUSH_SECONDS = HEADER_TIMEOUT_SECONDS


def client_hello() -> bytes:
    """Return what a client begins a handshake with."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        trusting().wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("the handshake needed nobody else")


class HalfOpenTests(CertificateCase):
    def setUp(self) -> None:
        """Allow as many connections as there will be, here and in the server."""
        super().setUp()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.write_settings(f'[server]\nheader_timeout = "{HEADER_TIMEOUT_SECONDS:.0f}s"\n')

    def open_halves(self) -> list[socket.socket]:
        """Return connections: silent ones, such as stop within their first message, and after it."""
        hello = client_hello()
        starts = (b"", hello[:5], hello[: len(hello) // 2], hello)
        connections = []
        for number in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
            self.addCleanup(connection.close)
            connection.sendall(starts[number % len(starts)])
            connections.append(connection)
        return connections

    def push(self, server: RegistryProcess, seed: int) -> float:
        """Push a blob over TLS and return how long that took, in seconds."""
        began = time.monotonic()
        who, digest = basic("admin", server.admin_password), digest_of_blocks(SIZE, seed)
        with Connection(self.port, who, wrap=trusting().wrap_socket) as client:
            path = f"/v2/half/open/blobs/uploads/?digest={digest}"
            client.send_head("POST", path, {"Content-Length": str(SIZE)})
            client.send_blocks(SIZE, seed)
            self.assertEqual(201, client.answer().status)
        return time.monotonic() - began

    def wait_until_cut(self, connections: Sequence[socket.socket], deadline: float) -> None:
        """Return when the server has ended all of them."""
        waiting = {connection.fileno(): connection for connection in connections}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        while waiting:
            self.assertLess(time.monotonic(), deadline, f"{len(waiting)} are still open")
            for number, _ in poll.poll(100):
                try:
                    is_over = not waiting[number].recv(65536)
                except ConnectionResetError:
                    is_over = True
                if is_over:
                    poll.unregister(number)
                    del waiting[number]

    def check(self, workers: int) -> None:
        """Push beside half-open connections, which must be cut in time."""
        server = self.start(workers)
        began_at = time.monotonic()
        connections = self.open_halves()
        opened_at = time.monotonic()
        self.assertLess(opened_at - began_at, HEADER_TIMEOUT_SECONDS, "some were cut before the last came")
        self.assertLess(self.push(server, workers), PUSH_SECONDS)
        self.wait_until_cut(connections, opened_at + HEADER_TIMEOUT_SECONDS + GRACE_SECONDS)
        server.stop()

    def test_one_process(self) -> None:
        """2,000 half-open handshakes neither delay a push nor outlive the time for a head."""
        self.check(1)

    def test_workers(self) -> None:
        """Nor do they with workers."""
        self.check(2)
