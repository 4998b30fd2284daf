"""Brings a database to this release's schema: numbered ``.sql`` files, each in a transaction of its own."""

from __future__ import annotations

from functools import cache
from importlib import resources

from sqlite_utils import Database, Migrations

_SET = "dockreg"


class NewerDatabaseError(Exception):
    """The database was written by a newer release, whose schema this one does not know."""


def migrate(database: Database, scripts: dict[str, str] | None = None) -> None:
    """Apply every migration that is missing; nothing when there is none. The caller holds the write lock.

    Args:
        database: open for writing, outside a transaction.
        scripts: name → SQL in the order to apply, by default those of this release.

    Raises:
        NewerDatabaseError: it has a migration that is not among ``scripts``; nothing was changed.
        sqlite3.Error: a migration failed and left no trace; those before it stay.
    """
    scripts = shipped_scripts() if scripts is None else scripts
    migrations = _migrations(scripts)
    applied = {migration.name for migration in migrations.applied(database)}
    if unknown := sorted(applied - scripts.keys()):
        raise NewerDatabaseError(
            f"the database was written by a newer dockreg (it has {', '.join(unknown)}): use that release"
        )
    while pending := [migration.name for migration in migrations.pending(database)]:
        # Ours is the outermost transaction, since that of sqlite-utils begins deferred. Inside it, its
        # executescript does not commit.
        database.execute("BEGIN IMMEDIATE")
        try:
            migrations.apply(database, stop_before=pending[1:2])
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise


@cache
def shipped_scripts() -> dict[str, str]:
    """Return the migrations of this release, in order."""
    folder = resources.files("dockreg_tx.records.schema")
    scripts = {
        entry.name.removesuffix(".sql"): entry for entry in folder.iterdir() if entry.name.endswith(".sql")
    }
    return {name: scripts[name].read_text("utf-8") for name in sorted(scripts)}


def _migrations(scripts: dict[str, str]) -> Migrations:
    migrations = Migrations(_SET)
    for name, sql in scripts.items():

        def run(database: Database, sql: str = sql) -> None:
            database.executescript(sql)

        migrations(name=name)(run)
    return migrations
