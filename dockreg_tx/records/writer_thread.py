"""The process's one writer thread: a queue of operations, many of them in one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
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

    def __init__(
        self,
        *,
        writer: SqliteWriter,
        reactor: IReactorFromThreads,
        note_commit: Callable[[int, float], None] | None = None,
    ) -> None:
        self._writer = writer
        #: Told on the reactor of each commit, how many operations it had and how many seconds it took.
        self._note_commit = note_commit
        #: Operations whose commit is not over.
        self.waiting = 0
        self._reactor = reactor
        # None is the last that is ever put into it.
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._is_at_end = False
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
        if self._stopped is not None:
            raise StoreUnavailable("the registry is stopping: try again later")
        answer: Deferred[T] = Deferred()
        self.waiting += 1
        self._queue.put(_Waiting(operation, answer))
        return await answer

    async def stop(self, close_readers: Callable[[], None]) -> None:
        """Finish everything queued, close the database with its readers, and end the thread."""
        if self._stopped is not None:
            return
        self._stopped = Deferred()
        self._close_readers = close_readers
        self._queue.put(None)
        await self._stopped
        self._thread.join()

    def _run(self) -> None:
        last_size = 1
        while batch := self._take(last_size):
            last_size = len(batch)
            began_at = monotonic()
            outcomes = self._writer.commit([waiting.operation for waiting in batch])
            self._reactor.callFromThread(self._settle, batch, outcomes, monotonic() - began_at)
        self._finish()

    def _take(self, expected: int) -> list[_Waiting]:
        """Wait for operations and return them in order; empty when there will be none any more."""
        batch: list[_Waiting] = []
        ends_at = 0.0
        while not self._is_at_end and len(batch) < BATCH_LIMIT:
            # Those who were answered together are about to come back together.
            left_seconds = ends_at - monotonic() if 0 < len(batch) < expected else 0.0
            try:
                waiting = self._queue.get(not batch or left_seconds > 0, left_seconds if batch else None)
            except Empty:
                break
            if waiting is None:
                self._is_at_end = True
                break
            if not batch:
                ends_at = monotonic() + GATHER_SECONDS
            batch.append(waiting)
        return batch

    def _settle(self, batch: list[_Waiting], outcomes: list[Outcome], took_seconds: float) -> None:
        self.waiting -= len(batch)
        if self._note_commit is not None:
            self._note_commit(len(batch), took_seconds)
        _answer(batch, outcomes)

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
