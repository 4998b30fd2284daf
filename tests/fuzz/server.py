"""A registry in memory for thousands of connections a second: no sockets, and time that the test moves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dockreg_tx.access.grants import anonymous_principal
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.registry.push import ManifestRules
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.guard import Guard
from dockreg_tx.web.routes import RegistryResource, registry_app
from dockreg_tx.web.site import AccessEntry, RegistrySite
from dockreg_tx.web.table import registry_routes
from tests.registry.world import OCI_MANIFEST, World
from tests.web.api import FixedAuthenticator, endpoints_of
from tests.web.wire import RecordingTransport

T = TypeVar("T")

#: What the registry holds at first, in ``team/app``, next to the manifest ``v1`` of them.
BLOBS = (b"", b"a layer of an image", bytes(range(256)) * 12)
#: Small, so that bodies that are too large stay cheap.
MANIFEST_LIMIT_BYTES = 16 * 1024
BLOB_LIMIT_BYTES = 64 * 1024
#: Longer than all deadlines of a connection together.
PATIENCE_SECONDS = 400
#: When a client that stopped reading goes on.
READS_AFTER_SECONDS = 20


def result_of(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work that waits for nothing outside."""
    results: list[T] = []
    done = Deferred.fromCoroutine(work)
    done.addCallback(results.append)
    if not results:
        raise AssertionError(f"no result: {done.result!r}" if done.called else "the work waits")
    return results[0]


class FuzzServer:
    """One registry with some content, and connections to it."""

    def __init__(self) -> None:
        self.world = World(ManifestRules(limit_bytes=MANIFEST_LIMIT_BYTES), blob_limit_bytes=BLOB_LIMIT_BYTES)
        self.log: list[AccessEntry] = []
        guard = Guard(authenticator=FixedAuthenticator(), anonymous=anonymous_principal("none", ()))
        numbers = itertools.count()
        self.site = RegistrySite(
            RegistryResource(registry_app(registry_routes(endpoints_of(self.world)), guard=guard)),
            clock=self.world.clock,
            new_request_id=lambda: f"request-{next(numbers)}",
            access_log=self.log.append,
        )
        self.manifest = result_of(self.world.image(*BLOBS))
        self.manifest_digest = result_of(self.world.put("v1", self.manifest))
        result_of(self.world.push_blob(BLOBS[1], RepositoryName("other/base")))
        subject = {"mediaType": OCI_MANIFEST, "digest": str(self.manifest_digest), "size": len(self.manifest)}
        referrer = json.dumps({**json.loads(self.manifest), "subject": subject}).encode()
        result_of(self.world.put(str(Digest.of(referrer)), referrer))
        self.digests = [str(Digest.of(blob)) for blob in BLOBS]

    @property
    def open_uploads(self) -> list[tuple[str, str]]:
        """Repository and id of each session, the oldest first."""
        sessions = result_of(self.world.records.expired_uploads(float("inf"), 100))
        return [(str(session.repository), session.id) for session in sessions]

    def connect(self, takes_bytes: int | None = None) -> Wire:
        """Open a connection whose client reads so many bytes at first, None for all."""
        wire = Wire(self.site, self.world.clock)
        wire.transport.room_bytes = takes_bytes
        return wire


class Wire:
    """One connection; what arrives while the server does not read waits, as in a kernel."""

    def __init__(self, site: RegistrySite, clock: Clock) -> None:
        self._clock = clock
        self.transport = RecordingTransport()
        self.channel: RegistryChannel = site.buildProtocol(None)
        self._is_lost = False
        self.channel.makeConnection(self.transport)

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting or self.transport.is_aborted)

    @property
    def received(self) -> bytes:
        """Everything that was answered."""
        return bytes(self.transport.value())

    def send(self, data: bytes) -> bool:
        """Deliver bytes as one read; False when the server never reads them."""
        waited = 0.0
        while self.transport.producerState != "producing" and not self.is_closed:
            if waited > PATIENCE_SECONDS:
                return False
            self._clock.advance(1)
            waited += 1
            self._read(waited)
        if self.is_closed:
            return True
        self.channel.dataReceived(data)
        return True

    def wait_for_end(self) -> bool:
        """Let time pass; False when the server never closes."""
        waited = 0.0
        while not self.is_closed:
            if waited > PATIENCE_SECONDS:
                return False
            self._clock.advance(20)
            waited += 20
            self._read(waited)
        return True

    def _read(self, waited_seconds: float) -> None:
        """Let a client that stopped reading go on, before the server gives it up."""
        room_bytes = self.transport.room_bytes
        # As real transports: only producers that were paused are resumed.
        if waited_seconds >= READS_AFTER_SECONDS and room_bytes is not None and room_bytes < 0:
            self.transport.drain()

    def lose(self) -> None:
        """End the connection."""
        if not self._is_lost:
            self._is_lost = True
            if self.transport.producer is not None:
                self.transport.producer.stopProducing()
            self.channel.connectionLost(Failure(ConnectionDone()))
