"""A root directory on disk for tests of the blob room."""

from __future__ import annotations

import itertools
import os
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
