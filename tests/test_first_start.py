"""The first user of a registry."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.first_start import ensure_admin
from dockreg_tx.ports import Account
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.memory import MemoryRecords


class FirstStartTests(SynchronousTestCase):
    """``admin`` is made once, with its password on disk first."""

    def setUp(self) -> None:
        """Make an empty root and empty records."""
        root = self.mktemp()
        os.mkdir(root)
        self.layout = RootLayout(root)
        self.records = MemoryRecords()

    def start(self, password: str = "first") -> bool:
        """Do what a start does."""
        return run_inline(
            ensure_admin(
                accounts=self.records,
                layout=self.layout,
                new_password=lambda: password,
                hash_password=lambda plain: f"hash of {plain}",
                now=7.0,
            )
        )

    def accounts(self) -> list[Account]:
        """Return all users."""
        return self.successResultOf(self.records.accounts())

    def password(self) -> str:
        """Return what the file holds."""
        return Path(self.layout.admin_password).read_text(encoding="utf-8")

    def test_adds_admin(self) -> None:
        """An empty registry gets an admin whose password lies in a file that only its owner reads."""
        self.assertTrue(self.start())
        self.assertEqual([Account("admin", "hash of first", is_admin=True, created_at=7.0)], self.accounts())
        self.assertEqual("first\n", self.password())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.layout.admin_password).st_mode))
        self.assertEqual(["admin-password"], os.listdir(self.layout.root))

    def test_once(self) -> None:
        """Later starts change neither the file nor the user."""
        self.start()
        self.assertFalse(self.start("second"))
        self.assertEqual("first\n", self.password())

    def test_after_a_crash(self) -> None:
        """A start that ended before the account was recorded, even within the file, is made good."""
        Path(self.layout.admin_password).write_text("lost\n", encoding="utf-8")
        Path(self.layout.admin_password + ".new").write_text("ha", encoding="utf-8")
        self.assertTrue(self.start())
        self.assertEqual("first\n", self.password())

    def test_other_users(self) -> None:
        """A registry with users gets no admin."""
        self.successResultOf(self.records.add_account(Account("alice", "x")))
        self.assertFalse(self.start())
        self.assertFalse(os.path.exists(self.layout.admin_password))

    def test_removed_on_purpose(self) -> None:
        """A registry whose last user was removed gets no admin by itself."""
        self.start()
        self.successResultOf(self.records.remove_account("admin", now=8.0))
        self.assertFalse(self.start("second"))
        self.assertEqual([], self.accounts())

    def test_file_cannot_be_written(self) -> None:
        """Without the file there is no account that nobody could use."""
        os.mkdir(self.layout.admin_password)
        self.assertRaises(OSError, self.start)
        self.assertEqual([], self.accounts())
