"""From a push producer to the disk: bytes gathered into batches, written one at a time, synced now and then.

Knows neither files nor threads: a ``Sink`` does the writing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dockreg_tx.blobs.buffers import BUFFER_BYTES, Buffers, Filling
from dockreg_tx.blobs.crowd import MIB, Crowd
from dockreg_tx.blobs.disk import Part
from dockreg_tx.oci.errors import BodyTooLarge
from dockreg_tx.ports import Body

#: One trip to a thread; below this the trip costs more than the write.
BATCH_BYTES = MIB
#: The producer is paused when more than the first waits, and resumed when less than the second does.
HIGH_WATER_BYTES = 4 * MIB
LOW_WATER_BYTES = 2 * MIB
#: How much, or how long, a crash can take back from an upload.
SYNC_BYTES = 64 * MIB
SYNC_SECONDS = 5.0
#: Smaller chunks are copied together: a flood of one-byte chunks must not cost forty bytes each.
_SMALL_BYTES = 16 * 1024
_JOINED_BYTES = 64 * 1024
#: A client that fills less than this at once is too slow to hold a whole buffer.
_FAST_BYTES = 64 * 1024

Checkpoint = Callable[[int], Awaitable[None]]


class Sink(Protocol):
    """Takes batches in order; its offsets are those of ``UploadWriter``."""

    offset_bytes: int
    synced_bytes: int

    async def write_batch(self, parts: Sequence[Part]) -> None:
        """Write at ``offset_bytes`` and move it on."""
        ...

    async def sync(self) -> None:
        """Bring everything before the present offset to disk and set ``synced_bytes`` to it."""
        ...


@implementer(IConsumer)
class BatchConsumer:
    """Holds what has arrived until it is written, never much more than the high-water mark.

    Args:
        room_bytes: how much may arrive, None for no limit.
        arrived: called at every chunk.
        buffers: lent to a producer that can fill them (``ports.Fillable``).
        crowd: all that hold something.
    """

    def __init__(
        self, *, room_bytes: int | None, arrived: Callable[[], None], buffers: Buffers, crowd: Crowd
    ) -> None:
        self.overflowed = False
        self.held_bytes = 0
        self._room_bytes = room_bytes
        self._arrived = arrived
        self._parts: deque[Part] = deque()
        self._filling = Filling(buffers)
        self._crowd = crowd
        self._waiting_bytes = 0
        self._producer: IPushProducer | None = None
        self._is_paused = False
        self._is_over = False
        self._is_failed = False
        self._is_woken = False
        self._waiter: Deferred[None] | None = None

    # The producer's side.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take the body's producer, which must be a push producer."""
        if not streaming:
            raise ValueError("the body must be a push producer")
        self._producer = IPushProducer(producer)
        if self._is_failed:
            self._stop_producer()
            return
        self._crowd.join(self)
        if self._crowd.is_full:
            self._pause()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._crowd.leave(self)
        self._filling.close()

    def write(self, data: bytes) -> None:
        """Take a chunk; after a failure or beyond the limit it is thrown away."""
        if self._is_failed or self.overflowed or not data:
            return
        if self._room_bytes is not None:
            if len(data) > self._room_bytes:
                self.overflowed = True
                self._stop_producer()
                return
            self._room_bytes -= len(data)
        self._seal()
        self._keep(data)
        self._has_arrived(len(data))

    def room(self) -> memoryview | None:
        """Return memory to put the next bytes into, or None: ``write`` them."""
        is_limited = self._room_bytes is not None and self._room_bytes < BUFFER_BYTES
        if self._is_failed or self.overflowed or is_limited:
            return None
        return self._filling.room()

    def filled(self, size_bytes: int) -> None:
        """Take what was put into the beginning of the ``room``."""
        if size_bytes < _FAST_BYTES and self._filling.is_empty:
            self.write(self._filling.taste(size_bytes))
            return
        if self._room_bytes is not None:
            self._room_bytes -= size_bytes
        if self._filling.fill(size_bytes):
            self._seal()
        self._has_arrived(size_bytes)

    def _seal(self) -> None:
        if not self._filling.is_empty:
            self._parts.append(self._filling.seal())

    def _has_arrived(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self._waiting_bytes += size_bytes
        self._arrived()
        if self._waiting_bytes >= BATCH_BYTES:
            self._wake()
        if self.held_bytes > HIGH_WATER_BYTES:
            self._pause()
        self._crowd.hold(size_bytes)

    def _pause(self) -> None:
        if not self._is_paused and self._producer is not None:
            self._is_paused = True
            self._producer.pauseProducing()

    def _keep(self, data: bytes) -> None:
        if len(data) >= _SMALL_BYTES:
            self._parts.append(data)
            return
        tail = self._parts[-1] if self._parts else None
        if isinstance(tail, bytearray) and len(tail) < _JOINED_BYTES:
            tail += data
        else:
            self._parts.append(bytearray(data))

    # The writer's side.

    def end(self) -> None:
        """Note that nothing more arrives."""
        self._is_over = True
        self._wake()

    def fail(self) -> None:
        """Stop the producer and throw away what waits."""
        self._is_failed = True
        self._parts.clear()
        self._filling.seal()
        self._waiting_bytes = 0
        self._stop_producer()
        self._wake()

    def flush(self) -> None:
        """Let the next batch come at once, however small."""
        self._is_woken = True
        self._wake()

    async def next_batch(self) -> list[Part] | None:
        """Wait for a full batch, a flush (then it may be empty) or the end, which is None."""
        if not self._is_ready():
            self._waiter = Deferred()
            await self._waiter
        self._is_woken = False
        if self._waiting_bytes < BATCH_BYTES:
            self._seal()
        if self._is_failed or (self._is_over and not self._parts):
            return None
        return self._take_batch()

    def release(self, batch: Sequence[Part]) -> None:
        """Note that a batch is written; resumes the producer when little enough waits."""
        written_bytes = sum(map(len, batch))
        self.held_bytes -= written_bytes
        for part in batch:
            self._filling.give_back(part)
        self._crowd.let_go(written_bytes)
        self._resume()

    def press(self) -> None:
        """Take nothing more for now, and write what is there."""
        self._pause()
        if self._waiting_bytes:
            self.flush()

    def ease(self) -> None:
        """Go on."""
        self._resume()

    def _resume(self) -> None:
        if self._is_paused and self.held_bytes < LOW_WATER_BYTES and not self._crowd.is_full:
            self._is_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def close(self) -> None:
        """Hold nothing any more: the writer has ended."""
        held_bytes, self.held_bytes = self.held_bytes, 0
        self._crowd.let_go(held_bytes)

    def _is_ready(self) -> bool:
        return self._waiting_bytes >= BATCH_BYTES or self._is_over or self._is_failed or self._is_woken

    def _take_batch(self) -> list[Part]:
        batch: list[Part] = []
        taken_bytes = 0
        while self._parts and taken_bytes < BATCH_BYTES:
            batch.append(self._parts.popleft())
            taken_bytes += len(batch[-1])
        self._waiting_bytes -= taken_bytes
        return batch

    def _stop_producer(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)


class Transfer:
    """One body on its way into one sink."""

    def __init__(
        self,
        sink: Sink,
        *,
        clock: IReactorTime,
        limit_bytes: int | None,
        checkpoint: Checkpoint | None,
        buffers: Buffers,
        crowd: Crowd,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._checkpoint = checkpoint
        room_bytes = None if limit_bytes is None else max(0, limit_bytes - sink.offset_bytes)
        self.consumer = BatchConsumer(
            room_bytes=room_bytes, arrived=self._start_timer, buffers=buffers, crowd=crowd
        )
        self._timer: IDelayedCall | None = None
        self._is_sync_due = False
        self._sync_began_at_bytes = sink.offset_bytes
        self._syncing: Deferred[None] | None = None
        self._sync_error: Exception | None = None

    async def run(self, body: Body) -> None:
        """Move all of ``body``; returns, and raises, only when nothing is under way any more.

        Raises:
            BodyBroken: after everything that arrived was written and synced.
            BodyTooLarge: more arrived than the limit allows; what was taken is written and synced.
            Exception: what the sink or the checkpoint raised.
        """
        drained = Deferred.fromCoroutine(self._drain())
        try:
            await body.stream_to(self.consumer)
        finally:
            self.consumer.end()
            await outlast(drained)
        if self.consumer.overflowed and self._limit_bytes is not None:
            raise BodyTooLarge(self._limit_bytes)

    async def _drain(self) -> None:
        try:
            while (batch := await self.consumer.next_batch()) is not None:
                if batch:
                    await self._sink.write_batch(batch)
                    self.consumer.release(batch)
                self._begin_sync_if_due()
            await self._last_sync()
        except BaseException:
            self.consumer.fail()
            raise
        finally:
            self._stop_timer()
            self.consumer.close()
            await self._sync_ended()

    async def _last_sync(self) -> None:
        await self._sync_ended()
        if self._sync_error is not None:
            raise self._sync_error
        await self._sink.sync()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(SYNC_SECONDS, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        self._timer = None
        self._is_sync_due = True
        self.consumer.flush()

    def _begin_sync_if_due(self) -> None:
        """Sync beside the writing: a slow checkpoint must not hold up the data, nor overlap the next one."""
        if self._sink.offset_bytes - self._sync_began_at_bytes >= SYNC_BYTES:
            self._is_sync_due = True
        if self._is_sync_due and self._syncing is None:
            self._is_sync_due = False
            self._sync_began_at_bytes = self._sink.offset_bytes
            syncing = Deferred.fromCoroutine(self._sync_and_tell())
            if not syncing.called:
                self._syncing = syncing

    async def _sync_and_tell(self) -> None:
        try:
            await self._sink.sync()
            if self._checkpoint is not None:
                await self._checkpoint(self._sink.synced_bytes)
        except Exception as error:  # noqa: BLE001 - raised by the drain, which it must not overtake
            self._sync_error = error
            self.consumer.fail()
        finally:
            self._syncing = None
            if self._is_sync_due:
                self.consumer.flush()

    async def _sync_ended(self) -> None:
        if self._syncing is not None:
            await outlast(self._syncing)


async def outlast(work: Deferred[None]) -> None:
    """Wait for ``work`` even when cancelled: only after it the file may be closed and the answer be given.

    Raises:
        CancelledError: the wait was cancelled; the work is done all the same.
        Exception: what the work raised.
    """
    results: list[Failure | None] = []
    waiters: list[Deferred[None]] = []

    def note(result: Failure | None) -> None:
        results.append(result)
        if waiters:
            waiters.pop().callback(None)

    work.addBoth(note)
    is_cancelled = False
    while not results:
        waiters[:] = [Deferred()]
        try:
            await waiters[0]
        except CancelledError:
            waiters.clear()
            is_cancelled = True
    if results[0] is not None:
        results[0].raiseException()
    if is_cancelled:
        raise CancelledError
