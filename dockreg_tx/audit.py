"""The audit log: one JSON object a line, only appended to, by the server and the ``dockreg`` command."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.ports import Blocking, Now
from dockreg_tx.settings import Settings

#: Longer texts of clients are cut.
TEXT_LIMIT_CHARACTERS = 300
_log = Logger()


class AuditFile:
    """Appends entries to a file, which may be moved away at any time: each line opens it anew.

    Args:
        path: of the file.
        now: dates the entries.
        blocking: one thread, for the order, which waits for the disk instead of the caller; None: the
            caller waits.
    """

    def __init__(self, path: str, *, now: Now, blocking: Blocking | None = None) -> None:
        self._path = path
        self._now = now
        self._blocking = blocking

    def write(self, entry: Mapping[str, object]) -> None:
        """Append an entry with the time; that the disk refuses is logged, and stops nothing else."""
        time = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time.replace("+00:00", "Z"), **_short(entry)}, ensure_ascii=False)
        if self._blocking is None:
            self._append(line)
        else:
            Deferred.fromCoroutine(self._blocking.run(self._append, line))

    def _append(self, line: str) -> None:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o640)
            try:
                # In one piece, so that lines of several processes do not mix.
                os.write(descriptor, f"{line}\n".encode("utf-8", "replace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.error("the audit log cannot be written: {error}", error=error)


def audit_file(
    settings: Settings, layout: RootLayout, *, now: Now, blocking: Blocking | None = None
) -> AuditFile:
    """Return the audit log that the settings name."""
    return AuditFile(settings.log.audit_file or layout.audit_log, now=now, blocking=blocking)


def _short(entry: Mapping[str, object]) -> dict[str, object]:
    return {
        key: value[:TEXT_LIMIT_CHARACTERS] if isinstance(value, str) else value
        for key, value in entry.items()
        if value not in (None, "")
    }
