"""SQLite keeps the contract of the records, with a writer thread and inline."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from dockreg_tx.blocking import ThreadBlocking
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import Account
from dockreg_tx.records.connections import open_reader
from dockreg_tx.records.sqlite import InlineSqliteRecords, SqliteRecords
from tests.contracts.records_contract import APP, LAYER, RecordsContract, nothing, upload


def real_reactor() -> IReactorFromThreads:
    """Return the reactor that the test runs on."""
    from twisted.internet import reactor  # noqa: TID251 - real threads answer on the real reactor

    return reactor  # type: ignore[return-value]  # the module is the reactor


def inline_records(root: str) -> InlineSqliteRecords:
    """Return records under ``root``, not started."""
    return InlineSqliteRecords(
        path=os.path.join(root, "registry.db"),
        journal_dir=os.path.join(root, "journal"),
        lock_path=os.path.join(root, "registry.db.lock"),
    )


class SqliteRoot(TestCase):
    """A folder for one test."""

    def setUp(self) -> None:
        self.root = self.mktemp()
        os.mkdir(self.root)
        self.path = os.path.join(self.root, "registry.db")

    def threaded(self) -> SqliteRecords:
        """Return started records that are stopped with the test."""
        blocking = ThreadBlocking(reactor=real_reactor(), name="reads", threads=2)
        blocking.start()
        self.addCleanup(blocking.stop)
        records = SqliteRecords(
            path=self.path,
            journal_dir=os.path.join(self.root, "journal"),
            lock_path=os.path.join(self.root, "registry.db.lock"),
            reactor=real_reactor(),
            read_blocking=blocking,
            storage=blocking,
        )
        records.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(records.stop()))
        return records

    def inline(self) -> InlineSqliteRecords:
        """Return started inline records that are closed with the test."""
        records = inline_records(self.root)
        records.start()
        self.addCleanup(records.close)
        return records


class SqliteRecordsTests(RecordsContract, SqliteRoot):
    """The contract suite, over SQLite with a writer thread."""

    def setUp(self) -> None:
        super().setUp()
        self.records = self.threaded()


class InlineSqliteRecordsTests(RecordsContract, SqliteRoot):
    """The contract suite, over inline SQLite."""

    def setUp(self) -> None:
        super().setUp()
        self.records = self.inline()

    def test_never_suspends(self) -> None:
        """Its coroutines end by themselves, without a reactor."""
        self.successResultOf(Deferred.fromCoroutine(self.records.begin_upload(upload())))
        found = self.successResultOf(Deferred.fromCoroutine(self.records.upload("u1")))
        self.assertEqual(upload(), found)


class SqliteLifeTests(SqliteRoot):
    """Starting, stopping, and what is on disk."""

    async def test_reopened(self) -> None:
        """What was acknowledged is there after a restart, and the WAL is gone after a clean stop."""
        first = self.threaded()
        await first.begin_upload(upload())
        await first.stop()
        self.assertNotIn("registry.db-wal", os.listdir(self.root))
        self.assertEqual(upload(), await self.threaded().upload("u1"))

    async def test_stopped(self) -> None:
        """After a stop, and before a start, everything is refused as unavailable."""
        stopped = self.threaded()
        await stopped.stop()
        await stopped.stop()
        for records in (stopped, inline_records(self.root)):
            for call in (records.check(), records.upload("u1"), records.accounts()):
                await self.assertFailure(Deferred.fromCoroutine(call), StoreUnavailable)

    async def test_stop_finishes_what_is_queued(self) -> None:
        """Writes that were accepted before a stop are done and answered."""
        records = self.threaded()
        writes = [Deferred.fromCoroutine(records.begin_upload(upload(f"u{number}"))) for number in range(50)]
        await records.stop()
        await gatherResults(writes)
        self.assertEqual(50, len(await self.threaded().expired_uploads(99.0, 100)))

    def test_private_files(self) -> None:
        """Nobody but the owner can read the database and the journal, which hold hashes."""
        records = self.inline()
        self.successResultOf(Deferred.fromCoroutine(records.add_account(Account("alice", "hash"))))
        for name in ("registry.db", "registry.db-wal", "journal/00000001.jsonl"):
            self.assertEqual(0o600, os.stat(os.path.join(self.root, name)).st_mode & 0o777, name)

    def test_pragmas(self) -> None:
        """Every connection is set as the design says, since most pragmas belong to a connection."""
        self.inline()
        reader = open_reader(self.path, 0)
        self.addCleanup(reader.close)
        settings = {"foreign_keys": 1, "trusted_schema": 0, "query_only": 1, "wal_autocheckpoint": 0}
        for pragma, expected in {**settings, "journal_mode": "wal", "busy_timeout": 0}.items():
            self.assertEqual(expected, reader.execute(f"PRAGMA {pragma}").fetchone()[0], pragma)

    def test_damaged_file(self) -> None:
        """A file that is no database is refused as unavailable, without SQLite's own error."""
        with open(self.path, "wb") as file:
            file.write(b"no database" * 1000)
        self.assertRaises(StoreUnavailable, inline_records(self.root).start)

    async def test_quarantined_blob_counts_as_missing(self) -> None:
        """A blob whose bytes were found damaged is unknown everywhere until it is pushed again."""
        records = self.inline()
        await records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=1.0)
        records._writer.execute(
            lambda transaction: transaction.execute("UPDATE blobs SET state = 'quarantined'")
        )
        self.assertIsNone(await records.blob(APP, LAYER))
        self.assertFalse(await records.mount_blob(APP, APP, LAYER, now=2.0))
        await records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=3.0)
        self.assertIsNotNone(await records.blob(APP, LAYER))

    async def test_read_meets_a_lock(self) -> None:
        """A look-up that meets a lock waits in a thread instead of failing or stopping the reactor."""
        records = self.threaded()
        await records.begin_upload(upload())
        asked = []

        class _Busy:
            def upload(self, upload_id: str) -> None:
                import sqlite3

                asked.append(upload_id)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
                raise error

            def close(self) -> None:
                pass

        assert records._reader is not None
        self.addCleanup(records._reader.close)
        records._reader = _Busy()  # type: ignore[assignment]  # a reader that always meets a lock
        self.assertEqual(upload(), await records.upload("u1"))
        self.assertEqual(["u1"], asked)
