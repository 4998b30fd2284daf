"""Tests of ``dockreg_tx.access.accounts``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access import accounts as module
from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.grants import Grant, Principal, anonymous_principal
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.oci.errors import StoreUnavailable, TooManyRequests, Unauthorized
from dockreg_tx.ports import Account, AccountRecords

P = ParamSpec("P")
T = TypeVar("T")

HASH = hash_password("secret", 4)
DUMMY = hash_password("nobody's", 4)
ALICE = Account("alice", HASH, grants=("pull:**", "push:alice/**"))


class Accounts:
    """The two questions of ``AccountRecords`` that are asked here."""

    def __init__(self, *known: Account) -> None:
        self.rows = {account.name: account for account in known}
        self.generation = 1
        self.reads = 0
        self.stalled: deque[Deferred[None]] | None = None

    def change(self, account: Account) -> None:
        """Add or replace a user."""
        self.rows[account.name] = account
        self.generation += 1

    async def account(self, name: str) -> Account | None:
        name.encode("utf-8")
        self.reads += 1
        account = self.rows.get(name)
        if self.stalled is not None:
            gate: Deferred[None] = Deferred()
            self.stalled.append(gate)
            await gate
        return account

    async def accounts(self) -> list[Account]:
        return list(self.rows.values())

    async def access_generation(self) -> int:
        return self.generation


class HeldBlocking:
    """Work that waits until it is released."""

    def __init__(self) -> None:
        self.waiting: deque[Deferred[None]] = deque()
        self.runs: list[tuple[object, ...]] = []

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.runs.append(args)
        gate: Deferred[None] = Deferred()
        self.waiting.append(gate)
        await gate
        return work(*args, **kwargs)

    def release(self) -> None:
        """Let all waiting work run."""
        while self.waiting:
            self.waiting.popleft().callback(None)


class AuthenticatorCase(SynchronousTestCase):
    """What the tests below share."""

    def setUp(self) -> None:
        self.accounts = Accounts(ALICE)
        self.blocking = HeldBlocking()
        self.clock = Clock()
        self.anonymous = anonymous_principal("pull", ())
        self.authenticator = Authenticator(
            # Of the protocol only the methods above are used.
            accounts=cast("AccountRecords", self.accounts),
            blocking=self.blocking,
            clock=self.clock,
            secret=b"s" * 32,
            anonymous=self.anonymous,
            queue_limit=3,
            dummy_hash=DUMMY,
        )

    def ask(self, name: str, password: str) -> Deferred[Principal]:
        """Begin to authenticate."""
        return Deferred.fromCoroutine(self.authenticator.authenticate(name, password))

    def login(self, name: str = "alice", password: str = "secret") -> Principal:
        """Authenticate to the end."""
        answer = self.ask(name, password)
        self.blocking.release()
        principal: Principal = self.successResultOf(answer)
        return principal

    def refused(self, name: str, password: str) -> str:
        """Authenticate in vain, and return the message."""
        answer = self.ask(name, password)
        self.blocking.release()
        message: str = self.failureResultOf(answer, Unauthorized).value.message
        return message

    @property
    def checks(self) -> int:
        """How often bcrypt ran."""
        return len(self.blocking.runs)


class AuthenticateTests(AuthenticatorCase):
    """``Authenticator.authenticate``."""

    def test_right(self) -> None:
        """The right password gives the user with its grants."""
        grants = (Grant.parse("pull:**"), Grant.parse("push:alice/**"))
        self.assertEqual(Principal("alice", grants=grants), self.login())

    def test_admin(self) -> None:
        """An admin's account gives an admin."""
        self.accounts.change(Account("root", HASH, is_admin=True))
        self.assertEqual(Principal("root", is_admin=True), self.login("root"))

    def test_anonymous(self) -> None:
        """Empty name and password are anonymous; either alone is not."""
        self.assertIs(self.anonymous, self.login("", ""))
        self.assertEqual(0, self.checks)
        self.refused("", "secret")
        self.refused("alice", "")

    def test_wrong(self) -> None:
        """Wrong password, unknown and disabled user get one answer, after one run of bcrypt each."""
        self.accounts.change(Account("gone", HASH, is_disabled=True))
        self.accounts.change(Account("broken", "no hash"))
        self.accounts.change(Account("costly", HASH.replace("$04$", "$31$")))
        names = ["alice", "nobody", "gone", "broken", "costly", "a" * 300, "\ud800"]
        messages = {self.refused(name, "wrong") for name in names}
        self.assertEqual({"wrong user name or password"}, messages)
        hashes = [stored for _, stored in self.blocking.runs]
        self.assertEqual([HASH, DUMMY, DUMMY, DUMMY, DUMMY, DUMMY, DUMMY], hashes)

    def test_dummy_password(self) -> None:
        """Whoever guesses the password of the dummy hash is still nobody."""
        self.accounts.change(Account("broken", "no hash"))
        for name in ("nobody", "broken"):
            self.refused(name, "nobody's")
            self.refused(name, "nobody's")

    def test_unreadable_password(self) -> None:
        """A password that bcrypt cannot read is a wrong one."""
        for password in ("a" * 73, "a\0", "\ud800", "x" * 100_000):
            self.refused("alice", password)

    def test_broken_grants(self) -> None:
        """A stored grant that cannot be read gives nothing; as a denial it denies everything."""
        self.accounts.change(replace(ALICE, grants=("fly:**", "pull:a")))
        self.assertEqual((Grant.parse("pull:a"),), self.login().grants)
        self.accounts.change(replace(ALICE, grants=("pull:a", "!fly:b")))
        self.assertEqual((Grant.parse("pull:a"), Grant.parse("!*:**")), self.login().grants)


