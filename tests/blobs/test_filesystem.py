"""Tests of blobs as files: the contract, and what only a disk can do."""

from __future__ import annotations

import errno
import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.cached import SAMPLE_BYTES
from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.filesystem import FileBlobStore
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StorageFull, StoreUnavailable
from tests.blobs.roots import counting_ids, is_forgotten, make_root, open_files
from tests.contracts.blobs_contract import CONTENT, DIGEST, BlobStoreContract


class FileBlobStoreTests(BlobStoreContract, SynchronousTestCase):
    """The contract, and the traces on disk."""

    def setUp(self) -> None:
        self.layout = make_root(os.path.abspath(self.mktemp()))
        self.disk = Disk()
        self.blobs = self.files = FileBlobStore(
            layout=self.layout, blocking=InlineBlocking(), new_id=counting_ids(), disk=self.disk
        )

    def tearDown(self) -> None:
        self.assertEqual([], open_files(self.layout.root))
        self.assertEqual([], os.listdir(self.layout.uploads))

    def collect(self, digest: Digest) -> None:
        os.unlink(self.layout.blob_path(digest))

    def test_mode(self) -> None:
        """A blob's file is read-only, and closed to others."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        self.assertEqual(0o440, stat.S_IMODE(os.stat(self.layout.blob_path(DIGEST)).st_mode))

    def test_check(self) -> None:
        """The check leaves nothing behind, and fails where no file can be made."""
        uploads = self.layout.uploads
        self.successResultOf(self.files.check())
        self.assertEqual([], os.listdir(uploads))
        os.rename(uploads, uploads + ".away")
        self.failureResultOf(self.files.check(), StoreUnavailable)
        os.rename(uploads + ".away", uploads)

    def test_fileno(self) -> None:
        """The descriptor can be given to sendfile, and is gone after close, which may come twice."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        descriptor = blob.fileno()
        assert descriptor is not None
        self.assertEqual(CONTENT, os.pread(descriptor, 100, 0))
        for _ in range(2):
            blob.close()
        self.assertRaises(OSError, os.fstat, descriptor)
        self.failureResultOf(blob.read_at(0, 1), StoreUnavailable)

    def test_cold(self) -> None:
        """What is read ahead is in memory then."""
        content = os.urandom(8 * SAMPLE_BYTES)
        digest = Digest.of(content)
        self.successResultOf(self.blobs.put(digest, content))
        blob = self.successResultOf(self.blobs.open(digest))
        self.addCleanup(blob.close)
        if not blob.is_cached(0, len(content)):
            self.skipTest("this file system does not tell")
        if not is_forgotten(self.layout.blob_path(digest)):
            self.skipTest("this file system keeps what nobody needs")
        # Asking makes the kernel fetch the page, and a fast disk may have brought it before the answer.
        path = self.layout.blob_path(digest)
        self.assertFalse(all(is_forgotten(path) and blob.is_cached(0, 1) for _ in range(100)))

        def is_read_ahead() -> bool:
            self.successResultOf(blob.read_ahead(SAMPLE_BYTES, 3 * SAMPLE_BYTES))
            return bool(blob.is_cached(SAMPLE_BYTES, 3 * SAMPLE_BYTES))

        # The kernel may drop what was just read.
        self.assertTrue(any(is_read_ahead() for _ in range(100)))
        blob.close()

    def test_cold_and_broken(self) -> None:
        """A disk that fails while something is read ahead is told of."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        self.addCleanup(blob.close)

        def broken(*args: object) -> int:
            raise OSError(errno.EIO, "broken")

        self.patch(os, "sendfile", broken)
        self.failureResultOf(blob.read_ahead(0, 1), StoreUnavailable)
        blob.close()

    def test_forgotten_blob(self) -> None:
        """A blob that nobody closes, as after a cancelled request, is closed when it is forgotten."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        self.successResultOf(self.blobs.open(DIGEST))

    def test_only_plain_files(self) -> None:
        """A link or directory under a digest is not served."""
        os.mkdir(self.layout.blob_path(DIGEST))
        self.failureResultOf(self.blobs.open(DIGEST), BlobUnknown)
        other = Digest.of(b"other")
        os.symlink("/etc/passwd", self.layout.blob_path(other))
        self.failureResultOf(self.blobs.open(other), StoreUnavailable)

    def test_refusals(self) -> None:
        """A full disk is told from a failing one, no message names a path, and nothing is left behind."""
        for number, expected in (
            (errno.ENOSPC, StorageFull),
            (errno.EDQUOT, StorageFull),
            (errno.EFBIG, StorageFull),
            (errno.EIO, StoreUnavailable),
            (errno.EROFS, StoreUnavailable),
        ):
            for call in ("pwritev", "fsync", "link"):

                def refuse(*_: object, number: int = number) -> int:
                    raise OSError(number, "no", self.layout.root)

                self.patch(self.disk, call, refuse)
                failure = self.failureResultOf(self.blobs.put(DIGEST, CONTENT))
                self.assertIs(expected, failure.type)
                self.assertNotIn(self.layout.root, failure.getErrorMessage())
                self.assertEqual([], os.listdir(self.layout.uploads))
                self.assertFalse(os.path.exists(self.layout.blob_path(DIGEST)))
                delattr(self.disk, call)

    def test_failed_fsync_is_not_repeated(self) -> None:
        """After the first failing fsync there is no second one, and no blob."""
        calls: list[int] = []

        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            raise OSError(errno.EIO, "no")

        self.patch(self.disk, "fsync", fail)
        self.failureResultOf(self.blobs.put(DIGEST, CONTENT), StoreUnavailable)
        self.assertEqual(1, len(calls))
        self.assertFalse(os.path.exists(self.layout.blob_path(DIGEST)))

    def test_short_writes(self) -> None:
        """Writes that take a few bytes each are completed."""
        self.patch(self.disk, "pwritev", lambda fd, parts, at: os.pwrite(fd, parts[0][:3], at))
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        self.assertEqual(CONTENT, self.content_of(DIGEST))
        self.patch(self.disk, "pwritev", lambda fd, parts, at: 0)
        self.failureResultOf(self.blobs.put(Digest.of(b"x"), b"x"), StoreUnavailable)
