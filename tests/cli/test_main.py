"""The frame of the ``dockreg`` command: roots, global options, exit codes, settings, versions."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from dockreg_tx.access.passwords import verify_password
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.operator import Operator
from dockreg_tx.preparation import run_inline
from dockreg_tx.root_locks import RootLock
from tests.cli.case import CommandCase


class InitTests(CommandCase):
    """Making a root ready."""

    def test_makes_admin(self) -> None:
        """The user admin gets a password that lies in a private file, and is an admin."""
        shown = self.done("init")
        path = Path(self.root) / "admin-password"
        self.assertIn(str(path), shown)
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        password = path.read_text(encoding="utf-8").removesuffix("\n")
        self.assertNotIn(password, shown)
        with Operator(root=self.root).records() as records:
            admin = run_inline(records.account("admin"))
        assert admin is not None
        self.assertTrue(admin.is_admin)
        self.assertTrue(verify_password(password, admin.password_hash))

    def test_twice(self) -> None:
        """A second init changes nothing, nor does it give back an admin who was removed."""
        self.done("init")
        before = (Path(self.root) / "admin-password").read_bytes()
        self.done("init")
        self.assertEqual(before, (Path(self.root) / "admin-password").read_bytes())
        self.done("user", "remove", "admin", "--yes")
        self.done("init")
        self.assertEqual([], self.listed("user", "list"))

    def test_missing_files(self) -> None:
        """A file or directory that is not there is refused in one line by every command that reads one."""
        self.done("init")
        for command in (
            ["config", "convert"],
            ["import", "htpasswd"],
            ["import", "oci"],
            ["import", "docker-archive"],
            ["import", "registry2"],
            ["--config"],
        ):
            for path in (self.mktemp(), ""):
                more = ["config", "check"] if command == ["--config"] else []
                self.assertIn(path, self.refused(*command, path, *more))
        for command in (["config", "convert"], ["import", "htpasswd"]):
            self.assertIn("Is a directory", self.refused(*command, self.root))

    def test_uninitialised(self) -> None:
        """Other commands refuse a root that is not ready, by name, and do not make it."""
        for command in (["user", "list"], ["repo", "list"], ["grant", "list"], ["user", "add", "x"]):
            self.assertIn(self.root, self.refused(*command))
        place = self.mktemp()
        os.mkdir(place)
        Path(place, "index.json").write_text("{}", encoding="utf-8")
        for command in (["import", "oci", place], ["export", "app:v1", os.path.join(place, "app.tar")]):
            self.assertIn("is not initialised", self.refused(*command))
        self.assertFalse(os.path.exists(self.root))

    def test_running_server(self) -> None:
        """Users can be changed while a server holds the root's lock; init is refused."""
        self.done("init")
        lock = RootLock(RootLayout(self.root))
        lock.acquire()
        self.addCleanup(lock.release)
        self.refused("init")
        self.done("user", "add", "alice", "--password-stdin", typed="s3cret\n")


class FrameTests(CommandCase):
    """What holds for every command."""

    def test_global_options_in_every_place(self) -> None:
        """``--root`` may stand before the command, between group and command, and after it."""
        self.done("init")
        elsewhere = {"DOCKREG_STORAGE_ROOT": "/nowhere"}
        for arguments in (
            ["--root", self.root, "user", "list"],
            ["user", "--root", self.root, "list"],
            ["user", "list", "--root", self.root],
        ):
            result = self.run_command(*arguments, **elsewhere)
            self.assertEqual(0, result.exit_code, result.output)
            self.assertIn("admin", result.stdout)
        self.refused("user", "list", **elsewhere)

    def test_usage(self) -> None:
        """A wrong command line exits with 2."""
        for arguments in (["fly"], ["user", "add"], ["user", "list", "--what"], ["grant", "add", "x"]):
            self.assertEqual(2, self.run_command(*arguments).exit_code, arguments)

    def test_audit_log(self) -> None:
        """What cannot be noted in the audit log is done, and said."""
        self.done("init")
        result = self.run_command("user", "add", "bob", DOCKREG_LOG_AUDIT_FILE="/none/audit.log")
        self.assertEqual(0, result.exit_code)
        self.assertIn("dockreg: the audit log cannot be written: /none/audit.log", result.stderr)

    def test_database_unavailable(self) -> None:
        """Why the database cannot be used is said."""
        self.done("init")
        os.unlink(os.path.join(self.root, "registry.lock"))
        os.mkdir(os.path.join(self.root, "registry.lock"))
        self.assertIn("Is a directory", self.refused("user", "add", "bob"))

    def test_no_text(self) -> None:
        """Bytes on the command line that are no text are refused in one line."""
        self.done("init")
        for command in (
            ["user", "show", "b\udcff"],
            ["grant", "list", "b\udcff"],
            ["token", "revoke", "\udcff"],
        ):
            self.assertIn("is not UTF-8 text", self.refused(*command))

    def test_help(self) -> None:
        """Every command explains itself."""
        for arguments in ([], ["user", "add"], ["grant"], ["repo", "remove"], ["tag"], ["config"]):
            self.assertIn("Usage: dockreg", self.done(*arguments, "--help"))

    def test_bad_settings(self) -> None:
        """A bad setting refuses every command that needs settings, with one line."""
        self.assertIn("DOCKREG_GC_GRCE", self.refused("user", "list", DOCKREG_GC_GRCE="1h"))

    def test_version(self) -> None:
        """The versions that matter for a report are shown, whatever the settings."""
        shown = self.run_command("version", DOCKREG_NONSENSE="1").stdout
        names = [line.split()[0] for line in shown.splitlines()]
        self.assertEqual(["dockreg", "Python", "Twisted", "SQLite"], names)

    def test_destructive_commands_ask(self) -> None:
        """Without a terminal and without --yes nothing is removed."""
        self.done("init")
        self.assertIn("--yes", self.refused("user", "remove", "admin"))
        self.assertEqual(["admin"], [each["name"] for each in self.listed("user", "list")])


