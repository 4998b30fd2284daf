"""What one operation sees of the write transaction that it shares with others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlite_utils import Database
from twisted.logger import Logger

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.records import statements
from dockreg_tx.records.journal import Entry

T = TypeVar("T")


@dataclass(slots=True)
class Transaction:
    """An open ``BEGIN IMMEDIATE`` transaction, and the journal lines that go before its commit."""

    database: Database
    entries: list[Entry] = field(default_factory=list)
    #: What must be called, last first, if the transaction or this operation does not come to its end.
    undo: list[Callable[[], None]] = field(default_factory=list)

    def execute(self, statement: str, **parameters: object) -> sqlite3.Cursor:
        """Run one statement."""
        return self.database.execute(statement, parameters)

    def value(self, statement: str, **parameters: object) -> Any:
        """Return the first column of the first row, None when there is no row."""
        row = self.database.execute(statement, parameters).fetchone()
        return None if row is None else row[0]

    def changed(self, statement: str, **parameters: object) -> bool:
        """Run one statement and tell whether it changed a row."""
        return self.database.execute(statement, parameters).rowcount > 0

    def roll_back_files(self, kept: int = 0) -> None:
        """Undo what operations did outside the database, but for the first ``kept`` steps."""
        while len(self.undo) > kept:
            step = self.undo.pop()
            try:
                step()
            except Exception:  # noqa: BLE001 - the others must be undone all the same; recovery does the rest
                Logger().failure("a step could not be undone")

    def journal(self, event: str, at: float, fields: Mapping[str, object]) -> None:
        """Have a line written before the commit, if the operation succeeds."""
        self.entries.append({"event": event, "at": at, **fields})

    def repository_id(self, repository: RepositoryName) -> int | None:
        """Return the repository's id, None when it is unknown."""
        found: int | None = self.value(statements.REPOSITORY_ID, repository=repository.text)
        return found

    def new_repository_id(self, repository: RepositoryName, now: float) -> int:
        """Return the repository's id, recording it if it is new."""
        found = self.repository_id(repository)
        if found is None:
            cursor = self.execute(statements.ADD_REPOSITORY, repository=repository.text, now=now)
            found = int(cursor.lastrowid or 0)
        return found


@dataclass(frozen=True, slots=True)
class Freeing(Generic[T]):
    """An operation that frees space, or takes a right away: on a full disk the ballast is given up for it."""

    operation: Callable[[Transaction], T]

    def __call__(self, transaction: Transaction) -> T:
        """Run the operation."""
        return self.operation(transaction)


#: One unit of writing. It may raise a ``RegistryError``: then nothing of it stays, and its neighbours go on.
Operation = Callable[[Transaction], T]
