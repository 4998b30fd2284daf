"""What the service manager is told, heard at the other end of its socket."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.systemd import Notifier, notifier_of


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Listen as systemd does."""
        directory = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(directory.cleanup)
        self.address = str(Path(directory.name) / "notify")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(self.manager.close)
        self.manager.bind(self.address)

    def heard(self) -> list[str]:
        """Return what came since the last time."""
        lines: list[str] = []
        while True:
            try:
                lines += self.manager.recv(65536).decode().split("\n")
            except BlockingIOError:
                return lines

    def test_words(self) -> None:
        """Ready, reloading and stopping are said in sd_notify's words, a status in one line."""
        notifier = Notifier(self.address)
        notifier.ready("serving on\nhttp://x")
        self.assertEqual(["READY=1", "STATUS=serving on http://x"], self.heard())
        notifier.reloading(12.5)
        self.assertEqual(["RELOADING=1", "MONOTONIC_USEC=12500000", "STATUS=reading settings"], self.heard())
        notifier.stopping("draining")
        self.assertEqual(["STOPPING=1", "STATUS=draining"], self.heard())

    def test_signs_of_life(self) -> None:
        """Signs of life come from the reactor, twice in each interval, until the end."""
        clock = Clock()
        notifier = Notifier(self.address, watchdog_seconds=20)
        notifier.keep_alive(clock)
        notifier.keep_alive(clock)
        clock.pump([9.9, 0.2, 10.0])
        self.assertEqual(["WATCHDOG=1"] * 3, self.heard())
        notifier.fall_silent()
        notifier.fall_silent()
        clock.advance(100)
        self.assertEqual([], self.heard())
        self.assertEqual([], clock.getDelayedCalls())

    def test_nobody_listens(self) -> None:
        """Without a manager nothing is sent and no timer runs; one that went away does no harm."""
        clock = Clock()
        silent = Notifier(watchdog_seconds=20)
        silent.ready("x")
        silent.keep_alive(clock)
        self.assertEqual([], clock.getDelayedCalls())
        Notifier(self.address + "-gone").ready("x")

    def test_full_queue(self) -> None:
        """A manager that does not read stops nobody."""
        notifier = Notifier(self.address, watchdog_seconds=1)
        for _ in range(3000):
            notifier.stopping("x" * 500)
        self.assertIn("STOPPING=1", self.heard())

    def test_environment(self) -> None:
        """The environment names socket and interval, and keeps neither for children."""
        environ = {
            "NOTIFY_SOCKET": self.address,
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": "7",
            "HOME": "/root",
        }
        clock = Clock()
        notifier_of(environ, pid=7).keep_alive(clock)
        self.assertEqual({"HOME": "/root"}, environ)
        self.assertEqual([1.5], [call.getTime() for call in clock.getDelayedCalls()])
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_environment_of_others(self) -> None:
        """A watchdog of another process, a wrong number and a socket of another kind are left alone."""
        for environ in (
            {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"},
            {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "soon"},
            {"NOTIFY_SOCKET": self.address},
            {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "3000000"},
            {"WATCHDOG_USEC": "3000000"},
        ):
            clock = Clock()
            notifier_of(environ, pid=7).keep_alive(clock)
            self.assertEqual([], clock.getDelayedCalls())

    def test_abstract_socket(self) -> None:
        """A name that begins with ``@`` is an abstract socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            manager.bind("")  # the kernel chooses an abstract name
            name = manager.getsockname()[1:].decode()
            Notifier(f"@{name}").ready("x")
            self.assertEqual(b"READY=1\nSTATUS=x", manager.recv(100))
