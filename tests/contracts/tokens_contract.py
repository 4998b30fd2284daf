"""What every record backend promises about tokens; part of the records contract."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.trial.unittest import TestCase

from dockreg_tx.ports import Account, Records, TokenKind, TokenRecord

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

ROBOT = TokenRecord("r1", TokenKind.ROBOT, "hash-r1", "alice", 5.0, None, ("pull:a/**",), "for CI", 90.0)
LOGIN = TokenRecord("l1", TokenKind.LOGIN, "hash-l1", "alice", 6.0)
ROBOT_LOGIN = TokenRecord("l2", TokenKind.LOGIN, "hash-l2", "alice", 7.0, "r1")


class TokenRecordsContract(_Base):
    """Mixed into a ``TestCase`` whose ``records`` are fresh."""

    records: Records

    async def add_all(self) -> None:
        """Add alice and her three tokens."""
        await self.records.add_account(Account("alice", "hash"))
        for token in (ROBOT, LOGIN, ROBOT_LOGIN):
            self.assertTrue(await self.records.add_token(token))

    async def test_token(self) -> None:
        """A token comes back by hash and by id, as it was given."""
        await self.add_all()
        for token in (ROBOT, LOGIN, ROBOT_LOGIN):
            self.assertEqual(token, await self.records.token(token.hash))
            self.assertEqual(token, await self.records.token_by_id(token.id))
        self.assertEqual([ROBOT, LOGIN, ROBOT_LOGIN], await self.records.tokens())
        self.assertIsNone(await self.records.token("r1"))
        self.assertIsNone(await self.records.token_by_id("hash-r1"))

    async def test_token_without_owner(self) -> None:
        """A token needs a user, a login with a robot's token that robot; ids and hashes are taken once."""
        self.assertFalse(await self.records.add_token(ROBOT))
        await self.records.add_account(Account("alice", "hash"))
        self.assertFalse(await self.records.add_token(ROBOT_LOGIN))
        self.assertTrue(await self.records.add_token(ROBOT))
        self.assertFalse(await self.records.add_token(replace(ROBOT, hash="other")))
        self.assertFalse(await self.records.add_token(replace(ROBOT, id="other")))
        self.assertEqual([ROBOT], await self.records.tokens())

    async def test_remove_token(self) -> None:
        """A robot goes with the logins made with it, and the generation grows."""
        await self.add_all()
        before = await self.records.access_generation()
        self.assertTrue(await self.records.remove_token("r1", now=9.0))
        self.assertFalse(await self.records.remove_token("r1", now=9.0))
        self.assertEqual([LOGIN], await self.records.tokens())
        self.assertGreater(await self.records.access_generation(), before)

    async def test_tokens_of_changed_user(self) -> None:
        """A new password ends the logins with the old one, not the robots; without a user there are none."""
        await self.add_all()
        await self.records.set_disabled("alice", True, now=9.0)
        await self.records.set_disabled("alice", False, now=9.0)
        self.assertEqual(3, len(await self.records.tokens()))
        await self.records.set_password_hash("alice", "new", now=9.0)
        self.assertEqual([ROBOT, ROBOT_LOGIN], await self.records.tokens())
        await self.records.remove_account("alice", now=9.0)
        self.assertEqual([], await self.records.tokens())

    async def test_use_of_token(self) -> None:
        """The use of a token is noted, and changes no right."""
        await self.add_all()
        before = await self.records.access_generation()
        self.assertTrue(await self.records.note_token_use("r1", now=9.0))
        self.assertFalse(await self.records.note_token_use("none", now=9.0))
        self.assertEqual(replace(ROBOT, used_at=9.0), await self.records.token_by_id("r1"))
        self.assertEqual(before, await self.records.access_generation())

    async def test_stale_tokens(self) -> None:
        """A new token sweeps out its user's expired ones, and the oldest logins beyond 100."""
        await self.add_all()
        await self.records.add_account(Account("bob", "hash"))
        await self.records.add_token(replace(ROBOT, id="bob", hash="bob", user="bob"))
        for number in range(100):
            login = replace(LOGIN, id=f"n{number}", hash=f"n{number}", created_at=10.0 + number)
            self.assertTrue(await self.records.add_token(login))
        ids = [token.id for token in await self.records.tokens()]
        self.assertEqual(101, len(ids))
        self.assertEqual(["n0", "n1"], ids[:2])
        self.assertEqual("bob", ids[-1])

    def test_token_hash_stays_out(self) -> None:
        """The repr of a token does not hold the hash."""
        self.assertNotIn("hash-r1", repr(ROBOT))