class ConfigTests(CommandCase):
    """``dockreg config``."""

    def test_check(self) -> None:
        """Good settings pass without a root; bad ones are one line with file and key."""
        self.done("config", "check")
        path = Path(self.mktemp())
        path.write_text('[manifests]\nmissing_layers = "maybe"\n', encoding="utf-8")
        line = self.refused("--config", str(path), "config", "check")
        self.assertIn(f"{path}: manifests.missing_layers", line)
        self.assertIn('"deny" or "allow"', line)
        self.assertFalse(os.path.exists(self.root))

    def test_show(self) -> None:
        """Each value in force stands with its source."""
        shown = self.listed("--root", "/somewhere", "config", "show")
        self.assertEqual({"value": "/somewhere", "source": "option --root"}, shown["storage.root"])
        self.assertEqual({"value": "24h", "source": "default"}, shown["gc.grace"])
        self.assertIn('storage.root = "', self.done("config", "show"))
        self.assertIn("# environment DOCKREG_STORAGE_ROOT", self.done("config", "show"))


class ProcessTests(CommandCase):
    """What needs a process of its own."""

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a process."""
        return [sys.executable, "-m", "dockreg_tx", "--root", self.root, *arguments]

    def environ(self) -> dict[str, str]:
        """Return the environment without settings."""
        return {name: value for name, value in os.environ.items() if not name.startswith("DOCKREG_")}

    def read_until(self, terminal: int, end: bytes) -> bytes:
        """Return what a terminal shows up to ``end``, within 30 s."""
        shown = b""
        while end not in shown:
            readable, _, _ = select.select([terminal], [], [], 30)
            self.assertTrue(readable, shown)
            shown += os.read(terminal, 1024)
        return shown

    def test_terminal(self) -> None:
        """On a terminal the password is asked for twice and not shown."""
        self.done("init")
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command("user", "add", "alice"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self.environ(),
            start_new_session=True,
        )
        os.close(theirs)
        self.addCleanup(process.kill)
        shown = b""
        # What is typed before a prompt is thrown away, so answer each question when it comes.
        for answer in (b"first-secret\n", b"first-secret\n", b""):
            shown += self.read_until(ours, b": " if answer else b"added")
            os.write(ours, answer)
        os.close(ours)
        self.assertEqual(0, process.wait(30), shown)
        self.assertNotIn(b"first-secret", shown)
        with Operator(root=self.root).records() as records:
            alice = run_inline(records.account("alice"))
        assert alice is not None
        self.assertTrue(verify_password("first-secret", alice.password_hash))

    def test_superuser_becomes_owner(self) -> None:
        """Run by root, the command leaves only files that the root directory's owner can open."""
        if os.geteuid() != 0:
            raise SkipTest("only the superuser can become someone else")
        nobody = 65534
        # Trial's own folder is closed to others.
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        os.chown(self.root, nobody, nobody)
        for arguments in (["init"], ["user", "add", "alice"], ["repo", "list"]):
            done = subprocess.run(
                self.command(*arguments),
                env=self.environ(),
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            self.assertEqual(0, done.returncode, done.stderr)
        owners = {
            os.lstat(Path(where) / name).st_uid for where, _, names in os.walk(self.root) for name in names
        }
        self.assertEqual({nobody}, owners)
        closed = os.path.abspath(self.mktemp())
        os.mkdir(closed, mode=0o700)
        refused = subprocess.run(
            self.command("backup", os.path.join(closed, "backup")),
            env=self.environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertIn(f"user {nobody}, who owns the root", refused.stderr)

    def test_reader_goes_away(self) -> None:
        """A reader that has enough, such as head, ends a listing without a word."""
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@" | true; exit 0', "sh", *self.command("config", "show")],
            env=self.environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual("", done.stderr)

    def test_json_is_whole(self) -> None:
        """What a listing writes to a pipe is one JSON document."""
        self.done("init")
        done = subprocess.run(
            self.command("user", "list", "--json"),
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(["admin"], [each["name"] for each in json.loads(done.stdout)])
