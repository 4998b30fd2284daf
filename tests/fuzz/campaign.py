"""Many cases in a row, in blocks that each begin with a fresh registry."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fuzz.cases import Case, Cases
from tests.fuzz.oracle import Failures, problems_of
from tests.fuzz.server import FuzzServer

BLOCK_CASES = 200


@dataclass
class Outcome:
    """Figures of a campaign."""

    cases: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    #: Each failing case, ready to be printed.
    failed: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take the figures of another process."""
        self.cases += other.cases
        self.seconds = max(self.seconds, other.seconds)
        self.statuses += other.statuses
        self.failed += other.failed

    def __str__(self) -> str:
        statuses = " ".join(f"{status}:{count}" for status, count in sorted(self.statuses.items()))
        rate = self.cases / self.seconds if self.seconds else 0
        return f"{self.cases} cases, {rate:.0f} a second, {len(self.failed)} failed; answers {statuses}"


def run(
    cases: int, seed: int, *, first_block: int = 0, step: int = 1, tell: Callable[[str], None] | None = None
) -> Outcome:
    """Play cases; block ``b`` depends on ``seed`` and ``b`` alone, so that a failure can be had again.

    Args:
        cases: how many in all processes together.
        seed: of the random numbers.
        first_block: where this process begins, and
        step: how many blocks it goes on at a time.
        tell: called with each failure as it happens.
    """
    outcome = Outcome()
    began = time.perf_counter()
    with Failures() as failures:
        for block in range(first_block, -(-cases // BLOCK_CASES), step):
            for text in _run_block(
                seed, block, min(BLOCK_CASES, cases - block * BLOCK_CASES), failures, outcome
            ):
                outcome.failed.append(text)
                if tell is not None:
                    tell(text)
    outcome.seconds = time.perf_counter() - began
    return outcome


def _run_block(seed: int, block: int, count: int, failures: Failures, outcome: Outcome) -> list[str]:
    server = FuzzServer()
    source = Cases(random.Random(f"{seed}/{block}"), server)
    failed = []
    for number in range(count):
        case = source.next()
        problems = problems_of(server, case, failures)
        outcome.cases += 1
        outcome.statuses.update(entry.status for entry in server.log)
        if problems:
            failed.append(_report(f"seed {seed}, block {block}, case {number}", case, problems))
    return failed


def _report(where: str, case: Case, problems: list[str]) -> str:
    lines = [f"FAILED {where}", *(f"    {problem}" for problem in problems)]
    lines += [f"    {piece[:3000]!r}{' …' if len(piece) > 3000 else ''}" for piece in case.pieces[:20]]
    return "\n".join([*lines, "    then the client leaves" if case.leaves else "    then it waits"])
