"""Socket activation, and what the service manager hears: a restart loses no connection."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.activation import Activator, keep_descriptor_three
from tests.integration.sockets import MIB, Connection, basic, digest_of_blocks
from tests.integration.test_certificates import trusting
from tests.integration.test_listeners import write_certificate

#: Puts TLS around a socket.
Wrap = Callable[[socket.socket], socket.socket]
TOP = Path(__file__).parents[2]
LOADERS = 4
RESTARTS = 3
#: systemd-analyze calls anything below 2 well protected.
EXPOSURE_LIMIT = 2.0


class Load:
    """Clients that make a connection for each request; the last one pushes."""

    def __init__(self, port: int, authorization: str, wrap: Wrap | None = None) -> None:
        self._port, self._authorization, self._wrap = port, authorization, wrap
        self.answered = [0] * LOADERS
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(LOADERS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once the last answers are here."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int) -> None:
        once, wanted = (self._push, 201) if number == LOADERS - 1 else (self._ask, 200)
        while not self._over.is_set():
            try:
                status = once(self.answered[number])
                if status != wanted:
                    self.failures.append(f"client {number}: status {status}")
                self.answered[number] += 1
            except OSError as error:
                self.failures.append(f"client {number}: {error!r}")

    def _ask(self, seed: int) -> int:
        with Connection(self._port, wrap=self._wrap) as client:
            return client.request("GET", "/healthz", headers={"Connection": "close"}).status

    def _push(self, seed: int) -> int:
        with Connection(self._port, self._authorization, wrap=self._wrap) as client:
            path = f"/v2/a/b/blobs/uploads/?digest={digest_of_blocks(MIB, seed)}"
            client.send_head("POST", path, {"Content-Length": str(MIB), "Connection": "close"})
            client.send_blocks(MIB, seed)
            return client.answer().status


class ActivationCase(SynchronousTestCase):
    """Has a unit."""

    def activator(self, *options: str) -> Activator:
        """Return a unit that ends with the test."""
        keep_descriptor_three()
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        unit = Activator(Path(temporary.name), options)
        self.addCleanup(unit.close)
        return unit

    def restart_under_load(
        self, unit: Activator, wrap: Wrap | None = None, *, restarts: int = RESTARTS
    ) -> None:
        """Restart while requests come, one for each connection, and require that all are answered."""
        unit.start()
        unit.wait_for("READY=1")
        load = Load(unit.port, basic("admin", (unit.root / "admin-password").read_text().strip()), wrap)
        load.start()
        try:
            for _ in range(restarts):
                self.assertEqual(0, unit.stop())
                unit.start()
                unit.wait_for("READY=1")
        finally:
            load.stop()
        self.assertEqual([], load.failures)
        self.assertGreater(min(load.answered), 0)
        self.assertEqual(0, unit.stop())


class RestartTests(ActivationCase):
    def test_restart(self) -> None:
        """A server that is stopped and started again under load fails no request and no push."""
        self.restart_under_load(self.activator())

    def test_restart_of_workers(self) -> None:
        """Nor does one with two workers."""
        self.restart_under_load(self.activator("--workers", "2"))

    def test_restart_with_tls(self) -> None:
        """Nor is one lost over TLS: not while it waits to be accepted, nor in its handshake."""
        self.restart_under_load(self.secured(), trusting().wrap_socket, restarts=1)

    def test_restart_of_workers_with_tls(self) -> None:
        """Nor with both."""
        self.restart_under_load(self.secured("--workers", "2"), trusting().wrap_socket, restarts=1)

    def secured(self, *options: str) -> Activator:
        """Return a unit that speaks TLS."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        certificate, key = write_certificate(Path(temporary.name))
        settings = Path(temporary.name) / "dockreg.toml"
        settings.write_text(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
        return self.activator("--config", str(settings), *options)


class NotificationTests(ActivationCase):
    def test_life(self) -> None:
        """The manager hears readiness, signs of life, a reload with its end, and the stop."""
        self.live(self.activator())

    def test_life_with_workers(self) -> None:
        """It hears the same of a server with workers."""
        self.live(self.activator("--workers", "2"))

    def live(self, unit: Activator) -> None:
        """Start, reload and stop."""
        unit.start()
        unit.wait_for("WATCHDOG=1")
        self.assertEqual("READY=1", unit.heard[0])
        self.assertTrue(unit.heard[1].startswith(f"STATUS=serving on http://127.0.0.1:{unit.port}"))
        unit.heard.clear()
        unit.signal(signal.SIGHUP)
        unit.wait_for("RELOADING=1")
        unit.wait_for("READY=1")
        unit.heard.clear()
        unit.wait_for("WATCHDOG=1")
        self.assertEqual(0, unit.stop())
        unit.wait_for("STOPPING=1")


class UnitTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Copy the unit, with programs that every machine has."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.unit = Path(temporary.name) / "dockreg.service"
        text = (TOP / "etc" / "dockreg.service").read_text()
        self.unit.write_text(text.replace("/opt/dockreg/bin/twistd", shutil.which("true") or "/bin/true"))
        self.socket = shutil.copy(TOP / "etc" / "dockreg.socket", temporary.name)

    def analyze(self, *arguments: str) -> str:
        """Return what systemd-analyze says, which must be content."""
        done = subprocess.run(
            ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout + done.stderr

    def test_verified(self) -> None:
        """Systemd finds no fault with unit and socket."""
        self.assertEqual("", self.analyze("verify", str(self.unit), self.socket))

    def test_exposure(self) -> None:
        """Systemd rates the unit as well protected."""
        said = self.analyze("security", "--offline=true", "--no-pager", str(self.unit))
        level = re.search(r"exposure level for dockreg.service: ([\d.]+)", said)
        assert level is not None
        self.assertLess(float(level[1]), EXPOSURE_LIMIT)
