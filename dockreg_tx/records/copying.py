"""Copies of the whole database while others write, and what a copy says that it needs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from urllib.parse import quote

from dockreg_tx.oci.digests import Digest
from dockreg_tx.records import statements
from dockreg_tx.records.connections import make_file, sync_directory

_LIVE_BLOBS = f"""
SELECT digest, size_bytes FROM blobs WHERE state = 'live' AND {statements.is_digest("digest")} ORDER BY digest
"""  # noqa: S608 - joins constants only
_QUARANTINE = "UPDATE blobs SET state = 'quarantined' WHERE digest = ?"


class DatabaseDamaged(Exception):
    """A database file is not what was written; the message is one line for the operator."""


def copy_database(path: str, target: str) -> None:
    """Write a copy as it is at one moment into a new file, complete and on disk.

    ``VACUUM INTO`` reads one snapshot, which holds up no writer; the backup interface in steps begins anew
    with each commit of another process, and would never end on a busy registry.

    Args:
        path: a database that may be in use.
        target: does not exist yet, or is empty.

    Raises:
        DatabaseDamaged: the copy is not sound, so the database is not.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    # SQLite would make it readable for more users.
    make_file(target)
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)) as source:
        source.execute("VACUUM INTO ?", (target,))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # Their bytes are not copied: sessions end with the registry that they began in.
        copy.execute("DELETE FROM uploads")
    check_database(target)
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(os.path.dirname(target) or ".")


def check_database(path: str) -> None:
    """Return when a database that nobody uses is sound.

    Raises:
        DatabaseDamaged: it is not.
    """
    try:
        with closing(_opened(path)) as database:
            answers = [row[0] for row in database.execute("PRAGMA integrity_check(1)")]
    except sqlite3.DatabaseError as error:
        raise DatabaseDamaged(f"{path} is damaged: {error}") from error
    if answers != ["ok"]:
        raise DatabaseDamaged(f"{path} is damaged: {' '.join(answers[:1])}")


def live_blobs(path: str) -> Iterator[tuple[Digest, int]]:
    """Yield digest and size of all content that a copy needs."""
    with closing(_opened(path)) as database:
        for digest, size_bytes in database.execute(_LIVE_BLOBS):
            yield Digest.parse(digest), size_bytes


def quarantine_blobs(path: str, digests: Sequence[Digest]) -> None:
    """Count blobs as missing in a copy, until they are pushed again."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(_QUARANTINE, [(str(digest),) for digest in digests])
        database.execute("COMMIT")


def _opened(path: str) -> sqlite3.Connection:
    """Open a file that nobody writes to, perhaps where we may not write either."""
    return sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
