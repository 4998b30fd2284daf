"""The server with one promise of the disk broken on purpose; campaigns that do not catch it prove nothing.

``python -m tests.faults.broken_server FAULT -n --pidfile= dockreg …`` is ``twistd`` with the fault.
"""

from __future__ import annotations

import sys

from twisted.scripts.twistd import run

from dockreg_tx.blobs.disk import Disk


def without_directory_fsync() -> None:
    """Leave new directory entries to chance."""
    Disk.sync_directory = lambda self, path: None  # type: ignore[method-assign] # the point of this module


def without_file_fsync() -> None:
    """Leave the bytes of uploads to chance."""
    Disk.fsync = lambda self, descriptor: None  # type: ignore[method-assign] # the point of this module
    Disk.fdatasync = lambda self, descriptor: None  # type: ignore[method-assign] # the point of this module


FAULTS = {"directory-fsync": without_directory_fsync, "file-fsync": without_file_fsync}


def main() -> None:
    """Break what the first argument names, and run ``twistd`` with the rest."""
    FAULTS[sys.argv.pop(1)]()
    run()


if __name__ == "__main__":
    main()
