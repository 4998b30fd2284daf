"""The server with one promise of the disk broken on purpose; campaigns that do not catch it prove nothing.

``python -m tests.faults.broken_server FAULT -n --pidfile= dockreg …`` is ``twistd`` with the fault.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from sqlite_utils import Database
from twisted.scripts.twistd import run

from dockreg_tx import preparation, service
from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.records import connections, writer

LATE_SECONDS = 0.2


def without_directory_fsync() -> None:
    """Leave new directory entries to chance."""
    Disk.sync_directory = lambda self, path: None  # type: ignore[method-assign] # the point of this module


def without_file_fsync() -> None:
    """Leave the bytes of uploads to chance."""
    Disk.fsync = lambda self, descriptor: None  # type: ignore[method-assign] # the point of this module
    Disk.fdatasync = lambda self, descriptor: None  # type: ignore[method-assign] # the point of this module


def late_bytes() -> None:
    """Answer before the bytes are in their place."""
    place = Disk.place

    def later(self: Disk, source: str, target: str, *, size_bytes: int, passing: str) -> int | None:
        # The upload's own name goes when the answer is out.
        kept = f"{passing}.late"
        with suppress(OSError):
            os.link(source, kept)

        def act() -> None:
            with suppress(OSError):
                place(self, kept, target, size_bytes=size_bytes, passing=passing)
                os.unlink(kept)

        threading.Timer(LATE_SECONDS, act).start()
        return None

    Disk.place = later  # type: ignore[method-assign] # the point of this module
    Disk.still_placed = lambda self, target, inode: True  # type: ignore[method-assign] # the same


def without_database_fsync() -> None:
    """Leave committed transactions to chance, as SQLite does with ``synchronous=NORMAL``."""
    opened = connections.open_writer

    def open_writer(path: str) -> Database:
        database = opened(path)
        database.execute("PRAGMA synchronous = NORMAL")
        return database

    writer.open_writer = open_writer  # type: ignore[attr-defined] # it is imported there


def sessions_swept() -> None:
    """Clear away at the start what clients are about to resume."""

    def clear(layout: RootLayout, clock: object) -> None:
        for name in os.listdir(layout.uploads):
            os.unlink(os.path.join(layout.uploads, name))

    service.clear_passing_files = clear  # type: ignore[attr-defined] # it is imported there


def without_recovery() -> None:
    """Leave what was on its way to the trash where it is."""
    preparation._recover_content = lambda *_: None


FAULTS = {
    "sessions-swept": sessions_swept,
    "recovery": without_recovery,
    "directory-fsync": without_directory_fsync,
    "file-fsync": without_file_fsync,
    "database-fsync": without_database_fsync,
    "late-bytes": late_bytes,
}


def main() -> None:
    """Break what the first argument names, and run ``twistd`` with the rest."""
    FAULTS[sys.argv.pop(1)]()
    run()


if __name__ == "__main__":
    main()
