"""Request bodies as handlers see them: a push producer that starts when it is asked for.

The channel in ``intake`` feeds a body and is told when to stop and go on; nothing here knows of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from zope.interface import implementer

from dockreg_tx.oci.errors import BodyBroken, BodyTooLarge
from dockreg_tx.ports import Fillable

#: Smaller pieces are copied together: a slow client's would each hold a piece of the heap for minutes.
SMALL_BYTES = 4096
#: A read of this size tells that the client is fast enough to fill the consumer's memory directly.
FAST_BYTES = 256 * 1024
#: And one below this, that it is not any more.
SLOW_BYTES = 64 * 1024

T = TypeVar("T")


@cache
def _is_fillable(kind: type) -> bool:
    """Tell whether a kind of consumer is ``Fillable``; asking costs as much as parsing a head."""
    return issubclass(kind, Fillable)


class Inlet(Protocol):
    """Where a body comes from."""

    def hold_body(self) -> None:
        """Stop reading from the client."""
        ...

    def open_body(self) -> None:
        """Read from the client, and expect progress."""
        ...

    def ask_for_body(self) -> None:
        """Send ``100 Continue`` if the client waits for it."""
        ...


@implementer(IPushProducer)
class RequestBody:
    """A body that may be taken once (``ports.Body``).

    Until it is taken it keeps what one read from the socket brought, and holds the client back.
    """

    def __init__(self, *, length_bytes: int | None, inlet: Inlet) -> None:
        self.length_bytes = length_bytes
        self.received_bytes = 0
        #: The last byte has come.
        self.is_complete = False
        #: No more bytes will come.
        self.is_over = False
        self._inlet = inlet
        self._pending: list[bytes] = []
        self._consumer: IConsumer | None = None
        self._fillable: Fillable | None = None
        self._is_fast = False
        self._error: BodyBroken | None = None
        self._done: Deferred[None] | None = None
        self._is_taken = False
        self._is_paused = False
        self._is_discarded = False

    # --- for handlers

    async def stream_to(self, consumer: IConsumer) -> None:
        """Feed ``consumer`` until the body ends; see ``ports.Body``.

        Raises:
            BodyBroken: the client went away or stalled; everything received was written to ``consumer``.
        """
        self._take()
        self._consumer = consumer
        self._fillable = cast("Fillable", consumer) if _is_fillable(type(consumer)) else None
        consumer.registerProducer(self, True)
        try:
            self._deliver_pending()
            if not self.is_over and not self._is_discarded:
                await self._flow()
            if self._error is not None and not self._is_discarded:
                raise self._error
        finally:
            self._consumer = self._fillable = None
            self.discard()
            consumer.unregisterProducer()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body; see ``ports.Body``.

        Raises:
            BodyTooLarge: it has more than ``limit_bytes``.
            BodyBroken: the client went away or stalled.
        """
        if self.length_bytes is not None and self.length_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        gathered = _Gathered(limit_bytes)
        await self.stream_to(gathered)
        if gathered.is_too_large:
            raise BodyTooLarge(limit_bytes)
        return gathered.content()

    def _take(self) -> None:
        if self._is_taken:
            raise RuntimeError("a request body may be taken only once")
        self._is_taken = True
        # RFC 9110, 10.1.1: no 100 when some of the body is here already.
        if not self.is_over and not self.received_bytes:
            self._inlet.ask_for_body()

    def _deliver_pending(self) -> None:
        pending, self._pending = self._pending, []
        for chunk in pending:
            if self._consumer is not None and not self._is_discarded:
                self._consumer.write(chunk)

    async def _flow(self) -> None:
        # Deferred[None]() would keep its alias in memory, too.
        done: Deferred[None] = Deferred()
        self._done = done
        if self._is_paused:
            self._inlet.hold_body()
        else:
            self._inlet.open_body()
        try:
            await done
        finally:
            self._done = None

    # --- IPushProducer, for the consumer

    def pauseProducing(self) -> None:
        """Hold the client back."""
        self._is_paused = True
        if self._done is not None:
            self._inlet.hold_body()

    def resumeProducing(self) -> None:
        """Let the client go on."""
        self._is_paused = False
        if self._done is not None:
            self._inlet.open_body()

    def stopProducing(self) -> None:
        """Give the rest up; ``stream_to`` returns early."""
        self.discard()
        self._finish()

    # --- for the channel

    def receive(self, data: bytes) -> None:
        """Take bytes from the client."""
        self.received_bytes += len(data)
        if self._is_discarded:
            return
        if self._done is None or self._consumer is None:
            self._pending.append(data)
            self._inlet.hold_body()
            return
        self._is_fast = len(data) >= FAST_BYTES
        self._deliver(self._consumer.write, data)

    def room(self) -> memoryview | None:
        """Return memory to read into, followed by ``filled``; None: read as usual, then ``receive``."""
        if not self._is_fast or self._fillable is None or self._done is None or self._is_discarded:
            return None
        return self._fillable.room()

    def filled(self, size_bytes: int) -> None:
        """Take bytes from the client that are in the ``room``."""
        self.received_bytes += size_bytes
        self._is_fast = size_bytes >= SLOW_BYTES
        if self._fillable is not None:
            self._deliver(self._fillable.filled, size_bytes)

    def gather(self, pieces: Sequence[memoryview], *, read_bytes: int) -> None:
        """Take bytes from the client that lie in memory which will be used again.

        Args:
            pieces: in their order, none empty.
            read_bytes: how long the read was that they are of.
        """
        is_fast = read_bytes >= (SLOW_BYTES if self._is_fast else FAST_BYTES)
        self._is_fast = is_fast
        room, filled_bytes = self.room(), 0
        if room is None:
            self.receive(b"".join(pieces))
            return
        for whole in pieces:
            piece = whole
            while room is not None and filled_bytes + len(piece) >= len(room):
                cut = len(room) - filled_bytes
                room[filled_bytes:] = piece[:cut]
                self.filled(len(room))
                self._is_fast = is_fast
                room, filled_bytes, piece = self.room(), 0, piece[cut:]
            if room is None:
                self.receive(bytes(piece))
            else:
                room[filled_bytes : filled_bytes + len(piece)] = piece
                filled_bytes += len(piece)
        if filled_bytes:
            self.filled(filled_bytes)
            self._is_fast = is_fast

    def _deliver(self, take: Callable[[T], object], what: T) -> None:
        try:
            take(what)
        except Exception as error:  # noqa: BLE001 - the consumer's failure belongs to the handler, not here
            self.discard()
            self._finish(error)

    def complete(self) -> None:
        """Note that all bytes have been received."""
        self.is_complete = self.is_over = True
        self._finish()

    def break_off(self, error: BodyBroken) -> None:
        """Note that no more bytes will come although some are missing."""
        if self.is_over:
            return
        self._error = error
        self.is_over = True
        self._finish()

    def discard(self) -> None:
        """Forget what nobody will take, now and later."""
        self._is_discarded = True
        self._pending.clear()
        if not self.is_over:
            self._inlet.hold_body()

    def _finish(self, error: Exception | None = None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if error is None:
            done.callback(None)
        else:
            done.errback(error)


class _NoInlet:
    """Where nothing comes from."""

    def hold_body(self) -> None:
        """Hold nothing."""

    open_body = ask_for_body = hold_body


_NO_INLET = _NoInlet()


class EmptyBody(RequestBody):
    """The body of requests that have none; one serves them all, however often it is taken."""

    def __init__(self) -> None:
        super().__init__(length_bytes=0, inlet=_NO_INLET)
        self.complete()

    def _take(self) -> None:
        """Take nothing."""


class WholeBody(RequestBody):
    """A body that came with its head."""

    def __init__(self, content: bytes) -> None:
        super().__init__(length_bytes=len(content), inlet=_NO_INLET)
        self._pending = [content]
        self.received_bytes = len(content)
        self.is_complete = self.is_over = True

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body, which is here; see ``ports.Body``."""
        if self.received_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        self._take()
        content = b"".join(self._pending)
        self.discard()
        return content


@implementer(IConsumer)
class _Gathered:
    """Keeps what is written, up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.is_too_large = False
        self._chunks: list[bytes | bytearray] = []
        self._room_bytes = limit_bytes
        self._producer: IProducer | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Remember whom to stop."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Keep ``data`` if it fits."""
        self._room_bytes -= len(data)
        if self._room_bytes >= 0:
            self._keep(data)
            return
        self.is_too_large = True
        self._chunks.clear()
        if self._producer is not None:
            self._producer.stopProducing()

    def _keep(self, data: bytes) -> None:
        tail = self._chunks[-1] if self._chunks else None
        if len(data) >= SMALL_BYTES:
            self._chunks.append(data)
        elif isinstance(tail, bytearray):
            tail += data
        else:
            self._chunks.append(bytearray(data))

    def content(self) -> bytes:
        """Return all that was written."""
        only = self._chunks[0] if len(self._chunks) == 1 else None
        return only if isinstance(only, bytes) else b"".join(self._chunks)