class CacheTests(AuthenticatorCase):
    """What is remembered, and for how long."""

    def test_success(self) -> None:
        """A password that was right is not checked again for five minutes; then it is."""
        self.login()
        self.clock.advance(299)
        self.login()
        self.assertEqual(1, self.checks)
        self.clock.advance(1)
        self.login()
        self.assertEqual(2, self.checks)
        self.assertEqual(1, self.accounts.reads)

    def test_failure(self) -> None:
        """A wrong password is checked every time, also after the right one."""
        self.login()
        self.refused("alice", "wrong")
        self.refused("alice", "wrong")
        self.assertEqual(3, self.checks)

    def test_parts_do_not_run_together(self) -> None:
        """Name and password are told apart in what is remembered."""
        self.login()
        self.accounts.change(Account("alices", HASH))
        self.refused("alices", "ecret")

    def test_changes(self) -> None:
        """Grants, a disabled or removed user, and a new password are in force for the next request."""
        self.login()
        self.accounts.change(replace(ALICE, grants=("delete:a",)))
        self.assertEqual((Grant.parse("delete:a"),), self.login().grants)
        self.assertEqual(1, self.checks)
        self.accounts.change(replace(ALICE, is_disabled=True))
        self.refused("alice", "secret")
        self.accounts.change(replace(ALICE, password_hash=hash_password("other", 4)))
        self.refused("alice", "secret")
        self.login("alice", "other")
        del self.accounts.rows["alice"]
        self.accounts.generation += 1
        self.refused("alice", "other")

    def test_change_during_the_check(self) -> None:
        """A user who is disabled, or whose password changes, while bcrypt runs does not get in."""
        for change in (replace(ALICE, is_disabled=True), replace(ALICE, password_hash=DUMMY)):
            self.accounts.change(ALICE)
            answer = self.ask("alice", "secret")
            self.accounts.change(change)
            self.blocking.release()
            self.failureResultOf(answer, Unauthorized)

    def test_old_row_is_not_kept(self) -> None:
        """A row that was read before a change, and arrives after it, is used once and not remembered."""
        self.accounts.stalled = deque()
        slow = Deferred.fromCoroutine(self.authenticator.principal("alice"))
        self.accounts.change(replace(ALICE, grants=()))
        quick = Deferred.fromCoroutine(self.authenticator.principal("nobody"))
        for gate in self.accounts.stalled:
            gate.callback(None)
        self.assertEqual([2, 0], [len(getattr(self.successResultOf(d), "grants", ())) for d in (slow, quick)])
        self.accounts.stalled = None
        again = self.successResultOf(Deferred.fromCoroutine(self.authenticator.principal("alice")))
        self.assertEqual(Principal("alice"), again)

    def test_bounded(self) -> None:
        """Only so many passwords are remembered; the oldest is forgotten first."""
        self.patch(module, "CACHE_LIMIT_ENTRIES", 2)
        for name in ("a", "b", "c"):
            self.accounts.change(Account(name, HASH))
            self.login(name)
        self.login("c")
        self.login("b")
        self.assertEqual(3, self.checks)
        self.login("a")
        self.assertEqual(4, self.checks)


