"""``python -m tests.fuzz [--cases N] [--seed S] [--processes P]`` and ``--machine NAME --runs N --steps N``.

The exit status is 0 when nothing was found. A failing case is printed with seed and bytes.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.fuzz.campaign import Outcome, run
from tests.fuzz.machines import MACHINES, check_machine

CASES = 1_000_000
#: Hypothesis remembers every history of a run, some 200 KiB each.
BATCH_RUNS = 250


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fuzz(cases: int, seed: int, processes: int) -> bool:
    """Play cases in several processes; tell whether nothing was found."""
    play = partial(run, cases, seed, step=processes, tell=say)
    outcome = Outcome()
    with ProcessPoolExecutor(processes) as pool:
        for part in pool.map(_run_part, [(play, number) for number in range(processes)]):
            outcome.add(part)
    say(f"fuzz: {outcome}; seed {seed}")
    return not outcome.failed


def _run_part(part: tuple[partial[Outcome], int]) -> Outcome:
    play, number = part
    return play(first_block=number)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--machine", choices=[*MACHINES, "all"], help="run state machines instead")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=50)
    chosen = parser.parse_args()
    if chosen.machine is None:
        return 0 if fuzz(chosen.cases, chosen.seed, chosen.processes) else 1
    for name in MACHINES if chosen.machine == "all" else [chosen.machine]:
        for first in range(0, chosen.runs, BATCH_RUNS):
            runs = min(BATCH_RUNS, chosen.runs - first)
            check_machine(MACHINES[name], runs=runs, steps=chosen.steps, seed=chosen.seed + first)
        say(f"{name}: {chosen.runs} runs of up to {chosen.steps} steps, no difference; seed {chosen.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
