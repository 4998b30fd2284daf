"""Answers that were given a moment ago, given again to the same question while nothing has changed.

A fleet that pulls one image asks one question many times a second. An answer is kept for the rest of its
second, and no longer than until the next commit of any process. The question is all that the answer depends
on: what is asked for, every field with the credentials (as a keyed hash), and where the client is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from dockreg_tx.ports import Now
from dockreg_tx.web.answers import Answer

#: A number that differs after every commit; None when it cannot be had at once.
Version = Callable[[], int | None]
State = tuple[int, int | None]
#: Answers kept, and the longest of them.
ANSWERS_LIMIT = 2048
ANSWER_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, and who got it."""

    answer: Answer
    user_name: str


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
        self._given: dict[Hashable, Given] = {}

    def find(self, question: Hashable) -> Given | None:
        """Return the answer that was given to a question, None when there is none that still holds."""
        state = int(self._now()), self._version()
        if state != self.state:
            self.state = state
            self._given.clear()
        return self._given.get(question)

    def keep(self, question: Hashable, given: Given, state: State) -> None:
        """Keep an answer to a question; ``state`` is from before anything was looked up for it."""
        if state is not self.state or state[1] is None or len(self._given) >= ANSWERS_LIMIT:
            return
        if given.answer.status == 200 and len(given.answer.body) <= ANSWER_LIMIT_BYTES:
            self._given[question] = given
