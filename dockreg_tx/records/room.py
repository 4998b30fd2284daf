"""Whether SQLite was refused a write for lack of room: it tells of a full disk, but not of a full quota."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import suppress

from dockreg_tx.oci.errors import NO_ROOM

#: More than a transaction writes.
_PROBE_BYTES = 1024 * 1024
_CANNOT_WRITE = frozenset({sqlite3.SQLITE_IOERR | 3 << 8, sqlite3.SQLITE_IOERR | 6 << 8})  # _WRITE, _TRUNCATE


def told_apart(error: Exception, path: str) -> Exception:
    """Return what the operating system says of a refused write, or the error itself when it has no complaint.

    SQLite keeps the number of a system call's error to itself, and calls a quota (EDQUOT) or a limit of file
    sizes (EFBIG) an input/output error, as it does a broken disk. So fresh bytes are tried. Blocks.

    Args:
        error: of a write.
        path: the database file.
    """
    if not isinstance(error, sqlite3.Error):
        return error
    code = int(getattr(error, "sqlite_errorcode", None) or 0)
    if code not in _CANNOT_WRITE and code & 0xFF != sqlite3.SQLITE_CANTOPEN:
        return error
    return _refusal(path) or error


def _refusal(path: str) -> OSError | None:
    """Write as far out as the database's files reach; return the error when there is no room for that."""
    reach_bytes = max(_size_bytes(path), _size_bytes(f"{path}-wal"))
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(path) or ".") as file:
            content = memoryview(os.urandom(_PROBE_BYTES))
            while content:
                written = os.pwrite(file.fileno(), content, reach_bytes)
                content, reach_bytes = content[written:], reach_bytes + written
            os.fsync(file.fileno())
    except OSError as error:
        return error if error.errno in NO_ROOM else None
    return None


def _size_bytes(path: str) -> int:
    with suppress(FileNotFoundError):
        return os.stat(path).st_size
    return 0
