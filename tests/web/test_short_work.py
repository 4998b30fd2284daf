"""Handlers that are run by hand: what follows their first wait, and when nobody waits any more."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.web.short_request import _rest_of


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
        done = Deferred.fromCoroutine(_rest_of(self.work, self.waiting))
        self.first.callback("one")
        self.assertNoResult(done)
        self.second.errback(ValueError("two"))
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(["one", "two", "end"], self.seen)

    def test_dropped(self) -> None:
        """When nobody waits any more it ends, and complains about nothing."""
        rest = _rest_of(self.work, self.waiting)
        rest.send(None)
        rest.close()
        del rest
        gc.collect()
        self.assertEqual(["end"], self.seen)
        self.assertEqual([], self.flushWarnings())
