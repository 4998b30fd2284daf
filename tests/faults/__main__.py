"""``python -m tests.faults [--only NAME] [--cycles N] [--seed N]``: the long campaigns, with their figures.

The exit status is 0 when nothing was lost, and when every server broken on purpose was caught.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from tests.faults import logins, workers
from tests.faults.campaigns import Outcome, Scene, kill_scene, power_scene, run, run_first_starts
from tests.faults.disks import missing
from tests.faults.trouble import TROUBLES

CYCLES = 50
FIRST_STARTS = ("first-starts", "first-starts-power")
STREAMS = "streams"
LOGINS = "logins"
WITHOUT_DISK = ("kill", FIRST_STARTS[0], STREAMS, LOGINS)

#: Name of each campaign, its scene, and whether it must lose something.
CAMPAIGNS: dict[str, tuple[Callable[[], AbstractContextManager[Scene]], bool]] = {
    "kill": (kill_scene, False),
    "power": (power_scene, False),
    "power-two-disks": (partial(power_scene, split=True), False),
    "control-without-directory-fsync": (partial(power_scene, split=True, broken="directory-fsync"), True),
    "control-without-file-fsync": (partial(power_scene, broken="file-fsync"), True),
}
#: Campaigns that bring their own way: each prints its figures and tells whether it went as it must.
OWN: dict[str, Callable[[int, int], bool]] = {
    "workers": workers.campaign,
    "control-workers": workers.control,
    **TROUBLES,
}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def campaign(name: str, cycles: int, seed: int) -> bool:
    """Run one campaign, print its figures, and tell whether it went as it must."""
    scene_of, must_lose = CAMPAIGNS[name]
    outcome = Outcome(name, seed)
    with scene_of() as scene:
        run(scene, outcome, cycles, stop_when_lost=must_lose)
    is_well = bool(outcome.lost_blobs) if must_lose else not outcome.lost
    verdict = (
        ("caught, as it must be" if is_well else "NOT CAUGHT") if must_lose else ("ok" if is_well else "LOST")
    )
    say(f"{outcome}: {verdict}")
    for line in outcome.lost[: 3 if must_lose else 50]:
        say(f"    {line}")
    return is_well


def first_starts(name: str, cycles: int, seed: int) -> bool:
    """Run a campaign of first starts, print its figures, and tell whether it went well."""
    outcome = Outcome(name, seed)
    run_first_starts(outcome, cycles, with_disk=name == FIRST_STARTS[1])
    say(f"{outcome}: {'LOST' if outcome.lost else 'ok'}")
    return not outcome.lost


def streams() -> bool:
    """Run the streaming tests with eight uploads of a gibibyte each, and tell whether they went well."""
    command = [sys.executable, "-m", "twisted.trial", "tests.integration.test_streaming"]
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        command.insert(3, f"--temp-directory={name}/trial")
        done = subprocess.run(command, check=False, env={**os.environ, "TEST_PARALLEL_MIB": "1024"})
    return done.returncode == 0


def guessed_logins() -> bool:
    """Run the campaign of logins, print its figures, and tell whether all bounds were kept."""
    outcome = logins.Outcome()
    logins.run(outcome, logins.Bounds())
    for line in outcome.lines:
        say(f"{LOGINS}: {line}")
    return not outcome.missed


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument(
        "--only", choices=[*CAMPAIGNS, *FIRST_STARTS, STREAMS, LOGINS, *OWN], help="one campaign"
    )
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    chosen = parser.parse_args()
    reason, results = missing(), []
    for name in [chosen.only] if chosen.only else [*CAMPAIGNS, *FIRST_STARTS, STREAMS, LOGINS, *OWN]:
        if name in OWN:
            results.append(OWN[name](chosen.cycles, chosen.seed))
            continue
        if reason and name not in WITHOUT_DISK:
            say(f"{name}: skipped: {reason}")
            continue
        if name in FIRST_STARTS:
            results.append(first_starts(name, chosen.cycles, chosen.seed))
            continue
        if name == STREAMS:
            results.append(streams())
            continue
        if name == LOGINS:
            results.append(guessed_logins())
            continue
        results.append(campaign(name, chosen.cycles, chosen.seed))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
