"""One timer for one connection: what must have happened by when."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls back once when a moment passes; there is one moment at a time.

    Moving the moment later costs no call to the clock's scheduler: the timer looks again when it fires.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._at = 0.0
        self._expired: Callable[[], object] | None = None

    def set(self, seconds: float, expired: Callable[[], object]) -> None:
        """Call ``expired`` in ``seconds``, in place of what was set before."""
        self._at = self._clock.seconds() + seconds
        self._expired = expired
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._look)
        elif self._call.getTime() > self._at:
            self._call.reset(seconds)

    def clear(self) -> None:
        """Expect nothing; the timer itself may stay for the next ``set``."""
        self._expired = None

    def stop(self) -> None:
        """Expect nothing and give up the timer."""
        self._expired = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        if self._expired is None:
            return
        left_seconds = self._at - self._clock.seconds()
        if left_seconds > 0:
            self._call = self._clock.callLater(left_seconds, self._look)
            return
        expired, self._expired = self._expired, None
        expired()
