"""Who takes a connection: workers share the listening sockets, and the number of connections of each.

A kernel hands a burst of connections to whoever wakes first, and clients keep their connections; so a worker
that has more than another one leaves the next to that one for a moment.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

#: How long a worker with more connections than another leaves a new one to the others.
STEP_BACK_SECONDS = 0.002
#: Where nobody serves.
ABSENT = 2**32 - 1
_COUNT_BYTES = 4


class ConnectionCounts:
    """How many connections each worker has, in memory that all processes share.

    Args:
        descriptor: of that memory, 4 bytes for each worker.
    """

    def __init__(self, descriptor: int) -> None:
        size_bytes = os.fstat(descriptor).st_size
        self._counts = memoryview(mmap.mmap(descriptor, size_bytes)).cast("I")

    def __setitem__(self, number: int, count: int) -> None:
        """Note how many connections worker ``number`` (from 1) has."""
        self._counts[number - 1] = count

    def is_ahead(self, number: int) -> bool:
        """Tell whether a worker has more connections than some other one that serves."""
        mine = self._counts[number - 1]
        return any(count < mine for count in self._counts)


def shared_memory(workers: int) -> int:
    """Return a descriptor of memory for the counts of so many workers, none of which serves yet."""
    descriptor = os.memfd_create("dockreg-connections")
    os.write(descriptor, ABSENT.to_bytes(_COUNT_BYTES, "little") * workers)
    return descriptor


def accept_fairly(port: Any, reactor: Any, is_ahead: Callable[[], bool]) -> None:
    """Let a port accept one connection at a time, and step back once when ``is_ahead`` says so."""
    accept = port.doRead
    has_stepped_back = False

    def come_back() -> None:
        # Closed meanwhile, it has no descriptor.
        if port.fileno() >= 0:
            port.startReading()

    def accept_or_step_back() -> None:
        nonlocal has_stepped_back
        if is_ahead() and not has_stepped_back:
            has_stepped_back = True
            port.stopReading()
            reactor.callLater(STEP_BACK_SECONDS, come_back)
            return
        has_stepped_back = False
        port.numberAccepts = 1
        accept()

    port.doRead = accept_or_step_back
