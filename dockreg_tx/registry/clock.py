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

#: The clock is looked at every ten minutes; when it has moved by more it was set, or nobody looked for long.
JUMP_SECONDS = 3600.0
_log = Logger(namespace="dockreg.clock")


@dataclass(frozen=True, kw_only=True)
class ClockWatch:
    """The use case; ``hold_seconds``: the longest time that anything is kept for its age."""

    records: ScrubRecords
    hold_seconds: float

    async def is_steady(self, now: float) -> bool:
        """Tell whether things may be removed for their age; to be asked often, and before each removal."""
        try:
            is_steady = await self.records.clock_is_steady(
                now, jump_seconds=JUMP_SECONDS, hold_seconds=self.hold_seconds
            )
        except StoreUnavailable:
            # Nothing could be removed either.
            return False
        if not is_steady:
            _log.info(
                "nothing is removed for its age: the clock jumped, or the registry was stopped for long"
            )
        return is_steady
