"""Handlers that are run by hand: what follows their first wait, and when nobody waits any more."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.web.short_request import Rest


class RestTests(SynchronousTestCase):
    """A coroutine that has come to its first wait."""

    def setUp(self) -> None:
        """Begin one that waits twice."""
        self.seen: list[object] = []
        self.first: Deferred[str] = Deferred()
        self.second: Deferred[str] = Deferred()

        async def work() -> None:
            try:
                self.seen.append(await self.first)
                self.seen.append(await self.second)
            except ValueError as error:
                self.seen.append(str(error))
            finally:
                self.seen.append("end")

        self.work = work()
        self.waiting: Any = self.work.send(None)

    def test_goes_on(self) -> None:
        """Results and errors reach it as if it had always been awaited."""
        ends: list[Failure | None] = []
        self.waiting.addBoth(Rest(self.work, ends.append).come)
        self.first.callback("one")
        self.assertEqual([], ends)
        self.second.errback(ValueError("two"))
        self.assertEqual([None], ends)
        self.assertEqual(["one", "two", "end"], self.seen)

    def test_exception(self) -> None:
        """What it raises is told."""

        async def work() -> None:
            await self.first

        failing, ends = work(), list[Failure | None]()
        failing.send(None).addBoth(Rest(failing, ends.append).come)
        self.first.errback(KeyError("x"))
        (failure,) = ends
        assert failure is not None
        self.assertTrue(failure.check(KeyError))
        self.assertEqual([], self.flushLoggedErrors())

    def test_dropped(self) -> None:
        """When nobody waits any more it ends, and complains about nothing."""
        self.waiting.addBoth(Rest(self.work, lambda _: None).come)
        del self.work, self.waiting, self.first
        gc.collect()
        self.assertEqual(["end"], self.seen)
        self.assertEqual([], self.flushWarnings())
