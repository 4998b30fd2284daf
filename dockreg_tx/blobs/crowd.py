"""What all uploads of a process hold in memory together, and its limit.

Each upload may hold some MiB. A thousand clients that each send a little and wait, or all send at once, must
not take a thousand times as much.
"""

from __future__ import annotations

from typing import Protocol

MIB = 1024 * 1024
#: When all hold more than the first, all are paused and write what they hold, until less than the second is
#: left.
CROWDED_BYTES = 32 * MIB
EASED_BYTES = 16 * MIB


class Holder(Protocol):
    """One upload on its way."""

    def press(self) -> None:
        """Take nothing more for now, and write what is there."""
        ...

    def ease(self) -> None:
        """Go on."""
        ...


class Crowd:
    """The uploads of a process; of the reactor's thread alone."""

    def __init__(self) -> None:
        self.held_bytes = 0
        #: Whether nobody may take more.
        self.is_full = False
        self._members: set[Holder] = set()

    def join(self, member: Holder) -> None:
        """Be told from now on."""
        self._members.add(member)

    def leave(self, member: Holder) -> None:
        """Be told no more."""
        self._members.discard(member)

    def hold(self, size_bytes: int) -> None:
        """Note that somebody holds so many more."""
        self.held_bytes += size_bytes
        if self.held_bytes > CROWDED_BYTES and not self.is_full:
            self.is_full = True
            for member in list(self._members):
                member.press()

    def let_go(self, size_bytes: int) -> None:
        """Note that somebody holds so many less."""
        self.held_bytes -= size_bytes
        if self.is_full and self.held_bytes < EASED_BYTES:
            self.is_full = False
            for member in list(self._members):
                member.ease()
