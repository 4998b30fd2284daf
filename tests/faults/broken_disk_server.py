"""The server with its care for a failing disk taken away; campaigns that do not catch it prove nothing.

``python -m tests.faults.broken_disk_server FAULT -n --pidfile= dockreg …`` is ``twistd`` with the fault.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from twisted.scripts.twistd import run

from dockreg_tx.blobs.disk import Disk, Part


def forgives_full_disk() -> None:
    """Take a write that the disk refused for done."""
    write_all = Disk.write_all

    def forgiving(self: Disk, descriptor: int, parts: Sequence[Part], offset_bytes: int) -> None:
        try:
            write_all(self, descriptor, parts, offset_bytes)
        except OSError:
            os.ftruncate(descriptor, offset_bytes + sum(map(len, parts)))

    Disk.write_all = forgiving  # type: ignore[method-assign] # the point of this module


def repeats_fsync() -> None:
    """Sync again what could not be synced, until the kernel has forgotten that it failed."""
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def again(descriptor: int, sync: object = sync) -> None:
            for _ in range(5):
                with suppress(OSError):
                    sync(descriptor)  # type: ignore[operator] # a function of os
                    return

        setattr(os, name, again)


FAULTS = {"forgives-full-disk": forgives_full_disk, "repeats-fsync": repeats_fsync}


def main() -> None:
    """Break what the first argument names, and run ``twistd`` with the rest."""
    FAULTS[sys.argv.pop(1)]()
    run()


if __name__ == "__main__":
    main()
