"""What the tests of the HTTP side share: a site in memory with a clock, one on loopback, and raw clients."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from klein import Klein
from twisted.internet import reactor as _reactor  # noqa: TID251 - for tests on loopback
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IListeningPort, IProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dockreg_tx.web import outflow
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.intake import RegistryRequest, shielded
from dockreg_tx.web.site import AccessEntry, RegistrySite

#: The real one; only tests of this package that need sockets use it.
reactor: Any = _reactor

Handle = Callable[[RegistryRequest], Awaitable[None]]


async def echo(request: RegistryRequest) -> None:
    """Answer with the method, the path and the body."""
    body = await request.body.read(1024 * 1024)
    outflow.send(request, 200, [], b"%b %b %b" % (request.method, request.path, body))


async def refuse(request: RegistryRequest) -> None:
    """Answer 401 without looking at the body."""
    outflow.send(request, 401, [], b"who are you?")


def site_of(handle: Handle, *, clock: Any, **options: Any) -> RegistrySite:
    """Return a site whose one Klein route answers every path and method with ``handle``."""
    app = Klein()
    app.route("/", branch=True)(shielded(handle))  # type: ignore[arg-type]  # Klein takes Deferreds too
    ids = itertools.count(1)
    return RegistrySite(app.resource(), clock=clock, new_request_id=lambda: f"request-{next(ids)}", **options)


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """One answer as it came over the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"


def answers_in(raw: bytes, *, heads_only: bool = False) -> list[WireAnswer]:
    """Parse answers that follow each other; each must carry a Content-Length, or have no body."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if heads_only else int(headers.get("content-length", "0"))
        found.append(WireAnswer(int(status), headers, raw[:length], version))
        raw = raw[length:]
    return found


class RecordingTransport(StringTransport):
    """Remembers how it was closed; reads nothing by itself."""

    is_half_closed = False
    is_aborted = False
    producer: Any
    #: How many bytes it takes before its producer is paused; None for any.
    room_bytes: int | None = None

    def __init__(self) -> None:
        super().__init__(lenient=True)

    def write(self, data: bytes) -> None:
        """Take bytes, and pause the producer when there is no more room."""
        super().write(data)
        if self.room_bytes is not None:
            self.room_bytes -= len(data)
            if self.room_bytes < 0 and self.producer is not None:
                self.producer.pauseProducing()

    def drain(self) -> None:
        """Act as if the client had read everything."""
        self.room_bytes = None
        if self.producer is not None:
            self.producer.resumeProducing()

    def loseWriteConnection(self) -> None:
        """Half-close."""
        self.is_half_closed = True

    def abortConnection(self) -> None:
        """Close hard."""
        self.is_aborted = True
        super().abortConnection()


class MemoryWire:
    """One connection in memory to a site with a clock of its own."""

    def __init__(self, handle: Handle, **options: Any) -> None:
        self.clock = Clock()
        self.log: list[AccessEntry] = []
        self.site = site_of(handle, clock=self.clock, access_log=self.log.append, **options)
        self.transport = RecordingTransport()
        self.channel: RegistryChannel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, *data: bytes) -> None:
        """Deliver each piece as one read from the socket."""
        for piece in data:
            self.channel.dataReceived(piece)

    def lose(self) -> None:
        """End the connection from the client's side."""
        if self.transport.producer is not None:
            self.transport.producer.stopProducing()
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def received(self) -> bytes:
        """Everything that was sent to the client."""
        return bytes(self.transport.value())

    @property
    def answers(self) -> list[WireAnswer]:
        """What was sent, as answers."""
        return answers_in(self.received)

    @property
    def is_reading(self) -> bool:
        """Whether the server reads from the socket."""
        return bool(self.transport.producerState == "producing")


@implementer(IConsumer)
class Collector:
    """Keeps what a body writes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.producer: Any = None
        self.is_streaming: bool | None = None
        self.was_unregistered = False

    @property
    def content(self) -> bytes:
        """Everything written."""
        return b"".join(self.chunks)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self.producer, self.is_streaming = producer, streaming

    def unregisterProducer(self) -> None:
        self.was_unregistered = True

    def write(self, data: bytes) -> None:
        self.chunks.append(data)


class MemoryBlob:
    """An open blob without a descriptor."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size_bytes = len(content)
        self.reads = 0
        self.times_closed = 0
        self.times_suspected = 0

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        return True

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        pass

    def suspect(self) -> None:
        self.times_suspected += 1

    def fileno(self) -> int | None:
        return None

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        self.reads += 1
        return self.content[offset_bytes : offset_bytes + length_bytes]

    def close(self) -> None:
        self.times_closed += 1


