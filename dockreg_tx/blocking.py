"""Named thread pools behind the ``Blocking`` port."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

#: After so many pieces of work that nobody waits for the reactor is told all the same.
UNTOLD_LIMIT = 64


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    #: None: nobody waits for the result.
    done: Deferred[Any] | None
    given_at: float


class ThreadBlocking:
    """Runs work in a pool of its own, so that one kind of slowness (disk, bcrypt) cannot starve another.

    Twisted's own pool costs several times as much for each piece of work: here a queue is all there is
    between the reactor and a thread, and results that are ready together come back together.

    Args:
        reactor: gets the results.
        name: of the pool.
        threads: how many at most.
        note: told on the reactor, of each piece of work, the seconds that it waited and that it took.
        rest_seconds: how long a thread rests after each piece of work, for what comes meanwhile to gather.
    """

    def __init__(
        self,
        *,
        reactor: IReactorFromThreads,
        name: str,
        threads: int,
        note: Callable[[float, float], None] | None = None,
        rest_seconds: float = 0.0,
    ) -> None:
        self._rest_seconds = rest_seconds
        self._reactor = reactor
        self._name = name
        self._limit = threads
        self._threads: list[Thread] = []
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any] | None, object, float, float]] = deque()
        self._note = note
        self._lock = Lock()
        #: The reactor has been told that there are results.
        self._is_reactor_called = False
        #: Given to threads and not done yet; changed by the reactor's thread, told by others to ``_settle``.
        self._running = 0
        #: Of those, done by now, but the reactor has not been told.
        self._untold = 0
        self._is_open = False

    @property
    def jobs(self) -> int:
        """How much work was given and is not done: running and waiting."""
        return self._running - self._untold

    def start(self) -> None:
        """Open the pool; before that no work may be given to it. Threads begin when they are needed."""
        self._is_open = True

    def stop(self) -> None:
        """Wait for running work and end the threads. Blocks."""
        self._is_open = False
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` in a thread of the pool."""
        done: Deferred[T] = Deferred()
        self._put(_Job(lambda: work(*args, **kwargs), done, monotonic()))
        return await done

    def give(self, work: Callable[[], None]) -> None:
        """Run ``work``, which passes on its result by itself and never fails, in a thread of the pool.

        Nobody wakes the reactor for it.
        """
        self._put(_Job(work, None, monotonic()))

    def _put(self, job: _Job) -> None:
        if not self._is_open:
            raise RuntimeError(f"the pool {self._name} is not open")
        self._running += 1
        if self.jobs > len(self._threads) < self._limit:
            thread = Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            result: object
            began_at = monotonic()
            try:
                result = job.work()
            except BaseException:  # noqa: BLE001 - it belongs to whoever waits for the result
                result = Failure()
            self._tell(job.done, result, began_at - job.given_at, monotonic() - began_at)
            del job, result
            if self._rest_seconds:
                sleep(self._rest_seconds)

    def _tell(
        self, done: Deferred[Any] | None, result: object, waited_seconds: float, worked_seconds: float
    ) -> None:
        with self._lock:
            self._results.append((done, result, waited_seconds, worked_seconds))
            self._untold += 1
            is_urgent = done is not None or self._untold >= UNTOLD_LIMIT
            is_call_due = is_urgent and not self._is_reactor_called
            self._is_reactor_called = self._is_reactor_called or is_call_due
        if is_call_due:
            self._reactor.callFromThread(self._settle)

    def _settle(self) -> None:
        with self._lock:
            results, self._results = self._results, deque()
            self._is_reactor_called = False
            self._running -= len(results)
            self._untold = 0
        for done, result, waited_seconds, worked_seconds in results:
            if self._note is not None:
                self._note(waited_seconds, worked_seconds)
            # A wait that was cancelled has its result already.
            if done is not None and not done.called:
                done.callback(result)


class InlineBlocking:
    """Runs work at once in the caller's thread: for the ``dockreg`` command and for tests."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` here and now."""
        return work(*args, **kwargs)

    def give(self, work: Callable[[], None]) -> None:
        """Run ``work`` here and now."""
        work()
