"""Fills a root before it is served: database, first user; done at once, without a reactor."""

from __future__ import annotations

import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.access.keys import ensure_key
from dockreg_tx.access.passwords import generate_password, hash_password
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.first_start import ensure_admin
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import Now
from dockreg_tx.records.migrations import NewerDatabaseError
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.root import RootUnusable

T = TypeVar("T")


def clear_passing_files(layout: RootLayout, clock: IReactorTime) -> None:
    """Remove half-written files that a crash left; only while no other server works on the root.

    Raises:
        RootUnusable: with one line; the disk refuses.
    """
    try:
        run_inline(FileUploadStaging(layout=layout, blocking=InlineBlocking(), clock=clock).sweep())
    except StoreUnavailable as error:
        raise RootUnusable(f"{layout.uploads}: {error.message}") from error


def prepare_database(layout: RootLayout, *, now: Now) -> int:
    """Make or migrate the database, add the first user where there never was one, and count the users.

    Raises:
        RootUnusable: with one line; the database is newer, damaged, or cannot be written.
    """
    records = InlineSqliteRecords(
        path=layout.database, journal_dir=layout.journal, lock_path=layout.write_lock
    )
    try:
        records.start()
        try:
            return run_inline(_first_user(records, layout, now))
        finally:
            records.close()
    except NewerDatabaseError as error:
        raise RootUnusable(str(error)) from error
    except StoreUnavailable as error:
        raise RootUnusable(f"{layout.database}: {error.message}") from error
    except OSError as error:
        raise RootUnusable(f"{error.filename or layout.root}: {error.strerror}") from error


def prepare_keys(layout: RootLayout, *, now: Now) -> None:
    """Make the first signing key where there is none.

    Raises:
        RootUnusable: with one line; the directory cannot be used.
    """
    try:
        ensure_key(layout.keys, now=now())
    except OSError as error:
        raise RootUnusable(f"{error.filename or layout.keys}: {error.strerror}") from error
    except ValueError as error:
        raise RootUnusable(str(error)) from error


def run_inline(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends, as those of inline records.

    Raises:
        RuntimeError: it did suspend; it is closed then.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("this work waits for something, and nothing here could ever wake it")


async def _first_user(records: InlineSqliteRecords, layout: RootLayout, now: Now) -> int:
    await ensure_admin(
        accounts=records,
        layout=layout,
        new_password=lambda: generate_password(secrets.token_bytes),
        hash_password=hash_password,
        now=now(),
    )
    return len(await records.accounts())
