"""The audit log: one JSON object a line, only appended to, by the server and the ``dockreg`` command."""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from twisted.logger import Logger

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.ports import HandsOff, Now
from dockreg_tx.settings import Settings

#: A disk that is full or read-only may get better; that there is no such directory does not pass by itself.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: Longer texts of clients are cut.
TEXT_LIMIT_CHARACTERS = 300
# Made once: json.dumps makes one for every call with settings of its own.
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_log = Logger()


class AuditFile:
    """Appends entries to a file, which may be moved away at any time: the next line opens it anew.

    Args:
        path: of the file.
        now: dates the entries.
        blocking: one thread, for the order, which waits for the disk instead of the caller; None: the
            caller waits.
    """

    def __init__(self, path: str, *, now: Now, blocking: HandsOff | None = None) -> None:
        self._path = path
        self._now = now
        self._blocking = blocking
        #: Lines on their way to the thread.
        self._lines: deque[str] = deque()
        self._is_thread_called = False
        # Of the thread that appends.
        self._descriptor: int | None = None
        self._inode = (0, 0)

    def write(self, entry: Mapping[str, object]) -> None:
        """Append an entry with the time; that the disk refuses is logged, and stops nothing else."""
        line = _ENCODER.encode({"time": _moment(self._now()), **_short(entry)})
        self._lines.append(f"{line}\n")
        if self._blocking is None:
            self._append()
        elif not self._is_thread_called:
            self._is_thread_called = True
            self._blocking.give(self._append)

    def _append(self) -> None:
        # First: what comes from here on may come too late for this turn.
        self._is_thread_called = False
        lines: list[str] = []
        while self._lines:
            lines.append(self._lines.popleft())
        if not lines:
            return
        try:
            # In one piece, so that lines of several processes do not mix.
            os.write(self._opened(), "".join(lines).encode("utf-8", "replace"))
        except OSError as error:
            _log.error("the audit log cannot be written: {error}", error=error)

    def _opened(self) -> int:
        """Return the file that has the name now: the one at hand, unless that was moved away."""
        if self._descriptor is not None:
            try:
                status = os.stat(self._path)
            except FileNotFoundError:
                status = None
            if status is not None and (status.st_dev, status.st_ino) == self._inode:
                return self._descriptor
            self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        status = os.fstat(self._descriptor)
        self._inode = (status.st_dev, status.st_ino)
        return self._descriptor

    def problem(self) -> str:
        """Return why nothing can ever be written to the file, or an empty text."""
        try:
            self._opened()
        except OSError as error:
            if error.errno not in _PASSING:
                return f"cannot write the audit log {self._path}: {os.strerror(error.errno or 0)}"
        return ""

    def close(self) -> None:
        """Give up the file, until the next entry."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        # Settings that are reloaded make a new one.
        self.close()


def audit_file(
    settings: Settings, layout: RootLayout, *, now: Now, blocking: HandsOff | None = None
) -> AuditFile:
    """Return the audit log that the settings name."""
    return AuditFile(settings.log.audit_file or layout.audit_log, now=now, blocking=blocking)


def _short(entry: Mapping[str, object]) -> dict[str, object]:
    return {
        key: value[:TEXT_LIMIT_CHARACTERS] if type(value) is str else value
        for key, value in entry.items()
        if value is not None and value != ""
    }


def _moment(now: float) -> str:
    second = int(now)
    return f"{_second_text(second)}.{int((now - second) * 1000):03d}Z"


@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
