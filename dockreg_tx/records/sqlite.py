"""Records in SQLite: for the server, with a writer thread; and inline, for the ``dockreg`` command."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from twisted.internet.interfaces import IReactorFromThreads

from dockreg_tx.metrics import Counts, Timer
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import (
    Blocking,
    EnsureContent,
    HandsOff,
    LateContent,
    MovedContent,
    MoveVerdict,
    WriteGate,
)
from dockreg_tx.records import moving
from dockreg_tx.records.commit_mark import CommitMark
from dockreg_tx.records.connections import (
    PATIENCE_MS,
    OpenGate,
    is_busy,
    open_reader,
    store_error,
    store_errors,
)
from dockreg_tx.records.reader import ReaderPool, SqliteReader
from dockreg_tx.records.scrubbing import UpkeepOperations
from dockreg_tx.records.transactions import Operation
from dockreg_tx.records.writer import MakeRoom, SqliteWriter, no_room
from dockreg_tx.records.writer_thread import WriterThread

T = TypeVar("T")


class SqliteRecords(UpkeepOperations):
    """The records of a serving process.

    Args:
        path: the database file, on a local disk.
        journal_dir: folder of the journal, made if it is missing.
        lock_path: file whose ``flock`` serialises the writers of all processes.
        reactor: where look-ups run and writes are answered.
        read_blocking: threads for scans, and for look-ups that met a lock.
        storage: threads that put content in its place; without any the writer thread does it alone.
        gate: told what the disk does, and asked before every transaction.
        make_room: gives the ballast up; called when a removal meets a full disk.
        counts: take the times of look-ups and commits.
    """

    def __init__(
        self,
        *,
        path: str,
        journal_dir: str,
        lock_path: str,
        reactor: IReactorFromThreads,
        read_blocking: Blocking,
        storage: HandsOff | None = None,
        gate: WriteGate | None = None,
        make_room: MakeRoom | None = None,
        counts: Counts | None = None,
    ) -> None:
        counts = counts or Counts()
        self._note_read = counts.timer("dockreg_database_read_seconds").note
        self._path = path
        self._writer = SqliteWriter(
            path=path,
            journal_dir=journal_dir,
            lock_path=lock_path,
            gate=gate or OpenGate(),
            make_room=make_room or no_room,
        )
        self._thread = WriterThread(
            writer=self._writer,
            reactor=reactor,
            storage=storage,
            note_commit=partial(_note_commit, counts, counts.timer("dockreg_database_commit_seconds")),
        )
        self._read_blocking = read_blocking
        self._pool = ReaderPool(path)
        self._reader: SqliteReader | None = None
        self._mark: CommitMark | None = None

    def start(self) -> None:
        """Open the database, made or migrated as needed, and start the thread. Blocks; after the last fork.

        Raises:
            NewerDatabaseError: a newer release wrote it.
            StorageFull, StoreUnavailable: it cannot be opened.
        """
        self._writer.open()
        # The writer's connection has made the file that this looks at.
        self._mark = CommitMark(self._path)
        try:
            # The reactor never waits for a lock.
            self._reader = _open(self._path, busy_timeout_ms=0, mark=self._mark)
        except StoreUnavailable:
            self._writer.close()
            self._mark.close()
            raise
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many operations wait for their commit."""
        return self._thread.waiting

    def version(self) -> int | None:
        """Return a number that differs after every commit of any process; None when that cannot be told."""
        try:
            return None if self._reader is None else self._reader.version()
        except sqlite3.Error:
            return None

    async def stop(self) -> None:
        """Finish queued writes and close everything; whatever comes later is refused."""
        if self._reader is None:
            return
        reader, self._reader = self._reader, None

        def close_readers() -> None:
            reader.close()
            self._pool.close()

        await self._thread.stop(close_readers)
        if self._mark is not None:
            self._mark.close()

    async def _write(self, operation: Operation[T]) -> T:
        return await self._thread.execute(operation)

    async def _write_content(self, operation: Operation[T], ensure: EnsureContent) -> T:
        return await self._thread.execute(operation, ensure if isinstance(ensure, LateContent) else None)

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes, by any process."""
        # Asked for every request: by the shortest way.
        try:
            return self._opened().access_generation()
        except sqlite3.Error:
            return await super().access_generation()

    def generation_at_once(self) -> int | None:
        """Return the ``access_generation``, None when a lock is in the way."""
        try:
            return None if self._reader is None else self._reader.access_generation()
        except sqlite3.Error:
            return None

    async def _read(self, query: Callable[[SqliteReader], T]) -> T:
        began_at = monotonic()
        try:
            return query(self._opened())
        except sqlite3.Error as error:
            if not is_busy(error):
                raise store_error(error) from error
        finally:
            self._note_read(monotonic() - began_at)
        return await self._scan(query)

    async def _scan(self, query: Callable[[SqliteReader], T]) -> T:
        self._opened()
        with store_errors():
            return await self._read_blocking.run(self._pool.read, query)

    def _opened(self) -> SqliteReader:
        return _opened(self._reader)


class InlineSqliteRecords(UpkeepOperations):
    """The same records for a short-lived process: its coroutines never suspend, all work is done in place."""

    def __init__(
        self, *, path: str, journal_dir: str, lock_path: str, make_room: MakeRoom | None = None
    ) -> None:
        self._path = path
        self._writer = SqliteWriter(
            path=path, journal_dir=journal_dir, lock_path=lock_path, make_room=make_room or no_room
        )
        self._reader: SqliteReader | None = None

    def start(self) -> None:
        """Open the database, made or migrated as needed.

        Raises:
            NewerDatabaseError: a newer release wrote it.
            StorageFull, StoreUnavailable: it cannot be opened.
        """
        self._writer.open()
        try:
            self._reader = _open(self._path, busy_timeout_ms=PATIENCE_MS)
        except StoreUnavailable:
            self._writer.close()
            raise

    def close(self) -> None:
        """Close everything; whatever comes later is refused. May be called twice."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._writer.close(reader.close)

    async def stop(self) -> None:
        """Close, for those who treat it like ``SqliteRecords``."""
        self.close()

    async def move_in(
        self,
        contents: Sequence[MovedContent],
        *,
        ensure: Callable[[Digest], None],
        is_enough: Callable[[], bool],
        now: float,
    ) -> list[MoveVerdict]:
        """Record content whose bytes are stored."""
        return await self._write(
            lambda transaction: moving.move_in(
                transaction, contents, ensure=ensure, is_enough=is_enough, now=now
            )
        )

    async def _write(self, operation: Operation[T]) -> T:
        return self._writer.execute(operation)

    async def _read(self, query: Callable[[SqliteReader], T]) -> T:
        with store_errors():
            return query(_opened(self._reader))

    async def _scan(self, query: Callable[[SqliteReader], T]) -> T:
        return await self._read(query)


def _note_commit(counts: Counts, timer: Timer, operations: int, took_seconds: float) -> None:
    counts.add("dockreg_database_writes", operations)
    timer.note(took_seconds)


def _open(path: str, *, busy_timeout_ms: int, mark: CommitMark | None = None) -> SqliteReader:
    with store_errors():
        return SqliteReader(open_reader(path, busy_timeout_ms), mark)


def _opened(reader: SqliteReader | None) -> SqliteReader:
    if reader is None:
        raise StoreUnavailable("the registry's database is closed: the registry is stopping")
    return reader
