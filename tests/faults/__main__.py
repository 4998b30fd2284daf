"""``python -m tests.faults [--only NAME] [--cycles N] [--seed N]``: the long campaigns, with their figures.

Without ``--cycles`` each one runs what is missing to its goal; figures of earlier runs, those that are
checked in among them, count as long as the code that writes to disk is the same. The exit status is 0 when
every promise holds, and when every server broken on purpose was caught. Afterwards docs/durability.md is
written anew.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.faults import protocol, report
from tests.faults.catalogue import CAMPAIGNS
from tests.faults.figures import FigureLog
from tests.faults.frame import Runner


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", choices=CAMPAIGNS, help="one campaign")
    parser.add_argument("--cycles", type=int, default=0, help="so many more, instead of up to the goal")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    chosen = parser.parse_args()
    log = FigureLog()
    for entry in report.inherited(report.read_totals(), log.entries()):
        log.append(entry)
    runner = Runner(log=log, protocol=protocol.version())
    names = [chosen.only] if chosen.only else list(CAMPAIGNS)
    results = []
    for name in names:
        results.append(runner.run(CAMPAIGNS[name], asked=chosen.cycles, seed=chosen.seed))
        report.write(log)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
