"""Callers who proved themselves a moment ago, and send the same credentials again.

A client sends its password with every request, and to take it apart, to find its user and to know it again
costs as much as many a request's own work. Who was let in is known again for the rest of the second, as long
as no right changes. Nothing is kept that a password could be read from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from dockreg_tx.access.callers import Caller
from dockreg_tx.ports import Now

#: Callers that are known at once; more prove themselves each time.
CALLERS_LIMIT = 1024
#: Callers by a MAC of what they sent.
Page = dict[bytes, Caller]
#: The generation of rights; None when it cannot be had at once.
Generation = Callable[[], int | None]


class RecentCallers:
    """Knows callers again.

    Args:
        generation: moves whenever a right may have been taken away or given.
        now: seconds since the epoch.
        secret: keys the MACs.
    """

    def __init__(self, *, generation: Generation, now: Now, secret: bytes) -> None:
        self._generation = generation
        self._now = now
        self._secret = secret
        self._state: tuple[int, int] | None = None
        self._page: Page = {}

    def page(self) -> Page | None:
        """Return who is known at this moment; None when that cannot be told at once.

        Whoever is asked for credentials takes the page first and writes on it when they turn out right: a
        right that was changed meanwhile has begun another page.
        """
        generation = self._generation()
        if generation is None:
            return None
        state = int(self._now()), generation
        if state != self._state:
            self._state = state
            self._page = {}
        return self._page

    def key(self, authorization: str) -> bytes:
        """Return what credentials are known by."""
        content = authorization.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, key=self._secret, digest_size=32).digest()

    def note(self, page: Page, authorization: str, caller: Caller) -> None:
        """Know a caller again; a robot not, for its token may end at any moment."""
        if caller.principal.robot_id is None and len(page) < CALLERS_LIMIT:
            page[self.key(authorization)] = caller
