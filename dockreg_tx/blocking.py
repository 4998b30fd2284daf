"""Named thread pools behind the ``Blocking`` port."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class ThreadBlocking:
    """Runs work in a pool of its own, so that one kind of slowness (disk, bcrypt) cannot starve another."""

    def __init__(self, *, reactor: IReactorFromThreads, name: str, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=name)

    def start(self) -> None:
        """Start the pool; before that no work may be given to it."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for running work and end the threads. Blocks."""
        self._pool.stop()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` in a thread of the pool."""
        result: T = await deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)
        return result


class InlineBlocking:
    """Runs work at once in the caller's thread: for the ``dockreg`` command and for tests."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` here and now."""
        return work(*args, **kwargs)
