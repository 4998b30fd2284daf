"""What a command works on: the settings, and the root and records that they name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import click

from dockreg_tx.audit import audit_file
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.owner import become_owner
from dockreg_tx.preparation import make_ballast, run_inline
from dockreg_tx.records.migrations import shipped_scripts
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.root import check_root
from dockreg_tx.settings import Settings, load_settings

T = TypeVar("T")


class CommandRecords(InlineSqliteRecords):
    """The records of one run of the command, which answer what no port asks, too."""

    def answer(self, query: Callable[[SqliteReader], T]) -> T:
        """Return the answer of a query."""
        return run_inline(self._scan(query))


@dataclass
class Operator:
    """One run of the command, as its global options say."""

    root: str | None = None
    config_path: str | None = None
    #: The user that this process became, where it was the superuser's.
    became: int | None = None

    def settings(self) -> Settings:
        """Return the settings in force.

        Raises:
            SettingsError: a bad one.
        """
        # The command is its own process: its environment is the one that counts.
        return load_settings(config_path=self.config_path, environ=os.environ, options={"root": self.root})

    def layout(self) -> RootLayout:
        """Return the root's layout; from now on the process is the root's owner, if it was the superuser."""
        layout = RootLayout(os.path.abspath(self.settings().storage.root))
        # Read before: the installation may lie where only the superuser can.
        shipped_scripts()
        became = become_owner(layout.root)
        self.became = self.became if became is None else became
        return layout

    def note(self, action: str, **details: object) -> None:
        """Write what was done into the audit log; never a secret."""
        settings, layout = self.settings(), self.layout()
        try:
            # The log itself tells nobody here that it cannot be written.
            path = settings.log.audit_file or layout.audit_log
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
        except OSError as error:
            click.echo(f"dockreg: the audit log cannot be written: {path}: {error.strerror}", err=True)
        log = audit_file(settings, layout, now=now)
        log.write({"action": action, "result": "ok", "principal": "dockreg command", **details})

    @contextmanager
    def records(self) -> Iterator[CommandRecords]:
        """Open the records of a root that is ready, running or not.

        Raises:
            RootUnusable: it is not.
            NewerDatabaseError, StoreUnavailable: the database cannot be used.
        """
        layout = self.layout()
        check_root(layout)
        records = CommandRecords(
            path=layout.database,
            journal_dir=layout.journal,
            lock_path=layout.write_lock,
            make_room=make_ballast(self.settings(), layout).release,
        )
        records.start()
        try:
            yield records
        finally:
            records.close()


def now() -> float:
    """Return the time of day in seconds since the epoch."""
    return time.time()  # noqa: TID251 - the command is a composition root of its own
