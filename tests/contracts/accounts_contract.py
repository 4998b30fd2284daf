"""What every record backend promises about users and grants; part of the records contract."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.trial.unittest import TestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import Account, Records

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class AccountRecordsContract(_Base):
    """Mixed into a ``TestCase`` whose ``records`` are fresh."""

    records: Records

    async def test_account(self) -> None:
        """A user comes back with the grants in byte order; a name is taken once."""
        account = Account("alice", "$2b$hash", True, False, ("push:b/**", "pull:a"), 3.0)
        self.assertTrue(await self.records.add_account(account))
        self.assertFalse(await self.records.add_account(Account("alice", "other")))
        self.assertTrue(await self.records.add_account(Account("Bob", "hash")))
        expected = replace(account, grants=("pull:a", "push:b/**"))
        self.assertEqual(expected, await self.records.account("alice"))
        self.assertEqual([Account("Bob", "hash"), expected], await self.records.accounts())
        self.assertIsNone(await self.records.account("carol"))

    async def test_change_account(self) -> None:
        """Hash, switch and grants change one by one."""
        records = self.records
        await records.add_account(Account("alice", "old", grants=("pull:a",)))
        self.assertTrue(await records.set_password_hash("alice", "new", now=2.0))
        self.assertTrue(await records.set_disabled("alice", True, now=2.0))
        self.assertTrue(await records.add_grant("alice", "push:a", now=2.0))
        self.assertTrue(await records.add_grant("alice", "push:a", now=2.0))
        self.assertTrue(await records.remove_grant("alice", "pull:a", now=2.0))
        self.assertFalse(await records.remove_grant("alice", "pull:a", now=2.0))
        expected = Account("alice", "new", is_disabled=True, grants=("push:a",))
        self.assertEqual(expected, await records.account("alice"))

    async def test_remove_account(self) -> None:
        """A user goes with the grants: the next of that name has none of them."""
        await self.records.add_account(Account("alice", "hash", grants=("pull:a",)))
        self.assertTrue(await self.records.remove_account("alice", now=2.0))
        self.assertFalse(await self.records.remove_account("alice", now=2.0))
        await self.records.add_account(Account("alice", "hash"))
        self.assertEqual(Account("alice", "hash"), await self.records.account("alice"))

    async def test_change_of_unknown_account(self) -> None:
        """Changes of a user that does not exist change nothing."""
        records = self.records
        before = await records.access_generation()
        self.assertFalse(await records.set_password_hash("ghost", "x", now=2.0))
        self.assertFalse(await records.set_disabled("ghost", True, now=2.0))
        self.assertFalse(await records.add_grant("ghost", "pull:a", now=2.0))
        self.assertFalse(await records.remove_grant("ghost", "pull:a", now=2.0))
        self.assertEqual(before, await records.access_generation())
        self.assertEqual([], await records.accounts())

    async def test_generation(self) -> None:
        """Every change of users and grants makes the generation grow; a push does not."""
        records = self.records
        changes = [
            lambda: records.add_account(Account("alice", "hash")),
            lambda: records.set_password_hash("alice", "new", now=2.0),
            lambda: records.set_disabled("alice", True, now=2.0),
            lambda: records.add_grant("alice", "pull:a", now=2.0),
            lambda: records.remove_grant("alice", "pull:a", now=2.0),
            lambda: records.remove_account("alice", now=2.0),
        ]
        for change in changes:
            before = await records.access_generation()
            self.assertTrue(await change())
            self.assertGreater(await records.access_generation(), before)
        before = await records.access_generation()
        await records.commit_blob(
            RepositoryName("app"), Digest.of(b"layer"), 5, lambda: None, upload_id=None, now=1.0
        )
        self.assertEqual(before, await records.access_generation())

    def test_hash_stays_secret(self) -> None:
        """The repr of a user does not hold the hash."""
        self.assertNotIn("hash", repr(Account("alice", "$2b$hash")).replace("password_hash", ""))
