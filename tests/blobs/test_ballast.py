"""The room in reserve."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.ballast import Ballast
from tests.blobs.roots import make_root

MIB = 1024 * 1024


class BallastTests(SynchronousTestCase):
    """A root on a disk that says it has 1,000 MiB, all of them free at first."""

    def setUp(self) -> None:
        self.layout = make_root(self.mktemp())
        self.free_bytes = 1000 * MIB
        self.patch(os, "statvfs", self.status)

    def status(self, path: str) -> SimpleNamespace:
        """Return what the disk says."""
        return SimpleNamespace(f_blocks=1000, f_frsize=MIB, f_bavail=self.free_bytes // MIB)

    def ballast(self, size_bytes: int = 4 * MIB, spare_bytes: int = 0) -> Ballast:
        """Return a ballast that is not made yet."""
        return Ballast(layout=self.layout, size_bytes=size_bytes, spare_bytes=spare_bytes)

    def held_bytes(self) -> int:
        """Return how many bytes of the disk the file takes."""
        return os.stat(self.layout.ballast).st_blocks * 512

    def test_real_blocks(self) -> None:
        """The file takes the room that it says, at most a sixteenth of the disk."""
        self.assertTrue(self.ballast().fill())
        self.assertGreaterEqual(self.held_bytes(), 4 * MIB)
        self.assertTrue(self.ballast(400 * MIB).fill())
        self.assertEqual(1000 * MIB // 16, os.stat(self.layout.ballast).st_size)

    def test_given_up_once(self) -> None:
        """It can be given up once; then it is spent until it is there again."""
        ballast = self.ballast()
        self.assertFalse(ballast.release())
        self.assertFalse(ballast.is_spent)
        ballast.fill()
        self.assertTrue(ballast.release())
        self.assertTrue(ballast.is_spent)
        self.assertFalse(ballast.release())
        self.assertFalse(os.path.exists(self.layout.ballast))

    def test_comes_back_late(self) -> None:
        """Given up, it comes back when there is twice its room beside what must stay free."""
        ballast = self.ballast(spare_bytes=10 * MIB)
        ballast.fill()
        ballast.release()
        self.free_bytes = 17 * MIB
        self.assertFalse(ballast.fill())
        self.assertTrue(ballast.is_spent)
        self.free_bytes = 18 * MIB
        self.assertTrue(ballast.fill())
        self.assertFalse(ballast.is_spent)

    def test_disk_that_is_full_after_all(self) -> None:
        """A disk that says it has room and has not gets no ballast, and no half of one."""

        def full(descriptor: int, offset: int, size: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        self.patch(os, "posix_fallocate", full)
        self.assertFalse(self.ballast().fill())
        self.assertNotIn("ballast", os.listdir(self.layout.root))
        self.assertNotIn("ballast.new", os.listdir(self.layout.root))

    def test_sparse_copy(self) -> None:
        """A file without its blocks, as a copy of the root may have, is made anew."""
        with open(self.layout.ballast, "wb") as file:
            file.truncate(4 * MIB)
        self.assertTrue(self.ballast().fill())
        self.assertGreaterEqual(self.held_bytes(), 4 * MIB)

    def test_none(self) -> None:
        """A size of 0 takes an old file away."""
        self.ballast().fill()
        self.assertTrue(self.ballast(0).fill())
        self.assertFalse(os.path.exists(self.layout.ballast))
