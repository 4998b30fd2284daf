"""The process's one writer thread: a queue of operations, many of them in one commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.records.transactions import Operation
from dockreg_tx.records.writer import Outcome, SqliteWriter

T = TypeVar("T")

#: Under load the thread waits this long for as many operations as came last time.
GATHER_SECONDS = 0.002
#: Most operations of one transaction, so that nobody waits long for the lock.
BATCH_LIMIT = 256


@dataclass(frozen=True, slots=True)
class _Waiting:
    operation: Operation[Any]
    answer: Deferred[Any]


class WriterThread:
    """Commits what is queued, group by group, and answers on the reactor."""

    def __init__(self, *, writer: SqliteWriter, reactor: IReactorFromThreads) -> None:
        self._writer = writer
        self._reactor = reactor
        self._queue: deque[_Waiting] = deque()
        self._changed = Condition()
        self._stopped: Deferred[None] | None = None
        self._close_readers: Callable[[], None] = lambda: None
        # Started by hand and ended by stop; a process that dies without it loses nothing acknowledged.
        self._thread = Thread(target=self._run, name="records writer", daemon=True)

    def start(self) -> None:
        """Start the thread; the writer is open already."""
        self._thread.start()

    async def execute(self, operation: Operation[T]) -> T:
        """Return the result of an operation when it is on disk. Cancelling the wait does not stop it.

        Raises:
            RegistryError: as the operation; or StorageFull, StoreUnavailable.
        """
        answer: Deferred[T] = Deferred()
        with self._changed:
            if self._stopped is not None:
                raise StoreUnavailable("the registry is stopping: try again later")
            self._queue.append(_Waiting(operation, answer))
            self._changed.notify()
        return await answer

    async def stop(self, close_readers: Callable[[], None]) -> None:
        """Finish everything queued, close the database with its readers, and end the thread."""
        with self._changed:
            if self._stopped is not None:
                return
            self._stopped = Deferred()
            self._close_readers = close_readers
            self._changed.notify()
        await self._stopped
        self._thread.join()

    def _run(self) -> None:
        last_size = 1
        while batch := self._take(last_size):
            last_size = len(batch)
            outcomes = self._writer.commit([waiting.operation for waiting in batch])
            self._reactor.callFromThread(_answer, batch, outcomes)
        self._finish()

    def _take(self, expected: int) -> list[_Waiting]:
        """Wait for operations and return them in order; empty when there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped is not None)
            if expected > 1 and self._stopped is None:
                # Those who were answered together are about to come back together.
                self._changed.wait_for(lambda: len(self._queue) >= expected, GATHER_SECONDS)
            return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_LIMIT))]

    def _finish(self) -> None:
        stopped = self._stopped
        assert stopped is not None  # noqa: S101 - the loop ends only after stop
        try:
            self._writer.close(self._close_readers)
        except StoreUnavailable as error:
            Logger().error("the database did not close cleanly: {error}", error=error.__cause__)
        self._reactor.callFromThread(stopped.callback, None)


def _answer(batch: list[_Waiting], outcomes: list[Outcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if outcome.error is None:
            waiting.answer.callback(outcome.result)
        else:
            waiting.answer.errback(outcome.error)
