"""Bringing databases to the schema of this release."""

from __future__ import annotations

import re
import sqlite3

from sqlite_utils import Database
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.records import statements
from dockreg_tx.records.connections import open_writer
from dockreg_tx.records.migrations import NewerDatabaseError, migrate, shipped_scripts

_BIG = {"ACCOUNTS", "TOKENS", "ACCESS_GENERATION", "DATA_VERSION"}
#: json_each walks a parameter; the row is that of an INSERT with a condition.
_SCANS_OF_NO_TABLE = {"SCAN json_each VIRTUAL TABLE INDEX 1:", "SCAN CONSTANT ROW"}
_LOOK_UPS = {
    name: statement
    for name, statement in vars(statements).items()
    if name.isupper() and not name.startswith("_") and name not in _BIG
}


class MigrationTests(SynchronousTestCase):
    """Each test has an empty database."""

    def setUp(self) -> None:
        self.database = open_writer(self.mktemp())
        self.addCleanup(self.database.close)

    def schema(self, database: Database) -> list[tuple[str, str]]:
        """Return the names and definitions of everything in the database."""
        rows = database.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        return rows.fetchall()

    def test_from_empty(self) -> None:
        """An empty database gets all tables, every one of ours STRICT."""
        migrate(self.database)
        tables = self.database.execute(
            "SELECT name FROM pragma_table_list"
            " WHERE type = 'table' AND name NOT LIKE '%sqlite%' AND NOT strict"
        )
        self.assertEqual([], tables.fetchall())
        self.assertIn("repository_blobs", self.database.table_names())
        self.assertEqual([(1, 1)], self.database.execute("SELECT * FROM generations").fetchall())

    def test_again(self) -> None:
        """Migrating a database that is up to date changes nothing."""
        migrate(self.database)
        before = self.schema(self.database), self.database.conn.total_changes
        migrate(self.database)
        self.assertEqual(before, (self.schema(self.database), self.database.conn.total_changes))

    def test_sound(self) -> None:
        """The schema's foreign keys all point at something."""
        migrate(self.database)
        self.assertEqual([], self.database.execute("PRAGMA foreign_key_check").fetchall())
        self.assertEqual([("ok",)], self.database.execute("PRAGMA integrity_check").fetchall())

    def test_newer(self) -> None:
        """A database with a migration that this release does not have is refused by name, unchanged."""
        scripts = shipped_scripts()
        migrate(self.database, {**scripts, "9999_future": "CREATE TABLE future (id INTEGER)"})
        before = self.schema(self.database)
        error = self.assertRaises(NewerDatabaseError, migrate, self.database, scripts)
        self.assertIn("9999_future", str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual(before, self.schema(self.database))

    def test_step_by_step(self) -> None:
        """An older database gets what is missing, and ends like a fresh one."""
        steps = {"0001_a": "CREATE TABLE a (id INTEGER);", "0002_b": "CREATE TABLE b (id INTEGER); -- end;"}
        migrate(self.database, {"0001_a": steps["0001_a"]})
        migrate(self.database, steps)
        fresh = open_writer(self.mktemp())
        self.addCleanup(fresh.close)
        migrate(fresh, steps)
        self.assertEqual(self.schema(fresh), self.schema(self.database))

    def test_failure_leaves_no_trace(self) -> None:
        """A migration that fails in its middle is undone as a whole; the one before it stays."""
        broken = "CREATE TABLE b (id INTEGER); INSERT INTO missing VALUES (1); CREATE TABLE c (id INTEGER);"
        scripts = {"0001_a": "CREATE TABLE a (id INTEGER)", "0002_b": broken}
        self.assertRaises(sqlite3.OperationalError, migrate, self.database, scripts)
        tables = [name for name in self.database.table_names() if not name.startswith("_")]
        self.assertEqual(["a"], tables)
        self.assertFalse(self.database.conn.in_transaction)
        migrate(self.database, {**scripts, "0002_b": "CREATE TABLE b (id INTEGER)"})
        self.assertIn("b", self.database.table_names())

    def test_look_ups_use_indexes(self) -> None:
        """Every statement searches by an index, but for those that want a whole table."""
        migrate(self.database)
        parameters = set(re.findall(r":(\w+)", "".join(_LOOK_UPS.values())))
        for name, statement in _LOOK_UPS.items():
            plan = self.database.execute(
                f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(parameters, "")
            ).fetchall()
            for *_, step in plan:
                is_scan = step.startswith("SCAN") and step not in _SCANS_OF_NO_TABLE
                self.assertFalse(is_scan, f"{name}: {step}")
