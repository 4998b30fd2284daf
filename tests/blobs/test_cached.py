"""What is in memory is had at once; everything else is left to a thread."""

from __future__ import annotations

import contextlib
import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.cached import READ_LIMIT_BYTES, SAMPLE_BYTES, CachedFiles
from tests.blobs.roots import is_forgotten


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

    def test_holds(self) -> None:
        """What was just written is in memory; what was dropped from it is not, up to the last sample."""
        descriptor = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        size_bytes = 3 * SAMPLE_BYTES + 10
        os.pwrite(descriptor, bytes(size_bytes), 0)
        if not self.files.holds(descriptor, 0, size_bytes):
            self.skipTest("this file system does not tell")
        self.assertFalse(self.files.holds(descriptor, 0, size_bytes + 1))
        self.assertTrue(self.files.holds(descriptor, 0, 0))
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        if not is_forgotten(self.path):
            self.skipTest("this file system keeps what nobody needs")

        def holds(asked_bytes: int, read_bytes: int) -> bool:
            is_forgotten(self.path)
            os.pread(descriptor, read_bytes, 0)
            return self.files.holds(descriptor, 0, asked_bytes)

        # The kernel may drop what was just read, and asking makes it fetch what is missing, at times in time.
        self.assertTrue(any(holds(2 * SAMPLE_BYTES, 2 * SAMPLE_BYTES) for _ in range(100)))
        for read_bytes in (0, 2 * SAMPLE_BYTES):
            self.assertFalse(all(holds(size_bytes, read_bytes) for _ in range(100)))

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
            self.assertFalse(files.holds(file.fileno(), 0, 7))

    def test_tmpfs(self) -> None:
        """What lies in a file system that is memory is in memory, as far as it goes."""
        descriptor = os.memfd_create("blob")
        self.addCleanup(os.close, descriptor)
        size_bytes = 3 * SAMPLE_BYTES
        os.pwrite(descriptor, b"content", size_bytes - 7)
        self.assertTrue(self.files.holds(descriptor, 0, size_bytes))
        self.assertFalse(self.files.holds(descriptor, 0, size_bytes + 1))
        self.assertEqual(b"tent", self.files.read(descriptor, size_bytes - 4, 4))
        self.assertIsNone(self.files.read(descriptor, size_bytes - 4, 5))

    def test_refused(self) -> None:
        """A kernel or file system that refuses is asked no more; one that has nothing now is."""
        pipe = os.pipe()
        for descriptor in pipe:
            self.addCleanup(os.close, descriptor)
        for number, is_asked_again in ((errno.EAGAIN, True), (errno.EOPNOTSUPP, False)):
            calls: list[int] = []

            def refuse(*args: object, number: int = number, calls: list[int] = calls) -> int:
                calls.append(number)
                raise OSError(number, "no")

            self.patch(os, "preadv", refuse)
            files = CachedFiles()
            for _ in range(2):
                self.assertFalse(files.holds(pipe[0], 0, 7))
            self.assertEqual(2 if is_asked_again else 1, len(calls))
