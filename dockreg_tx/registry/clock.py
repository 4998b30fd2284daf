"""Whether the time of day can be believed when things are removed for their age.

Ages are differences of the time of day, and somebody may set that. A clock that goes back makes everything
look younger, so that more is kept. One that goes forward makes everything look old: then nothing is removed
until what was young is old by any clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import ScrubRecords

#: The clock is looked at every ten minutes: when it has moved by more it was set.
JUMP_SECONDS = 3600.0
#: A registry may have been stopped for so long.
STOP_SECONDS = 366 * 86_400.0
_log = Logger(namespace="dockreg.clock")


@dataclass(kw_only=True)
class ClockWatch:
    """The use case; ``hold_seconds``: the longest time that anything is kept for its age."""

    records: ScrubRecords
    hold_seconds: float
    #: Whether this process has looked before.
    has_looked: bool = False

    async def is_steady(self, now: float) -> bool:
        """Tell whether things may be removed for their age; to be asked often, and before each removal."""
        try:
            is_steady = await self.records.clock_is_steady(
                now,
                jump_seconds=JUMP_SECONDS if self.has_looked else STOP_SECONDS,
                hold_seconds=self.hold_seconds,
            )
        except StoreUnavailable:
            # Nothing could be removed either.
            return False
        self.has_looked = True
        if not is_steady:
            _log.info("nothing is removed for its age yet: the clock has jumped")
        return is_steady
