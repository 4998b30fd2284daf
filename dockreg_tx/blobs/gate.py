"""Whether the disk is trusted with writes: shut by its first error, opened by a proof that it works again.

A failing fsync is told once; then the kernel drops the pages and says that all is well. So nothing is synced
a second time: what could not be synced is dropped by whoever wrote it, and nobody writes until *fresh* bytes
have come to the disk.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from twisted.logger import Logger

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import NewId

#: The device or the filesystem is at fault, not the request.
BROKEN = frozenset(
    {
        errno.EIO,
        errno.EROFS,
        errno.ENXIO,
        errno.ENODEV,
        errno.EUCLEAN,
        errno.ESHUTDOWN,
        errno.EREMOTEIO,
        errno.ESTALE,
    }
)
#: More than a filesystem packs into an inode.
_PROBE_BYTES = 64 * 1024
_log = Logger(namespace="dockreg.disk")


class DiskGate:
    """The ``WriteGate`` of one process; safe to use from every thread.

    Args:
        directories: where a probe writes; one for each disk that is written to.
        new_id: names the files of probes.
        disk: the system calls.
    """

    def __init__(self, *, directories: Sequence[str], new_id: NewId, disk: Disk | None = None) -> None:
        self._directories = directories
        self._new_id = new_id
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._failures = 0
        self._reason = ""
        self._is_final = False

    @property
    def is_open(self) -> bool:
        """Tell whether writes are taken."""
        return not self._reason

    def check(self) -> None:
        """Do nothing while writes are taken.

        Raises:
            StoreUnavailable: they are not; says why.
        """
        if self._reason:
            raise StoreUnavailable(
                f"the registry takes no writes: {self._reason}; pulls go on, and its operator has to look"
            )

    async def ready(self) -> None:
        """Do what ``check`` does, for those who ask whether the registry is ready."""
        self.check()

    def shut(self, reason: str, *, is_final: bool = False) -> None:
        """Take no more writes, for this reason; ``is_final``: no probe brings them back."""
        with self._lock:
            self._failures += 1
            is_new = not self._reason
            self._is_final = self._is_final or is_final
            if is_new or is_final:
                self._reason = reason
        if is_new:
            _log.critical("writes are refused from now on, pulls go on: {reason}", reason=reason)

    def note(self, error: OSError) -> None:
        """Shut if an error is the disk's own fault."""
        if error.errno in BROKEN:
            self.shut(f"its disk failed ({os.strerror(error.errno or 0)})")

    def probe(self) -> bool:
        """Open if fresh bytes come to every disk; tell whether writes are taken. Blocks."""
        with self._lock:
            seen = self._failures
            if not self._reason or self._is_final:
                return not self._reason
        try:
            for directory in self._directories:
                self._write_afresh(directory)
        except OSError as error:
            _log.warn("the disk still fails: {error}", error=error)
            return False
        with self._lock:
            if self._failures != seen:
                return False
            self._reason = ""
        _log.warn("the disk works again: writes are taken")
        return True

    def _write_afresh(self, directory: str) -> None:
        path = os.path.join(directory, f".probe-{self._new_id()}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._disk.write_all(descriptor, [os.urandom(_PROBE_BYTES)], 0)
            self._disk.fsync(descriptor)
            self._disk.sync_directory(directory)
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(path)
        self._disk.sync_directory(directory)


class _Watch:
    """Lets one write pass, and shuts the gate behind it if it breaks; serves all threads at once."""

    __slots__ = ("_gate",)

    def __init__(self, gate: DiskGate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            self._gate.note(error)


class GuardedDisk(Disk):
    """System calls that pass through a gate."""

    def __init__(self, gate: DiskGate) -> None:
        self._watch = _Watch(gate)

    def pwritev(self, descriptor: int, parts: Sequence[memoryview], offset_bytes: int) -> int:
        """Write some of ``parts``."""
        with self._watch:
            return super().pwritev(descriptor, parts, offset_bytes)

    def fsync(self, descriptor: int) -> None:
        """Wait until data and metadata are on disk."""
        with self._watch:
            super().fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """Wait until data and size are on disk."""
        with self._watch:
            super().fdatasync(descriptor)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        with self._watch:
            super().link(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename ``source`` over ``target``."""
        with self._watch:
            super().replace(source, target)
