"""The process's one writer thread: a queue of operations, many of them in one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import HandsOff, LateContent
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
    #: To be put in its place first.
    late: LateContent | None = None

    def place(self) -> Exception | None:
        """Put the content in its place; return why it could not be."""
        try:
            if self.late is not None:
                self.late.place()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            return error
        return None


class WriterThread:
    """Commits what is queued, group by group, and answers on the reactor.

    Content that comes late is put in its place by this thread when it has nothing else to do, which saves a
    change of threads; else by the threads of ``storage``, many at once, which then queue what records it.

    Args:
        writer: does the work.
        reactor: gets the answers.
        storage: threads that wait for the disk, if there are any.
        note_commit: told on the reactor of each commit, how many operations it had and how many seconds it
            took.
    """

    def __init__(
        self,
        *,
        writer: SqliteWriter,
        reactor: IReactorFromThreads,
        storage: HandsOff | None = None,
        note_commit: Callable[[int, float], None] | None = None,
    ) -> None:
        self._writer = writer
        self._storage = storage
        self._note_commit = note_commit
        #: Operations whose commit is not over.
        self.waiting = 0
        self._reactor = reactor
        # None is the last that is ever put into it.
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._is_at_end = False
        self._stopped: Deferred[None] | None = None
        self._lock = Lock()
        #: How much is with the threads of ``storage``; under the lock, with what follows.
        self._placing = 0
        self._is_ending = False
        self._close_readers: Callable[[], None] = lambda: None
        # Started by hand and ended by stop; a process that dies without it loses nothing acknowledged.
        self._thread = Thread(target=self._run, name="records writer", daemon=True)

    def start(self) -> None:
        """Start the thread; the writer is open already."""
        self._thread.start()

    async def execute(self, operation: Operation[T], late: LateContent | None = None) -> T:
        """Return the result of an operation when it is on disk. Cancelling the wait does not stop it.

        Args:
            operation: does the work.
            late: content to be put in its place first; if that fails, nothing else is done.

        Raises:
            RegistryError: as the operation; or StorageFull, StoreUnavailable.
            UploadBusy: as the content.
        """
        if self._stopped is not None:
            raise StoreUnavailable("the registry is stopping: try again later")
        answer: Deferred[T] = Deferred()
        is_idle = not self.waiting
        self.waiting += 1
        waiting = _Waiting(operation, answer, late)
        if late is None or is_idle or self._storage is None:
            self._queue.put(waiting)
        else:
            with self._lock:
                self._placing += 1
            self._storage.give(partial(self._place, waiting))
        return await answer

    def _place(self, waiting: _Waiting) -> None:
        """Put content in its place and queue what records it; in a thread of ``storage``."""
        error = waiting.place()
        if error is None:
            self._queue.put(_Waiting(waiting.operation, waiting.answer))
        else:
            self._reactor.callFromThread(self._settle, [waiting], [Outcome(error=error)])
        with self._lock:
            self._placing -= 1
            self._end_if_due()

    def _end_if_due(self) -> None:
        if self._is_ending and not self._placing:
            self._queue.put(None)

    async def stop(self, close_readers: Callable[[], None]) -> None:
        """Finish everything queued, close the database with its readers, and end the thread."""
        if self._stopped is not None:
            return
        self._stopped = Deferred()
        self._close_readers = close_readers
        with self._lock:
            self._is_ending = True
            self._end_if_due()
        await self._stopped
        self._thread.join()

    def _run(self) -> None:
        last_size = 1
        while batch := self._take(last_size):
            last_size = len(batch)
            outcomes = {number: Outcome(error=error) for number, error in _refused(batch)}
            placed = [number for number in range(last_size) if number not in outcomes]
            began_at = monotonic()
            committed = self._writer.commit([batch[number].operation for number in placed]) if placed else []
            took_seconds = monotonic() - began_at
            outcomes.update(zip(placed, committed, strict=True))
            ordered = [outcomes[number] for number in range(last_size)]
            self._reactor.callFromThread(self._settle, batch, ordered, took_seconds)
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

    def _settle(
        self, batch: list[_Waiting], outcomes: list[Outcome], took_seconds: float | None = None
    ) -> None:
        self.waiting -= len(batch)
        if self._note_commit is not None and took_seconds is not None:
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


def _refused(batch: list[_Waiting]) -> Iterator[tuple[int, Exception]]:
    """Put content in its place, and yield the numbers of those for whom that failed."""
    for number, waiting in enumerate(batch):
        error = waiting.place()
        if error is not None:
            yield number, error


def _answer(batch: list[_Waiting], outcomes: list[Outcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if outcome.error is None:
            waiting.answer.callback(outcome.result)
        else:
            waiting.answer.errback(outcome.error)
