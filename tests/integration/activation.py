"""Plays systemd: holds a listening socket, starts servers on it, and hears what they say of themselves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.integration.server import PROGRAMS, clean_environment

#: Runs in the server's process before the server does: only there its process id is known.
_LAUNCH = """
import os, sys
number = int(sys.argv[1])
os.dup2(number, 3)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
WAIT_SECONDS = 30.0


class Activator:
    """One unit with its socket.

    Args:
        directory: for root, log and notification socket.
        options: more options of ``twistd dockreg``.
    """

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        self.root = directory / "root"
        self._options = options
        self._log = (directory / "log").open("ab")
        self._address = str(directory / "notify")
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(self._address)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server without waiting for it, and forget what the last one said."""
        self._forget()
        command = [str(PROGRAMS / "twistd"), "-n", "--pidfile=", "dockreg", "--root", str(self.root)]
        command += ["--listen", "systemd:domain=INET:name=dockreg", *self._options]
        number = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(number), *command],
            env=clean_environment(
                {
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": "dockreg",
                    "NOTIFY_SOCKET": self._address,
                    "WATCHDOG_USEC": "400000",
                }
            ),
            pass_fds=[number, 3],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def wait_for(self, word: str) -> None:
        """Return when the server has said this line.

        Raises:
            TimeoutError: it did not within 30 s.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while word not in self.heard:
            self._line.settimeout(max(deadline - time.monotonic(), 0.01))
            self.heard += self._line.recv(65536).decode().split("\n")

    def _forget(self) -> None:
        self._line.setblocking(False)
        with suppress(BlockingIOError):
            while self._line.recv(65536):
                pass
        self.heard.clear()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        assert self._process is not None
        self.signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        """End everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for each in (self._listener, self._line, self._log):
            each.close()


def keep_descriptor_three() -> None:
    """Make sure that descriptor 3 exists, for it is handed on."""
    while os.open(os.devnull, os.O_RDONLY) < 3:
        pass
