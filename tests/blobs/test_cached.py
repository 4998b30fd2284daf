"""What is in memory is had at once; everything else is left to a thread."""

from __future__ import annotations

import contextlib
import os

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.cached import READ_LIMIT_BYTES, CachedFiles


class CachedFilesTests(SynchronousTestCase):
    """One file, just written and so in memory."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        with open(self.path, "wb") as file:
            file.write(b"content")
        self.files = CachedFiles()

    def test_open_and_read(self) -> None:
        """What is had is right; where the kernel offers nothing, nothing is had."""
        descriptor = self.files.open(self.path)
        if descriptor is None:
            self.skipTest("this kernel has no openat2 with RESOLVE_CACHED")
        self.addCleanup(os.close, descriptor)
        self.assertFalse(os.get_inheritable(descriptor))
        self.assertIn(self.files.read(descriptor, 3, 4), (b"tent", None))

    def test_short(self) -> None:
        """Less than was asked for, and more than is read at once, is for a thread."""
        with open(self.path, "rb") as file:
            self.assertIsNone(self.files.read(file.fileno(), 0, 8))
            self.assertIsNone(self.files.read(file.fileno(), 0, READ_LIMIT_BYTES + 1))

    def test_missing(self) -> None:
        """A name that is known to be missing is; one that is not known is for a thread."""
        missing = self.path + ".missing"
        self.assertFalse(os.path.exists(missing))
        with contextlib.suppress(FileNotFoundError):
            self.assertIsNone(self.files.open(missing))

    def test_link(self) -> None:
        """Links are not followed."""
        os.symlink(self.path, self.path + ".link")
        self.assertIsNone(self.files.open(self.path + ".link"))

    def test_unsupported(self) -> None:
        """After the kernel has refused once, it is not asked again."""
        files = CachedFiles()
        files._can_open = files._can_read = False
        self.assertIsNone(files.open(self.path))
        with open(self.path, "rb") as file:
            self.assertIsNone(files.read(file.fileno(), 0, 7))
