"""Running hashes of uploads, kept between two requests of one upload.

They save reading the file again; when in doubt they are dropped, for the file is the truth.
"""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from dockreg_tx.blobs.disk import Part

#: Uploads remembered; the hash of one beyond them is computed from its file.
_KEPT_LIMIT = 1024


class Hasher(Protocol):
    """What we use of a hashlib object."""

    def update(self, data: Part, /) -> None:
        """Take more content."""
        ...

    def hexdigest(self) -> str:
        """Return the digest so far in hexadecimal."""
        ...


@dataclass(frozen=True, slots=True)
class RunningHash:
    """The hash of an upload's first bytes."""

    algorithm: str
    hasher: Hasher


@dataclass(frozen=True, slots=True)
class KeptState:
    """What a closed writer knows of its synced file, true as long as the file bears the same mark.

    Another worker may have cut the file and filled it up again to the same size. Any write moves the
    modification time, so that time, with random nanoseconds, is the mark.
    """

    running: RunningHash | None
    mark: tuple[int, int, int]


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


class KeptStates:
    """The states of the uploads that were touched last in this process."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, KeptState] = OrderedDict()

    def keep(self, upload_id: str, descriptor: int, *, size_bytes: int, running: RunningHash | None) -> None:
        """Mark the synced file and remember its state, if it is as expected and can hold the mark."""
        with suppress(OSError):
            status = os.fstat(descriptor)
            seconds = status.st_mtime_ns // 10**9
            marked_ns = seconds * 10**9 + secrets.randbelow(10**9)
            os.utime(descriptor, ns=(status.st_atime_ns, marked_ns))
            mark = _mark(os.fstat(descriptor))
            if mark[1:] == (size_bytes, marked_ns):
                self._states[upload_id] = KeptState(running, mark)
        while len(self._states) > _KEPT_LIMIT:
            self._states.popitem(last=False)

    def take(self, upload_id: str, status: os.stat_result) -> KeptState | None:
        """Return the state if the file is still the one it was kept for; it is forgotten here."""
        state = self._states.pop(upload_id, None)
        return state if state is not None and state.mark == _mark(status) else None

    def forget(self, upload_id: str) -> None:
        """Drop what is known of an upload."""
        self._states.pop(upload_id, None)
