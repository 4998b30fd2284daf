"""Answers that leave together: they wait in their transports' own buffers for the end of a turn."""

from __future__ import annotations

from typing import Any

#: So many answers wait at most: each may wait for the work on all that follow.
ANSWERS_LIMIT = 16


class Outbox:
    """Transports with an answer to be sent."""

    def __init__(self) -> None:
        #: Whether a turn goes on, at the end of which ``send`` is called.
        self.is_open = False
        #: Number of the turn that goes on, or was the last to be open.
        self.turn = 0
        self._waiting: list[Any] = []

    def open(self) -> None:
        """Begin a turn with several requests."""
        self.is_open = True
        self.turn += 1

    def put(self, transport: Any, data: bytes) -> None:
        """Keep bytes for a plain transport that has nothing else to send.

        They lie where the transport looks for what has to be sent before it sends more, or closes.
        """
        transport._tempDataBuffer.append(data)
        transport._tempDataLen += len(data)
        self._waiting.append(transport)
        if len(self._waiting) >= ANSWERS_LIMIT:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            if transport.connected and transport._tempDataBuffer:
                data = b"".join(transport._tempDataBuffer)
                transport._tempDataBuffer = []
                transport._tempDataLen = 0
                send_now(transport, data)


def send_now(transport: Any, data: bytes) -> None:
    """Give bytes to a socket for which none wait, and leave to its transport what it does not take."""
    try:
        sent = transport.socket.send(data)
    except OSError:
        # Its buffer is full, or the connection is lost: the transport finds out by itself.
        sent = 0
    if sent < len(data):
        transport.write(data[sent:])
