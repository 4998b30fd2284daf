"""Content out of a backup into a root that nobody serves yet, verified on the way."""

from __future__ import annotations

import os

from dockreg_tx.blobs.disk import BLOB_MODE, Disk
from dockreg_tx.blobs.files import copy_and_hash, copy_file
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.shelf import DATABASE, BackupShelf
from dockreg_tx.oci.digests import Digest

_SECRET_MODE = 0o600


class RestoringRoot:
    """A root being filled. It blocks, and raises ``OSError`` where the disk of the root refuses."""

    def __init__(self, layout: RootLayout, shelf: BackupShelf, *, disk: Disk | None = None) -> None:
        self._layout = layout
        self._shelf = shelf
        self._disk = disk or Disk()

    def restore_blob(self, digest: Digest, size_bytes: int) -> str:
        """Copy one blob while hashing it; return what is wrong with it, or nothing.

        One that is there already came from an earlier attempt, and was verified before it got its name.
        """
        target = self._layout.blob_path(digest)
        if _size(target) == size_bytes:
            return ""
        source = self._shelf.blobs.blob_path(digest)
        found_bytes = _size(source)
        if found_bytes != size_bytes:
            return "missing" if found_bytes is None else f"it has {found_bytes} bytes instead of {size_bytes}"
        passing = self._layout.passing_path("restore", digest.encoded)
        try:
            found = copy_and_hash(
                self._disk,
                source,
                target,
                algorithm=digest.algorithm,
                mode=BLOB_MODE,
                passing=passing,
                expected=digest.encoded,
            )
        except PermissionError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if found == digest.encoded else f"it hashes to {digest.algorithm}:{found}"

    def restore_files(self, snapshot: str) -> None:
        """Copy database, keys and journal of a snapshot; the database, by which a root is known, last."""
        for directory in (self._layout.keys, self._layout.journal):
            source = os.path.join(snapshot, os.path.basename(directory))
            # An earlier attempt may have been of the same snapshot only, so what is there is ours.
            for name in sorted(os.listdir(source)):
                copy_file(
                    self._disk, os.path.join(source, name), os.path.join(directory, name), mode=_SECRET_MODE
                )
            self._disk.sync_directory(directory)
        database = os.path.join(snapshot, DATABASE)
        copy_file(self._disk, database, self._layout.database, mode=_SECRET_MODE)

    def sync(self) -> None:
        """Wait until every directory is on disk."""
        for directory in reversed(self._layout.directories()):
            self._disk.sync_directory(directory)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None
