"""The campaigns of full and failing disks, flipped bits and wrong clocks, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults import faulty_disk, loops
from tests.faults.broken_disk import broken_disk
from tests.faults.clocks import clocks
from tests.faults.flips import flips
from tests.faults.full_disk import full_disk
from tests.faults.loops import say

#: Takes cycles and seed, prints its figures, and tells whether all went as it must.
Campaign = Callable[[int, int], bool]


def _if_possible(name: str, campaign: Campaign, missing: Callable[[], str]) -> Campaign:
    def run(cycles: int, seed: int) -> bool:
        reason = missing()
        if reason:
            say(f"{name}: skipped: {reason}")
            return True
        return campaign(cycles, seed)

    return run


TROUBLES: dict[str, Campaign] = {
    "full-disk": _if_possible("full-disk", full_disk, loops.missing),
    "broken-disk": _if_possible("broken-disk", broken_disk, faulty_disk.missing),
    "flips": flips,
    "clocks": clocks,
}
