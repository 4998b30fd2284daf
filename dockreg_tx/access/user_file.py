"""Users of an htpasswd file that others keep: read again when it changes, beside the users of the database.

What cannot be read gives nobody access: neither a bad line to its user, nor an unreadable file to anyone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dockreg_tx.access.accounts import KnownAccounts
from dockreg_tx.access.htpasswd import Entry, RefusedLine, parse_htpasswd
from dockreg_tx.ports import Account, Blocking, Now

#: Tens of thousands of users.
LIMIT_BYTES = 16 * 1024 * 1024
#: A change is in force after so long, or sooner. A stat costs 2 µs, so it may be done in the reactor.
LOOK_SECONDS = 1.0
#: Within one tick of the filesystem's clock a second change does not show; the coarsest ticks for 2 s.
SETTLED_SECONDS = 2.0
#: More bad lines than this are counted, not named: a file of another kind must not fill the log.
NAMED_LINES = 20

_Mark = tuple[int, ...]
_log = Logger()


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the file held at one time; a ``problem`` leaves it without users."""

    mark: _Mark
    changed_at: float = 0.0
    entries: tuple[Entry, ...] = ()
    refused: tuple[RefusedLine, ...] = ()
    problem: str = ""


class UserFile:
    """The file, as far as it is known.

    Args:
        path: of the file, on a local disk.
        grants: what each of its users may do.
        blocking: reads and parses.
        clock: tells when to look again.
        now: seconds since the epoch, to compare with the file's times.
    """

    def __init__(
        self, path: str, *, grants: Sequence[str], blocking: Blocking, clock: IReactorTime, now: Now
    ) -> None:
        #: By name; empty before the first ``refresh``, and while the file cannot be read.
        self.users: Mapping[str, Account] = {}
        #: Grows whenever the users change.
        self.generation = 0
        self.path = path
        self._grants = tuple(grants)
        self._blocking = blocking
        self._clock = clock
        self._now = now
        self._looked_at: float | None = None
        self._read: _Reading | None = None
        self._is_settled = False
        self._waiting: list[Deferred[None]] = []

    async def refresh(self) -> None:
        """Read the file again if it has changed; nobody is decided by what is known to be old."""
        if not self._waiting:
            seconds = self._clock.seconds()
            if self._looked_at is not None and seconds - self._looked_at < LOOK_SECONDS:
                return
            self._looked_at = seconds
            if self._is_settled and self._read is not None and _mark(self.path) == self._read.mark:
                return
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            # Of nobody's request: a client that goes away does not end it for the others.
            reading = Deferred.fromCoroutine(self._blocking.run(_read, self.path))
            reading.addCallback(self._take)
            reading.addBoth(self._release)
        await waiter

    def _take(self, read: _Reading) -> None:
        before, self._read = self._read, read
        # What failed may have failed for a passing reason, which no mark shows.
        self._is_settled = not read.problem and abs(self._now() - read.changed_at) > SETTLED_SECONDS
        if before is not None and _content(before) == _content(read):
            return
        users = {
            entry.name: Account(entry.name, entry.password_hash, grants=self._grants)
            for entry in read.entries
        }
        if users != self.users:
            self.users = users
            self.generation += 1
        self._report(read)

    def _release(self, result: Failure | None) -> None:
        if isinstance(result, Failure):
            self._looked_at, self._is_settled = None, False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(result)

    def _report(self, read: _Reading) -> None:
        """Say what changed, by number of line: what a line holds may be a secret."""
        if read.problem:
            _log.error(
                "htpasswd file {path} {problem}: its users are refused until it can be read",
                path=self.path,
                problem=read.problem,
            )
            return
        for line in read.refused[:NAMED_LINES]:
            _log.warn(
                "htpasswd file {path}, line {number} gives no access: {reason}",
                path=self.path,
                number=line.line_number,
                reason=line.reason,
            )
        if len(read.refused) > NAMED_LINES:
            rest = len(read.refused) - NAMED_LINES
            _log.warn("htpasswd file {path}: {rest} more lines give no access", path=self.path, rest=rest)
        _log.info("htpasswd file {path}: {count} users", path=self.path, count=len(read.entries))


class MergedAccounts:
    """The users of the database and of a file; where both know a name, the database alone counts."""

    def __init__(self, *, accounts: KnownAccounts, file: UserFile) -> None:
        self._accounts = accounts
        self._file = file
        self._compared = 0

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, or None."""
        account = await self._accounts.account(name)
        return self._file.users.get(name) if account is None else account

    async def accounts(self) -> list[Account]:
        """Return all users, those of the database first."""
        known = await self._accounts.accounts()
        names = {account.name for account in known}
        return [*known, *(user for user in self._file.users.values() if user.name not in names)]

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes, in the file too."""
        await self._file.refresh()
        if self._compared != self._file.generation:
            self._compared = self._file.generation
            await self._warn_of_namesakes()
        # Neither ever shrinks, so two different states never have the same sum.
        return await self._accounts.access_generation() + self._file.generation

    async def _warn_of_namesakes(self) -> None:
        for account in await self._accounts.accounts():
            if account.name in self._file.users:
                _log.warn(
                    "user {name} is in the database and in {path}: the line of the file does not count",
                    name=account.name,
                    path=self._file.path,
                )


def read_user_file(path: str, grants: Sequence[str]) -> Mapping[str, Account]:
    """Return the users of a file as it is now. Blocks.

    Raises:
        OSError: it cannot be read.
    """
    read = _read(path)
    if read.problem:
        raise OSError(0, read.problem, path)
    return {
        entry.name: Account(entry.name, entry.password_hash, grants=tuple(grants)) for entry in read.entries
    }


def _content(read: _Reading) -> tuple[object, ...]:
    return read.entries, read.refused, read.problem


def _mark(path: str) -> _Mark:
    """Return what differs when a file has changed."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: str) -> _Reading:
    # Before the content: a change in between shows as another mark at the next look.
    mark = _mark(path)
    try:
        # Of a pipe nothing may be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _Reading(mark, problem="is no regular file")
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        return _Reading(mark, problem=f"cannot be read ({error.strerror})")
    if len(content) > LIMIT_BYTES:
        return _Reading(mark, problem=f"has more than {LIMIT_BYTES} bytes")
    entries, refused = parse_htpasswd(content)
    # This time is set by the kernel alone; the time of modification by whoever likes to.
    return _Reading(mark, status.st_ctime, tuple(entries), tuple(refused))
