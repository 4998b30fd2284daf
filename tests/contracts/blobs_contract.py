"""What every ``BlobStore`` promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, DigestInvalid, StoreUnavailable
from dockreg_tx.ports import BlobStore

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase

    Base = SynchronousTestCase
else:
    Base = object

CONTENT = b"content of a blob"
DIGEST = Digest.of(CONTENT)


class BlobStoreContract(Base):
    """Mixed into a SynchronousTestCase that offers ``blobs`` and ``collect``."""

    blobs: BlobStore

    #: Takes the bytes away, as garbage collection does.
    collect: Callable[[Digest], None]

    def content_of(self, digest: Digest) -> bytes:
        """Read a whole blob."""
        blob = self.successResultOf(self.blobs.open(digest))
        try:
            content: bytes = self.successResultOf(blob.read_at(0, blob.size_bytes + 1))
            return content
        finally:
            blob.close()

    def test_put_and_open(self) -> None:
        """What was put is read back, with its size."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        self.addCleanup(blob.close)
        self.assertEqual(len(CONTENT), blob.size_bytes)
        self.assertEqual(CONTENT, self.successResultOf(blob.read_at(0, 100)))

    def test_read_at(self) -> None:
        """Any range is read; past the end there is nothing."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        self.addCleanup(blob.close)
        self.assertEqual(b"tent", self.successResultOf(blob.read_at(3, 4)))
        self.assertEqual(b"blob", self.successResultOf(blob.read_at(len(CONTENT) - 4, 50)))
        self.assertEqual(b"", self.successResultOf(blob.read_at(len(CONTENT), 50)))

    def test_read_ahead(self) -> None:
        """Reading ahead changes nothing, beyond the end neither; it does not read what is closed."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        self.addCleanup(blob.close)
        for length_bytes in (0, 1, len(CONTENT), len(CONTENT) + 1_000_000):
            self.assertIsNone(self.successResultOf(blob.read_ahead(0, length_bytes)))
        self.assertEqual(CONTENT, self.successResultOf(blob.read_at(0, 100)))
        blob.close()
        self.failureResultOf(blob.read_ahead(0, 1), StoreUnavailable)

    def test_unknown(self) -> None:
        """A digest without bytes is unknown, one of a foreign algorithm too."""
        self.failureResultOf(self.blobs.open(DIGEST), BlobUnknown)
        self.failureResultOf(self.blobs.open(Digest("md5", "0" * 32)), BlobUnknown)

    def test_foreign_algorithm(self) -> None:
        """Nothing is stored under an algorithm that we cannot verify."""
        self.failureResultOf(self.blobs.put(Digest("md5", "0" * 32), b""), DigestInvalid)

    def test_empty_and_sha512(self) -> None:
        """The empty blob, and blobs under sha512, are stored like any other."""
        for digest, content in ((Digest.of(b""), b""), (Digest.of(CONTENT, "sha512"), CONTENT)):
            self.successResultOf(self.blobs.put(digest, content))
            self.assertEqual(content, self.content_of(digest))

    def test_put_twice(self) -> None:
        """Storing the same content again is no error."""
        for _ in range(2):
            self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        self.assertEqual(CONTENT, self.content_of(DIGEST))

    def test_put_heals_a_wrong_size(self) -> None:
        """Bytes of another size under the digest are damaged, and are replaced."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT[:5]))
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        self.assertEqual(CONTENT, self.content_of(DIGEST))

    def test_ensure(self) -> None:
        """The returned callable puts back what was collected meanwhile, and does nothing otherwise."""
        ensure = self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        ensure()
        self.collect(DIGEST)
        self.failureResultOf(self.blobs.open(DIGEST), BlobUnknown)
        ensure()
        self.assertEqual(CONTENT, self.content_of(DIGEST))

    def test_open_outlives_collection(self) -> None:
        """A blob that is open stays readable when it is collected."""
        self.successResultOf(self.blobs.put(DIGEST, CONTENT))
        blob = self.successResultOf(self.blobs.open(DIGEST))
        self.addCleanup(blob.close)
        self.collect(DIGEST)
        self.assertEqual(CONTENT, self.successResultOf(blob.read_at(0, 100)))
