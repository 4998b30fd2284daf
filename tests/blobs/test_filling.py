"""Tests of bytes that a producer puts into the consumer's own memory."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.buffers import BUFFER_BYTES, LENT_LIMIT, Buffers
from dockreg_tx.blobs.consumer import BATCH_BYTES, HIGH_WATER_BYTES, LOW_WATER_BYTES, BatchConsumer
from dockreg_tx.blobs.crowd import Crowd
from dockreg_tx.blobs.disk import Part
from dockreg_tx.ports import Fillable
from tests.bodies import HandFedBody

KIB = 1024


class FillingTests(SynchronousTestCase):
    """``BatchConsumer.room`` and ``filled``."""

    def setUp(self) -> None:
        self.buffers = Buffers()
        self.consumer = self.consumer_with(room_bytes=None)

    def consumer_with(self, *, room_bytes: int | None) -> BatchConsumer:
        """Return another consumer with the same buffers."""
        return BatchConsumer(room_bytes=room_bytes, arrived=lambda: None, buffers=self.buffers, crowd=Crowd())

    def fill(self, content: bytes) -> None:
        """Put content into the room as a fast client would."""
        room = self.consumer.room()
        assert room is not None
        room[: len(content)] = content
        self.consumer.filled(len(content))

    def batch(self) -> Sequence[Part]:
        """Return the next batch, which must be there."""
        found = self.successResultOf(Deferred.fromCoroutine(self.consumer.next_batch()))
        assert found is not None
        return found

    def test_interface(self) -> None:
        """A body finds out that it may fill the consumer."""
        self.assertIsInstance(self.consumer, Fillable)

    def test_order(self) -> None:
        """What is filled and what is written come out in the order in which they came in."""
        pieces = [b"a" * 100 * KIB, b"b" * 10, b"c" * 200 * KIB, b"d" * 300 * KIB]
        for number, piece in enumerate(pieces):
            (self.consumer.write if number % 2 else self.fill)(piece)
        self.fill(b"e" * 70 * KIB)
        self.consumer.end()
        self.assertEqual(b"".join(pieces) + b"e" * 70 * KIB, b"".join(self.batch()))

    def test_full_buffer_is_a_batch(self) -> None:
        """A full buffer goes to the disk by itself, without a copy, and the next bytes go to another one."""
        self.fill(b"1" * (BATCH_BYTES - 100 * KIB))
        waiting = Deferred.fromCoroutine(self.consumer.next_batch())
        self.assertNoResult(waiting)
        self.fill(b"2" * 100 * KIB)
        first = self.successResultOf(waiting)
        assert first is not None
        self.fill(b"3" * BUFFER_BYTES)
        self.assertEqual([b"1" * (BATCH_BYTES - 100 * KIB) + b"2" * 100 * KIB], list(map(bytes, first)))

    def test_written_buffers_are_used_again(self) -> None:
        """A buffer is filled again when its batch is written, and not before."""
        self.fill(b"1" * BUFFER_BYTES)
        first = self.batch()
        assert isinstance(first[0], memoryview)
        self.fill(b"2" * BUFFER_BYTES)
        self.assertEqual(b"1" * BUFFER_BYTES, bytes(first[0]))
        self.consumer.release(first)
        room = self.consumer.room()
        assert room is not None
        self.assertIs(first[0].obj, room.obj)

    def test_empty_buffer_goes_back(self) -> None:
        """A buffer that nothing was put into serves the next upload."""
        room = self.consumer.room()
        self.consumer.unregisterProducer()
        other = self.consumer_with(room_bytes=None).room()
        assert room is not None and other is not None
        self.assertIs(room.obj, other.obj)

    def test_no_more_than_enough(self) -> None:
        """When many buffers are in use bytes are written instead, until an upload ends, however it ends."""
        others = [self.consumer_with(room_bytes=None) for _ in range(LENT_LIMIT)]
        self.assertNotIn(None, [other.room() for other in others])
        self.assertIsNone(self.consumer.room())
        others[0].filled(BUFFER_BYTES)
        others[0].fail()
        self.assertIsNone(self.consumer.room())
        others[0].unregisterProducer()
        self.fill(b"x" * BUFFER_BYTES)
        self.assertIsNone(self.consumer.room())
        self.consumer.release(self.batch())
        self.assertIsNotNone(self.consumer.room())
        for consumer in (self.consumer, *others):
            consumer.unregisterProducer()
        self.assertEqual(0, self.buffers.lent)

    def test_slow_client(self) -> None:
        """A few bytes do not keep a whole buffer from others while they wait."""
        self.fill(b"x" * KIB)
        self.fill(b"y" * KIB)
        self.consumer.flush()
        (part,) = self.batch()
        self.assertEqual((bytearray, b"x" * KIB + b"y" * KIB), (type(part), part))

    def test_flush(self) -> None:
        """A buffer that is filled in part is written when the time is up."""
        self.fill(b"x" * 100 * KIB)
        self.consumer.flush()
        self.assertEqual(b"x" * 100 * KIB, b"".join(self.batch()))

    def test_limit(self) -> None:
        """Near the limit everything is written, so that what is beyond it is seen."""
        self.consumer = self.consumer_with(room_bytes=BUFFER_BYTES + 100 * KIB)
        self.fill(b"x" * 200 * KIB)
        self.assertIsNone(self.consumer.room())
        self.consumer.write(b"y" * BUFFER_BYTES)
        self.assertTrue(self.consumer.overflowed)
        self.assertIsNone(self.consumer.room())

    def test_failure(self) -> None:
        """After a failure there is no room, and what was filled is forgotten."""
        self.fill(b"x" * 200 * KIB)
        self.consumer.fail()
        self.assertIsNone(self.consumer.room())
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(self.consumer.next_batch())))

    def test_back_pressure(self) -> None:
        """A producer is paused by what it fills, and resumed when that is written."""
        body = HandFedBody()
        self.consumer.registerProducer(body, True)
        for number in range(HIGH_WATER_BYTES // BUFFER_BYTES):
            self.fill(b"%d" % number * BUFFER_BYTES)
        self.assertEqual(0, body.pauses)
        self.fill(b"x" * BUFFER_BYTES)
        self.assertEqual((1, 0), (body.pauses, body.resumes))
        while self.consumer.held_bytes >= LOW_WATER_BYTES:
            self.assertEqual((1, 0), (body.pauses, body.resumes))
            self.consumer.release(self.batch())
        self.assertEqual((1, 1), (body.pauses, body.resumes))