class FileBlob(MemoryBlob):
    """An open blob with a descriptor; the content may be shorter than its size says."""

    def __init__(self, path: str, content: bytes, *, size_bytes: int | None = None) -> None:
        super().__init__(content)
        with open(path, "wb") as file:
            file.write(content)
        self.size_bytes = len(content) if size_bytes is None else size_bytes
        self._descriptor = os.open(path, os.O_RDONLY)

    def fileno(self) -> int | None:
        return self._descriptor

    def close(self) -> None:
        if not self.times_closed:
            os.close(self._descriptor)
        super().close()


class RawClient(Protocol):
    """A client that sends and reads bytes."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_closed = False
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def send(self, data: bytes) -> None:
        """Write."""
        self.transport.write(data)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something to become true as bytes arrive, or for the end of the connection."""
        if is_so() or self.is_closed:
            return
        done: Deferred[None] = Deferred()
        self._waiting.append((is_so, done))
        await done

    async def until_received(self, length_bytes: int) -> bytes:
        """Wait for this many bytes, and take them away."""
        await self.until(lambda: len(self.received) >= length_bytes)
        taken = bytes(self.received[:length_bytes])
        del self.received[:length_bytes]
        return taken

    async def until_more(self, more_bytes: int) -> None:
        """Wait for so many more bytes, and leave them."""
        enough = len(self.received) + more_bytes
        await self.until(lambda: len(self.received) >= enough)

    async def answer(self, *, head_only: bool = False) -> WireAnswer:
        """Wait for one answer, and take it away."""
        await self.until(lambda: b"\r\n\r\n" in self.received)
        head = await self.until_received(self.received.index(b"\r\n\r\n") + 4)
        (answer,) = answers_in(head, heads_only=True)
        length = 0 if head_only else int(answer.headers.get("content-length", "0"))
        body = await self.until_received(length)
        return WireAnswer(answer.status, answer.headers, body, answer.version)

    async def closed(self) -> None:
        """Wait for the end of the connection."""
        await self.until(lambda: False)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_closed = True
        self._look()

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for is_so, done in waiting:
            if is_so() or self.is_closed:
                done.callback(None)
            else:
                self._waiting.append((is_so, done))


class LoopbackCase(TestCase):
    """Tests with a site on a real socket; everything is closed at the end."""

    timeout = 30

    async def serve(self, handle: Handle, *, where: str = "tcp:0:interface=127.0.0.1", **options: Any) -> Any:
        """Start a site; return its port object. ``self.site`` and ``self.log`` are the last one's."""
        self.log: list[AccessEntry] = []
        self.site = site_of(handle, clock=reactor, access_log=self.log.append, **options)
        port: IListeningPort = await serverFromString(reactor, where).listen(self.site)
        self.addCleanup(self._stop, port, self.site)
        return port

    async def _stop(self, port: IListeningPort, site: RegistrySite) -> None:
        await maybeDeferred(port.stopListening)
        await site.drain(0)

    def _stop_client(self, client: RawClient) -> Deferred[None]:
        if not client.is_closed:
            client.transport.abortConnection()
        return Deferred.fromCoroutine(client.closed())

    async def connect(self, port: Any, *, endpoint: Any = None) -> RawClient:
        """Connect to a served port."""
        if endpoint is None:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        client = RawClient()
        await connectProtocol(endpoint, client)
        self.addCleanup(self._stop_client, client)
        return client


def unix_endpoint(path: str) -> UNIXClientEndpoint:
    """Return the client's end of a UNIX socket."""
    return UNIXClientEndpoint(reactor, path)


def tls_endpoint(port: Any) -> Any:
    """Return the client's end of a served TLS port; any certificate will do."""
    tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    return wrapClientTLS(CertificateOptions(verify=False), tcp)


def certificate(path: str) -> str:
    """Write a key and a certificate for localhost into one file, and return its absolute path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = Path(path).absolute()
    file.write_bytes(private + signed.public_bytes(pem))
    return str(file)
