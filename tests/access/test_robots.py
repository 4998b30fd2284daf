"""Tests of ``dockreg_tx.access.robots`` and ``callers``, and of what few requests ever meet."""

from __future__ import annotations

import os
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access import throttle, tokens
from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.callers import Callers
from dockreg_tx.access.grants import Principal
from dockreg_tx.access.keys import KeyRing, ensure_key
from dockreg_tx.access.robots import StoredTokens, secret_hash
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access.tokens import RETIRED_SECONDS, TokenIssuer
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.errors import StoreUnavailable, Unauthorized
from dockreg_tx.ports import Account, TokenKind, TokenRecord
from dockreg_tx.records.memory import MemoryRecords

START = 1_800_000_000.0
NOBODY = Principal("", is_anonymous=True)
ROBOT = TokenRecord("r1", TokenKind.ROBOT, secret_hash("dkr_secret"), "alice", START, grants=("pull:**",))


class ForgetfulRecords(MemoryRecords):
    """Records whose look-ups wait for the test, and which cannot note when a token was used."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []
        self.is_slow = False

    async def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token, perhaps later."""
        if self.is_slow:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return await super().token(token_hash)

    async def note_token_use(self, token_id: str, *, now: float) -> bool:
        """Fail as a full disk does."""
        raise StoreUnavailable("the disk is full")


class StoredTokenTests(SynchronousTestCase):
    """What is known of tokens, and for how long."""

    def setUp(self) -> None:
        """Add alice and her robot."""
        self.records = ForgetfulRecords()
        self.stored = StoredTokens(tokens=self.records, accounts=self.records, now=lambda: START)
        self.successResultOf(self.records.add_account(Account("alice", "hash", grants=("*:**",))))
        self.successResultOf(self.records.add_token(ROBOT))

    def test_use_that_cannot_be_noted(self) -> None:
        """A disk that is full keeps nobody out."""
        found = self.successResultOf(self.stored.find("dkr_secret", TokenKind.ROBOT))
        self.assertEqual("r1", found.id if found else None)

    def test_change_during_a_look_up(self) -> None:
        """What was looked up before a change is not kept after it."""
        self.records.is_slow = True
        first = Deferred.fromCoroutine(self.stored.find("dkr_secret", TokenKind.ROBOT))
        self.successResultOf(self.records.add_grant("alice", "pull:**", now=START))
        self.records.is_slow = False
        self.assertIsNone(self.successResultOf(self.stored.find("dkr_other", TokenKind.ROBOT)))
        self.records.waiting[0].callback(None)
        self.assertIsNotNone(self.successResultOf(first))
        self.successResultOf(self.records.remove_token("r1", now=START))
        self.assertIsNone(self.successResultOf(self.stored.find("dkr_secret", TokenKind.ROBOT)))


class LoginTests(SynchronousTestCase):
    """Logins that were made with a robot's token."""

    def setUp(self) -> None:
        """Put callers together over memory."""
        self.records = MemoryRecords()
        self.successResultOf(self.records.add_account(Account("alice", "hash", grants=("*:**",))))
        self.successResultOf(self.records.add_token(ROBOT))
        directory = self.mktemp()
        os.mkdir(directory)
        self.keys = KeyRing(directory=directory, now=lambda: START, retired_seconds=RETIRED_SECONDS)
        self.directory = directory
        self.issuer = TokenIssuer(
            keys=self.keys, service="test", now=lambda: START, new_id=lambda: os.urandom(8).hex()
        )
        self.callers = Callers(
            passwords=Authenticator(
                accounts=self.records,
                blocking=InlineBlocking(),
                clock=Clock(),
                secret=b"s" * 32,
                anonymous=NOBODY,
            ),
            stored=StoredTokens(tokens=self.records, accounts=self.records, now=lambda: START),
            issuer=self.issuer,
            anonymous=NOBODY,
            new_id=lambda: os.urandom(8).hex(),
            random_bytes=os.urandom,
        )

    def test_login_of_a_robot(self) -> None:
        """A login has no more rights than the robot it was made with, and ends with it."""
        robot = self.successResultOf(self.callers.authenticate("alice", "dkr_secret"))
        login = self.successResultOf(self.callers.log_in(robot))
        self.assertEqual("r1", self.successResultOf(self.callers.refresh(login)).robot_id)
        self.successResultOf(self.records.remove_token("r1", now=START))
        self.failureResultOf(self.callers.refresh(login), Unauthorized)

    def test_no_key(self) -> None:
        """Without a key there is a clear error; other files beside the keys do not matter."""
        self.assertRaises(LookupError, self.keys.signing_key)
        with open(os.path.join(self.directory, "README"), "w", encoding="ascii") as file:
            file.write("not a key")
        ensure_key(self.directory, now=START)
        ring = KeyRing(directory=self.directory, now=lambda: START, retired_seconds=RETIRED_SECONDS)
        self.assertTrue(ring.signing_key().key_id)

    def test_bounded_memory(self) -> None:
        """Neither verified tokens nor failures are remembered without bound."""
        self.patch(tokens, "CACHE_LIMIT_ENTRIES", 2)
        self.patch(throttle, "TABLE_LIMIT_ENTRIES", 2)
        ensure_key(self.directory, now=START)
        alice = replace(NOBODY, name="alice", is_anonymous=False, fingerprint="abc")
        counter = Throttle(Clock())
        for number in range(5):
            self.issuer.verify(self.issuer.issue(alice, granted=[], refused=[]))
            counter.begin(f"192.0.{number}.1", f"user{number}")
        self.assertEqual(0, counter.wait_seconds("192.0.0.1", "user0"))
