"""The ground of the integration tests: one server for a class of tests, and its users."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor  # noqa: TID251 # trial's own reactor runs the clients
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.docker_client import DockerClient
from tests.integration.server import RegistryProcess
from tests.integration.shared import SharedByClass
from tests.integration.sockets import Connection, basic

PUSHER = ("pusher", "pusher-password")


class RegistryTestCase(SharedByClass, TestCase):
    """Starts one server for all tests of the class, with a user who may do everything."""

    timeout = 120
    options: ClassVar[Sequence[str]] = ()
    directory: ClassVar[Path]
    server: ClassVar[RegistryProcess]
    _temporary: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def start_class(cls) -> None:
        """Start the server."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        cls.directory = Path(cls._temporary.name)
        spool = cls.directory / "tmp"
        spool.mkdir()
        cls.server = RegistryProcess(cls.directory / "root", options=cls.options, temporary=spool)
        cls.server.start()
        cls.server.add_user(*PUSHER, "*:**")

    @classmethod
    def stop_class(cls) -> None:
        """Stop the server; it must end well."""
        try:
            cls.server.stop()
        finally:
            cls.server.kill()
            cls._temporary.cleanup()

    def client(self, user: str = PUSHER[0], password: str = PUSHER[1]) -> DockerClient:
        """Return a treq client that is closed after the test."""
        client = DockerClient(reactor=reactor, base_url=self.server.base_url, user=user, password=password)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def connect(self, authorization: str | None = None, timeout_seconds: float = 60.0) -> Connection:
        """Return a raw connection of the pusher that is closed after the test."""
        who = basic(*PUSHER) if authorization is None else authorization
        connection = Connection(self.server.port, who, timeout_seconds=timeout_seconds)
        self.addCleanup(connection.close)
        return connection
