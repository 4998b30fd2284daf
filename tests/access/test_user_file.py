"""Tests of ``dockreg_tx.access.user_file``."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access import user_file as module
from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.grants import Principal
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.access.user_file import (
    LOOK_SECONDS,
    NAMED_LINES,
    SETTLED_SECONDS,
    MergedAccounts,
    UserFile,
    read_user_file,
)
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.ports import Account, Blocking
from tests.access.test_accounts import Accounts, HeldBlocking

FIRST, SECOND = (hash_password(word, 4) for word in ("first", "second"))
DATABASE = hash_password("database", 4)
GRANTS = ("pull:**", "push:**")


class UserFileCase(SynchronousTestCase):
    """A file, beside a database that knows ``root``; ``at`` is a time long after all changes of the file."""

    def setUp(self) -> None:
        """Write a file with one user."""
        self.path = os.path.abspath(self.mktemp())
        self.write(f"alice:{FIRST}\n")
        self.clock = Clock()
        self.at = os.stat(self.path).st_ctime + 1000
        self.accounts = Accounts(Account("root", DATABASE, is_admin=True))
        self.lines: list[str] = []
        self.events: list[LogEvent] = []
        observer = cast("ILogObserver", self.observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.build(InlineBlocking())

    def build(self, blocking: Blocking) -> None:
        """Put everything together."""
        self.file = UserFile(
            self.path, grants=GRANTS, blocking=blocking, clock=self.clock, now=lambda: self.at
        )
        self.merged = MergedAccounts(accounts=self.accounts, file=self.file)
        self.authenticator = Authenticator(
            accounts=self.merged,
            blocking=InlineBlocking(),
            clock=self.clock,
            secret=b"s" * 32,
            anonymous=Principal(""),
            dummy_hash=hash_password("nobody", 4),
        )

    def observe(self, event: LogEvent) -> None:
        """Collect what the file says."""
        if event.get("log_namespace", "").startswith("dockreg_tx.access.user_file"):
            self.events.append(event)
            self.lines.append(event["log_format"].format(**event))

    def write(self, content: str | bytes) -> None:
        """Replace the content, as editors that write in place do."""
        with open(self.path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def wait(self) -> None:
        """Let the time pass after which the file is looked at again."""
        self.clock.advance(LOOK_SECONDS)

    def log_in(self, name: str = "alice", password: str = "first") -> Principal | None:
        """Return who that is, None when refused."""
        work = Deferred.fromCoroutine(self.authenticator.authenticate(name, password))
        failure: list[Any] = []
        work.addErrback(failure.append)
        if failure:
            failure[0].trap(Unauthorized)
            return None
        return self.successResultOf(work)


class RereadTests(UserFileCase):
    """What the file says is in force, for the next request or a second later."""

    def test_user(self) -> None:
        """A user of the file logs in with the grants of the settings, and is no admin."""
        principal = self.log_in()
        assert principal is not None
        self.assertEqual(("alice", GRANTS, False), _facts(principal))
        self.assertIsNone(self.log_in(password="wrong"))
        self.assertEqual([f"htpasswd file {self.path}: 1 users"], self.lines)

    def test_new_password(self) -> None:
        """A changed line counts for the next request, for tokens too: the fingerprint is another."""
        before = self.log_in()
        self.write(f"alice:{SECOND}\n")
        self.wait()
        self.assertIsNone(self.log_in())
        after = self.log_in(password="second")
        assert before is not None and after is not None
        self.assertNotEqual(before.fingerprint, after.fingerprint)

    def test_removed_line(self) -> None:
        """A user whose line is gone is nobody, and comes back with the line."""
        self.log_in()
        self.write("")
        self.wait()
        self.assertIsNone(self.log_in())
        self.assertIsNone(self.successResultOf(self.authenticator.principal("alice")))
        self.write(f"alice:{FIRST}\n")
        self.wait()
        self.assertIsNotNone(self.log_in())

    def test_looked_at_once_a_second(self) -> None:
        """Within a second nothing is asked of the disk."""
        self.log_in()
        self.write("")
        self.clock.advance(LOOK_SECONDS / 2)
        self.assertIsNotNone(self.log_in())
        self.clock.advance(LOOK_SECONDS / 2)
        self.assertIsNone(self.log_in())

    def test_unchanged(self) -> None:
        """A file that did not change is not read again, and nothing is forgotten."""
        self.log_in()
        generation = self.successResultOf(self.merged.access_generation())
        self.patch(module, "_read", self.fail)
        self.wait()
        self.assertIsNotNone(self.log_in())
        self.assertEqual(generation, self.successResultOf(self.merged.access_generation()))

    def test_two_changes_in_one_tick(self) -> None:
        """A file that changed just now is read again: a second change may not show in its times."""
        self.at = os.stat(self.path).st_ctime + SETTLED_SECONDS / 2
        self.log_in()
        self.write(f"alice:{SECOND}\n")
        # As if the filesystem's clock had not ticked between the two.
        self.patch(module, "_mark", lambda path: (1,))
        self.build(InlineBlocking())
        self.write(f"alice:{FIRST}\n")
        self.assertIsNotNone(self.log_in())
        self.write(f"alice:{SECOND}\n")
        self.wait()
        self.assertIsNone(self.log_in())
        self.assertIsNotNone(self.log_in(password="second"))

    def test_new_file_by_rename(self) -> None:
        """A file that took the other's place is another, whatever its times say."""
        self.log_in()
        old = os.stat(self.path)
        with open(self.path + ".new", "w") as file:
            file.write(f"alice:{SECOND}\n")
        os.utime(self.path + ".new", ns=(old.st_atime_ns, old.st_mtime_ns))
        os.rename(self.path + ".new", self.path)
        self.wait()
        self.assertIsNone(self.log_in())

    def test_same_users(self) -> None:
        """A change that changes no user, such as a comment, makes nobody prove anything again."""
        self.log_in()
        generation = self.file.generation
        self.write(f"# people\nalice:{FIRST}\n")
        self.wait()
        self.assertIsNotNone(self.log_in())
        self.assertEqual(generation, self.file.generation)


