"""A worker that answers before a blob is in its place: what ``tests.faults.workers`` must notice."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Timer

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.workers.__main__ import main

LATE_SECONDS = 0.3


def place_late(self: Disk, source: str, target: str, *, size_bytes: int, passing: str) -> int | None:
    """Put the bytes in place a while after everybody was told that they are."""
    held = f"{passing}-{os.urandom(4).hex()}"
    os.link(source, held)

    def place() -> None:
        with suppress(OSError):
            os.rename(held, target)

    Timer(LATE_SECONDS, place).start()
    return None


if __name__ == "__main__":
    Disk.place = place_late  # type: ignore[method-assign] # the point of this module
    Disk.still_placed = lambda self, target, inode: True  # type: ignore[method-assign]
    main()
