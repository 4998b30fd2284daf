"""``dockreg user`` and ``dockreg grant``."""

from __future__ import annotations

from dockreg_tx.access.passwords import verify_password
from dockreg_tx.cli.operator import Operator
from dockreg_tx.ports import Account
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase


class PeopleCase(CommandCase):
    """A registry that is ready."""

    def setUp(self) -> None:
        """Make the root ready."""
        super().setUp()
        self.done("init")

    def account(self, name: str) -> Account:
        """Return a user as the server sees it."""
        with Operator(root=self.root).records() as records:
            account = run_inline(records.account(name))
        assert account is not None
        return account


class UserTests(PeopleCase):
    """Users."""

    def test_password_from_stdin(self) -> None:
        """One line end after the password is dropped, and the password is not shown."""
        for typed in ("s3cret", "s3cret\n", "s3cret\r\n"):
            self.assertNotIn("s3cret", self.done("user", "add", "alice", "--password-stdin", typed=typed))
            self.assertTrue(verify_password("s3cret", self.account("alice").password_hash))
            self.done("user", "remove", "alice", "--yes")

    def test_generated_password(self) -> None:
        """Without a terminal the password is made up and stands alone on standard output."""
        password = self.done("user", "add", "ci").removesuffix("\n")
        self.assertTrue(verify_password(password, self.account("ci").password_hash))

    def test_bad_passwords(self) -> None:
        """A password that bcrypt or HTTP could not carry is refused, and no user is made."""
        for typed in ("", "\n", "a\nb", "x" * 73, "a\x00b"):
            self.refused("user", "add", "alice", "--password-stdin", typed=typed)
        self.assertEqual(["admin"], [each["name"] for each in self.listed("user", "list")])

    def test_bad_names(self) -> None:
        """A name that Basic credentials or a log line could not carry is refused."""
        for name in ("", "a:b", "a b", "a\nb", "x" * 256):
            self.refused("user", "add", name, "--password-stdin", typed="s3cret")

    def test_taken(self) -> None:
        """A user is never replaced."""
        self.assertIn("exists already", self.refused("user", "add", "admin", "--password-stdin", typed="x"))

    def test_grants_and_admin(self) -> None:
        """Grants and the admin flag are there from the start; a bad grant leaves no user."""
        self.done("user", "add", "a", "--grant", "pull:**", "--grant", "push:a/**", "--admin")
        account = self.account("a")
        self.assertEqual((True, {"pull:**", "push:a/**"}), (account.is_admin, set(account.grants)))
        self.assertIn("fly", self.refused("user", "add", "b", "--grant", "fly:**"))
        self.assertEqual(["a", "admin"], [each["name"] for each in self.listed("user", "list")])

    def test_passwd(self) -> None:
        """The new password is in force, the old one no longer."""
        self.done("user", "passwd", "admin", "--password-stdin", typed="fresh\n")
        self.assertTrue(verify_password("fresh", self.account("admin").password_hash))

    def test_disable_and_enable(self) -> None:
        """A user is switched off and on, and listings say so."""
        self.done("user", "disable", "admin")
        self.assertTrue(self.account("admin").is_disabled)
        self.assertIn("disabled", self.done("user", "list"))
        self.done("user", "enable", "admin")
        self.assertIn("state: enabled", self.done("user", "show", "admin"))

    def test_unknown(self) -> None:
        """Commands on a user who does not exist are refused by name."""
        for verb in (["show"], ["passwd"], ["disable"], ["enable"], ["remove", "--yes"]):
            self.assertIn("no user bob", self.refused("user", verb[0], "bob", *verb[1:]))

    def test_no_hash_is_shown(self) -> None:
        """No listing holds a password hash."""
        for arguments in (["user", "list"], ["user", "show", "admin"]):
            for form in ([], ["--json"]):
                self.assertNotIn("$2", self.done(*arguments, *form))


class GrantTests(PeopleCase):
    """Grants."""

    def test_add_and_remove(self) -> None:
        """A grant is given, listed and taken."""
        self.done("grant", "add", "admin", "pull,push:team-a/**")
        expected = [{"user": "admin", "grant": "pull,push:team-a/**"}]
        self.assertEqual(expected, self.listed("grant", "list"))
        self.assertEqual("admin  pull,push:team-a/**\n", self.done("grant", "list", "admin"))
        self.done("grant", "remove", "admin", "pull,push:team-a/**")
        self.assertEqual([], self.listed("grant", "list"))

    def test_other_spellings(self) -> None:
        """A grant under another spelling is the same grant."""
        self.done("grant", "add", "admin", "Docker.Download")
        self.done("grant", "add", "admin", "pull:**")
        self.assertEqual(1, len(self.listed("grant", "list", "admin")))
        self.done("grant", "remove", "admin", "pull:**")
        self.assertEqual([], self.listed("grant", "list", "admin"))

    def test_refusals(self) -> None:
        """Bad grants, unknown users and grants that are not there are refused."""
        self.assertIn("fly", self.refused("grant", "add", "admin", "fly:**"))
        self.assertIn("no user bob", self.refused("grant", "add", "bob", "pull:**"))
        self.assertIn("no user bob", self.refused("grant", "list", "bob"))
        self.assertIn("does not have", self.refused("grant", "remove", "admin", "pull:**"))
