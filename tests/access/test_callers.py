"""Who calls, with tokens that are remembered: what changes must show with the next call."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dockreg_tx.access import callers
from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.callers import Caller, Callers
from dockreg_tx.access.grants import Principal, anonymous_principal
from dockreg_tx.access.keys import KeyRing, add_key, ensure_key, remove_retired_keys
from dockreg_tx.access.robots import ROBOT_PREFIX, StoredTokens, new_secret, secret_hash
from dockreg_tx.access.tokens import LOOK_SECONDS, RETIRED_SECONDS, TokenIssuer
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Scope
from dockreg_tx.ports import Account, TokenKind, TokenRecord
from dockreg_tx.records.memory import MemoryRecords

PULL = Scope("repository", "team/app", ("pull",))
APP = RepositoryName("team/app")
ALICE = Account("alice", "hash one", grants=("pull:team/**",))


class CallersCase(TestCase):
    """Callers over records in memory and keys on disk, with a clock that is set by hand."""

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        """Add alice and a robot of hers."""
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.at = 1_800_000_000.0
        ensure_key(self.directory, now=self.at)
        self.records = MemoryRecords()
        await self.records.add_account(ALICE)
        self.secret = new_secret(ROBOT_PREFIX, os.urandom)
        self.robot = TokenRecord("r1", TokenKind.ROBOT, secret_hash(self.secret), "alice", self.at)
        self.robot = replace(self.robot, expires_at=self.at + 100)
        await self.records.add_token(self.robot)
        self.anonymous = anonymous_principal("pull", ())
        numbers = itertools.count()
        self.issuer = TokenIssuer(
            keys=KeyRing(directory=self.directory, now=self.now, retired_seconds=RETIRED_SECONDS),
            service="dockreg-test",
            now=self.now,
            new_id=lambda: f"id{next(numbers)}",
        )
        self.passwords = Authenticator(
            accounts=self.records,
            blocking=InlineBlocking(),
            clock=Clock(),
            secret=b"s" * 32,
            anonymous=self.anonymous,
        )
        self.callers = Callers(
            passwords=self.passwords,
            stored=StoredTokens(tokens=self.records, accounts=self.records, now=self.now),
            issuer=self.issuer,
            anonymous=self.anonymous,
            new_id=lambda: f"login{next(numbers)}",
            random_bytes=os.urandom,
        )

    def now(self) -> float:
        """Return the time."""
        return self.at

    async def alice(self) -> Principal:
        """Return alice as she is now."""
        found = await self.passwords.principal("alice")
        assert found is not None
        return found

    def issue(self, principal: Principal) -> str:
        """Return a token to pull with."""
        return self.issuer.issue(principal, granted=[PULL], refused=[])

    async def refuses(self, token: str) -> None:
        """Check that a token is refused."""
        with self.assertRaises(Unauthorized) as caught:
            await self.callers.verify(token)
        self.assertEqual("invalid_token", caught.exception.reason)


class RememberedTests(CallersCase):
    """A token is looked through once, and trusted no longer than what it rests on stays."""

    async def test_remembered(self) -> None:
        """The second call asks for nothing but the generation."""
        token = self.issue(await self.alice())
        first = await self.callers.verify(token)
        self.assertTrue(first.may("pull", APP))
        with patch.object(Authenticator, "principal", side_effect=AssertionError("asked again")):
            self.assertIs(first, await self.callers.verify(token))

    async def test_version(self) -> None:
        """The generation is asked for again when the database is not what it was, and only then."""
        token = self.issue(await self.alice())
        await self.callers.verify(token, version=1)
        with patch.object(Authenticator, "generation", side_effect=AssertionError("asked again")):
            self.assertTrue((await self.callers.verify(token, version=1)).may("pull", APP))
        await self.records.remove_grant("alice", "pull:team/**", now=self.at)
        self.assertFalse((await self.callers.verify(token, version=2)).may("pull", APP))
        await self.records.set_disabled("alice", True, now=self.at)
        await self.refuses(token)

    async def test_every_change_shows(self) -> None:
        """A grant taken, a password changed and a user disabled count for the very next call."""
        token = self.issue(await self.alice())
        self.assertTrue((await self.callers.verify(token)).may("pull", APP))
        await self.records.remove_grant("alice", "pull:team/**", now=self.at)
        self.assertFalse((await self.callers.verify(token)).may("pull", APP))
        await self.records.set_disabled("alice", True, now=self.at)
        await self.refuses(token)
        await self.records.set_disabled("alice", False, now=self.at)
        await self.callers.verify(token)
        await self.records.set_password_hash("alice", "hash two", now=self.at)
        await self.refuses(token)
        await self.records.remove_account("alice", now=self.at)
        await self.refuses(token)

    async def test_robot(self) -> None:
        """A token of a robot ends with the robot's time, by the clock alone, and when it is revoked."""
        robot = await self.callers.authenticate("alice", self.secret)
        token = self.issue(robot)
        self.assertEqual("r1", (await self.callers.verify(token)).principal.robot_id)
        self.at += 100
        await self.refuses(token)
        self.at -= 100
        await self.callers.verify(token)
        await self.records.remove_token("r1", now=self.at)
        await self.refuses(token)
        await self.refuses(self.secret)

    async def test_expiry(self) -> None:
        """A remembered token ends by its own time."""
        token = self.issue(await self.alice())
        await self.callers.verify(token)
        self.at += RETIRED_SECONDS
        await self.refuses(token)

    async def test_key_taken_away(self) -> None:
        """When a key is gone its remembered tokens end with the next look, a second later at most."""
        token = self.issue(await self.alice())
        await self.callers.verify(token)
        add_key(self.directory, now=self.at)
        remove_retired_keys(self.directory, replaced_before=float("inf"))
        self.at += LOOK_SECONDS
        await self.refuses(token)
        await self.callers.verify(self.issue(await self.alice()))

    async def test_clock_set_back(self) -> None:
        """A clock that went back does not hold up the look at the keys."""
        token = self.issue(await self.alice())
        await self.callers.verify(token)
        add_key(self.directory, now=self.at)
        remove_retired_keys(self.directory, replaced_before=float("inf"))
        self.at -= 1
        await self.refuses(token)

    async def test_bounded(self) -> None:
        """So many callers are remembered and no more; all are known all the same."""
        self.patch(callers, "CACHE_LIMIT_ENTRIES", 2)
        alice = await self.alice()
        tokens = [self.issue(alice) for _ in range(5)]
        for token in tokens * 2:
            self.assertEqual("alice", (await self.callers.verify(token)).principal.name)
        known: dict[Any, Caller] = self.callers._known
        self.assertLessEqual(len(known), 2)

    async def test_anonymous(self) -> None:
        """A token of nobody is nobody's, and good for what was asked."""
        caller = await self.callers.verify(self.issue(self.anonymous))
        self.assertTrue(caller.principal.is_anonymous)
        self.assertTrue(caller.may("pull", APP))
        self.assertFalse(caller.may("push", APP))

    async def test_change_meanwhile(self) -> None:
        """What was read before a change that another call saw first is not remembered."""
        token, alice = self.issue(await self.alice()), await self.alice()

        async def slow(_self: Authenticator, _name: str) -> Principal:
            await self.records.remove_grant("alice", "pull:team/**", now=self.at)
            await self.callers.verify(other)
            return alice

        other = self.issue(self.anonymous)
        with patch.object(Authenticator, "principal", slow):
            await self.callers.verify(token)
        self.assertFalse((await self.callers.verify(token)).may("pull", APP))
