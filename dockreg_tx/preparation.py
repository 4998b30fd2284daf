"""Fills a root before it is served: database, first user; done at once, without a reactor."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.access.keys import ensure_key
from dockreg_tx.access.passwords import generate_password, hash_password
from dockreg_tx.blobs.ballast import Ballast
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blobs.trash import FileTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.first_start import ensure_admin
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import Now
from dockreg_tx.records.migrations import NewerDatabaseError
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.registry.collect import Collect
from dockreg_tx.root import RootUnusable, collection_lock
from dockreg_tx.settings import Settings

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


def prepare_database(layout: RootLayout, *, now: Now, make_room: Callable[[], bool] | None = None) -> int:
    """Make or migrate the database, add the first user where there never was one, and count the users.

    ``make_room`` gives the ballast up: a full disk must not keep a registry from starting.

    Raises:
        RootUnusable: with one line; the database is newer, damaged, or cannot be written.
    """
    records = InlineSqliteRecords(
        path=layout.database, journal_dir=layout.journal, lock_path=layout.write_lock, make_room=make_room
    )
    try:
        records.start()
        try:
            _recover_content(records, layout, now)
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


def make_ballast(settings: Settings, layout: RootLayout) -> Ballast:
    """Return the ballast that the settings ask for; it is not on the disk yet."""
    return Ballast(
        layout=layout,
        size_bytes=settings.storage.ballast_bytes,
        spare_bytes=low_water_bytes(settings, layout),
    )


def low_water_bytes(settings: Settings, layout: RootLayout) -> int:
    """Return the mark as it was set; unset, at most a tenth of the disk, or small ones took nothing."""
    mark = settings.storage.low_water_bytes
    if settings.found["storage.low_water"].source != "default":
        return mark
    status = os.statvfs(layout.root)
    return min(mark, status.f_blocks * status.f_frsize // 10)


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


def inline_collect(records: InlineSqliteRecords, layout: RootLayout, *, now: Now) -> Collect:
    """Return garbage collection whose coroutines never suspend."""
    trash = FileTrash(layout=layout, blocking=InlineBlocking(), now=now)
    return Collect(records=records, trash=trash, monotonic_seconds=time.monotonic)


def _recover_content(records: InlineSqliteRecords, layout: RootLayout, now: Now) -> None:
    """Bring back what garbage collection had moved, but not yet removed, when it was killed."""
    with collection_lock(layout, wait=False) as is_ours:
        # Another command that collects right now recovers by itself.
        if is_ours:
            run_inline(inline_collect(records, layout, now=now).recover())


async def _first_user(records: InlineSqliteRecords, layout: RootLayout, now: Now) -> int:
    await ensure_admin(
        accounts=records,
        layout=layout,
        new_password=lambda: generate_password(secrets.token_bytes),
        hash_password=hash_password,
        now=now(),
    )
    return len(await records.accounts())
