"""The locks of a root: who serves it, and who collects or scrubs it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.root import FILE_MODE, RootUnusable, root_refusals


@contextmanager
def collection_lock(layout: RootLayout, *, wait: bool) -> Iterator[bool]:
    """Be the only one who collects garbage on a root; yields False when another does and we do not wait."""
    with _only_one(layout.collection_lock, wait=wait) as is_ours:
        yield is_ours


@contextmanager
def scrub_lock(layout: RootLayout) -> Iterator[bool]:
    """Be the only one who scrubs a root; yields False when another does."""
    with _only_one(layout.scrub_lock, wait=False) as is_ours:
        yield is_ours


@contextmanager
def _only_one(path: str, *, wait: bool) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class RootLock:
    """The right to serve a root, held by one server until it releases it or all its processes are gone.

    A forked child (twistd daemonises) holds it too; programs that are executed do not.
    """

    def __init__(self, layout: RootLayout) -> None:
        self._layout = layout
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and note who has it.

        Raises:
            RootUnusable: another server has it, and is named; or the file cannot be opened.
        """
        with root_refusals(self._layout.root):
            descriptor = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
                os.close(descriptor)
                raise RootUnusable(f"{self._layout.root} is in use by {owner}") from error
        self._descriptor = descriptor
        self.note_owner()

    def share(self) -> None:
        """Hold the lock together with the other processes of one server; from now on, or instead of alone.

        Raises:
            RootUnusable: another server has taken it alone, or the file cannot be opened.
        """
        with root_refusals(self._layout.root):
            if self._descriptor is None:
                self._descriptor = os.open(
                    self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE
                )
            try:
                # The kernel lets go before it locks anew, so another server can come between.
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                self._descriptor = None
                raise RootUnusable(f"{self._layout.root} is in use by another server") from error

    def note_owner(self) -> None:
        """Write this process's id into the lock file; again after a fork, for the parent's is out of date."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        note = f"pid {os.getpid()} on {socket.gethostname()}\n".encode()
        # The note only informs; on a full disk the lock holds without it.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, note, 0)

    def release(self) -> None:
        """Let others in, forked processes notwithstanding. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
