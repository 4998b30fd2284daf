"""The one way to write: operations, together in one transaction, under the lock that all processes share.

SQLite before 3.51.3 can corrupt the file when two processes commit and checkpoint at once. So every write
transaction, every checkpoint and every close happens under one ``flock``.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlite_utils import Database
from twisted.logger import Logger

from dockreg_tx.oci.errors import StorageFull, StoreUnavailable
from dockreg_tx.ports import WriteGate
from dockreg_tx.records.connections import (
    PATIENCE_MS,
    OpenGate,
    open_writer,
    store_error,
    store_errors,
    tell_gate,
)
from dockreg_tx.records.journal import VOID, Journal, JournalEnd
from dockreg_tx.records.migrations import migrate
from dockreg_tx.records.room import told_apart
from dockreg_tx.records.transactions import Freeing, Operation, Transaction

T = TypeVar("T")

#: Copy the WAL into the database when it has grown by this much, or after so many transactions.
CHECKPOINT_BYTES = 4 * 1024 * 1024
CHECKPOINT_COMMITS = 250
#: A WAL file longer than this is cut, at a moment when no reader needs it.
TRUNCATE_BYTES = 64 * 1024 * 1024
#: Of the file beside the lock that is flocked by whoever is the next to have it.
QUEUE_SUFFIX = ".queue"
_JOURNAL_END = "SELECT number, size_bytes FROM journal_ends"
_SET_JOURNAL_END = "UPDATE journal_ends SET number = :number, size_bytes = :size_bytes"


#: Frees space on the disk; False when there is nothing to give up.
MakeRoom = Callable[[], bool]
_ALWAYS_OPEN = OpenGate()


def no_room() -> bool:
    """Give up nothing."""
    return False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: its result, or the error that undid it."""

    result: Any = None
    error: Exception | None = None


