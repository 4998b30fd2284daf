"""How bytes get into files, whatever the parts are that they come in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.disk import WRITE_BYTES, Disk

#: Around what one call writes, and around how many parts one call takes.
_SIZES = st.lists(
    st.integers(0, 3) | st.integers(WRITE_BYTES - 2, WRITE_BYTES + 2) | st.just(3 * WRITE_BYTES), max_size=6
)
_CROWDS = st.integers(0, 1100).map(lambda count: [1] * count)


class _Recording(Disk):
    """Writes at most so many bytes in a call, and notes how much each one was given."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.asked: list[tuple[int, int]] = []

    def pwritev(self, descriptor: int, parts: Sequence[memoryview], offset_bytes: int) -> int:
        self.asked.append((len(parts), sum(map(len, parts))))
        return os.pwrite(descriptor, b"".join(parts)[: self.most_bytes], offset_bytes)


class WritingTests(SynchronousTestCase):
    @given(sizes=_SIZES | _CROWDS, offset_bytes=st.integers(0, 5), most_bytes=st.integers(40_000, 10**6))
    def test_whole(self, sizes: list[int], offset_bytes: int, most_bytes: int) -> None:
        """All parts arrive in order at their place, also by short writes; no call is given too much."""
        parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
        disk = _Recording(most_bytes)
        with tempfile.TemporaryFile() as file:
            disk.write_all(file.fileno(), parts, offset_bytes)
            file.seek(offset_bytes)
            self.assertEqual(b"".join(parts), file.read())
        for count, size_bytes in disk.asked:
            self.assertTrue(0 < size_bytes <= WRITE_BYTES and count <= 1024, (count, size_bytes))
        if most_bytes >= WRITE_BYTES:
            # Small parts go together.
            self.assertLessEqual(len(disk.asked), 2 * (sum(sizes) // WRITE_BYTES + len(sizes) // 512 + 1))
