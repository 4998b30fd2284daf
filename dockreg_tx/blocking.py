"""Named thread pools behind the ``Blocking`` port."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    done: Deferred[Any]
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
    """

    def __init__(
        self,
        *,
        reactor: IReactorFromThreads,
        name: str,
        threads: int,
        note: Callable[[float, float], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._limit = threads
        self._threads: list[Thread] = []
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], object, float, float]] = deque()
        self._note = note
        self._lock = Lock()
        #: Given to threads and not back yet; of the reactor's thread alone.
        self._running = 0
        self._is_open = False

    @property
    def jobs(self) -> int:
        """How much work was given and is not done: running and waiting."""
        return self._running

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
        if not self._is_open:
            raise RuntimeError(f"the pool {self._name} is not open")
        done: Deferred[T] = Deferred()
        self._running += 1
        if self._running > len(self._threads) < self._limit:
            thread = Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(_Job(lambda: work(*args, **kwargs), done, monotonic()))
        return await done

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            result: object
            began_at = monotonic()
            try:
                result = job.work()
            except BaseException:  # noqa: BLE001 - it belongs to whoever waits for the result
                result = Failure()
            with self._lock:
                is_first = not self._results
                self._results.append((job.done, result, began_at - job.given_at, monotonic() - began_at))
            del job
            if is_first:
                self._reactor.callFromThread(self._settle)

    def _settle(self) -> None:
        with self._lock:
            results, self._results = self._results, deque()
        self._running -= len(results)
        for done, result, waited_seconds, worked_seconds in results:
            if self._note is not None:
                self._note(waited_seconds, worked_seconds)
            # A wait that was cancelled has its result already.
            if not done.called:
                done.callback(result)


class InlineBlocking:
    """Runs work at once in the caller's thread: for the ``dockreg`` command and for tests."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` here and now."""
        return work(*args, **kwargs)
