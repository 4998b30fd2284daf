"""Opening the database file, and turning what SQLite says into the errors of the ports."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlite_utils import Database

from dockreg_tx.oci.errors import NO_ROOM, StorageFull, StoreUnavailable
from dockreg_tx.ports import WriteGate
from dockreg_tx.records import checksums
from dockreg_tx.records.room import told_apart

#: How long connections outside the reactor wait for a lock of strangers; our writers queue at the flock.
PATIENCE_MS = 10_000
#: The file that connections share cannot grow: that is a full disk, too.
_SHARED_MEMORY_FULL = 4874  # SQLITE_IOERR_SHMSIZE, which Python 3.11 does not always name
#: Not the disk's fault, but memory's.
_NO_MEMORY = 3082  # SQLITE_IOERR_NOMEM
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def open_writer(path: str) -> Database:
    """Open the database for writing, made if it is missing (mode 0600: it holds password hashes)."""
    make_file(path)
    database = _connect(path, PATIENCE_MS)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    return database


def open_reader(path: str, busy_timeout_ms: int) -> Database:
    """Open an existing database for reading; it never checkpoints and sees every commit at once."""
    database = _connect(path, busy_timeout_ms)
    database.execute("PRAGMA wal_autocheckpoint = 0")
    database.execute("PRAGMA query_only = ON")
    return database


def _connect(path: str, busy_timeout_ms: int) -> Database:
    # Each connection is used by one thread at a time, though not always by the one that opened it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    checksums.offer(connection)
    # No plugins: nothing else may hook into our connections.
    database = Database(connection, execute_plugins=False)
    database.execute(f"PRAGMA busy_timeout = {busy_timeout_ms:d}")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA mmap_size = 0")
    return database


def make_file(path: str) -> None:
    """Make an empty private file, with its directory entry on disk; nothing when it exists."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    sync_directory(os.path.dirname(path) or ".")


def sync_directory(path: str) -> None:
    """Bring a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_busy(error: BaseException) -> bool:
    """Tell whether a lock held elsewhere was the cause, so that waiting helps."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) in _BUSY


def store_error(error: Exception) -> StoreUnavailable:
    """Return the error of the ports for one of SQLite or of the disk."""
    if isinstance(error, OSError):
        is_full = error.errno in NO_ROOM
    else:
        is_full = isinstance(error, sqlite3.Error) and (
            _primary_code(error) == sqlite3.SQLITE_FULL or _extended_code(error) == _SHARED_MEMORY_FULL
        )
    if is_full:
        return StorageFull(error.errno if isinstance(error, OSError) else None)
    if isinstance(error, sqlite3.Error) and _primary_code(error) in _DAMAGED:
        return StoreUnavailable(
            "the registry's database is damaged: its operator must stop it, and run dockreg rebuild-index"
        )
    return StoreUnavailable("the registry's database is unavailable: try again later")


@contextmanager
def store_errors(path: str | None = None) -> Iterator[None]:
    """Raise ``StorageFull`` or ``StoreUnavailable`` in place of ``sqlite3.Error`` and ``OSError``.

    Args:
        path: the database file, where it is written to.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(error if path is None else told_apart(error, path)) from error


def tell_gate(gate: WriteGate, error: BaseException) -> None:
    """Shut the gate if an error of a write means that the disk, or the database on it, is broken."""
    if isinstance(error, OSError):
        gate.note(error)
    elif isinstance(error, sqlite3.Error):
        code = _primary_code(error)
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            gate.shut("its database is damaged", is_final=True)
        elif code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY} and (
            _extended_code(error) not in {_SHARED_MEMORY_FULL, _NO_MEMORY}
        ):
            gate.shut(f"its disk failed (database: {error})")


class OpenGate:
    """A gate that never shuts: for a process that ends with its work."""

    def check(self) -> None:
        """Do nothing."""

    def note(self, error: OSError) -> None:
        """Do nothing."""

    def shut(self, reason: str, *, is_final: bool = False) -> None:
        """Do nothing."""


def _extended_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0)


def _primary_code(error: sqlite3.Error) -> int:
    # The low byte; the rest refines it (SQLITE_BUSY_SNAPSHOT …). Errors of the module itself have no code.
    return _extended_code(error) & 0xFF
