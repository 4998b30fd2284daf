"""How long a connection may wait for its first request: over TLS its handshake comes first, and soon."""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from dockreg_tx.web.deadline import Deadline
from dockreg_tx.web.surroundings import Limits


@implementer(IHandshakeListener)
class Patience:
    """A part of a ``RegistryChannel``.

    A client may connect long before it needs the connection, but one that begins with TLS does so at once.
    """

    __slots__ = ()
    _deadline: Deadline
    _limits: Limits
    _has_heard: bool

    def isSecure(self) -> bool:
        """Tell whether the connection is one with TLS."""
        raise NotImplementedError

    def loseConnection(self) -> None:
        """End the connection."""
        raise NotImplementedError

    def _await_first_request(self) -> None:
        if self.isSecure():
            self._deadline.set(self._limits.header_timeout_seconds, self.loseConnection)
        else:
            self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)

    def handshakeCompleted(self) -> None:
        """Wait for a request."""
        if not self._has_heard:
            self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)
