"""``dockreg rebuild-index``: a lost database made again from the journal and the blobs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from dockreg_tx.blobs.contents import StoredContents
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.trash import FileTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.cli.frame import AdminCommand, Refused, ask, json_option, pass_operator, show, yes_option
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.facts import Facts
from dockreg_tx.records.journal_reader import JournalReader
from dockreg_tx.records.rebuild import gather
from dockreg_tx.records.replacement import place_database, rebuild_database
from dockreg_tx.root import check_root
from dockreg_tx.root_locks import RootLock, collection_lock


@click.command("rebuild-index", cls=AdminCommand)
@json_option
@yes_option
@pass_operator
def rebuild_index(operator: Operator, as_json: bool, yes: bool) -> None:
    """Make the database again from journal and blobs; the registry must be stopped.

    An old database file is moved aside, never removed. What could not be recovered is named on standard
    error; then the exit code is 1, and all the rest is there.
    """
    layout = operator.layout()
    check_root(layout, needs_database=False)
    if os.path.exists(layout.database) and os.stat(layout.database).st_size:
        ask(f"{layout.database} exists, and will be moved aside. Go on?", yes=yes)
    problems: list[str] = []
    with _alone(layout):
        reader = JournalReader(layout.journal, problems.append)
        facts = gather(reader.entries(), problems.append)
        _put_back(layout, facts)
        counts = rebuild_database(
            layout.database,
            facts,
            end=reader.end,
            content=StoredContents(layout),
            report=problems.append,
            now=now(),
        )
        moved = place_database(layout.database, _aside(layout.database))
    operator.note("index.rebuild", **asdict(counts))
    document = {**asdict(counts), "moved_aside": moved, "problems": problems}
    figures = ", ".join(f"{count} {name}" for name, count in asdict(counts).items())
    lines = [f"{layout.database} is made again: {figures}", *(f"the old one: {path}" for path in moved[:1])]
    show(document, lines, as_json=as_json)
    for line in problems:
        click.echo(f"dockreg: {line}", err=True)
    if problems:
        raise Refused(f"{len(problems)} things could not be recovered as they were; the rest is there")


@contextmanager
def _alone(layout: RootLayout) -> Iterator[None]:
    """Keep out the server, garbage collection and every other command.

    Raises:
        RootUnusable: a server runs.
    """
    lock = RootLock(layout)
    lock.acquire()
    descriptor = os.open(layout.write_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with collection_lock(layout, wait=True):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
    finally:
        os.close(descriptor)
        lock.release()


def _put_back(layout: RootLayout, facts: Facts) -> None:
    """Bring back needed content that garbage collection had moved when it was killed."""
    trash = FileTrash(layout=layout, blocking=InlineBlocking(), now=now)
    needed = facts.needed_digests()
    for entry in run_inline(trash.entries()):
        if str(entry.digest) in needed:
            trash.put_back(entry.name)


def _aside(path: str) -> str:
    """Return a name that nothing has yet."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now()))
    name, count = f"{path}.lost-{stamp}", 1
    while any(os.path.lexists(name + suffix) for suffix in ("", "-wal")):
        count += 1
        name = f"{path}.lost-{stamp}-{count}"
    return name
