"""Nobody commits without the mark telling, and watching it takes no lock away."""

from __future__ import annotations

import os
import subprocess
import sys

from dockreg_tx.records.commit_mark import CommitMark
from dockreg_tx.records.connections import open_reader, open_writer
from dockreg_tx.records.reader import SqliteReader
from tests.records.test_sqlite import SqliteRoot

_COMMIT = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"


class CommitMarkTests(SqliteRoot):
    """The same versions as SQLite's own."""

    def setUp(self) -> None:
        super().setUp()
        self.writer = open_writer(self.path)
        self.addCleanup(self.writer.close)
        self.writer.execute("CREATE TABLE t (x)")
        self.mark = CommitMark(self.path)
        self.plain = SqliteReader(open_reader(self.path, 0))
        self.addCleanup(self.plain.close)
        self.reader = SqliteReader(open_reader(self.path, 0), self.mark)
        self.addCleanup(self.reader.close)

    def by_stranger(self, statement: str) -> None:
        """Commit from another process."""
        subprocess.run([sys.executable, "-c", _COMMIT, self.path, statement], check=True)

    def test_versions(self) -> None:
        """A version changes with each commit of anybody, and with nothing else that SQLite does not count."""
        insert = "INSERT INTO t VALUES (randomblob(5000))"
        for step in [
            lambda: None,
            lambda: self.writer.execute(insert),
            lambda: self.by_stranger(insert),
            lambda: self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall(),
            lambda: self.writer.execute(insert),
            lambda: (self.writer.execute("BEGIN IMMEDIATE"), self.writer.execute(insert)),
            lambda: self.writer.execute("ROLLBACK"),
            lambda: self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(),
            lambda: self.by_stranger("UPDATE t SET x = 1"),
            lambda: (
                self.writer.execute("BEGIN"),
                self.writer.execute(insert),
                self.writer.execute("COMMIT"),
            ),
        ] * 3:
            before = self.plain.version(), self.reader.version()
            step()
            after = self.plain.version(), self.reader.version()
            self.assertEqual(before[0] == after[0], before[1] == after[1])

    def test_no_question(self) -> None:
        """While nobody commits, SQLite is not asked again."""
        asked: list[str] = []
        self.reader.version()
        self.writer.conn.set_trace_callback(asked.append)
        self.reader._database.conn.set_trace_callback(asked.append)
        self.reader.version()
        self.assertEqual([], asked)

    def test_missing(self) -> None:
        """Where there is no such file SQLite is asked each time."""
        mark = CommitMark(self.path + ".other")
        self.assertIsNone(mark.read())
        mark.close()

    def test_locks_stay(self) -> None:
        """Closing the mark leaves the connections of this process their locks."""
        self.reader.version()
        self.assertTrue(is_locked(self.path + "-shm"))
        self.mark.close()
        self.assertTrue(is_locked(self.path + "-shm"))
        self.assertIsNone(self.mark.read())


class LifeTests(SqliteRoot):
    """The mark of a serving process."""

    async def test_no_descriptor_is_left(self) -> None:
        """Records that stop leave nothing open."""
        records = self.threaded()
        self.assertTrue(open_files(self.path))
        await records.stop()
        self.assertEqual([], open_files(self.path))


def is_locked(path: str) -> bool:
    """Tell whether this process holds a POSIX lock on a file; asked of another process."""
    script = (
        "import fcntl, struct, sys; f = open(sys.argv[1], 'r+b');"
        "asked = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0);"
        "told = fcntl.fcntl(f, fcntl.F_GETLK, asked);"
        "print(struct.unpack('hhqqi', told)[0] != fcntl.F_UNLCK)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def open_files(path: str) -> list[str]:
    """Return what this process has open of a database."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return [name for name in found if name.startswith(os.path.abspath(path))]
