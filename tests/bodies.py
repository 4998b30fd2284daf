"""Request bodies for tests: push producers that pause, stop, end and break as those of the web do."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from dockreg_tx.oci.errors import BodyBroken, BodyTooLarge


@implementer(IPushProducer)
class HandFedBody:
    """A body that the test feeds chunk by chunk; chunks fed while paused are delivered on resume.

    ``pauses`` and ``resumes`` count what the consumer asked for; ``is_stopped`` tells that it gave up.
    """

    def __init__(self, *, length_bytes: int | None = None) -> None:
        self.length_bytes = length_bytes
        self.pauses = 0
        self.resumes = 0
        self.is_paused = False
        self.is_stopped = False
        self._pending: list[bytes] = []
        self._consumer: IConsumer | None = None
        self._over = False
        self._error: BodyBroken | None = None
        self._ended: Deferred[None] = Deferred()

    def feed(self, *chunks: bytes) -> None:
        """Let chunks arrive."""
        self._pending.extend(chunks)
        self._deliver()

    def finish(self) -> None:
        """Let the body end."""
        self._over = True
        self._deliver()

    def break_off(self) -> None:
        """Let the client go away."""
        self._error = BodyBroken()
        self.finish()

    def pauseProducing(self) -> None:
        """Stop delivering for a while."""
        self.pauses += 1
        self.is_paused = True

    def resumeProducing(self) -> None:
        """Deliver what has gathered, and go on."""
        self.resumes += 1
        self.is_paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """Discard the rest."""
        self.is_stopped = True
        self._deliver()

    async def stream_to(self, consumer: IConsumer) -> None:
        """Feed the consumer until the end."""
        self._consumer = consumer
        consumer.registerProducer(self, True)
        try:
            self._deliver()
            await self._ended
        finally:
            consumer.unregisterProducer()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body, which must have been fed before."""
        content = b"".join(self._pending)
        if len(content) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        if self._error is not None:
            raise self._error
        return content

    def _deliver(self) -> None:
        if self._consumer is None:
            return
        while self._pending and not self.is_paused and not self.is_stopped:
            self._consumer.write(self._pending.pop(0))
        is_at_end = self._over and not self._pending and not self.is_paused
        if (is_at_end or self.is_stopped) and not self._ended.called:
            if self._error is not None and not self.is_stopped:
                self._ended.errback(self._error)
            else:
                self._ended.callback(None)


def whole_body(chunks: Iterable[bytes], *, length_bytes: int | None = None) -> HandFedBody:
    """Return a body that delivers ``chunks`` as fast as it may, then ends."""
    body = HandFedBody(length_bytes=length_bytes)
    body.feed(*chunks)
    body.finish()
    return body


def broken_body(chunks: Iterable[bytes]) -> HandFedBody:
    """Return a body whose client goes away after ``chunks``."""
    body = HandFedBody()
    body.feed(*chunks)
    body.break_off()
    return body
