"""A root directory on disk for tests of the blob room."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import time
from collections.abc import Callable

from dockreg_tx.blobs.layout import RootLayout


def make_root(path: str) -> RootLayout:
    """Create the directories of a root."""
    layout = RootLayout(path)
    for directory in layout.directories():
        os.makedirs(directory, exist_ok=True)
    return layout


def counting_ids() -> Callable[[], str]:
    """Return a source of ids: "1", "2" and so on."""
    numbers = itertools.count(1)
    return lambda: str(next(numbers))


def open_files(path: str) -> list[str]:
    """Return the files under ``path`` that this process holds open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(path):
            found.append(target)
    return found


def forget_cached(path: str) -> None:
    """Drop a file's pages from memory, so that it must be read from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def is_forgotten(path: str) -> bool:
    """Drop a file's pages until all are gone, for two seconds; False where the file system keeps them.

    The kernel holds on to a page that it is at work on, as it may be on a busy machine.
    """
    for _ in range(200):
        forget_cached(path)
        if not pages_in_memory(path):
            return True
        time.sleep(0.01)  # nothing tells when the kernel is done with a page
    return False


def pages_in_memory(path: str) -> int:
    """Return how many pages of a file are in memory, without fetching any as a read would.

    Raises:
        OSError: the kernel does not tell.
    """
    size_bytes = os.path.getsize(path)
    states = ctypes.create_string_buffer(-(-size_bytes // mmap.PAGESIZE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size_bytes, flags=mmap.MAP_PRIVATE) as pages:
        first = ctypes.c_char.from_buffer(pages)
        address = ctypes.c_void_p(ctypes.addressof(first))
        failed = ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(size_bytes), states)
        del first
    if failed:
        raise OSError(ctypes.get_errno(), path)
    return sum(state & 1 for state in states.raw)
