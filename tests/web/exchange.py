"""One request to a whole registry in memory, from any address, over any kind of transport."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IAddress, ISSLTransport
from zope.interface import alsoProvides

from dockreg_tx.web.site import RegistrySite
from tests.web.wire import RecordingTransport


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer as it came over the wire."""

    status: int
    head: str
    body: bytes

    @property
    def message(self) -> str:
        """What the first error says."""
        document: Any = json.loads(self.body)
        return str(document["errors"][0]["message"])


class _Transport(RecordingTransport):
    """Has what is asked of TLS over TCP."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no TCP."""


def exchange(
    site: RegistrySite,
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    peer: IAddress | None = None,
    is_tls: bool = False,
) -> Exchange:
    """Return the answer to a request over a connection of its own; the registry must answer at once.

    Args:
        site: over memory backends.
        method: of the request.
        target: its path, or whatever stands there, in Latin-1.
        headers: more than Host, Content-Length and Connection, or in their place.
        body: whole.
        peer: where the connection comes from, as the transport tells it.
        is_tls: whether the transport is encrypted.
    """
    transport = _Transport()
    if peer is not None:
        transport.peerAddr = peer
    if is_tls:
        alsoProvides(transport, ISSLTransport)
    channel = site.buildProtocol(None)
    channel.makeConnection(transport)
    fields = {
        "Host": "registry.example.org",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **(headers or {}),
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    channel.dataReceived(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
    head, _, content = transport.value().partition(b"\r\n\r\n")
    return Exchange(int(head.split(b" ", 2)[1]), head.decode("latin-1"), content)