class BadFileTests(UserFileCase):
    """What cannot be read gives nobody access, and is named without its content."""

    def test_bad_lines(self) -> None:
        """A bad line disables its user alone; the log has its number, and nothing of it."""
        self.write(f"alice:{FIRST}\nbob:$apr1$canary\ncanary\ncarol:canary\n\xff\n".encode("latin-1"))
        self.assertIsNotNone(self.log_in())
        self.assertIsNone(self.log_in("bob", "canary"))
        self.assertIsNone(self.log_in("carol", "canary"))
        text = "\n".join(self.lines)
        for number in (2, 3, 4, 5):
            self.assertIn(f"line {number} gives no access", text)
        self.assertIn("htpasswd -B", text)
        for word in ("canary", "bob", "carol"):
            self.assertNotIn(word, text + repr(self.events))

    def test_many_bad_lines(self) -> None:
        """A file of another kind does not fill the log, once or at each look."""
        self.write("canary\n" * 1000)
        self.assertIsNone(self.log_in())
        self.assertEqual(NAMED_LINES + 2, len(self.lines))
        self.assertIn("980 more lines", self.lines[-2])
        self.at = os.stat(self.path).st_ctime
        self.wait()
        self.log_in()
        self.assertEqual(NAMED_LINES + 2, len(self.lines))

    def test_unreadable(self) -> None:
        """While the file cannot be read its users are refused, those of the database are not."""
        self.log_in()
        os.unlink(self.path)
        for _ in range(3):
            self.wait()
            self.assertIsNone(self.log_in())
        self.assertIsNotNone(self.log_in("root", "database"))
        (line,) = self.lines[1:]
        self.assertIn("cannot be read (No such file or directory): its users are refused", line)
        self.write(f"alice:{FIRST}\n")
        self.wait()
        self.assertIsNotNone(self.log_in())

    def test_no_file(self) -> None:
        """A directory, a pipe or a huge file is refused in the same way, without waiting."""
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertIsNone(self.log_in())
        self.assertIn("is no regular file", self.lines[-1])
        self.patch(module, "LIMIT_BYTES", 10)
        os.unlink(self.path)
        self.write(f"alice:{FIRST}\n")
        self.wait()
        self.assertIsNone(self.log_in())
        self.assertIn("has more than 10 bytes", self.lines[-1])

    def test_passing_error(self) -> None:
        """What failed is tried again, although the file looks the same."""
        self.patch(module, "LIMIT_BYTES", 10)
        self.assertIsNone(self.log_in())
        self.patch(module, "LIMIT_BYTES", 1000)
        self.wait()
        self.assertIsNotNone(self.log_in())