class QueueTests(AuthenticatorCase):
    """Many logins at once."""

    def test_one_run_for_equal_credentials(self) -> None:
        """The connections of one push cost one run of bcrypt."""
        answers = [self.ask("alice", "secret") for _ in range(20)]
        self.blocking.release()
        self.assertEqual(["alice"] * 20, [self.successResultOf(answer).name for answer in answers])
        self.assertEqual(1, self.checks)

    def test_limit(self) -> None:
        """A full queue turns others away at once, and takes them later; equal credentials still join."""
        waiting = [self.ask("alice", str(number)) for number in range(3)]
        error = self.failureResultOf(self.ask("alice", "secret"), TooManyRequests).value
        self.assertEqual(5, error.retry_after_seconds)
        joined = self.ask("alice", "0")
        self.blocking.release()
        for answer in (*waiting, joined):
            self.failureResultOf(answer, Unauthorized)
        self.assertEqual("alice", self.login().name)

    def test_reserved_places(self) -> None:
        """A quarter of the queue takes only users who logged in from the same network before."""
        self.authenticator = Authenticator(
            accounts=cast("AccountRecords", self.accounts),
            blocking=self.blocking,
            clock=self.clock,
            secret=b"s" * 32,
            anonymous=self.anonymous,
            queue_limit=4,
            dummy_hash=DUMMY,
        )
        self.login()
        waiting = [self.ask(f"ghost{number}", "guess") for number in range(3)]
        self.failureResultOf(self.ask("ghost", "guess"), TooManyRequests)
        known = self.ask("alice", "another")
        self.assertNoResult(known)
        self.failureResultOf(self.ask("alice", "one more"), TooManyRequests)
        self.blocking.release()
        for answer in (*waiting, known):
            self.failureResultOf(answer, Unauthorized)

    def test_remembered_ones_do_not_queue(self) -> None:
        """Who was right before gets in while guessers fill the queue."""
        self.login()
        waiting = [self.ask("alice", str(number)) for number in range(3)]
        self.assertEqual("alice", self.successResultOf(self.ask("alice", "secret")).name)
        self.blocking.release()
        for answer in waiting:
            self.failureResultOf(answer, Unauthorized)

    def test_client_goes_away(self) -> None:
        """A client that leaves does not end the check that others wait for."""
        first, second = self.ask("alice", "secret"), self.ask("alice", "secret")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.blocking.release()
        self.assertEqual("alice", self.successResultOf(second).name)

    def test_failure_of_the_pool(self) -> None:
        """When checking fails, all who wait are told, and the next may try again."""
        answers = [self.ask("alice", "secret") for _ in range(2)]
        self.blocking.waiting.popleft().errback(StoreUnavailable("no threads"))
        for answer in answers:
            self.failureResultOf(answer, StoreUnavailable)
        self.assertEqual("alice", self.login().name)


class PrincipalTests(AuthenticatorCase):
    """``Authenticator.principal``."""

    def test_by_name(self) -> None:
        """A user is found by name without a password, unless disabled or unknown."""
        self.accounts.change(Account("gone", HASH, is_disabled=True))
        for expected, name in [
            ("alice", "alice"),
            (None, "gone"),
            (None, "nobody"),
            (None, ""),
            (None, "\ud800"),
        ]:
            found = self.successResultOf(Deferred.fromCoroutine(self.authenticator.principal(name)))
            self.assertEqual(expected, found and found.name)
