"""Compaction of the journal: a snapshot of what is live takes the place of all lines before it.

``begin`` runs in a write transaction: it starts a new file, and opens a read snapshot of the database as
the files before tell it. ``Compaction.finish`` needs no lock. Old files go only when the snapshot is on disk,
so a crash at any moment leaves all that a rebuild needs.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from dockreg_tx.records.connections import sync_directory
from dockreg_tx.records.journal import (
    Entry,
    JournalEnd,
    format_line,
    journal_path,
    numbers,
    snapshot_path,
    snapshots,
)
from dockreg_tx.records.journal_reader import SNAPSHOT_END
from dockreg_tx.records.transactions import Transaction
from dockreg_tx.records.writer import note_journal_end

#: A journal that is this many times as long as the last snapshot is compacted.
GROWTH = 2
_PASSING = ".snapshot.new"

_REPOSITORIES = "SELECT name AS repository, created_at AS at FROM repositories ORDER BY id"
_LINKS = """
SELECT repositories.name AS repository, blobs.digest, size_bytes, linked_at AS at
FROM repository_blobs
JOIN repositories ON repositories.id = repository_id
JOIN blobs ON blobs.digest = repository_blobs.digest
"""
_MANIFESTS = """
SELECT repositories.name AS repository, digest, media_type, pushed_at AS at, pushed_by AS "by"
FROM manifests JOIN repositories ON repositories.id = repository_id
"""
_HISTORY = """
SELECT repositories.name AS repository, tag_history.name AS tag, digest, changed_at AS at, changed_by AS "by"
FROM tag_history JOIN repositories ON repositories.id = repository_id
ORDER BY tag_history.id
"""
_TAGS = """
SELECT repositories.name AS repository, tags.name AS tag, digest, updated_at AS at
FROM tags
JOIN repositories ON repositories.id = tags.repository_id
JOIN manifests ON manifests.id = manifest_id
"""
_TRASH = """
SELECT
    kind, repository, digest, tags, media_type, pushed_at, pushed_by, deleted_at AS at, deleted_by AS "by"
FROM trash ORDER BY id
"""
_USERS = "SELECT name, password_hash, is_admin, is_disabled, created_at, changed_at AS at FROM users"
_GRANTS = "SELECT user_name AS name, spec, granted_at AS at FROM grants"
_TOKENS = """
SELECT
    id, kind, hash, user_name AS user, robot_id, grants, note, created_at, created_at AS at, expires_at
FROM tokens WHERE kind = 'robot'
"""
#: Each event, and what selects its fields; in the order in which they must happen.
_FACTS = (
    ("repository.add", _REPOSITORIES),
    ("blob.link", _LINKS),
    ("manifest.put", _MANIFESTS),
    ("tag.moved", _HISTORY),
    ("tag.at", _TAGS),
    ("trash.add", _TRASH),
    ("user.add", _USERS),
    ("grant.add", _GRANTS),
    ("token.add", _TOKENS),
)


@dataclass(frozen=True, slots=True)
class Compaction:
    """A compaction that has begun; finish or abandon it."""

    directory: str
    #: The snapshot stands for all files up to this one.
    number: int
    connection: sqlite3.Connection

    def abandon(self) -> None:
        """Give up; the journal is as good as before."""
        self.connection.close()

    def finish(self) -> None:
        """Write the snapshot, and remove what it stands for. Blocks, without a lock.

        Raises:
            OSError, sqlite3.Error: the journal is as good as before.
        """
        passing = os.path.join(self.directory, _PASSING)
        try:
            _write(passing, live_facts(self.connection))
        finally:
            self.connection.close()
        os.replace(passing, snapshot_path(self.directory, self.number))
        sync_directory(self.directory)
        remove_superseded(self.directory)


def begin(transaction: Transaction, *, minimum_bytes: int) -> Compaction | None:
    """Begin a compaction if the journal is longer than this, and than what is live; one at a time."""
    journal = transaction.files
    if journal is None or not is_due(journal.directory, minimum_bytes):
        return None
    number = journal.rotate()
    note_journal_end(transaction, JournalEnd(number + 1, 0))
    (path,) = [row[2] for row in transaction.execute("PRAGMA database_list") if row[1] == "main"]
    # Read-only: it may be closed at any time, and then must not checkpoint.
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    transaction.undo.append(connection.close)
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN")
    # From here on it sees what is committed now, which is what the files up to ``number`` tell.
    connection.execute("SELECT access FROM generations").fetchone()
    return Compaction(journal.directory, number, connection)


def is_due(directory: str, minimum_bytes: int) -> bool:
    """Tell whether a journal is long, in comparison to its last snapshot too."""
    last = max(snapshots(directory), default=0)
    snapshot_bytes = os.stat(snapshot_path(directory, last)).st_size if last else 0
    tail = [number for number in numbers(directory) if number > last]
    tail_bytes = sum(os.stat(journal_path(directory, number)).st_size for number in tail)
    return tail_bytes > max(minimum_bytes, GROWTH * snapshot_bytes)


def live_facts(connection: sqlite3.Connection) -> Iterator[Entry]:
    """Yield entries that add up to all that is live."""
    for event, query in _FACTS:
        for row in connection.execute(query):
            fields = dict(zip(row.keys(), row, strict=True))
            if event == "trash.add":
                fields["tags"] = json.loads(fields["tags"])
            yield {"event": event, **fields}


def remove_superseded(directory: str) -> None:
    """Remove files and snapshots that the newest snapshot stands for."""
    last = max(snapshots(directory), default=0)
    old = [journal_path(directory, number) for number in numbers(directory) if number <= last]
    old += [snapshot_path(directory, number) for number in snapshots(directory) if number < last]
    for path in old:
        with suppress(FileNotFoundError):
            os.unlink(path)
    if old:
        sync_directory(directory)


def _write(path: str, entries: Iterator[Entry]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=1024 * 1024) as file:
        file.writelines(map(format_line, entries))
        file.write(format_line({"event": SNAPSHOT_END}))
        file.flush()
        os.fsync(file.fileno())
