"""Answers that were given a moment ago, given again to the same question while nothing has changed.

A fleet that pulls one image asks one question many times a second. An answer is kept for the rest of its
second, and no longer than until the next commit of any process. The question is all that the answer depends
on: what is asked for, every field with the credentials (as a keyed hash), and where the client is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockreg_tx.metrics import RequestPlace
from dockreg_tx.ports import Now
from dockreg_tx.web.answers import Answer
from dockreg_tx.web.framing import rest_of_head
from dockreg_tx.web.intake import RegistryRequest

if TYPE_CHECKING:
    from dockreg_tx.web.site import AccessEntry

#: A number that differs after every commit; None when it cannot be had at once.
Version = Callable[[], int | None]
State = tuple[int, int | None]
#: Answers kept, and the longest of them.
ANSWERS_LIMIT = 2048
ANSWER_LIMIT_BYTES = 64 * 1024


@dataclass(slots=True)
class Given:
    """A good answer, and how it was logged.

    ``body`` is what was sent of the answer's body: nothing for HEAD. ``entry`` is None where there is no log.
    """

    answer: Answer
    body: bytes
    place: RequestPlace
    entry: AccessEntry | None
    _rest: bytes = b""

    @property
    def rest(self) -> bytes:
        """All that follows the Date in what was sent; most answers are never given again."""
        if not self._rest:
            length_bytes = len(self.answer.body)
            head = rest_of_head(self.answer.headers, length_bytes=length_bytes)
            self._rest = head.encode("latin-1") + self.body
        return self._rest


class RecentAnswers:
    """Keeps answers.

    Args:
        version: of the database.
        now: seconds since the epoch.
    """

    def __init__(self, *, version: Version, now: Now) -> None:
        self._version = version
        self._now = now
        self.state: State = (0, None)
        self._turn = 0
        self._given: dict[Hashable, Given] = {}

    def find(self, question: Hashable, turn: int = 0) -> Given | None:
        """Return the answer that was given to a question, None when there is none that still holds.

        Args:
            question: that is asked.
            turn: of the event loop, if others are asked in the same; 0 for no such turn. All of them had
                been sent when it began, so whoever committed since has done so while they were under way.
        """
        if not turn or turn != self._turn:
            self._turn = turn
            self._look()
        return self._given.get(question)

    def _look(self) -> None:
        """Forget everything if it does not hold any more."""
        state = int(self._now()), self._version()
        if state != self.state:
            self.state = state
            self._given.clear()

    def keep(self, request: RegistryRequest, answer: Answer, state: State) -> None:
        """Keep the answer that a request got; ``state`` is from before anything was looked up for it."""
        if state is not self.state or state[1] is None or len(self._given) >= ANSWERS_LIMIT:
            return
        question, place, entry = request.question, request.counted_at, request.logged
        if question is None or place is None or answer.status != 200:
            return
        if len(answer.body) <= ANSWER_LIMIT_BYTES and request.is_bare:
            body = b"" if request.method == b"HEAD" else answer.body
            self._given[question] = Given(answer, body, place, entry)
