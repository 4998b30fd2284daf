"""Look-ups over one read-only connection, each a single statement and so a short snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import Condition
from typing import Any, TypeVar

from sqlite_utils import Database

from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.errors import BlobUploadUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import (
    Account,
    BlobRecord,
    ManifestRecord,
    ReferrerRecord,
    TokenKind,
    TokenRecord,
    UploadRecord,
)
from dockreg_tx.records import statements
from dockreg_tx.records.commit_mark import CommitMark
from dockreg_tx.records.connections import PATIENCE_MS, open_reader

T = TypeVar("T")
#: Instead of an algorithm, in the row of a session that has ended.
_ENDED = "ended"


class SqliteReader:
    """Everything that can be asked; used by one thread at a time. Raises ``sqlite3.Error``.

    Args:
        database: a connection, closed with the reader.
        mark: tells when nobody committed; closed by whoever made it.
    """

    def __init__(self, database: Database, mark: CommitMark | None = None) -> None:
        self._database = database
        self._mark = mark
        self._marked: bytes | None = None
        self._version = -1
        # Without the wrapper's own work: these are the hottest calls of all.
        self._execute = database.conn.execute
        #: What told that nobody had committed, when the generation was read.
        self._generation_state: bytes | int = -1
        self._generation = -1

    def close(self) -> None:
        """Close the connection; the caller holds the write lock."""
        self._database.close()

    def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob if it is linked to the repository and its bytes are good."""
        row = self._row(statements.BLOB, repository=repository.text, digest=str(digest))
        return None if row is None else BlobRecord(digest, row[0], row[1])

    def manifest(self, repository: RepositoryName, reference: Reference) -> ManifestRecord | None:
        """Return the manifest that a tag or digest means."""
        if isinstance(reference, Digest):
            row = self._row(statements.MANIFEST_BY_DIGEST, repository=repository.text, digest=str(reference))
        else:
            row = self._row(statements.MANIFEST_BY_TAG, repository=repository.text, tag=reference.text)
        if row is None:
            return None
        digest, media_type, size_bytes, content = row
        return ManifestRecord(Digest(*digest.split(":", 1)), media_type, size_bytes, content)

    def repository_exists(self, repository: RepositoryName) -> bool:
        """Tell whether the repository is known."""
        return self._row(statements.REPOSITORY_ID, repository=repository.text) is not None

    def tags(self, repository: RepositoryName, after: str, limit: int | None) -> list[str]:
        """Return a page of tags in byte order, all of them when ``limit`` is None."""
        # -1: SQLite's "no limit".
        limit = -1 if limit is None else limit
        return self._texts(statements.TAGS, repository=repository.text, after=after, limit=limit)

    def repositories(self, after: str, limit: int) -> list[str]:
        """Return a page of repository names in byte order."""
        return self._texts(statements.REPOSITORIES, after=after, limit=limit)

    def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        after: str,
        limit: int,
    ) -> list[ReferrerRecord]:
        """Return a page of the manifests whose subject this is."""
        parameters = {
            "repository": repository.text,
            "subject": str(subject),
            "artifact_types": json.dumps(list(artifact_types)) if artifact_types else None,
            "after": after,
            "limit": limit,
        }
        rows = self._execute(statements.REFERRERS, parameters)
        return [
            ReferrerRecord(
                Digest.parse(digest), media_type, size_bytes, artifact_type, json.loads(annotations)
            )
            for digest, media_type, size_bytes, artifact_type, annotations in rows
        ]

    def repositories_with_blob(self, digest: Digest, after: str, limit: int) -> list[str]:
        """Return a page of names of repositories that the blob is linked to."""
        return self._texts(statements.REPOSITORIES_WITH_BLOB, digest=str(digest), after=after, limit=limit)

    def upload(self, upload_id: str) -> UploadRecord | None:
        """Return an upload session that has a row."""
        with suppress(BlobUploadUnknown):
            return self.begun_upload(upload_id)
        return None

    def begun_upload(self, upload_id: str) -> UploadRecord | None:
        """Return an upload session, None when it has no row.

        Raises:
            BlobUploadUnknown: it has ended.
        """
        row = self._row(statements.UPLOAD, id=upload_id)
        if row is None:
            return None
        upload = _upload(row)
        if upload.algorithm == _ENDED:
            raise BlobUploadUnknown(upload_id)
        return upload

    def expired_uploads(self, touched_before: float, limit: int) -> list[UploadRecord]:
        """Return sessions that nobody touched since, the oldest first."""
        parameters = {"touched_before": touched_before, "limit": limit}
        return [_upload(row) for row in self._execute(statements.EXPIRED_UPLOADS, parameters)]

    def account(self, name: str) -> Account | None:
        """Return one user with the grants."""
        found = _accounts(self._execute(statements.ACCOUNT, {"name": name}))
        return found[0] if found else None

    def accounts(self) -> list[Account]:
        """Return all users with their grants, sorted by name."""
        return _accounts(self._execute(statements.ACCOUNTS))

    def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token with this hash."""
        row = self._row(statements.TOKEN, hash=token_hash)
        return None if row is None else _token(row)

    def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id."""
        row = self._row(statements.TOKEN_BY_ID, id=token_id)
        return None if row is None else _token(row)

    def tokens(self) -> list[TokenRecord]:
        """Return all tokens, sorted by user and age."""
        return [_token(row) for row in self._execute(statements.TOKENS)]

    def version(self) -> int:
        """Return a number that differs after every commit of any process."""
        # In this order: a commit in between makes us ask once too often, never once too little.
        marked = None if self._mark is None else self._mark.read()
        if marked is None or marked != self._marked:
            self._version = self._execute(statements.DATA_VERSION).fetchone()[0]
            self._marked = marked
        return self._version

    def access_generation(self) -> int:
        """Return the generation; its row is read again only when someone committed since."""
        # In this order, for the same reason. The row itself costs no more than to ask for the version.
        state = (None if self._mark is None else self._mark.read()) or self.version()
        if state != self._generation_state:
            self._generation = self._execute(statements.ACCESS_GENERATION).fetchone()[0]
            self._generation_state = state
        return self._generation

    def rows(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the answer to a statement that only one seldom used operation needs."""
        return list(self._execute(statement, parameters))

    def _row(self, statement: str, **parameters: object) -> tuple[Any, ...] | None:
        # The cursor dies here, and with it the read transaction.
        row: tuple[Any, ...] | None = self._execute(statement, parameters).fetchone()
        return row

    def _texts(self, statement: str, **parameters: object) -> list[str]:
        return [row[0] for row in self._execute(statement, parameters)]


class ReaderPool:
    """Readers for threads: each is lent to one thread at a time, and waits for locks."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[SqliteReader] = []
        self._lent = 0
        self._changed = Condition()

    def read(self, query: Callable[[SqliteReader], T]) -> T:
        """Return the answer of a query. Blocks."""
        with self._changed:
            self._lent += 1
            reader = self._idle.pop() if self._idle else None
        try:
            if reader is None:
                reader = SqliteReader(open_reader(self._path, PATIENCE_MS))
            return query(reader)
        finally:
            with self._changed:
                self._lent -= 1
                if reader is not None:
                    self._idle.append(reader)
                self._changed.notify_all()

    def close(self) -> None:
        """Wait for running queries and close all readers; the caller holds the write lock."""
        with self._changed:
            self._changed.wait_for(lambda: self._lent == 0)
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()


def _upload(row: tuple[Any, ...]) -> UploadRecord:
    upload_id, repository, owner, offset_bytes, started_at, touched_at, algorithm = row
    name = RepositoryName(repository)
    return UploadRecord(upload_id, name, owner, offset_bytes, started_at, touched_at, algorithm)


def _token(row: tuple[Any, ...]) -> TokenRecord:
    token_id, kind, token_hash, user, created_at, robot_id, grants, note, expires_at, used_at = row
    return TokenRecord(
        token_id,
        TokenKind(kind),
        token_hash,
        user,
        created_at,
        robot_id,
        None if grants is None else tuple(json.loads(grants)),
        note,
        expires_at,
        used_at,
    )


def _accounts(rows: Iterable[tuple[Any, ...]]) -> list[Account]:
    """Return the users of rows that are sorted by name and then grant, one for each grant or without any."""
    grants: dict[tuple[Any, ...], list[str]] = {}
    for *user, spec in rows:
        specs = grants.setdefault(tuple(user), [])
        if spec is not None:
            specs.append(spec)
    return [
        Account(name, password_hash, bool(is_admin), bool(is_disabled), tuple(specs), created_at)
        for (name, password_hash, is_admin, is_disabled, created_at), specs in grants.items()
    ]
