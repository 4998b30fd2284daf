"""Small blobs, which leave in one piece with their head."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.web.answers import Answer, BlobAnswer
from dockreg_tx.web.v2 import blobs
from tests.web.wire import MemoryBlob


class Unreadable(MemoryBlob):
    """Cannot be read."""

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        raise StoreUnavailable("the registry's disk refused: Input/output error; try again later")


class SmallBlobTests(SynchronousTestCase):
    """What becomes of the open blob."""

    def test_whole(self) -> None:
        """It is read at once, and closed."""
        blob = MemoryBlob(b"content")
        answer = self.successResultOf(Deferred.fromCoroutine(blobs._whole((), blob)))
        assert isinstance(answer, Answer)
        self.assertEqual((b"content", 1, 0), (answer.body, blob.times_closed, blob.times_suspected))

    def test_unreadable(self) -> None:
        """One that cannot be read is left to the scrub, and the client is told to come again."""
        blob = Unreadable(b"content")
        self.failureResultOf(Deferred.fromCoroutine(blobs._whole((), blob)), StoreUnavailable)
        self.assertEqual((1, 1), (blob.times_closed, blob.times_suspected))

    def test_cut_short(self) -> None:
        """One that ends early is sent as the large ones are, and those are cut off and suspected."""
        blob = MemoryBlob(b"content")
        blob.size_bytes += 1
        answer = self.successResultOf(Deferred.fromCoroutine(blobs._whole((), blob)))
        self.assertIsInstance(answer, BlobAnswer)
        self.assertEqual(0, blob.times_closed)
