"""``dockreg token``, ``keys``, ``access`` and ``import htpasswd``."""

from __future__ import annotations

import os

from dockreg_tx.access.passwords import hash_password
from dockreg_tx.access.robots import secret_hash
from dockreg_tx.cli.operator import Operator
from dockreg_tx.preparation import run_inline
from tests.cli.test_users import PeopleCase

HASH = hash_password("secret", 4)


class TokenTests(PeopleCase):
    """Robots' tokens."""

    def test_create(self) -> None:
        """The secret stands alone on standard output, once; its hash is stored, with all that was said."""
        self.done("user", "add", "ci")
        result = self.run_command(
            "token", "create", "ci", "--grant", "pull:a/*", "--expires", "30d", "--note", "the pipeline"
        )
        self.assertEqual(0, result.exit_code, result.output)
        secret = result.stdout.removesuffix("\n")
        self.assertRegex(secret, r"\Adkr_[A-Za-z0-9_-]{43}\Z")
        (document,) = self.listed("token", "list")
        self.assertEqual(
            ("ci", "robot", ["pull:a/*"], "the pipeline", None),
            tuple(document[key] for key in ("user", "kind", "grants", "note", "used_at")),
        )
        self.assertEqual(30 * 86_400, document["expires_at"] - document["created_at"])
        with Operator(root=self.root).records() as records:
            found = run_inline(records.token(secret_hash(secret)))
        assert found is not None
        self.assertEqual(document["id"], found.id)
        self.assertNotIn(secret, self.done("token", "list"))
        self.assertIn(document["id"], result.stderr)

    def test_json(self) -> None:
        """Scripts get everything at once."""
        document = self.listed("token", "create", "admin")
        self.assertTrue(document["token"].startswith("dkr_"))
        self.assertEqual((None, None), (document["grants"], document["expires_at"]))

    def test_refusals(self) -> None:
        """No token for nobody, and none with a bad grant, duration or note."""
        self.assertIn("no user ghost", self.refused("token", "create", "ghost"))
        self.refused("token", "create", "admin", "--grant", "fly:**")
        self.refused("token", "create", "admin", "--expires", "30")
        self.refused("token", "create", "admin", "--expires", "0s")
        self.refused("token", "create", "admin", "--note", "a\nb")
        self.assertEqual([], self.listed("token", "list"))

    def test_revoke(self) -> None:
        """A revoked token is gone; an unknown one is refused."""
        token_id = self.listed("token", "create", "admin")["id"]
        self.done("token", "revoke", token_id)
        self.assertEqual([], self.listed("token", "list"))
        self.assertIn("no token", self.refused("token", "revoke", token_id))

    def test_list_of_one_user(self) -> None:
        """A list may be of one user."""
        self.done("user", "add", "ci")
        self.done("token", "create", "ci")
        self.done("token", "create", "admin")
        self.assertEqual(["ci"], [each["user"] for each in self.listed("token", "list", "ci")])


class KeysTests(PeopleCase):
    """Signing keys."""

    def files(self) -> list[str]:
        """Return the key files."""
        return sorted(os.listdir(os.path.join(self.root, "keys")))

    def test_rotate(self) -> None:
        """A new key joins the old one, whose tokens are still out."""
        (first,) = self.files()
        self.assertIn("new key", self.done("keys", "rotate"))
        self.assertEqual(first, self.files()[0])
        self.assertEqual(2, len(self.files()))

    def test_rotate_at_once(self) -> None:
        """For a key that leaked: the old one goes now."""
        (first,) = self.files()
        self.done("keys", "rotate", "--at-once")
        (second,) = self.files()
        self.assertNotEqual(first, second)


