"""The server with one promise of the disk broken on purpose; campaigns that do not catch it prove nothing.

``python -m tests.faults.broken_server FAULT -n --pidfile= dockreg …`` is ``twistd`` with the fault.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from sqlite_utils import Database
from twisted.scripts.twistd import run

from dockreg_tx import preparation, server
from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.records import connections, writer

LATE_SECONDS = 0.2


def replace(owner: object, name: str, broken: Callable[..., object]) -> None:
    """Put ``broken`` where a module or class has the function that it calls by this name.

    Raises:
        AttributeError: it does not, so that nothing would be broken.
    """
    getattr(owner, name)
    setattr(owner, name, broken)


def without_directory_fsync() -> None:
    """Leave new directory entries to chance."""
    replace(Disk, "sync_directory", lambda self, path: None)


def without_file_fsync() -> None:
    """Leave the bytes of uploads to chance."""
    replace(Disk, "fsync", lambda self, descriptor: None)
    replace(Disk, "fdatasync", lambda self, descriptor: None)


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

    replace(Disk, "place", later)
    replace(Disk, "still_placed", lambda self, target, inode: True)


def without_database_fsync() -> None:
    """Leave committed transactions to chance, as SQLite does with ``synchronous=NORMAL``."""
    opened = connections.open_writer

    def open_writer(path: str) -> Database:
        database = opened(path)
        database.execute("PRAGMA synchronous = NORMAL")
        return database

    replace(writer, "open_writer", open_writer)


def sessions_swept() -> None:
    """Clear away at the start what clients are about to resume."""

    def clear(layout: RootLayout, clock: object) -> None:
        for name in os.listdir(layout.uploads):
            os.unlink(os.path.join(layout.uploads, name))

    replace(server, "clear_passing_files", clear)


def without_recovery() -> None:
    """Leave what was on its way to the trash where it is."""
    replace(preparation, "_recover_content", lambda *_: None)


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
