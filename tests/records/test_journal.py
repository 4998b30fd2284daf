"""The journal keeps what was written, whatever happens to its tail."""

from __future__ import annotations

import errno
import os
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.records import journal as journal_module
from dockreg_tx.records.journal import Entry, Journal, format_line, read_journal

texts = st.text(max_size=20)
entries = st.dictionaries(texts, texts | st.integers() | st.none(), max_size=5)


class LineTests(SynchronousTestCase):
    """Formatting and reading lines."""

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(st.lists(entries, max_size=5))
    def test_round_trip(self, written: list[Entry]) -> None:
        """Whatever is written is read again, in order, one line each."""
        lines = [format_line(entry) for entry in written]
        self.assertTrue(all(line.count(b"\n") == 1 for line in lines))
        self.assertEqual(written, list(read_journal(lines)))

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(st.data())
    def test_flipped_bit(self, data: st.DataObject) -> None:
        """A line with one wrong bit is left out, and its neighbours are not."""
        line = bytearray(format_line({"event": "tag.put", "tag": "latest"}))
        position = data.draw(st.integers(0, len(line) - 2))
        line[position] ^= 1 << data.draw(st.integers(0, 7))
        good: Entry = {"event": "good"}
        found = list(read_journal([format_line(good), bytes(line), format_line(good)]))
        self.assertEqual([good, good], found)

    def test_garbage(self) -> None:
        """Lines that are no entries are left out."""
        lines = [b"", b"\n", b"00000000", b"00000000 \n", b"\xff\xff", format_line({"a": 1})[:-4], b"9" * 99]
        self.assertEqual([], list(read_journal(lines)))
        self.assertEqual([], list(read_journal([b"%08x []" % zlib.crc32(b"[]")])))


class JournalTests(SynchronousTestCase):
    """Appending to files."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.first = os.path.join(self.directory, "00000001.jsonl")

    def opened(self, rotate_bytes: int = 10**9) -> Journal:
        """Return an open journal that is closed with the test."""
        journal = Journal(self.directory, rotate_bytes=rotate_bytes)
        journal.open()
        self.addCleanup(journal.close)
        return journal

    def read(self, path: str | None = None) -> list[Entry]:
        """Return the entries of a file."""
        with open(path or self.first, "rb") as file:
            return list(read_journal(file))

    def test_append(self) -> None:
        """Entries come after those of earlier runs, in a private file."""
        self.opened().append([{"a": 1}, {"a": 2}])
        self.opened().append([{"a": 3}])
        self.assertEqual([{"a": 1}, {"a": 2}, {"a": 3}], self.read())
        self.assertEqual(0o600, os.stat(self.first).st_mode & 0o777)
        self.assertEqual(0o700, os.stat(self.directory).st_mode & 0o777)

    def test_nothing(self) -> None:
        """Without entries nothing is written, and no file is made."""
        self.opened().append([])
        self.assertEqual([], os.listdir(self.directory))

    def test_torn_tail(self) -> None:
        """After a line that a crash tore, the next one starts afresh."""
        journal = self.opened()
        journal.append([{"a": 1}, {"a": 2}])
        os.truncate(self.first, os.path.getsize(self.first) - 3)
        journal.append([{"a": 3}])
        self.assertEqual([{"a": 1}, {"a": 3}], self.read())

    def test_next_file(self) -> None:
        """A full file is followed by a new one, by every process that appends."""
        one, two = self.opened(rotate_bytes=10), self.opened(rotate_bytes=10**9)
        two.append([{"a": 1}])
        one.append([{"a": 2}])
        one.append([{"a": 3}])
        two.append([{"a": 4}])
        third = os.path.join(self.directory, "00000003.jsonl")
        self.assertEqual([{"a": 1}], self.read())
        self.assertEqual([{"a": 3}, {"a": 4}], self.read(third))
        self.assertEqual([1, 2, 3], journal_module.numbers(self.directory))

    def test_strange_files(self) -> None:
        """Other files in the folder are left alone."""
        journal = self.opened()
        for name in ("notes.jsonl", "00000009.jsonl.bak", "7.jsonl"):
            with open(os.path.join(self.directory, name), "w"):
                pass
        journal.append([{"a": 1}])
        self.assertEqual([{"a": 1}], self.read())

    def test_disk_full(self) -> None:
        """A failed append leaves nothing behind and is reported; no file is synced again that failed once."""
        journal = self.opened()
        journal.append([{"a": 1}])

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        patch = self.patch(os, "fdatasync", full)
        self.assertRaises(OSError, journal.append, [{"a": 2}])
        patch.restore()
        journal.append([{"a": 3}])
        self.assertEqual([{"a": 1}], self.read())
        self.assertEqual([{"a": 3}], self.read(os.path.join(self.directory, "00000002.jsonl")))
