"""The server with its care for a failing disk taken away; campaigns that do not catch it prove nothing.

``python -m tests.faults.broken_disk_server FAULT -n --pidfile= dockreg …`` is ``twistd`` with the fault.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.scripts.twistd import run

from dockreg_tx.blobs.disk import Disk, Part
from dockreg_tx.blobs.filesystem import FileBlob
from dockreg_tx.ports import RecordedBlob
from dockreg_tx.registry.verify import Damage, Verify


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
    fails_on_demand()
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def again(descriptor: int, sync: object = sync) -> None:
            for _ in range(5):
                with suppress(OSError):
                    sync(descriptor)  # type: ignore[operator] # a function of os
                    return

        setattr(os, name, again)


def fails_on_demand() -> None:
    """Fail every sync while the file ``$FAULT_TRIGGER`` exists; tell of files synced after that.

    This is no broken server: it is a disk that fails and comes back without a new mount.
    """
    trigger = os.environ["FAULT_TRIGGER"]
    failed: set[tuple[int, int, int]] = set()

    def failing(sync: Callable[[int], None]) -> Callable[[int], None]:
        def instead(descriptor: int) -> None:
            status = os.fstat(descriptor)
            # The number of a file that was dropped is given to another one soon.
            file = (status.st_dev, status.st_ino, status.st_mtime_ns)
            if stat.S_ISREG(status.st_mode) and file in failed:
                sys.stdout.write("SYNCED AGAIN\n")
            if os.path.exists(trigger):
                failed.add(file)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(descriptor)

        return instead

    for name in ("fsync", "fdatasync"):
        setattr(os, name, failing(getattr(os, name)))


def trusts_sizes() -> None:
    """Take a blob of the right size for a good one."""
    check = Verify.bytes_damage

    async def bytes_damage(self: Verify, recorded: RecordedBlob, **more: Any) -> Damage | None:
        damage = await check(self, recorded, **more)
        return None if damage is not None and "hashes" in damage.reason else damage

    Verify.bytes_damage = bytes_damage  # type: ignore[method-assign] # as above


def trusts_memory() -> None:
    """Let the kernel send what it has to read first, while the reactor waits."""
    FileBlob.is_cached = lambda *_: True  # type: ignore[method-assign] # as above


FAULTS = {
    "trusts-memory": trusts_memory,
    "trusts-sizes": trusts_sizes,
    "fails-on-demand": fails_on_demand,
    "forgives-full-disk": forgives_full_disk,
    "repeats-fsync": repeats_fsync,
}


def main() -> None:
    """Break what the first argument names, and run ``twistd`` with the rest."""
    FAULTS[sys.argv.pop(1)]()
    run()


if __name__ == "__main__":
    main()
