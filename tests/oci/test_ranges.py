"""Tests of ``dockreg_tx.oci.ranges``."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import RangeNotSatisfiable, Unsupported
from dockreg_tx.oci.ranges import ByteRange, parse_range


class ParseRangeTests(SynchronousTestCase):
    """``parse_range``."""

    def test_single(self) -> None:
        """Each form of a range means the bytes of RFC 9110, cut at the end of the blob."""
        for expected, header in [
            ((0, 1), "bytes=0-0"),
            ((0, 2), "bytes=0-1"),
            ((100, 400), "bytes=100-499"),
            ((2000, 48), "bytes=2000-"),
            ((2000, 48), "bytes=2000-5000"),
            ((2000, 48), "bytes=2000-" + "9" * 5000),
            ((2047, 1), "bytes=-1"),
            ((0, 2048), "bytes=-2048"),
            ((0, 2048), "bytes=-5000"),
            ((0, 2048), "bytes=-" + "9" * 5000),
            ((0, 2048), "bytes=0-"),
            ((7, 1), "bytes=" + "0" * 5000 + "7-7"),
            ((7, 1), "BYTES = 7-7 "),
            ((7, 1), "bytes=,7-7, ,"),
        ]:
            with self.subTest(header=header[:30]):
                self.assertEqual((ByteRange(*expected),), parse_range(header, 2048))

    def test_not_satisfiable(self) -> None:
        """A range outside the blob, without bytes, or backward, is refused with the size."""
        for header, size in [
            ("bytes=2048-", 2048), ("bytes=2048-3000", 2048), ("bytes=-0", 2048), ("bytes=500-0", 2048),
            ("bytes=" + "9" * 5000 + "-", 2048), ("bytes=0-0", 0), ("bytes=0-", 0), ("bytes=-1", 0),
            ("bytes=3000-,-0,9-8", 2048),
        ]:  # fmt: skip
            with self.subTest(header=header[:30]):
                error = self.assertRaises(RangeNotSatisfiable, parse_range, header, size)
                self.assertEqual(size, error.size_bytes)

    def test_ignored(self) -> None:
        """No header, another unit and garbage mean the whole blob."""
        for header in [
            None, "", "bytes", "bytes=", "bytes= , ", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3",
            "bytes=--1", "bytes=0-1,x", "bytes=x,0-1", "bytes=+0-1", "bytes=0-٣", "bytes=0 -1", "items=0-1",
            "0-1", "bytes 0-1", "bytes=0-1\n",
        ]:  # fmt: skip
            with self.subTest(header=header):
                self.assertIsNone(parse_range(header, 2048))

    def test_many(self) -> None:
        """Every part is kept in its order, overlapping or not; parts outside are left out."""
        expected = (ByteRange(10, 10), ByteRange(0, 5), ByteRange(0, 5), ByteRange(99, 1))
        self.assertEqual(expected, parse_range("bytes=10-19,0-4, 0-4,200-300,-1", 100))

    def test_limit(self) -> None:
        """Two thousand and forty-eight parts are served, more are not supported."""
        parts = ",".join(f"{start}-{start}" for start in range(0, 4096, 2))
        self.assertEqual(
            tuple(ByteRange(start, 1) for start in range(0, 4096, 2)), parse_range(f"bytes={parts}", 5000)
        )
        self.assertRaises(Unsupported, parse_range, f"bytes={parts},0-0", 5000)

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.integers(0, 40), st.text(alphabet="0123456789-, ", max_size=20))
    def test_inside(self, size: int, text: str) -> None:
        """Whatever is asked for, each part has bytes and lies inside the blob."""
        try:
            parts = parse_range(f"bytes={text}", size)
        except RangeNotSatisfiable:
            return
        for part in parts or ():
            self.assertTrue(0 <= part.start < part.start + part.length <= size, part)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.data())
    def test_as_slices(self, data: st.DataObject) -> None:
        """A range selects what a slice of the bytes does."""
        content = bytes(range(data.draw(st.integers(1, 60))))
        first = data.draw(st.integers(0, len(content) - 1))
        last = data.draw(st.integers(first, 100))
        for header, expected in [
            (f"bytes={first}-{last}", content[first : last + 1]),
            (f"bytes={first}-", content[first:]),
            (f"bytes=-{last + 1}", content[-last - 1 :]),
        ]:
            parts = parse_range(header, len(content))
            self.assertEqual([expected], [content[part.start :][: part.length] for part in parts or ()])


class ContentRangeTests(SynchronousTestCase):
    """``ByteRange.content_range``."""

    def test_both_ends_included(self) -> None:
        """The header names the first and the last byte and the size."""
        self.assertEqual("bytes 2000-2047/2048", ByteRange(2000, 48).content_range(2048))
