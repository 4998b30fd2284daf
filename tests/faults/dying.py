"""The ``dockreg`` command in a child process that is killed at its Nth step, or breaks a promise on purpose.

A step is a system call that durability rests on, made by our code, or some instructions of SQLite.
"""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from sqlite_utils import Database

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.cli.main import dockreg
from dockreg_tx.records import compaction, journal, migrations
from dockreg_tx.records.facts import Facts
from dockreg_tx.registry import collect
from dockreg_tx.registry.backup import Backup, BackupReport

_CALLS = ("fsync", "fdatasync", "rename", "replace", "link", "unlink", "mkdir", "symlink", "pwritev")
#: Modules whose names are replaced.
_BACKUP: Any = importlib.import_module("dockreg_tx.cli.backup")
_REBUILD: Any = importlib.import_module("dockreg_tx.cli.rebuild")
_WRITER: Any = importlib.import_module("dockreg_tx.records.writer")
#: So many instructions of SQLite are one step.
_INSTRUCTIONS = 200
NEVER = 10**9


def run_command(*arguments: str, dies_at: int = NEVER, broken: str = "") -> tuple[int, int]:
    """Run the command in a child; return its exit status (-9: killed) and how many steps it came."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(arguments, dies_at, broken, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        steps = len(pipe.read())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), steps


def _child(arguments: tuple[str, ...], dies_at: int, broken: str, writing: int) -> None:
    """Never return."""
    status = 99
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silence, descriptor)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        for name in [name for name in os.environ if name.startswith("DOCKREG_")]:
            del os.environ[name]
        BREAKAGES[broken]()
        # However short, and however long its last snapshot, a journal is compacted.
        collect.JOURNAL_BYTES = compaction.GROWTH = 0
        _count_steps(dies_at, writing)
        dockreg.main(list(arguments), prog_name="dockreg")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def _count_steps(dies_at: int, writing: int) -> None:
    steps = [0]

    def step() -> None:
        steps[0] += 1
        if steps[0] == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(writing, b".")

    for name in _CALLS:
        setattr(os, name, _counted(getattr(os, name), step))
    connect: Any = sqlite3.connect

    def counted_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_progress_handler(step, _INSTRUCTIONS)
        return connection

    setattr(sqlite3, "connect", counted_connect)  # noqa: B010 - its overloads


def _counted(call: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        step()
        return call(*arguments, **options)

    return counted


# --- promises broken on purpose: a campaign that does not catch them proves nothing


def nothing() -> None:
    """Break nothing."""


def publish_first() -> None:
    """Give a snapshot its name before its content is there."""

    def run(backup: Backup, name: str, *, keep: int) -> BackupReport:
        report = BackupReport(name)
        backup.copy_records(backup.shelf.begin(name))
        backup.shelf.publish(name)
        for digest, size_bytes in backup.needed(backup.shelf.path(name)):
            backup.add(digest, size_bytes)
        return report

    setattr(Backup, "run", run)  # noqa: B010 - the point of this module


def format_first() -> None:
    """Give a root its format before its content is there."""
    finish = _BACKUP.finish_restore
    restore = _BACKUP.restore_content

    def early(name: str, needed: Any, give: Any) -> Any:
        layout, path = give.__self__._layout, give.__self__._shelf.path(name)
        with open(layout.restoring, encoding="utf-8") as file:
            note = file.read()
        give.__self__.restore_files(path)
        finish(layout, os.path.join(path, "format"))
        with open(layout.restoring, "w", encoding="utf-8") as file:
            file.write(note)
        return restore(name, needed, give)

    _BACKUP.restore_content = early


def place_first() -> None:
    """Put an empty database in place before it is filled."""
    build = _REBUILD.rebuild_database
    place = _REBUILD.place_database

    def early(path: str, facts: Facts, **options: Any) -> Any:
        build(path, Facts(), **options)
        place(path, path + ".lost-early")
        return build(path, facts, **options)

    _REBUILD.rebuild_database = early


def remove_first() -> None:
    """Remove what a snapshot of the journal stands for before that is in place."""
    finish = compaction.Compaction.finish

    def early(self: compaction.Compaction) -> None:
        for number in journal.numbers(self.directory):
            if number <= self.number:
                os.unlink(journal.journal_path(self.directory, number))
        finish(self)

    compaction.Compaction.finish = early  # type: ignore[method-assign] # the point of this module


def migrate_in_pieces() -> None:
    """Commit each statement of a migration by itself, and note the migration last."""
    migrate = migrations.migrate

    def in_pieces(database: Database) -> None:
        scripts = migrations.shipped_scripts()
        pending = migrations._migrations(scripts).pending(database)
        for name in [migration.name for migration in pending]:
            for statement in scripts[name].split(";\n"):
                database.conn.execute(statement)
        migrate(database, dict.fromkeys(scripts, "SELECT 1;"))

    _WRITER.migrate = in_pieces


def flush_nothing() -> None:
    """Trust the kernel to bring files and directories to disk in time."""
    Disk.fsync = lambda *_: None  # type: ignore[method-assign] # the point of this module


BREAKAGES: dict[str, Callable[[], None]] = {
    "": nothing,
    "flush-nothing": flush_nothing,
    "publish-first": publish_first,
    "format-first": format_first,
    "place-first": place_first,
    "remove-first": remove_first,
    "migrate-in-pieces": migrate_in_pieces,
}
