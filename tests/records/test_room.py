"""What a write of SQLite was refused for."""

from __future__ import annotations

import errno
import os
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import StorageFull
from dockreg_tx.records.connections import store_error
from dockreg_tx.records.room import told_apart

WRITE, FSYNC = 778, 1034


def sqlite_error(code: int) -> sqlite3.Error:
    """Return what the module raises for an extended code."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        os.mkdir(root := self.mktemp())
        self.path = os.path.join(root, "registry.db")

    def refuse_with(self, number: int) -> list[int]:
        """Let every write fail; return how far out they were."""
        offsets: list[int] = []

        def failing(descriptor: int, content: bytes, offset_bytes: int) -> int:
            offsets.append(offset_bytes)
            raise OSError(number, os.strerror(number))

        self.patch(os, "pwrite", failing)
        return offsets

    def test_no_room(self) -> None:
        """A full quota and a limit of file sizes are no broken disk; the longest file is what counts."""
        for path, size_bytes in ((self.path, 10), (f"{self.path}-wal", 30)):
            with open(path, "wb") as file:
                file.truncate(size_bytes)
        for number in (errno.EDQUOT, errno.EFBIG, errno.ENOSPC):
            offsets = self.refuse_with(number)
            told = told_apart(sqlite_error(WRITE), self.path)
            self.assertIsInstance(store_error(told), StorageFull)
            self.assertEqual([30], offsets)

    def test_broken(self) -> None:
        """Where fresh bytes fail for another reason, or come to the disk, it is what SQLite said."""
        error = sqlite_error(WRITE)
        self.assertIs(error, told_apart(error, self.path))
        self.refuse_with(errno.EIO)
        self.assertIs(error, told_apart(error, self.path))
        self.assertEqual([], os.listdir(os.path.dirname(self.path)))

    def test_other_errors(self) -> None:
        """What is no refused write is not looked into, a failed fsync least of all."""
        self.refuse_with(errno.EDQUOT)
        for error in (sqlite_error(FSYNC), sqlite_error(sqlite3.SQLITE_CORRUPT), ValueError("no")):
            self.assertIs(error, told_apart(error, self.path))

    def test_short_writes(self) -> None:
        """A write that is cut short is gone on with, as near a limit the next one tells why."""
        write, lengths = os.pwrite, list[int]()

        def short(descriptor: int, content: bytes, offset_bytes: int) -> int:
            lengths.append(len(content))
            return write(descriptor, content[:600_000], offset_bytes)

        self.patch(os, "pwrite", short)
        told_apart(sqlite_error(WRITE), self.path)
        self.assertEqual([1024 * 1024, 1024 * 1024 - 600_000], lengths)
