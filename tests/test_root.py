"""Tests of the root directory: made once, checked at every start, held by one server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.root import RootFormat, RootUnusable, check_root, filesystem_type, initialise_root
from dockreg_tx.root_locks import RootLock

ACQUIRE = """
import sys
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.root import RootUnusable
from dockreg_tx.root_locks import RootLock
lock = RootLock(RootLayout(sys.argv[1]))
try:
    lock.acquire()
except RootUnusable as error:
    sys.exit(str(error))
print("held", flush=True)
sys.stdin.read()
"""
NFS = 0x6969


class CrashError(BaseException):
    """The machine stops here."""


class RootCase(SynchronousTestCase):
    """A place for a root."""

    def setUp(self) -> None:
        self.layout = RootLayout(os.path.join(os.path.abspath(self.mktemp()), "deep", "registry"))

    def initialise(self, instance_id: str = "an-id") -> RootFormat:
        """Make the root ready."""
        return initialise_root(self.layout, new_id=lambda: instance_id)

    def refusal(self, call: Callable[[], object]) -> str:
        """Return the one line that ``call`` is refused with."""
        line = str(self.assertRaises(RootUnusable, call))
        self.assertNotIn("\n", line)
        return line


class InitialiseTests(RootCase):
    """Making a root."""

    def test_empty(self) -> None:
        """A root is made with its parents, every directory, and a format with an id; then it is usable."""
        self.assertEqual(RootFormat(1, "an-id"), self.initialise())
        self.assertEqual(RootFormat(1, "an-id"), check_root(self.layout))
        for directory in self.layout.directories():
            self.assertTrue(os.path.isdir(directory))
        self.assertEqual(0, os.stat(self.layout.root).st_mode & 0o027)
        self.assertEqual(0, os.stat(self.layout.format).st_mode & 0o137)
        with open(self.layout.format, "rb") as file:
            self.assertEqual({"version": 1, "instance_id": "an-id"}, json.load(file))

    def test_twice(self) -> None:
        """The second time keeps the id, and puts back a directory that somebody removed."""
        self.initialise()
        os.rmdir(self.layout.trash)
        self.assertEqual(RootFormat(1, "an-id"), self.initialise("another"))
        self.assertTrue(os.path.isdir(self.layout.trash))

    def test_two_at_once(self) -> None:
        """Two first starts at the same time end with one id."""
        script = (
            "import sys, uuid; from dockreg_tx.blobs.layout import RootLayout; from dockreg_tx import root\n"
            "made = root.initialise_root(RootLayout(sys.argv[1]), new_id=lambda: str(uuid.uuid4()))\n"
            "print(made.instance_id)"
        )
        command = [sys.executable, "-c", script, self.layout.root]
        starts = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        ids = {start.communicate()[0].decode().strip() for start in starts}
        self.assertEqual({check_root(self.layout).instance_id}, ids)

    def test_mounted_and_locked(self) -> None:
        """A fresh mount point with its lost+found, and a lock taken first, count as empty."""
        os.makedirs(os.path.join(self.layout.root, "lost+found"))
        RootLock(self.layout).acquire()
        self.initialise()

    def test_relative(self) -> None:
        """A relative root is made where we stand."""
        layout = RootLayout(os.path.relpath(self.layout.root))
        initialise_root(layout, new_id=lambda: "x")
        self.assertEqual(RootFormat(1, "x"), check_root(self.layout))

    def test_foreign_content(self) -> None:
        """A directory with other things in it is left alone, above all a database without its format."""
        for name in ("thesis.txt", "registry.db"):
            layout = RootLayout(os.path.abspath(self.mktemp()))
            os.mkdir(layout.root)
            with open(os.path.join(layout.root, name), "w", encoding="utf-8") as file:
                file.write("mine")
            line = self.refusal(lambda layout=layout: initialise_root(layout, new_id=str))  # type: ignore[misc] # mypy cannot infer a lambda's default
            self.assertIn(name, line)
            self.assertEqual([name], os.listdir(layout.root))

    def test_nfs(self) -> None:
        """Nothing is made on a remote filesystem."""
        line = self.refusal(lambda: initialise_root(self.layout, new_id=str, probe=lambda _: NFS))
        self.assertIn("NFS", line)
        self.assertFalse(os.path.exists(self.layout.root))

    def test_lost_database(self) -> None:
        """A root with content but without its database is refused: an empty registry would take its place."""
        self.initialise()
        check_root(self.layout)
        blob = os.path.join(self.layout.blobs, "sha256", "00", "0" * 64)
        with open(blob, "w", encoding="utf-8"):
            self.assertIn("registry.db", self.refusal(lambda: check_root(self.layout)))
        with open(self.layout.database, "w", encoding="utf-8") as database:
            self.assertIn("registry.db", self.refusal(lambda: check_root(self.layout)))
            database.write("SQLite format 3")
        check_root(self.layout)

    def test_crash_anywhere(self) -> None:
        """Wherever it stops, the root is either ready or not initialised, and the next call completes it."""
        for call in ("mkdir", "fsync", "replace"):
            for after in (0, 1, 3, 100, 515):
                self.layout = RootLayout(os.path.abspath(self.mktemp()))
                self.crash(call, after)
                if os.path.exists(self.layout.format):
                    check_root(self.layout)
                else:
                    self.assertIn("not initialised", self.refusal(lambda: check_root(self.layout)))
                self.initialise()
                check_root(self.layout)
                self.assertEqual([], [d for d in self.layout.directories() if not os.path.isdir(d)])

    def crash(self, call: str, after: int) -> None:
        """Stop in the middle of making a root."""
        real, left = getattr(os, call), [after]

        def stop(*args: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise CrashError
            return real(*args)

        patch = self.patch(os, call, stop)
        try:
            self.initialise("before the crash")
        except CrashError:
            pass
        finally:
            patch.restore()

    def test_order(self) -> None:
        """The format is renamed into place after its own fsync, which comes after that of all directories."""
        calls: list[str] = []
        real_fsync, real_replace = os.fsync, os.replace

        def fsync(descriptor: int) -> None:
            calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real_fsync(descriptor)

        def replace(source: str, target: str) -> None:
            calls.append("replace")
            real_replace(source, target)

        self.patch(os, "fsync", fsync)
        self.patch(os, "replace", replace)
        self.initialise()
        self.assertEqual([self.layout.format + ".new", "replace", self.layout.root], calls[-3:])
        for directory in [*self.layout.directories(), os.path.dirname(self.layout.root)]:
            self.assertIn(directory, calls[:-3])


class CheckTests(RootCase):
    """What a start is refused for."""

    def test_not_initialised(self) -> None:
        """A missing or empty root is told by name, with the way out."""
        for _ in range(2):
            line = self.refusal(lambda: check_root(self.layout))
            self.assertIn(f"{self.layout.root} is not initialised", line)
            self.assertIn("dockreg init", line)
            os.makedirs(self.layout.root, exist_ok=True)

    def test_not_a_directory(self) -> None:
        """A file is no root."""
        os.makedirs(os.path.dirname(self.layout.root))
        with open(self.layout.root, "w", encoding="utf-8"):
            pass
        for call in (lambda: check_root(self.layout), self.initialise):
            self.assertIn("Not a directory", self.refusal(call))

    def test_permission_denied(self) -> None:
        """A root that may not be read is told from a missing one."""
        self.initialise()

        def refuse(path: str) -> list[str]:
            raise PermissionError(13, "Permission denied", path)

        self.patch(os, "listdir", refuse)
        line = self.refusal(lambda: check_root(self.layout))
        self.assertEqual(f"cannot use {self.layout.root}: Permission denied", line)

    def test_newer(self) -> None:
        """A root of a newer version is refused by name, also by init, and not touched."""
        self.initialise()
        with open(self.layout.format, "w", encoding="utf-8") as file:
            json.dump({"version": 2, "instance_id": "x", "more": True}, file)
        for call in (lambda: check_root(self.layout), self.initialise):
            self.assertIn("was written by a newer dockreg", self.refusal(call))

    def test_damaged(self) -> None:
        """A format that is not one is called damaged."""
        self.initialise()
        for content in (b"", b"{", b"[]", b"{}", b'{"version": "1", "instance_id": "x"}', b"\xff"):
            with open(self.layout.format, "wb") as file:
                file.write(content)
            self.assertIn("damaged", self.refusal(lambda: check_root(self.layout)))

    def test_remote(self) -> None:
        """Remote filesystems are refused by their name, with the reason."""
        self.initialise()
        for number, name in ((NFS, "NFS"), (0xFF534D42, "CIFS"), (0xFE534D42, "SMB"), (0x01021997, "9P")):
            line = self.refusal(lambda number=number: check_root(self.layout, probe=lambda _: number))  # type: ignore[misc] # mypy cannot infer a lambda's default
            self.assertIn(f"is on {name}: SQLite's locks", line)

    def test_filesystem_type(self) -> None:
        """The number is that of statfs; a missing path is an OSError."""
        self.assertEqual(0x9FA0, filesystem_type("/proc"))
        self.assertRaises(OSError, filesystem_type, "/proc/nothing-here")


class RootLockTests(RootCase):
    """One server for a root."""

    def setUp(self) -> None:
        super().setUp()
        self.initialise()

    def test_second_server(self) -> None:
        """The second is refused with the name of the first; after a release it may begin."""
        first, second = RootLock(self.layout), RootLock(self.layout)
        first.acquire()
        self.assertIn(f"{self.layout.root} is in use by pid {os.getpid()} on ", self.refusal(second.acquire))
        for _ in range(2):
            first.release()
        second.acquire()
        second.release()

    def test_killed(self) -> None:
        """A server that was killed holds nothing."""
        command = [sys.executable, "-c", ACQUIRE, self.layout.root]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            self.assertEqual(b"held\n", server.stdout.readline())
            self.assertIn(f"pid {server.pid} on ", self.refusal(RootLock(self.layout).acquire))
            server.kill()
        lock = RootLock(self.layout)
        lock.acquire()
        lock.release()

    def test_fork(self) -> None:
        """A daemonised server keeps the lock after its parent is gone, and notes its own id."""
        script = ACQUIRE.replace(
            'print("held"',
            "import os\nif os.fork(): os._exit(0)\nlock.note_owner()\nprint(os.getpid()",
        )
        command = [sys.executable, "-c", script, self.layout.root]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            parent.wait()
            self.assertNotEqual(parent.pid, child)
            self.assertIn(f"pid {child} on ", self.refusal(RootLock(self.layout).acquire))

    def test_not_inherited_by_programs(self) -> None:
        """A program that the server starts does not keep the lock alive."""
        lock = RootLock(self.layout)
        lock.acquire()
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
        ):
            lock.release()
            RootLock(self.layout).acquire()

    def test_misuse(self) -> None:
        """Noting an owner without the lock is a mistake of ours; a missing root is the operator's."""
        self.assertRaises(RuntimeError, RootLock(self.layout).note_owner)
        nowhere = RootLock(RootLayout(self.layout.root + "-nowhere"))
        self.assertIn("No such file", self.refusal(nowhere.acquire))
