"""Tests of blobs and uploads in memory: the same contracts as on disk."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.memory import MemoryBlobStore, MemoryUploadStaging
from dockreg_tx.oci.digests import Digest
from tests.contracts.blobs_contract import BlobStoreContract
from tests.contracts.staging_contract import StagingContract


class MemoryBlobStoreTests(BlobStoreContract, SynchronousTestCase):
    """The contract of the store."""

    def setUp(self) -> None:
        self.blobs = self.store = MemoryBlobStore()

    def collect(self, digest: Digest) -> None:
        del self.store.contents[digest]


class MemoryUploadStagingTests(StagingContract, SynchronousTestCase):
    """The contract of the staging."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.blobs = self.store = MemoryBlobStore()
        self.staging = MemoryUploadStaging(blobs=self.store, clock=self.clock)

    def collect(self, digest: Digest) -> None:
        del self.store.contents[digest]