class DatabaseTests(UserFileCase):
    """The file beside the database."""

    def test_namesake(self) -> None:
        """Of one name in both the database alone counts, disabled or not, and the log says so."""
        self.write(f"root:{FIRST}\nalice:{FIRST}\n")
        self.assertIsNone(self.log_in("root", "first"))
        principal = self.log_in("root", "database")
        assert principal is not None
        self.assertTrue(principal.is_admin)
        self.assertIn(f"user root is in the database and in {self.path}", self.lines[-1])
        self.accounts.change(Account("root", DATABASE, is_disabled=True))
        self.assertIsNone(self.log_in("root", "first"))
        self.accounts.change(Account("alice", DATABASE))
        self.assertIsNone(self.log_in())
        names = [account.name for account in self.successResultOf(self.merged.accounts())]
        self.assertEqual(["root", "alice"], names)

    def test_no_inheritance(self) -> None:
        """A user of the file called like a removed admin is no admin."""
        self.write(f"root:{FIRST}\n")
        del self.accounts.rows["root"]
        self.accounts.generation += 1
        principal = self.log_in("root", "first")
        assert principal is not None
        self.assertEqual(("root", GRANTS, False), _facts(principal))

    def test_everyone(self) -> None:
        """All users are known together, so that unknown names cost as much time as the costliest."""
        self.log_in()
        names = [account.name for account in self.successResultOf(self.merged.accounts())]
        self.assertEqual(["root", "alice"], names)


class WaitingTests(UserFileCase):
    """Reading happens in a thread; nobody is decided by what is known to be old."""

    def test_shared(self) -> None:
        """Many requests at once read the file once, and wait for it; one that leaves disturbs nobody."""
        blocking = HeldBlocking()
        self.build(blocking)
        looks = [Deferred.fromCoroutine(self.file.refresh()) for _ in range(3)]
        self.assertEqual(1, len(blocking.runs))
        looks[0].addErrback(lambda _: None)
        looks[0].cancel()
        self.assertNoResult(looks[1])
        blocking.release()
        for look in looks:
            self.successResultOf(look)
        self.assertEqual(["alice"], list(self.file.users))

    def test_broken(self) -> None:
        """What cannot even be tried fails the requests, and is tried again for the next."""

        class Broken:
            """No thread can be had."""

            async def run(self, *args: object, **kwargs: object) -> Any:
                raise RuntimeError("no threads")

        blocking = Broken()
        self.build(blocking)
        for _ in range(2):
            failure = self.failureResultOf(Deferred.fromCoroutine(self.file.refresh()))
            self.assertEqual("no threads", failure.getErrorMessage())


class ReadTests(UserFileCase):
    """The file, read once, for the command."""

    def test_read(self) -> None:
        """All users, or the reason why not."""
        self.assertEqual(GRANTS, read_user_file(self.path, GRANTS)["alice"].grants)
        error = self.assertRaises(OSError, read_user_file, self.path + "x", GRANTS)
        self.assertIn("cannot be read", str(error))


def _facts(principal: Principal) -> tuple[str, tuple[str, ...], bool]:
    return principal.name, tuple(map(str, principal.grants)), principal.is_admin
