"""Who is it: user name and password in, a principal out; bcrypt and guessers must not slow others down."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dockreg_tx.access.grants import Grant, GrantInvalid, Principal
from dockreg_tx.access.passwords import (
    DUMMY_HASH,
    hash_rounds,
    is_password_hash,
    verify_password,
    with_rounds,
)
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access.tokens import password_fingerprint
from dockreg_tx.oci.errors import TooManyRequests, Unauthorized
from dockreg_tx.ports import Account, Blocking

#: How long a password that was right needs no second look; docker sends it with every request.
CACHE_SECONDS = 300
CACHE_LIMIT_ENTRIES = 10_000
#: Two threads work off a full queue of 32 checks of 0.25 s in this time.
RETRY_AFTER_SECONDS = 5
#: Of the places in the queue, those that are kept for users who logged in from the same network before.
RESERVED_SHARE = 0.25

_log = Logger()


class KnownAccounts(Protocol):
    """What is asked of ``ports.AccountRecords``, or of who joins them with others."""

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, or None."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all users."""
        ...

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes."""
        ...


class Authenticator:
    """Turns credentials into principals.

    Accounts are read again whenever the generation of access has moved, so a change is in force for the next
    request. A password that was verified is remembered under a MAC that covers the stored hash: a changed
    password forgets itself.
    """

    def __init__(
        self,
        *,
        accounts: KnownAccounts,
        blocking: Blocking,
        clock: IReactorTime,
        secret: bytes,
        anonymous: Principal,
        throttle: Throttle | None = None,
        verified: VerifiedCredentials | None = None,
        queue_limit: int = 32,
        dummy_hash: str = DUMMY_HASH,
    ) -> None:
        self._accounts = accounts
        self._anonymous = anonymous
        self._throttle = throttle or Throttle(clock)
        self._dummy = _Dummy(accounts, dummy_hash)
        self._secret = secret
        self._verified = verified or VerifiedCredentials(clock)
        self._checks = _PasswordChecks(blocking, queue_limit)
        self._generation: int | None = None
        self._known: dict[str, tuple[Account, Principal]] = {}

    async def authenticate(self, username: str, password: str, source: str = "") -> Principal:
        """Return whom the credentials belong to; an empty name with an empty password is anonymous.

        Args:
            username: of a user.
            password: as it was typed.
            source: the client's address.

        Raises:
            Unauthorized: there is no such user, it is disabled, or the password is wrong. Which of them does
                not show, in the time either.
            TooManyRequests: the client failed too often, or too many passwords wait to be checked.
        """
        if not username and not password:
            return self._anonymous
        known = await self._known_account(username)
        if known is not None and is_password_hash(known[0].password_hash):
            stored = known[0].password_hash
        else:
            stored = await self._dummy.hash()
        # Looked up by a MAC under a secret key, so the time of the look-up tells nothing about its parts.
        key = self._mac(username, password, stored)
        if known is not None and key in self._verified:
            return known[1]
        is_right = await self._checks.run(
            key,
            password,
            stored,
            is_known=self._throttle.knows(source, username),
            begin=lambda: self._throttle.begin(source, username),
        )
        # Read again: the account may have changed while bcrypt ran.
        known = await self._known_account(username)
        if not is_right or known is None or known[0].password_hash != stored:
            raise Unauthorized("wrong user name or password")
        self._throttle.succeeded(source, username)
        self._verified.add(key)
        return known[1]

    async def principal(self, name: str) -> Principal | None:
        """Return a user by name, None when there is none or it is disabled."""
        known = await self._known_account(name)
        return None if known is None else known[1]

    async def generation(self) -> int:
        """Return a number that moves whenever a right may have been taken away or given."""
        return await self._accounts.access_generation()

    async def _known_account(self, name: str) -> tuple[Account, Principal] | None:
        """Return an enabled account with its principal."""
        generation = await self._accounts.access_generation()
        if generation != self._generation:
            self._generation = generation
            self._known.clear()
        known = self._known.get(name)
        if known is not None or not _is_storable(name):
            return known
        account = await self._accounts.account(name)
        if account is None or account.is_disabled:
            return None
        known = account, principal_of(account)
        # Another request may have seen a newer generation meanwhile; then this row may be too old to keep.
        if generation == self._generation:
            self._known[name] = known
        return known

    def _mac(self, username: str, password: str, stored: str) -> bytes:
        # With the lengths in front, no other three texts make the same one.
        text = f"{len(username)} {len(password)} {username}{password}{stored}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._secret).digest()


class VerifiedCredentials:
    """MACs of credentials that were right, each for 5 minutes, at most 10,000; the oldest leave first."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._expires_at: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        expires_at = self._expires_at.get(key)
        return expires_at is not None and self._clock.seconds() < expires_at

    def add(self, key: bytes) -> None:
        """Remember credentials that were right just now."""
        self._expires_at[key] = self._clock.seconds() + CACHE_SECONDS
        self._expires_at.move_to_end(key)
        if len(self._expires_at) > CACHE_LIMIT_ENTRIES:
            self._expires_at.popitem(last=False)


