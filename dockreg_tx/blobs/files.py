"""Copies of files that are complete and on disk before they get their name."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from dockreg_tx.blobs.disk import Disk

_READ_BYTES = 1024 * 1024
#: Before the name of a file that is not complete yet.
PASSING = ".new-"


def copy_file(disk: Disk, source: str, target: str, *, mode: int, passing: str = "") -> None:
    """Copy a file, and sync it; the directory's entry is the caller's.

    Args:
        disk: the system calls.
        source: is read as far as it goes.
        target: is replaced.
        mode: of the new file.
        passing: its name until it is complete, by default beside the target.
    """
    copy_and_hash(disk, source, target, algorithm="sha256", mode=mode, passing=passing)


def copy_and_hash(
    disk: Disk,
    source: str,
    target: str,
    *,
    algorithm: str,
    mode: int,
    passing: str = "",
    expected: str | None = None,
) -> str:
    """Copy like ``copy_file``, and return the hash; where it is not the expected one there is no copy."""
    passing = passing or passing_name(target)
    with suppress(FileNotFoundError):
        os.unlink(passing)
    hasher = hashlib.new(algorithm)
    with open(source, "rb") as reading:
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb", buffering=0) as writing:
            offset_bytes = 0
            while piece := reading.read(_READ_BYTES):
                hasher.update(piece)
                disk.write_all(descriptor, [piece], offset_bytes)
                offset_bytes += len(piece)
            disk.fsync(writing.fileno())
    found = hasher.hexdigest()
    if expected is None or found == expected:
        disk.replace(passing, target)
    else:
        os.unlink(passing)
    return found


def passing_name(target: str) -> str:
    """Return the name beside ``target`` that it has until it is complete."""
    directory, _, name = target.rpartition(os.sep)
    return os.path.join(directory, PASSING + name)


def is_inside(path: str, directory: str) -> bool:
    """Tell whether a path is a directory or lies in it, symbolic links followed."""
    path, directory = os.path.realpath(path), os.path.realpath(directory)
    return os.path.commonpath([path, directory]) == directory