class SqliteWriter:
    """The process's writing connection; used by one thread at a time. It blocks.

    Args:
        path: the database file.
        journal_dir: folder of the journal.
        lock_path: file whose ``flock`` serialises the writers of all processes.
        gate: told what the disk does, and asked before every transaction.
        make_room: gives the ballast up, False when there is none; called when a removal meets a full disk.
    """

    def __init__(
        self,
        *,
        path: str,
        journal_dir: str,
        lock_path: str,
        gate: WriteGate = _ALWAYS_OPEN,
        make_room: MakeRoom = no_room,
    ) -> None:
        self._path = path
        self._gate = gate
        self._make_room = make_room
        self._lock_path = lock_path
        self._lock_descriptor = self._queue_descriptor = -1
        self._journal = Journal(journal_dir)
        self._database: Database | None = None
        self._commits_since_checkpoint = 0
        self._wal_bytes_at_checkpoint = 0

    def open(self) -> None:
        """Open the database, made or migrated as needed. Call it after the last fork.

        Raises:
            NewerDatabaseError: a newer release wrote it.
            StorageFull, StoreUnavailable: it cannot be opened.
        """
        try:
            self._open()
        except StorageFull:
            # A database that was closed needs room for its log before it can even be read.
            if not self._make_room():
                raise
            self._open()

    def _open(self) -> None:
        with store_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock_descriptor = os.open(self._lock_path, flags, 0o600)
            try:
                self._queue_descriptor = os.open(self._lock_path + QUEUE_SUFFIX, flags, 0o600)
            except BaseException:
                self._release()
                raise
            try:
                with self._locked():
                    self._open_locked()
            except BaseException:
                self._release()
                raise

    def _open_locked(self) -> None:
        database = open_writer(self._path)
        try:
            migrate(database)
            self._journal.open()
            self._database = database
            self._commit_locked([])
        except BaseException:
            self._database = None
            database.close()
            raise

    def execute(self, operation: Operation[T]) -> T:
        """Run one operation in a transaction of its own and return its result when it is on disk.

        Raises:
            RegistryError: as the operation; or StorageFull, StoreUnavailable. Nothing was written.
        """
        (outcome,) = self.commit([operation])
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.result)

    def commit(self, operations: Sequence[Operation[Any]]) -> list[Outcome]:
        """Run all operations in one transaction, each in a savepoint; return when it is on disk.

        An operation that raises undoes itself alone. When the disk or SQLite fails, all are undone. Those
        that meet a full disk and free something are tried once more, with the room of the ballast.

        Returns:
            One outcome for each operation, in order.
        """
        outcomes = self._try_to_commit(operations)
        again = [
            number
            for number, (operation, outcome) in enumerate(zip(operations, outcomes, strict=True))
            if isinstance(operation, Freeing) and isinstance(outcome.error, StorageFull)
        ]
        if again and self._has_made_room():
            retried = self._try_to_commit([operations[number] for number in again])
            for number, outcome in zip(again, retried, strict=True):
                outcomes[number] = outcome
        return outcomes

    def _has_made_room(self) -> bool:
        try:
            return self._make_room()
        except StoreUnavailable:
            return False

    def _try_to_commit(self, operations: Sequence[Operation[Any]]) -> list[Outcome]:
        try:
            self._gate.check()
            with self._locked():
                outcomes = self._commit_locked(operations)
                self._checkpoint_if_due()
        except StoreUnavailable as error:
            return [Outcome(error=error) for _ in operations]
        except Exception as error:  # noqa: BLE001 - whatever it is, every operation must get its answer
            Logger().error("the database refused a transaction: {error}", error=error)
            return [Outcome(error=self._port_error(error)) for _ in operations]
        return outcomes

    def _port_error(self, error: Exception) -> Exception:
        if not isinstance(error, (sqlite3.Error, OSError)):
            return error
        error = told_apart(error, self._path)
        tell_gate(self._gate, error)
        try:
            self._gate.check()
        except StoreUnavailable as shut:
            return shut
        return store_error(error)

    def _commit_locked(self, operations: Sequence[Operation[Any]]) -> list[Outcome]:
        database = self._opened()
        transaction = Transaction(database, files=self._journal)
        connection = database.conn
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._void_uncommitted(transaction)
            is_alone = len(operations) == 1
            outcomes = [self._run(transaction, operation, is_alone=is_alone) for operation in operations]
            # The journal goes first: rebuild-index may then know more than was acknowledged, never less.
            end = self._journal.append(transaction.entries)
            if end is not None:
                note_journal_end(transaction, end)
            connection.execute("COMMIT")
        except BaseException:
            # After some errors (disk full) SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            transaction.roll_back_files()
            raise
        return outcomes

    def _run(self, transaction: Transaction, operation: Operation[Any], *, is_alone: bool) -> Outcome:
        """Run one operation in a savepoint; one that is alone has the transaction for it."""
        if is_alone:
            return self._run_alone(transaction, operation)
        kept, kept_files = len(transaction.entries), len(transaction.undo)
        transaction.execute("SAVEPOINT operation")
        try:
            result = operation(transaction)
        except Exception as error:
            if not transaction.database.conn.in_transaction:
                # SQLite gave up the whole transaction.
                raise
            del transaction.entries[kept:]
            transaction.roll_back_files(kept_files)
            transaction.execute("ROLLBACK TO operation")
            transaction.execute("RELEASE operation")
            return Outcome(error=self._port_error(error))
        transaction.execute("RELEASE operation")
        return Outcome(result)

    def _run_alone(self, transaction: Transaction, operation: Operation[Any]) -> Outcome:
        connection = transaction.database.conn
        try:
            return Outcome(operation(transaction))
        except Exception as error:
            if not connection.in_transaction:
                # SQLite gave it up.
                raise
            transaction.entries.clear()
            transaction.roll_back_files()
            connection.execute("ROLLBACK")
            # What follows finds a transaction to commit.
            connection.execute("BEGIN IMMEDIATE")
            return Outcome(error=self._port_error(error))

    def _void_uncommitted(self, transaction: Transaction) -> None:
        """Take back journal lines of a transaction that a crash or a full disk ended before its commit.

        From here on somebody may see, or be told, that what they say did not happen.
        """
        (row,) = transaction.execute(_JOURNAL_END).fetchall()
        known, end = JournalEnd(*row), self._journal.end()
        if end == known:
            return
        if known.number:
            entry = {"event": VOID, "number": known.number, "size_bytes": known.size_bytes}
            self._journal.append([entry])
        note_journal_end(transaction, self._journal.end())

    def close(self, close_readers: Callable[[], None] = lambda: None) -> None:
        """Close everything under the lock, since the last connection to close checkpoints.

        Args:
            close_readers: closes this process's other connections.

        Raises:
            StoreUnavailable: the last checkpoint failed; nothing acknowledged is harmed.
        """
        if self._lock_descriptor < 0:
            return
        try:
            with store_errors(), self._locked():
                close_readers()
                if self._database is not None:
                    self._database.close()
        finally:
            self._release()

    def _release(self) -> None:
        self._database = None
        self._journal.close()
        for descriptor in (self._queue_descriptor, self._lock_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock_descriptor = self._queue_descriptor = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock_descriptor < 0:
            raise StoreUnavailable("the registry's database is closed: the registry is stopping")
        # The kernel wakes who waits, but lets who comes first have the lock: one that locks again and again,
        # as garbage collection does, would always be first. So all queue for the right to wait.
        fcntl.flock(self._queue_descriptor, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._queue_descriptor, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_UN)

    def _opened(self) -> Database:
        if self._database is None:
            raise StoreUnavailable("the registry's database is closed: the registry is stopping")
        return self._database

    def _checkpoint_if_due(self) -> None:
        self._commits_since_checkpoint += 1
        grown_bytes = self._wal_bytes() - self._wal_bytes_at_checkpoint
        if grown_bytes < CHECKPOINT_BYTES and self._commits_since_checkpoint < CHECKPOINT_COMMITS:
            return
        try:
            self.checkpoint_locked()
        except sqlite3.Error as error:
            # The transaction before it is on disk all the same; the next one tries again.
            Logger().error("a checkpoint failed: {error}", error=error)
            tell_gate(self._gate, told_apart(error, self._path))

    def checkpoint_locked(self) -> None:
        """Copy what no reader holds back from the WAL into the database; the caller holds the lock."""
        database = self._opened()
        database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if self._wal_bytes() > TRUNCATE_BYTES:
            _truncate(database)
        self._commits_since_checkpoint = 0
        self._wal_bytes_at_checkpoint = self._wal_bytes()

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0


def note_journal_end(transaction: Transaction, end: JournalEnd) -> None:
    """Record how far the journal tells what this transaction commits."""
    transaction.execute(_SET_JOURNAL_END, number=end.number, size_bytes=end.size_bytes)


def _truncate(database: Database) -> None:
    """Cut the WAL file, unless a reader needs it: one that waited would hold up every writer."""
    database.execute("PRAGMA busy_timeout = 0")
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        database.execute(f"PRAGMA busy_timeout = {PATIENCE_MS:d}")
