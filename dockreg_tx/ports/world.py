"""What is outside of every room: time, ids, rights of the moment, threads, the state of the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from dockreg_tx.oci.names import RepositoryName

P = ParamSpec("P")
T = TypeVar("T")

#: Wall-clock time in seconds since the epoch, for what is stored; waits use an ``IReactorTime``.
Now = Callable[[], float]

#: A fresh unguessable id (a UUID4 with dashes).
NewId = Callable[[], str]

#: Whether the caller of the moment may do an action ("pull", "push", …) in a repository.
May = Callable[[str, RepositoryName], bool]


class Blocking(Protocol):
    """Runs blocking work away from the reactor."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns; its exceptions are raised here."""
        ...


class HandsOff(Protocol):
    """Runs blocking work away from the reactor, and has nothing to tell it."""

    def give(self, work: Callable[[], None]) -> None:
        """Have ``work`` done, which passes on its result by itself and never fails."""
        ...


class WriteGate(Protocol):
    """Whether the disk is trusted with writes; shut by the first error that is the disk's own fault."""

    def check(self) -> None:
        """Do nothing while writes are taken.

        Raises:
            StoreUnavailable: they are not; says why.
        """
        ...

    def note(self, error: OSError) -> None:
        """Shut if an error is the disk's own fault."""
        ...

    def shut(self, reason: str, *, is_final: bool = False) -> None:
        """Take no more writes, for this reason; ``is_final``: until the next start."""
        ...
