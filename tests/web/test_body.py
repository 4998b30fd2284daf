"""What a body keeps in memory while it is read."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import BodyTooLarge
from dockreg_tx.web.body import SMALL_BYTES, RequestBody


class _Inlet:
    """A client that sends by itself."""

    def hold_body(self) -> None:
        """Go on sending."""

    open_body = ask_for_body = hold_body


class ReadTests(SynchronousTestCase):
    """``RequestBody.read``, fed by hand."""

    def setUp(self) -> None:
        self.body = RequestBody(length_bytes=None, inlet=_Inlet())

    def read(self, *pieces: bytes, limit_bytes: int = 1 << 20) -> bytes:
        """Return what arrives in these pieces."""
        reading = Deferred.fromCoroutine(self.body.read(limit_bytes))
        for piece in pieces:
            self.body.receive(piece)
        self.body.complete()
        return self.successResultOf(reading)

    def test_pieces_of_any_size(self) -> None:
        """Small and large pieces come out in their order."""
        large = b"L" * SMALL_BYTES
        self.assertEqual(b"ab" + large + b"cd" + large, self.read(b"a", b"b", large, b"c", b"d", large))

    def test_one_piece(self) -> None:
        """A body that came at once is not copied."""
        large = b"L" * SMALL_BYTES
        self.assertIs(large, self.read(large))

    def test_drops_are_kept_together(self) -> None:
        """A client that sends byte by byte costs what its bytes take, not a piece of memory for each."""
        reading = Deferred.fromCoroutine(self.body.read(1 << 20))
        for _ in range(1000):
            self.body.receive(bytes(1))
        consumer = self.body._consumer
        self.assertEqual([1000], [len(chunk) for chunk in consumer._chunks])  # type: ignore[union-attr]
        self.body.complete()
        self.assertEqual(bytes(1000), self.successResultOf(reading))

    def test_limit(self) -> None:
        """What is beyond the limit ends the reading, however it came."""
        reading = Deferred.fromCoroutine(self.body.read(3))
        for _ in range(4):
            self.body.receive(b"x")
        self.failureResultOf(reading, BodyTooLarge)
