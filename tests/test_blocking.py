"""The thread pools: results and errors come back on the reactor, and stopping waits."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from twisted.internet import reactor as _reactor  # noqa: TID251 - threads answer through the real one
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dockreg_tx.blocking import ThreadBlocking

reactor: Any = _reactor


class ThreadBlockingTests(TestCase):
    """One pool of two threads."""

    timeout = 10

    def setUp(self) -> None:
        self.pool = ThreadBlocking(reactor=reactor, name="test", threads=2)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    async def test_result(self) -> None:
        """A result comes from another thread to this one."""
        ident = await self.pool.run(threading.get_ident)
        self.assertNotEqual(threading.get_ident(), ident)

    async def test_error(self) -> None:
        """An error is raised where the work was waited for."""
        with self.assertRaises(ZeroDivisionError):
            await self.pool.run(lambda: 1 / 0)

    async def test_many(self) -> None:
        """More work than threads is all done, each result to its own waiter."""
        works = [Deferred.fromCoroutine(self.pool.run(abs, -number)) for number in range(500)]
        self.assertEqual(list(range(500)), await gatherResults(works))

    async def test_cancelled(self) -> None:
        """A wait that is cancelled ends at once; its work, and that of others, goes on."""
        gate = threading.Event()
        waiting = Deferred.fromCoroutine(self.pool.run(gate.wait))
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        gate.set()
        self.assertEqual(1, await self.pool.run(abs, -1))

    async def test_given(self) -> None:
        """Work that passes on its result by itself is done, counted and noted, and wakes nobody."""
        notes: list[float] = []
        pool = ThreadBlocking(
            reactor=reactor, name="given", threads=2, note=lambda waited, _worked: notes.append(waited)
        )
        pool.start()
        self.addCleanup(pool.stop)
        done: list[int] = []
        for number in range(200):
            pool.give(partial(done.append, number))
        self.assertEqual(-1, await pool.run(int, "-1"))
        while len(done) < 200 or pool.jobs:
            await pool.run(int, "0")
        self.assertEqual(list(range(200)), sorted(done))
        self.assertGreater(len(notes), 200)

    async def test_closed(self) -> None:
        """A pool that is not open takes no work."""
        pool = ThreadBlocking(reactor=reactor, name="closed", threads=1)
        with self.assertRaises(RuntimeError):
            await pool.run(abs, -1)
