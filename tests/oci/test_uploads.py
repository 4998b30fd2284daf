"""Tests of ``dockreg_tx.oci.uploads``."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import RangeOutOfOrder, SizeInvalid
from dockreg_tx.oci.uploads import check_chunk, upload_range


class CheckChunkTests(SynchronousTestCase):
    """``check_chunk``."""

    def test_streaming(self) -> None:
        """Without a range any body goes on at the offset, an empty one too."""
        for length in (None, 0, 1000):
            self.assertEqual(length, check_chunk(7, None, length))

    def test_spellings(self) -> None:
        """A range may have a unit and a total, as RFC 9110 writes it."""
        for text in (
            "10-19",
            "bytes 10-19",
            "10-19/*",
            "bytes 10-19/20",
            "bytes  10-19/*",
            " 10-19\t",
            "010-0019",
        ):
            self.assertEqual(10, check_chunk(10, text, 10), text)
            self.assertEqual(10, check_chunk(10, text, None), text)

    def test_malformed(self) -> None:
        """Anything else is out of order, and the error tells where the session is."""
        for text in [
            "", "-", "0", "0-", "-9", "a-b", "0-9-", "0--9", "+0-9", "0 - 9", "bytes=0-9", "bits 0-9", "0-9/",
            "0-9/x", "0-9\n", "0-٣", "0-9,10-19", "1" * 100_000 + "-9", "0x0-0x9", "bytes */9",
        ]:  # fmt: skip
            with self.subTest(text=text[:30]):
                error = self.assertRaises(RangeOutOfOrder, check_chunk, 0, text, 10)
                self.assertEqual(0, error.offset_bytes)

    def test_out_of_order(self) -> None:
        """A chunk beyond the offset, before it, or again, is out of order."""
        for text in ("20-29", "0-9", "9-19", "11-19", "10-9", "10-0"):
            error = self.assertRaises(RangeOutOfOrder, check_chunk, 10, text, 10)
            self.assertEqual({"offset": 10}, error.detail)

    def test_length(self) -> None:
        """Range and Content-Length must agree; order is judged first."""
        for length in (0, 9, 11):
            self.assertRaises(SizeInvalid, check_chunk, 10, "10-19", length)
            self.assertRaises(RangeOutOfOrder, check_chunk, 0, "10-19", length)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.integers(0, 2**62), st.integers(1, 2**40))
    def test_round_trip(self, offset: int, size: int) -> None:
        """A chunk of any size at the offset has exactly the bytes of its range."""
        self.assertEqual(size, check_chunk(offset, f"{offset}-{offset + size - 1}", size))


class UploadRangeTests(SynchronousTestCase):
    """``upload_range``."""

    def test_ends(self) -> None:
        """The last byte is included; nothing looks like one byte."""
        for expected, offset in (("0-0", 0), ("0-0", 1), ("0-1", 2), ("0-999", 1000)):
            self.assertEqual(expected, upload_range(offset))
