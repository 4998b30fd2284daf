"""A rebuilt database file in the place of one that is lost or broken; the old one is moved aside."""

from __future__ import annotations

import os
from contextlib import suppress

from dockreg_tx.records.connections import open_writer, sync_directory
from dockreg_tx.records.facts import Facts
from dockreg_tx.records.journal import JournalEnd
from dockreg_tx.records.journal_reader import Report
from dockreg_tx.records.migrations import migrate
from dockreg_tx.records.rebuild import Content, Counts, Rebuilder
from dockreg_tx.records.transactions import Transaction
from dockreg_tx.records.writer import note_journal_end

#: The database and what SQLite keeps beside it, in the order to move them: without the first there is none.
_SUFFIXES = ("", "-wal", "-shm", "-journal")


def rebuild_database(
    path: str, facts: Facts, *, end: JournalEnd, content: Content, report: Report, now: float
) -> Counts:
    """Write a database file anew, complete and on disk, beside its place; ``place_database`` moves it there.

    Args:
        path: where the database belongs; the caller holds its write lock, and no process has it open.
        facts: what the journal tells.
        end: how far it tells it.
        content: what is on disk.
        report: told of what is lost.
        now: seconds since the epoch.

    Raises:
        OSError, sqlite3.Error: it cannot be written; what there was is untouched.
    """
    passing = _passing(path)
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(passing + suffix)
    database = open_writer(passing)
    try:
        # Nothing counts before the file is synced as a whole.
        database.execute("PRAGMA synchronous = OFF")
        migrate(database)
        database.execute("BEGIN IMMEDIATE")
        transaction = Transaction(database)
        counts = Rebuilder(transaction=transaction, content=content, report=report, now=now).write(facts)
        note_journal_end(transaction, end)
        database.execute("COMMIT")
        # One file, whole in itself.
        database.execute("PRAGMA journal_mode = DELETE")
    finally:
        database.close()
    _sync_file(passing)
    return counts


def place_database(path: str, aside: str) -> list[str]:
    """Put the rebuilt database in its place, and what was there aside.

    A crash on the way leaves no database, or the new one; never one without what belongs to it.

    Args:
        path: where the database belongs.
        aside: the path that the old one gets, if there is one.

    Returns:
        Where the old files are now.

    Raises:
        OSError: a file cannot be moved.
    """
    moved = []
    for suffix in _SUFFIXES:
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, aside + suffix)
            moved.append(aside + suffix)
            sync_directory(os.path.dirname(path) or ".")
    os.rename(_passing(path), path)
    sync_directory(os.path.dirname(path) or ".")
    return moved


def _passing(path: str) -> str:
    return path + ".rebuilt"


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
