"""Whether a client reads what it is sent: the bytes that its side of the connection has acknowledged.

The transport's buffer tells only when all of it has gone, which takes a slow client minutes.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable

from twisted.internet import tcp
from twisted.protocols.policies import ProtocolWrapper

from dockreg_tx.web.deadline import Deadline

#: A client over TLS has so long to answer the end of a connection with its own.
GOODBYE_SECONDS = 2.0


class Reader:
    """Counts what is sent on one connection, and gives up a client that takes nothing for too long."""

    def __init__(self, deadline: Deadline, timeout_seconds: float) -> None:
        self._deadline = deadline
        self._timeout_seconds = timeout_seconds
        self._sent_bytes = 0

    def sent(self, sent_bytes: int) -> None:
        """Count bytes that were given to the transport or to its socket."""
        self._sent_bytes += sent_bytes

    def watch(self, transport: object, give_up: Callable[[], object]) -> None:
        """Call ``give_up`` unless the client takes something again and again; the deadline is used for it."""
        before = self._sent_bytes - unsent_bytes(transport)

        def look() -> None:
            if self._sent_bytes - unsent_bytes(transport) > before:
                self.watch(transport, give_up)
            else:
                give_up()

        self._deadline.set(self._timeout_seconds, look)

    def watch_goodbye(self, transport: object, give_up: Callable[[], object]) -> None:
        """As ``watch``, for a connection that was closed over TLS.

        Its client should say goodbye, and many never do. So only one that still has an answer to read is
        waited for as long.
        """

        def look() -> None:
            if unsent_bytes(transport):
                self.watch(transport, give_up)
            else:
                give_up()

        self._deadline.set(GOODBYE_SECONDS, look)


def unsent_bytes(transport: object) -> int:
    """Count the bytes that wait in the transport's buffer and in the kernel's; 0 when nobody can know.

    Only the difference between two counts means something: over TLS the bytes are those of its records.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if not isinstance(transport, tcp.Connection) or not transport.connected:
        return 0
    buffered = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    (queued,) = struct.unpack("i", fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return buffered + int(queued)
