"""Memory that is filled from a socket, written, hashed and filled again.

A fresh buffer of this size costs as much in page faults as copying its content does.
"""

from __future__ import annotations

#: One batch: what is read is still in the processor's cache when it is written and hashed.
BUFFER_BYTES = 1024 * 1024
#: How many wait for the next upload.
_KEPT = 8
#: How many may be in use: a thousand uploads at once must not take a thousand of them.
LENT_LIMIT = 32


class Buffers:
    """Buffers of one size; of the reactor's thread alone."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self.lent = 0

    def take(self) -> bytearray | None:
        """Return a buffer with anything in it; None when enough are in use."""
        if self.lent >= LENT_LIMIT:
            return None
        self.lent += 1
        return self._free.pop() if self._free else bytearray(BUFFER_BYTES)

    def give(self, buffer: bytearray) -> None:
        """Keep one that nobody uses any more for the next who takes one."""
        if len(self._free) < _KEPT:
            self._free.append(buffer)


class Filling:
    """The buffer that is being filled, and those that were filled and are not written yet."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._lent = 0
        self._present: bytearray | None = None
        self._filled_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was filled since the last ``seal``."""
        return not self._filled_bytes

    def room(self) -> memoryview | None:
        """Return where the next bytes go, never empty; None when there is no buffer."""
        if self._present is None:
            self._present = self._buffers.take()
            if self._present is None:
                return None
            self._lent += 1
        return memoryview(self._present)[self._filled_bytes :]

    def fill(self, size_bytes: int) -> bool:
        """Note that so many bytes were put there; tell whether the buffer is full."""
        self._filled_bytes += size_bytes
        return self._filled_bytes == BUFFER_BYTES

    def taste(self, size_bytes: int) -> bytes:
        """Return a copy of so few bytes that were put there, and give the buffer back."""
        content = bytes(memoryview(self._present or b"")[:size_bytes])
        self.give_back_empty()
        return content

    def seal(self) -> memoryview:
        """Return what was filled, and begin another buffer."""
        part = memoryview(self._present or b"")[: self._filled_bytes]
        self._present, self._filled_bytes = None, 0
        return part

    def give_back(self, part: object) -> None:
        """Use a sealed buffer again; what else there is among the parts of a batch is not ours."""
        if isinstance(part, memoryview) and isinstance(part.obj, bytearray):
            self._return(1)
            self._buffers.give(part.obj)

    def give_back_empty(self) -> None:
        """Give back what was not filled."""
        if self._present is not None and self.is_empty:
            self._return(1)
            self._buffers.give(self._present)
            self._present = None

    def close(self) -> None:
        """Let others have as many buffers; those with bytes in them go with their batches."""
        self.give_back_empty()
        self._return(self._lent)

    def _return(self, count: int) -> None:
        # Those of a batch that failed never come back: close() has counted them already.
        count = min(count, self._lent)
        self._lent -= count
        self._buffers.lent -= count
