"""Reading from a connection, or not: it flows while nobody has a reason to hold it."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer


class Valve:
    """Pauses a transport while there is at least one reason to."""

    def __init__(self, transport: IPushProducer) -> None:
        self._transport = transport
        # No set: an empty one takes 200 bytes of every connection.
        self._reasons: tuple[str, ...] = ()

    def hold(self, reason: str) -> None:
        """Stop reading until this reason, too, is gone."""
        if not self._reasons:
            self._transport.pauseProducing()
        if reason not in self._reasons:
            self._reasons += (reason,)

    def release(self, reason: str) -> None:
        """Take one reason away."""
        if reason in self._reasons:
            self._reasons = tuple(other for other in self._reasons if other != reason)
            if not self._reasons:
                self._transport.resumeProducing()

    def open(self) -> None:
        """Read, whatever the reasons were."""
        if self._reasons:
            self._reasons = ()
            self._transport.resumeProducing()
