"""What tells, for the price of one read from memory, that nobody has committed since.

In WAL mode every commit changes the header of the WAL-index, the file beside the database that all of its
connections share (https://sqlite.org/walformat.html, section 2.1). SQLite itself compares these bytes with
those it saw last to learn whether its snapshot is still the newest; so does this, without taking a lock.
"""

from __future__ import annotations

import os

#: The first copy of the header, which a commit changes last of all.
_HEADER_BYTES = 48


class CommitMark:
    """Reads the header of the WAL-index; open it while a connection has the database open.

    Args:
        database_path: the database file.
    """

    def __init__(self, database_path: str) -> None:
        try:
            self._descriptor = os.open(f"{database_path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def read(self) -> bytes | None:
        """Return bytes that differ after every commit of any process; None when they cannot be had."""
        try:
            found = os.pread(self._descriptor, _HEADER_BYTES, 0)
        except OSError:
            return None
        return found if len(found) == _HEADER_BYTES else None

    def close(self) -> None:
        """Close the file if SQLite has done with it; call this when this process's connections are closed.

        Closing any descriptor of a file gives up all POSIX locks that the process has on it, those of its
        connections, too. So while another connection may be open the descriptor stays, for the process's end.
        """
        descriptor, self._descriptor = self._descriptor, -1
        # The last connection of all removes the file.
        if descriptor >= 0 and os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
