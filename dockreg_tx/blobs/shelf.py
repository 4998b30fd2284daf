"""A directory of backups: snapshots of the database, and the content that they share.

``snapshots/<time>/`` is complete once it has its name, ``latest`` points at the newest; content is added
before and removed after. So a crash at any moment leaves every earlier snapshot restorable.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum

from dockreg_tx.blobs.disk import BLOB_MODE, Disk
from dockreg_tx.blobs.files import PASSING, copy_file, is_inside, passing_name
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import DigestInvalid

MARKER = "dockreg-backup"
SNAPSHOTS = "snapshots"
LATEST = "latest"
DATABASE = "registry.db"
VERSION = 1
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o600
#: Where a hard link is not possible: another filesystem, one without them, too many of them.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


class ShelfUnusable(Exception):
    """Nothing can be backed up to, or restored from, a directory; one line for the operator."""


class Added(StrEnum):
    """How a blob came into a backup."""

    KEPT = "kept"
    LINKED = "linked"
    COPIED = "copied"
    MISSING = "missing"


class BackupShelf:
    """One directory of backups; close it after use. It blocks, and raises ``OSError``.

    Args:
        directory: where.
        disk: the system calls.
    """

    def __init__(self, directory: str, *, disk: Disk | None = None) -> None:
        self.directory = os.path.abspath(directory)
        self.blobs = RootLayout(self.directory)
        self._disk = disk or Disk()
        self._descriptor = -1
        self._changed: set[str] = set()

    # --- opening

    def open_for_backup(self, layout: RootLayout, instance_id: str) -> None:
        """Make an empty directory a shelf, or take one of the same registry, alone.

        Raises:
            ShelfUnusable: it overlaps the root, holds something else, or is in use.
        """
        if is_inside(self.directory, layout.root) or is_inside(layout.root, self.directory):
            raise ShelfUnusable(f"{self.directory} and the root {layout.root} overlap: name another place")
        marker = self._at(MARKER)
        if not os.path.exists(marker):
            self._make(instance_id)
        self._lock(fcntl.LOCK_EX)
        found = self._note().get("instance_id")
        if found != instance_id:
            raise ShelfUnusable(f"{self.directory} holds backups of another registry: name another place")

    def open_for_restore(self) -> None:
        """Take a shelf, together with other readers.

        Raises:
            ShelfUnusable: it is none, of a newer release, or in use.
        """
        if not os.path.exists(self._at(MARKER)):
            raise ShelfUnusable(f"{self.directory} is no backup of dockreg: it has no file {MARKER!r}")
        self._lock(fcntl.LOCK_SH)
        self._note()

    def close(self) -> None:
        """Let others in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self, kind: int) -> None:
        self._descriptor = os.open(self._at(MARKER), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ShelfUnusable(f"{self.directory} is in use by another backup or restore") from error

    def _make(self, instance_id: str) -> None:
        os.makedirs(self.directory, _DIRECTORY_MODE, exist_ok=True)
        ours = {SNAPSHOTS, "blobs", PASSING + MARKER, "lost+found"}
        foreign = sorted(set(os.listdir(self.directory)) - ours)
        if foreign:
            raise ShelfUnusable(
                f"{self.directory} is not empty and no backup of dockreg (it holds {foreign[0]!r}): "
                "name an empty directory"
            )
        for path in (self._at(SNAPSHOTS), *self._trees()):
            os.makedirs(path, _DIRECTORY_MODE, exist_ok=True)
        for path in (*self._trees(), self._at("blobs"), self.directory):
            self._disk.sync_directory(path)
        self._disk.sync_directory(os.path.dirname(self.directory))
        note = json.dumps({"version": VERSION, "instance_id": instance_id}) + "\n"
        self._write(self._at(MARKER), note.encode())
        self._disk.sync_directory(self.directory)

    def _note(self) -> dict[str, object]:
        try:
            with open(self._at(MARKER), "rb") as file:
                found = json.loads(file.read(4096))
            version = int(found["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ShelfUnusable(f"{self._at(MARKER)} is damaged") from error
        if version > VERSION:
            raise ShelfUnusable(f"{self.directory} was written by a newer dockreg: use that release")
        return dict(found)

    # --- adding

    def begin(self, name: str) -> str:
        """Forget what a crash left, and return the path of a new snapshot, which is not one yet."""
        for entry in os.listdir(self._at(SNAPSHOTS)):
            if entry.startswith(PASSING):
                shutil.rmtree(self._snapshot(entry))
        path = self._snapshot(PASSING + name)
        os.mkdir(path, _DIRECTORY_MODE)
        return path

    def add_files(self, target: str, layout: RootLayout) -> None:
        """Copy format, keys and journal of a root into the directory of a snapshot that has begun."""
        copy_file(self._disk, layout.format, os.path.join(target, "format"), mode=_FILE_MODE)
        for directory in (layout.keys, layout.journal):
            copy = os.path.join(target, os.path.basename(directory))
            os.mkdir(copy, 0o700)
            names = [entry.name for entry in os.scandir(directory) if entry.is_file()]
            for file in sorted(name for name in names if not name.startswith(".")):
                source = os.path.join(directory, file)
                # A key may be retired meanwhile.
                with suppress(FileNotFoundError):
                    copy_file(self._disk, source, os.path.join(copy, file), mode=_FILE_MODE)
            self._disk.sync_directory(copy)
        self._disk.sync_directory(target)

    def add_blob(self, layout: RootLayout, digest: Digest, size_bytes: int, *, links: bool) -> Added:
        """Have a blob here; it counts once ``publish`` was called."""
        source, target = layout.blob_path(digest), self.blobs.blob_path(digest)
        try:
            there = os.stat(source)
        except FileNotFoundError:
            return Added.MISSING
        # What is there already too: an earlier backup may not have come to the sync.
        self._changed |= {os.path.dirname(target), os.path.dirname(os.path.dirname(target))}
        here = _stat(target)
        if here is not None and here.st_size == size_bytes:
            # Of two files on one disk the registry's is the better one: it may have been healed since.
            is_other = links and here.st_dev == there.st_dev and here.st_ino != there.st_ino
            if not is_other:
                return Added.KEPT
        if here is None:
            os.makedirs(os.path.dirname(target), _DIRECTORY_MODE, exist_ok=True)
        if links and self._link(source, target):
            return Added.LINKED
        copy_file(self._disk, source, target, mode=BLOB_MODE)
        return Added.COPIED

    def _link(self, source: str, target: str) -> bool:
        passing = passing_name(target)
        with suppress(FileNotFoundError):
            os.unlink(passing)
        try:
            self._disk.link(source, passing)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        self._disk.replace(passing, target)
        return True

    def publish(self, name: str) -> None:
        """Make the snapshot that has begun the latest one, with all that was added."""
        for directory in sorted(self._changed):
            self._disk.sync_directory(directory)
        self._changed.clear()
        snapshots = self._at(SNAPSHOTS)
        self._disk.replace(self._snapshot(PASSING + name), self._snapshot(name))
        self._disk.sync_directory(snapshots)
        passing = self._at(PASSING + LATEST)
        with suppress(FileNotFoundError):
            os.unlink(passing)
        # For people; some filesystems have none, and restoring goes by the names.
        with suppress(PermissionError):
            os.symlink(os.path.join(SNAPSHOTS, name), passing)
            self._disk.replace(passing, self._at(LATEST))
        self._disk.sync_directory(self.directory)

    # --- reading and removing

    def snapshots(self) -> list[str]:
        """Return the names of all complete snapshots, the oldest first."""
        names = os.listdir(self._at(SNAPSHOTS))
        return sorted(name for name in names if not name.startswith("."))

    def path(self, name: str) -> str:
        """Return where a complete snapshot lies.

        Raises:
            ShelfUnusable: there is none of this name.
        """
        if name not in self.snapshots():
            known = ", ".join(self.snapshots()) or "none"
            raise ShelfUnusable(f"{self.directory} has no snapshot {name!r}: it has {known}")
        return self._snapshot(name)

    def remove_snapshot(self, name: str) -> None:
        """Remove a snapshot; it has lost its name before its content goes."""
        passing = self._snapshot(PASSING + name)
        self._disk.replace(self._snapshot(name), passing)
        self._disk.sync_directory(self._at(SNAPSHOTS))
        shutil.rmtree(passing)

    def prune(self, is_needed: Callable[[Digest], bool]) -> tuple[int, int]:
        """Remove content that no snapshot needs, and return how many blobs and bytes."""
        count, size_bytes = 0, 0
        for digest, entry in self._stored():
            if digest is None or not is_needed(digest):
                size_bytes += entry.stat(follow_symlinks=False).st_size
                count += 1
                os.unlink(entry.path)
        return count, size_bytes

    def _stored(self) -> Iterator[tuple[Digest | None, os.DirEntry[str]]]:
        """Yield every file among the content; None for those that a crash left incomplete."""
        for tree in self._trees():
            for shard in os.scandir(tree):
                for entry in list(os.scandir(shard.path)):
                    try:
                        digest = Digest.parse(f"{os.path.basename(tree)}:{entry.name}")
                    except DigestInvalid:
                        digest = None
                    if digest is not None or entry.name.startswith(PASSING):
                        yield digest, entry

    def _trees(self) -> list[str]:
        return [os.path.join(self.directory, "blobs", algorithm) for algorithm in ALGORITHMS]

    def _snapshot(self, name: str) -> str:
        return os.path.join(self.directory, SNAPSHOTS, name)

    def _at(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _write(self, path: str, content: bytes) -> None:
        passing = passing_name(path)
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            self._disk.write_all(descriptor, [content], 0)
            self._disk.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._disk.replace(passing, path)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
