"""Callers who are known again, and those who must prove themselves each time."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.callers import Caller
from dockreg_tx.access.grants import Principal
from dockreg_tx.access.recent_callers import CALLERS_LIMIT, RecentCallers

ALICE = Principal("alice")
SENT = "Basic YWxpY2U6c2VjcmV0"


class RecentCallersTests(SynchronousTestCase):
    """Pages, and what is on them."""

    def setUp(self) -> None:
        self.generation: int | None = 1
        self.at = 100.0
        self.recent = RecentCallers(generation=lambda: self.generation, now=lambda: self.at, secret=b"s" * 32)
        self.note(ALICE)

    def note(self, principal: Principal, sent: str = SENT) -> None:
        """Let a caller in."""
        page = self.recent.page()
        assert page is not None
        self.recent.note(page, sent, Caller(principal))

    def is_known(self, sent: str = SENT) -> bool:
        """Tell whether credentials need no proof."""
        return self.recent.key(sent) in (self.recent.page() or {})

    def test_known(self) -> None:
        """Who sends the same within the second is known, and nobody else is."""
        self.at = 100.9
        self.assertTrue(self.is_known())
        self.assertFalse(self.is_known(SENT[:-1]))

    def test_ends(self) -> None:
        """It ends with the second, forwards and backwards, and with the generation of rights."""
        for at, generation in [(101.0, 1), (99.9, 1), (100.0, 2), (100.0, None)]:
            self.at, self.generation = 100.0, 1
            self.note(ALICE)
            self.assertTrue(self.is_known())
            self.at, self.generation = at, generation
            self.assertFalse(self.is_known(), (at, generation))

    def test_late(self) -> None:
        """Who began to prove itself before a right changed is not known after it."""
        page = self.recent.page()
        assert page is not None
        self.generation = 2
        self.assertFalse(self.is_known())
        self.recent.note(page, SENT, Caller(ALICE))
        self.assertFalse(self.is_known())

    def test_robots(self) -> None:
        """A robot is looked up each time: its token may expire at any moment."""
        self.note(replace(ALICE, robot_id="r1"), "Basic cm9ib3Q=")
        self.assertFalse(self.is_known("Basic cm9ib3Q="))

    def test_bounded(self) -> None:
        """However many there are, few are remembered, and nothing that they sent."""
        for number in range(CALLERS_LIMIT + 10):
            self.note(ALICE, f"Basic {number}")
        page = self.recent.page()
        assert page is not None
        self.assertEqual(CALLERS_LIMIT, len(page))
        self.assertNotIn("YWxpY2U6c2VjcmV0", repr(vars(self.recent)))