class ExplainTests(PeopleCase):
    """Why somebody may, or may not."""

    def test_explain(self) -> None:
        """The answer names the grant that decides."""
        self.done("user", "add", "alice", "--grant", "pull:**", "--grant", "!pull:secret/*")
        for arguments, line in [
            (("alice", "pull", "a"), "allowed: alice may pull in a: granted by pull:**"),
            (
                ("alice", "pull", "secret/a"),
                "denied: alice may not pull in secret/a: denied by !pull:secret/*",
            ),
            (("alice", "push", "a"), "denied: alice may not push in a: no grant allows it"),
            (("admin", "delete", "a"), "allowed: admin may delete in a: an admin may do everything"),
            (("anonymous", "pull", "a"), "denied: anonymous may not pull in a: no grant allows it"),
        ]:
            self.assertEqual(f"{line}\n", self.done("access", "explain", *arguments))
        document = self.listed("access", "explain", "alice", "pull", "a")
        self.assertEqual((True, "pull:**"), (document["allowed"], document["grant"]))
        self.done("user", "disable", "alice")
        self.assertIn("alice is disabled", self.done("access", "explain", "alice", "pull", "a"))

    def test_anonymous(self) -> None:
        """What anonymous may do comes from the settings."""
        result = self.run_command(
            "access", "explain", "anonymous", "pull", "public/a",
            DOCKREG_ACCESS_ANONYMOUS_GRANTS='["pull:public/**"]',
        )  # fmt: skip
        self.assertIn("allowed: anonymous may pull in public/a", result.stdout)

    def test_refusals(self) -> None:
        """An unknown user or a bad name is refused; an unknown action is wrong usage."""
        self.refused("access", "explain", "ghost", "pull", "a")
        self.refused("access", "explain", "admin", "pull", "Bad!")
        self.assertEqual(2, self.run_command("access", "explain", "admin", "fly", "a").exit_code)


class ExplainFileTests(PeopleCase):
    """Users of the live file."""

    def test_explain(self) -> None:
        """They have the grants of the settings, and the database goes before."""
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write(f"alice:{HASH}\nadmin:{HASH}\n")
        for user, line in [
            ("alice", "denied: alice may not delete in a: no grant allows it"),
            ("admin", "allowed: admin may delete in a: an admin may do everything"),
        ]:
            result = self.run_command("access", "explain", user, "delete", "a", DOCKREG_ACCESS_HTPASSWD=path)
            self.assertEqual(f"{line}\n", result.stdout)
        os.unlink(path)
        line = self.refused("access", "explain", "alice", "pull", "a", DOCKREG_ACCESS_HTPASSWD=path)
        self.assertIn("cannot be read (No such file", line)


class HtpasswdTests(PeopleCase):
    """Users from a file."""

    def test_import(self) -> None:
        """Bcrypt lines become users with the grants, each other line is named; who exists keeps grants."""
        self.done("user", "add", "bob", "--grant", "push:b")
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(f"alice:{HASH}\ncarol:$apr1$secret\nbob:{HASH}\n")
        result = self.run_command("import", "htpasswd", path, "--grant", "pull:**")
        self.assertEqual((0, "1 added, 1 changed, 1 lines refused\n"), (result.exit_code, result.stdout))
        self.assertIn("line 2: user carol: a MD5 hash", result.stderr)
        self.assertNotIn("secret", result.stderr)
        for name, grants in [("alice", ("pull:**",)), ("bob", ("pull:**", "push:b"))]:
            account = self.account(name)
            self.assertEqual((HASH, grants, False), (account.password_hash, account.grants, account.is_admin))
        self.assertEqual({"admin", "alice", "bob"}, {each["name"] for each in self.listed("user", "list")})

    def test_nothing(self) -> None:
        """A file without a usable line is refused; so is a bad grant, before anything is imported."""
        result = self.run_command("import", "htpasswd", "-", typed="a:plain\n")
        self.assertEqual(1, result.exit_code)
        self.refused("import", "htpasswd", "-", "--grant", "fly:**", typed=f"alice:{HASH}\n")
        self.assertEqual(["admin"], [each["name"] for each in self.listed("user", "list")])
