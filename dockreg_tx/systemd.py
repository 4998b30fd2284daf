"""Tells systemd, or whoever else started us so, that we are ready, reloading, stopping and alive.

The protocol is that of sd_notify(3): one datagram of ``NAME=value`` lines to the socket that
``NOTIFY_SOCKET`` names. Without that variable every method does nothing.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Signs of life come twice within the time after which systemd gives us up: see sd_watchdog_enabled(3).
_SIGNS_PER_INTERVAL = 2
_MICROSECONDS = 1_000_000

_log = Logger(namespace="dockreg")


class Notifier:
    """The line to the service manager.

    Args:
        address: path of a Unix datagram socket, ``@`` first for an abstract one; empty when nobody listens.
        watchdog_seconds: without a sign of life for so long we are killed; 0 for never.
    """

    def __init__(self, address: str = "", *, watchdog_seconds: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds if address else 0.0
        self._signs: LoopingCall | None = None

    def ready(self, status: str) -> None:
        """Say that connections are accepted, after a start or after a reload."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def reloading(self, monotonic_seconds: float) -> None:
        """Say that settings are being read; ``ready`` must follow.

        Args:
            monotonic_seconds: CLOCK_MONOTONIC now, by which ``Type=notify-reload`` knows this reload.
        """
        self._send(
            "RELOADING=1",
            f"MONOTONIC_USEC={int(monotonic_seconds * _MICROSECONDS)}",
            "STATUS=reading settings",
        )

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    def keep_alive(self, clock: Any) -> None:
        """Give signs of life from ``clock``'s reactor, which proves that it turns, until ``fall_silent``."""
        if self._watchdog_seconds and self._signs is None:
            self._signs = LoopingCall(self._send, "WATCHDOG=1")
            self._signs.clock = clock
            self._signs.start(self._watchdog_seconds / _SIGNS_PER_INTERVAL, now=True)

    def fall_silent(self) -> None:
        """Give no more signs of life."""
        signs, self._signs = self._signs, None
        if signs is not None and signs.running:
            signs.stop()

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
                # One that lost its listener, or whose queue is full, must not stop a registry.
                line.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if lines != ("WATCHDOG=1",):
                _log.warn("cannot tell the service manager {what}: {error}", what=lines[0], error=error)


def notifier_of(environ: MutableMapping[str, str], *, pid: int) -> Notifier:
    """Return the line that our environment names, and take it from there: it is not our children's.

    Args:
        environ: of this process.
        pid: ours; signs of life may be wanted from another process.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    watched, microseconds = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
    if not address.startswith(("/", "@")):
        # Nobody, or a machine's host over vsock(7), which is for whole machines.
        return Notifier()
    seconds = 0.0
    if watched in ("", str(pid)):
        with suppress(ValueError):
            seconds = int(microseconds) / _MICROSECONDS
    return Notifier(address, watchdog_seconds=max(seconds, 0.0))


def _line(text: str) -> str:
    return " ".join(text.split())
