"""Content on its way out: files that garbage collection moved aside, named ``<hex>.<nanoseconds>``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from dockreg_tx.blobs.disk import Disk, refusals
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import DigestInvalid, StoreUnavailable
from dockreg_tx.ports import Blocking, Now, StoredContent, TrashedContent

_ALGORITHM_BY_DIGITS = {digits: algorithm for algorithm, digits in ALGORITHMS.items()}


class FileTrash:
    """The ``BlobTrash`` under a root directory.

    Args:
        layout: where the files are.
        blocking: runs what walks directories.
        now: notes when a file came here.
        disk: the system calls.
        directory: another place than the trash, on the same filesystem.
    """

    def __init__(
        self,
        *,
        layout: RootLayout,
        blocking: Blocking,
        now: Now,
        disk: Disk | None = None,
        directory: str | None = None,
    ) -> None:
        self._layout = layout
        self._blocking = blocking
        self._now = now
        self._disk = disk or Disk()
        self._directory = directory or layout.trash

    def take(self, digest: Digest) -> Callable[[], None]:
        """Move the bytes of a blob here, durably, and return what moves them back. Blocks."""
        name = self._move(digest)
        if name is None:
            return _nothing
        try:
            self.settle([digest])
        except StoreUnavailable:
            self._move_back(name, digest)
            raise
        return lambda: self.put_back(name)

    def move(self, digest: Digest) -> Callable[[], None]:
        """Move bytes as ``take`` does, but not durably: ``settle`` has to follow. Blocks."""
        name = self._move(digest)
        return _nothing if name is None else lambda: self.put_back(name)

    def _move(self, digest: Digest) -> str | None:
        name = f"{digest.encoded}.{int(self._now() * 1e9)}"
        with refusals():
            try:
                self._disk.replace(self._layout.blob_path(digest), self._path(name))
            except FileNotFoundError:
                return None
        return name

    def settle(self, digests: Sequence[Digest]) -> None:
        """Sync this directory, and each that something was moved from. Blocks.

        In this order: a power cut between the two leaves a name in both places, never in none.
        """
        sources = {os.path.dirname(self._layout.blob_path(digest)) for digest in digests}
        with refusals():
            for directory in [self._directory, *sorted(sources)] if sources else ():
                self._disk.sync_directory(directory)

    def put_back(self, name: str) -> None:
        """Move bytes back under their digest, unless some are there. Blocks."""
        found = _parsed(name)
        if found is None:
            return
        target = self._layout.blob_path(found[0])
        with refusals():
            self._move_back(name, found[0])
            self._disk.sync_directory(os.path.dirname(target))
            self._disk.sync_directory(self._directory)

    def _move_back(self, name: str, digest: Digest) -> None:
        if not os.path.lexists(self._path(name)):
            return
        # Never over a file that a push has put there since. Where it cannot have its place, it stays here.
        with suppress(FileExistsError):
            self._disk.link(self._path(name), self._layout.blob_path(digest))
        with suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of the bytes that ``take`` would move."""
        with refusals():
            try:
                return os.stat(self._layout.blob_path(digest)).st_size
            except FileNotFoundError:
                return None

    async def entries(self) -> list[TrashedContent]:
        """Return what is here; files that are not ours are left out."""
        return await self._blocking.run(self._entries)

    def _entries(self) -> list[TrashedContent]:
        with refusals():
            return list(self._found())

    def _found(self) -> Iterator[TrashedContent]:
        for entry in sorted(os.scandir(self._directory), key=lambda entry: entry.name):
            found = _parsed(entry.name)
            with suppress(FileNotFoundError):
                if found is not None and entry.is_file(follow_symlinks=False):
                    yield TrashedContent(entry.name, found[0], entry.stat().st_size, found[1])

    async def purge(self, name: str) -> None:
        """Remove bytes for good."""
        await self._blocking.run(self._purge, name)

    def _purge(self, name: str) -> None:
        with refusals(), suppress(FileNotFoundError):
            os.unlink(self._path(name))

    async def stored(self, shard: int) -> list[StoredContent]:
        """Return the blobs whose encoded digest begins with ``shard`` in two hexadecimal digits."""
        return await self._blocking.run(self._stored, f"{shard:02x}")

    def _stored(self, shard: str) -> list[StoredContent]:
        with refusals():
            return [
                found
                for algorithm in ALGORITHMS
                for found in _content(os.path.join(self._layout.blobs, algorithm, shard), algorithm)
            ]

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _content(directory: str, algorithm: str) -> Iterator[StoredContent]:
    if not os.path.isdir(directory):
        # Somebody tidied up an empty one: the next start makes it again.
        return
    for entry in os.scandir(directory):
        try:
            digest = Digest.parse(f"{algorithm}:{entry.name}")
        except DigestInvalid:
            continue
        if not entry.name.startswith(os.path.basename(directory)):
            # In the wrong directory nobody finds it, and we would move what lies in the right one.
            continue
        with suppress(FileNotFoundError):
            status = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False):
                yield StoredContent(digest, status.st_size, status.st_mtime)


def _parsed(name: str) -> tuple[Digest, float] | None:
    """Return what the name of a file in the trash says, None when it is none of ours."""
    encoded, _, nanoseconds = name.partition(".")
    algorithm = _ALGORITHM_BY_DIGITS.get(len(encoded))
    if algorithm is None or not (nanoseconds.isascii() and nanoseconds.isdigit()):
        return None
    try:
        return Digest.parse(f"{algorithm}:{encoded}"), int(nanoseconds) / 1e9
    except DigestInvalid:
        return None


def _nothing() -> None:
    """Move nothing back: nothing was moved."""
