"""A request body that was read already, for those who take bodies as they come."""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class HeldBody:
    """A body that is here already."""

    def __init__(self, content: bytes) -> None:
        self.length_bytes: int | None = len(content)
        self._content = content

    async def stream_to(self, consumer: IConsumer) -> None:
        """Feed the body to ``consumer``."""
        consumer.registerProducer(self, True)
        consumer.write(self._content)
        consumer.unregisterProducer()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body."""
        return self._content

    def pauseProducing(self) -> None:
        """Do nothing: there is no more."""

    resumeProducing = stopProducing = pauseProducing