class _PasswordChecks:
    """Runs of bcrypt: equal ones at one time are one, and only so many wait.

    Each run belongs to nobody: a client that goes away does not end it for the others.
    """

    def __init__(self, blocking: Blocking, queue_limit: int) -> None:
        self._blocking = blocking
        self._queue_limit = queue_limit
        self._strangers_limit = queue_limit - int(queue_limit * RESERVED_SHARE)
        self._waiting: dict[bytes, list[Deferred[bool]]] = {}

    async def run(
        self, key: bytes, password: str, stored: str, *, is_known: bool, begin: Callable[[], None]
    ) -> bool:
        """Return whether the password is right.

        Args:
            key: equal for equal checks.
            password: as it was typed.
            stored: the hash that it is compared with.
            is_known: whether the client may take the places that are kept free of strangers.
            begin: may refuse a check that is not running yet.

        Raises:
            TooManyRequests: too many wait.
        """
        waiter: Deferred[bool] = Deferred()
        waiters = self._waiting.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return await waiter
        if len(self._waiting) >= (self._queue_limit if is_known else self._strangers_limit):
            raise TooManyRequests("too many logins at once: try again soon", RETRY_AFTER_SECONDS)
        begin()
        self._waiting[key] = [waiter]
        check = Deferred.fromCoroutine(self._blocking.run(verify_password, password, stored))
        check.addBoth(self._finish, key)
        return await waiter

    def _finish(self, result: bool | Failure, key: bytes) -> None:
        for waiter in self._waiting.pop(key):
            waiter.callback(result)


class _Dummy:
    """The hash that is verified for who is no user: as costly as the costliest of a user."""

    def __init__(self, accounts: KnownAccounts, least: str) -> None:
        self._accounts = accounts
        self._generation: int | None = None
        self._hash = self._least = least

    async def hash(self) -> str:
        generation = await self._accounts.access_generation()
        if generation != self._generation:
            hashes = [account.password_hash for account in await self._accounts.accounts()]
            self._hash = with_rounds(self._least, max(map(hash_rounds, [self._least, *hashes])))
            self._generation = generation
        return self._hash


def principal_of(account: Account) -> Principal:
    """Return a stored user as one who may ask."""
    return Principal(
        account.name,
        is_admin=account.is_admin,
        grants=readable_grants(account.grants),
        fingerprint=password_fingerprint(account.password_hash),
    )


def readable_grants(specs: Iterable[str]) -> tuple[Grant, ...]:
    """Return stored grants; one that this version cannot read gives nothing, and as a denial denies all."""
    return tuple(grant for spec in specs if (grant := _grant(spec)) is not None)


def _grant(spec: str) -> Grant | None:
    try:
        return Grant.parse(spec)
    except GrantInvalid as error:
        _log.warn("stored grant ignored: {error}", error=error)
        return Grant.parse("!*:**") if spec.startswith("!") else None


def _is_storable(name: str) -> bool:
    """Tell whether a name could be in the records at all: half a surrogate pair cannot even be asked for."""
    return len(name) <= 255 and not any("\ud800" <= character <= "\udfff" for character in name)
