"""The gate before the disk."""

from __future__ import annotations

import errno
import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.gate import DiskGate, GuardedDisk
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StorageFull, StoreUnavailable
from tests.blobs.roots import counting_ids, make_root


class FailingDisk(Disk):
    """Fails every fsync with ``number``, unless that is 0."""

    number = 0

    def fsync(self, descriptor: int) -> None:
        """Fail, or do it."""
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        super().fsync(descriptor)


class GateTests(SynchronousTestCase):
    """A gate before an empty root."""

    def setUp(self) -> None:
        self.layout = make_root(self.mktemp())
        self.disk = FailingDisk()
        self.gate = DiskGate(directories=[self.layout.uploads], new_id=counting_ids(), disk=self.disk)

    def break_with(self, number: int) -> None:
        """Let a guarded write fail."""

        def failing(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        self.patch(os, "fsync", failing)
        self.assertRaises(OSError, GuardedDisk(self.gate).fsync, 0)
        self.patch(os, "fsync", lambda descriptor: None)

    def test_failing_disk(self) -> None:
        """After an error of the disk itself every write is refused, and the refusal says why."""
        for number in (errno.EIO, errno.EROFS):
            self.gate = DiskGate(directories=[], new_id=counting_ids())
            self.break_with(number)
            error = self.assertRaises(StoreUnavailable, self.gate.check)
            self.assertIn(os.strerror(number), str(error))
            self.assertRaises(StoreUnavailable, GuardedDisk(self.gate).fsync, 0)
        self.flushLoggedErrors()

    def test_full_disk(self) -> None:
        """A full disk, too many open files and the like are no reason to refuse all writes."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENOMEM):
            self.break_with(number)
            self.assertTrue(self.gate.is_open)

    def test_probe(self) -> None:
        """Only fresh bytes that come to the disk bring writes back, and no probe leaves a file behind."""
        self.gate.shut("test")
        self.disk.number = errno.EIO
        self.assertFalse(self.gate.probe())
        self.assertRaises(StoreUnavailable, self.gate.check)
        self.disk.number = 0
        self.assertTrue(self.gate.probe())
        self.gate.check()
        self.assertEqual([], os.listdir(self.layout.uploads))

    def test_small_blobs(self) -> None:
        """A small blob that is not staged passes through the gate as all do, and leaves nothing behind."""
        staging = FileUploadStaging(
            layout=self.layout, blocking=InlineBlocking(), clock=Clock(), disk=GuardedDisk(self.gate)
        )
        digest = Digest.of(b"content")
        working, syncs = os.fsync, list[int]()

        def refusal(number: int) -> StoreUnavailable:
            def failing(descriptor: int) -> None:
                syncs.append(number)
                raise OSError(number, os.strerror(number))

            self.patch(os, "fsync", failing)
            error = self.assertRaises(StoreUnavailable, staging.whole("0" * 32, digest, b"content").place)
            self.assertEqual([], os.listdir(self.layout.uploads))
            self.assertFalse(os.path.exists(self.layout.blob_path(digest)))
            assert isinstance(error, StoreUnavailable)
            return error

        self.assertIsInstance(refusal(errno.ENOSPC), StorageFull)
        self.assertTrue(self.gate.is_open)
        refusal(errno.EIO)
        self.assertFalse(self.gate.is_open)
        self.assertIn("takes no writes", str(refusal(errno.EIO)))
        self.assertEqual([errno.ENOSPC, errno.EIO], syncs)
        self.patch(os, "fsync", working)
        self.assertTrue(self.gate.probe())
        staging.whole("0" * 32, digest, b"content").place()
        self.assertTrue(os.path.exists(self.layout.blob_path(digest)))

    def test_failure_during_a_probe(self) -> None:
        """A probe that another failure overtakes brings nothing back."""
        self.gate.shut("test")
        self.patch(self.disk, "sync_directory", lambda path: self.gate.shut("again"))
        self.assertFalse(self.gate.probe())

    def test_final(self) -> None:
        """No probe helps a damaged database."""
        self.gate.shut("test")
        self.gate.shut("its database is damaged", is_final=True)
        self.assertFalse(self.gate.probe())
        self.assertIn("damaged", str(self.assertRaises(StoreUnavailable, self.gate.check)))
