"""How much of what was written to a transport its peer has not acknowledged yet."""

from __future__ import annotations

import fcntl
import struct
import termios

from twisted.internet import tcp
from twisted.protocols.policies import ProtocolWrapper


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
